"""TensorRT's own part of the engine builder: a network parsed, compared with what was asked for, and built."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from engines.atomic_write import atomic_write
from engines.backends.tensorrt_backend import EngineSignature, dtype_name, error_logger, import_tensorrt
from engines.errors import BackendError
from realtime.core.background_task import BackgroundTask
from realtime.terminal.signals import Interrupts

VOLUMES_SINCE = (11, 2)
"""The first TensorRT whose GridSample takes volumes."""
TICK_S = 0.1
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """What ``build`` is told besides the network."""

    workspace_mib: int | None
    level: int


@dataclass(frozen=True, slots=True)
class Built:
    """An engine, not yet written anywhere."""

    engine: bytes
    seconds: float


def version() -> tuple[int, ...]:
    """The version of the TensorRT that is installed. Raises BackendError where there is none."""
    return tuple(int(part) for part in str(import_tensorrt().__version__).split(".")[:3] if part.isdigit())


def build(
    path: Path, asked: EngineSignature, options: Options, timing: Path, console: Console, last_words: Callable[[], None]
) -> Built:
    """Parse an ONNX file and build its engine, with a progress bar.

    ``timing`` is the file of the timing cache, read where it is there and written anew. ``last_words`` is called before
    the process ends at once, at the second Ctrl-C. Raises BackendError where the file does not parse, is another
    network, or is not built; KeyboardInterrupt where the person has had enough.
    """
    tensorrt = import_tensorrt()
    words = error_logger(tensorrt)
    try:
        builder = tensorrt.Builder(words)
        network = builder.create_network(_flags(tensorrt))
    except (TypeError, RuntimeError) as error:  # pybind's answer to a null pointer
        raise BackendError(
            f"TensorRT does not start: {words.last or error}", cure="see nvidia-smi: is the driver new enough for it?"
        ) from None
    parser = tensorrt.OnnxParser(network, words)
    if not parser.parse_from_file(str(path)):
        raise BackendError(
            f"TensorRT cannot parse {path.name}: {_parse_error(parser)}", cure="export it with another --opset"
        )
    _compare(tensorrt, network, asked)
    config = builder.create_builder_config()
    config.builder_optimization_level = options.level
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    config.clear_flag(tensorrt.BuilderFlag.TF32)  # what the network has in float32 is meant so
    _use_timings(config, timing)
    began = time.monotonic()

    def work(bar: Bar, interrupts: Interrupts) -> Any:
        config.progress_monitor = _monitor(tensorrt, bar, interrupts)
        return builder.build_serialized_network(network, config)

    serialised = attended(work, asked.name, console, last_words)
    if serialised is None:
        raise BackendError(
            f"TensorRT cannot build {asked.name}: {words.last or 'it does not say why'}", cure=_cure(words)
        )
    _keep_timings(config, timing)
    return Built(bytes(serialised), time.monotonic() - began)


def attended(work: Callable[[Bar, Interrupts], T], name: str, console: Console, last_words: Callable[[], None]) -> T:
    """Do long work under a progress bar. Raises KeyboardInterrupt when it has stopped after a Ctrl-C.

    It is done on a thread of its own: signals are heard on the main one, which must not be inside of TensorRT for that.
    """

    def leave() -> None:
        console.show_cursor()
        last_words()

    with Interrupts(leave) as interrupts, Bar(name, console) as bar:
        task = BackgroundTask("build engine", lambda: work(bar, interrupts))
        task.start()
        while not task.wait(TICK_S):
            pass
        if interrupts.count:
            raise KeyboardInterrupt
    return task.result()


def _flags(tensorrt: Any) -> int:
    """Strong typing: the precisions are those of the ONNX file."""
    return 1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _cure(words: Any) -> str:
    if "memory" in words.last.lower():
        return "close what else uses the GPU, or give less --workspace"
    return "try --grid-sample planar, another --opset, or --precision fp32"


def _parse_error(parser: Any) -> str:
    if not parser.num_errors:
        return "it does not say why"
    error = parser.get_error(0)
    where = f" at {error.node_name()} ({error.node_operator()})" if error.node_name() else ""
    return str(error.desc()).strip().splitlines()[0][:200] + where


def _compare(tensorrt: Any, network: Any, asked: EngineSignature) -> None:
    """Raise BackendError where the network's tensors are not those asked for."""
    found = [network.get_input(index) for index in range(network.num_inputs)]
    answers = [network.get_output(index) for index in range(network.num_outputs)]
    for kind, specs, tensors in (("input", asked.inputs, found), ("output", asked.outputs, answers)):
        wanted = [(spec.name, spec.shape, spec.dtype) for spec in specs]
        have = [(each.name, tuple(each.shape), dtype_name(tensorrt, each.dtype)) for each in tensors]
        for one, other in zip(sorted(wanted), sorted(have), strict=False):
            if one != other:
                raise BackendError(
                    f"{asked.name} has the {kind} {_said(other)}, not {_said(one)}", cure="export it again"
                )
        if len(wanted) != len(have):
            raise BackendError(f"{asked.name} has {len(have)} {kind}s, not {len(wanted)}", cure="export it again")


def _said(tensor: tuple[str, tuple[int, ...], str]) -> str:
    return f"{tensor[0]} {tensor[2]} {'x'.join(map(str, tensor[1]))}"


def _use_timings(config: Any, path: Path) -> None:
    """Start from the timings of earlier builds, where there are any that this TensorRT takes."""
    content = b""
    with contextlib.suppress(OSError):
        content = path.read_bytes()
    if not config.set_timing_cache(config.create_timing_cache(content), False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _keep_timings(config: Any, path: Path) -> None:
    """Keep the timings for later builds; without room for them those take longer, no more."""
    cache = config.get_timing_cache()
    if cache is None:
        return
    with contextlib.suppress(OSError), atomic_write(path) as partial:
        partial.write_bytes(bytes(cache.serialize()))


def _monitor(tensorrt: Any, bar: Bar, interrupts: Interrupts) -> Any:
    """What TensorRT tells how far it is, from any of its threads; its answers let it go on or stop it."""

    class Monitor(tensorrt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            tensorrt.IProgressMonitor.__init__(self)

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            bar.start(phase, parent, steps)

        def step_complete(self, phase: str, step: int) -> bool:
            bar.step(phase, step)
            return not interrupts.count

        def phase_finish(self, phase: str) -> None:
            bar.finish(phase)

    return Monitor()


class Bar:
    """A progress bar of phases within phases: a step of the outer one is as long as all of an inner one."""

    def __init__(self, name: str, console: Console) -> None:
        columns = (TextColumn(f"building {name}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        self._progress = Progress(*columns, console=console, transient=True)
        self._task: TaskID = self._progress.add_task("", total=1.0)
        self._lock = threading.Lock()
        self._phases: dict[str, tuple[int, int]] = {}
        self._shown = 0.0

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase begins, within another or not."""
        del parent  # they begin in the order in which they lie within each other
        with self._lock:
            self._phases[phase] = (0, max(steps, 1))

    def step(self, phase: str, step: int) -> None:
        """A step of a phase is done."""
        with self._lock:
            if phase in self._phases:
                self._phases[phase] = (min(step + 1, self._phases[phase][1]), self._phases[phase][1])
            share, part = 0.0, 1.0
            for done, steps in self._phases.values():
                share += part * done / steps
                part /= steps
            self._shown = max(self._shown, min(share, 1.0))  # never backwards
            self._progress.update(self._task, completed=self._shown, description=phase)

    def finish(self, phase: str) -> None:
        """A phase is over."""
        with self._lock:
            self._phases.pop(phase, None)
