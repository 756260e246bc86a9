"""Building an engine with TensorRT: parse a network, check its signature, and build it under a progress bar."""

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
"""The first version of TensorRT whose GridSample takes volumes."""
POLL_S = 0.1
"""How often the main thread, which runs signal handlers, checks whether the work has finished."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BuilderSettings:
    """The settings of TensorRT's builder."""

    workspace_mib: int | None
    """The memory that tactics may use; None for no limit."""
    level: int
    """The optimization level, 0 to 5."""


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """A serialized engine."""

    engine: bytes
    seconds: float


def version() -> tuple[int, ...]:
    """Return the version of the installed TensorRT. Raises BackendError where there is none."""
    return tuple(int(part) for part in str(import_tensorrt().__version__).split(".")[:3] if part.isdigit())


def build(
    path: Path,
    signature: EngineSignature,
    settings: BuilderSettings,
    timing_cache: Path,
    console: Console,
    before_exit: Callable[[], None],
) -> BuiltEngine:
    """Parse an ONNX file and build its engine, with a progress bar.

    The file ``timing_cache`` is read where it exists, and written. ``before_exit`` is called before the second Ctrl-C
    ends the process at once. Raises BackendError when the file cannot be parsed, has another signature, or cannot be
    built; KeyboardInterrupt when the user stops it with the first Ctrl-C.
    """
    tensorrt = import_tensorrt()
    logger = error_logger(tensorrt)
    try:
        builder = tensorrt.Builder(logger)
        network = builder.create_network(_flags(tensorrt))
    except (TypeError, RuntimeError) as error:  # pybind raises these for a null pointer
        found = f"TensorRT does not start: {logger.last or error}"
        cure = "see nvidia-smi: is the driver new enough for it?"
        raise BackendError("tensorrt-not-starting", found, cure=cure) from None
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        found = f"TensorRT cannot parse {path.name}: {_parse_error(parser)}"
        raise BackendError("tensorrt-parse-failed", found, cure="export it with another --opset")
    _check_signature(tensorrt, network, signature)
    config = _configure(tensorrt, builder, settings)
    _use_timing_cache(config, timing_cache)
    began = time.monotonic()

    def work(bar: ProgressBar, interrupts: Interrupts) -> Any:
        config.progress_monitor = _progress_monitor(tensorrt, bar, interrupts)
        return builder.build_serialized_network(network, config)

    serialized = run_with_progress(work, signature.name, console, before_exit)
    if serialized is None:
        found = f"TensorRT cannot build {signature.name}: {logger.last or 'it gives no reason'}"
        raise BackendError("tensorrt-build-failed", found, cure=_cure(logger.last))
    _keep_timing_cache(config, timing_cache)
    return BuiltEngine(bytes(serialized), time.monotonic() - began)


def _configure(tensorrt: Any, builder: Any, settings: BuilderSettings) -> Any:
    """Return the configuration of the builder."""
    config = builder.create_builder_config()
    config.builder_optimization_level = settings.level
    if settings.workspace_mib is not None:
        config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, settings.workspace_mib << 20)
    config.clear_flag(tensorrt.BuilderFlag.TF32)  # float32 in the network means float32
    return config


def run_with_progress(
    work: Callable[[ProgressBar, Interrupts], T], name: str, console: Console, before_exit: Callable[[], None]
) -> T:
    """Run long work under a progress bar and return its result. Raises KeyboardInterrupt if Ctrl-C stopped it.

    The work runs on a thread of its own: the main thread runs the signal handlers and must not be inside TensorRT.
    """

    def leave() -> None:
        console.show_cursor()
        before_exit()

    with Interrupts(leave) as interrupts, ProgressBar(name, console) as bar:
        task = BackgroundTask("build engine", lambda: work(bar, interrupts))
        task.start()
        while not task.wait(POLL_S):
            pass
        if interrupts.count:
            raise KeyboardInterrupt
    return task.result()


def _flags(tensorrt: Any) -> int:
    """Return the flags of a strongly typed network: the precisions are those of the ONNX file."""
    return 1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _cure(message: str) -> str:
    if "memory" in message.lower():  # TensorRT reports errors as text only
        return "close other programs that use the GPU, or give less --workspace"
    return "try --grid-sample planar, another --opset, or --precision fp32"


def _parse_error(parser: Any) -> str:
    if not parser.num_errors:
        return "it gives no reason"
    error = parser.get_error(0)
    node = f" at {error.node_name()} ({error.node_operator()})" if error.node_name() else ""
    return str(error.desc()).strip().splitlines()[0][:200] + node


def _check_signature(tensorrt: Any, network: Any, signature: EngineSignature) -> None:
    """Raise BackendError unless the network has the tensors of the signature."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    for kind, specs, tensors in (("input", signature.inputs, inputs), ("output", signature.outputs, outputs)):
        expected = sorted((spec.name, spec.shape, spec.dtype) for spec in specs)
        found = sorted((each.name, tuple(each.shape), dtype_name(tensorrt, each.dtype)) for each in tensors)
        if found != expected:
            raise BackendError(
                "network-wrong-tensors",
                f"{signature.name} with the {kind}s {_tensors_text(found)}",
                _tensors_text(expected),
                "export it again",
            )


def _tensors_text(tensors: list[tuple[str, tuple[int, ...], str]]) -> str:
    return ", ".join(f"{name} {dtype} {'x'.join(map(str, shape))}" for name, shape, dtype in tensors) or "none"


def _use_timing_cache(config: Any, path: Path) -> None:
    """Use the timings of earlier builds, where this TensorRT accepts them."""
    content = b""
    with contextlib.suppress(OSError):
        content = path.read_bytes()
    if not config.set_timing_cache(config.create_timing_cache(content), False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _keep_timing_cache(config: Any, path: Path) -> None:
    """Write the timings for later builds. A failure is ignored: later builds only take longer."""
    cache = config.get_timing_cache()
    if cache is None:
        return
    with contextlib.suppress(OSError), atomic_write(path) as partial:
        partial.write_bytes(bytes(cache.serialize()))


def _progress_monitor(tensorrt: Any, bar: ProgressBar, interrupts: Interrupts) -> Any:
    """Return the monitor that TensorRT reports its progress to, from any thread, and that stops it after Ctrl-C."""

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


class ProgressBar:
    """A progress bar of nested phases: a step of a phase is as long as all steps of the phase inside it."""

    def __init__(self, name: str, console: Console) -> None:
        columns = (TextColumn(f"building {name}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        self._progress = Progress(*columns, console=console, transient=True)
        self._task: TaskID = self._progress.add_task("", total=1.0)
        self._lock = threading.Lock()
        self._phases: dict[str, tuple[int, int]] = {}
        self._shown = 0.0

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """Begin a phase."""
        del parent  # nested phases begin in their order
        with self._lock:
            self._phases[phase] = (0, max(steps, 1))

    def step(self, phase: str, step: int) -> None:
        """Count a finished step of a phase."""
        with self._lock:
            if phase in self._phases:
                self._phases[phase] = (min(step + 1, self._phases[phase][1]), self._phases[phase][1])
            total, step_share = 0.0, 1.0
            for done, steps in self._phases.values():
                total += step_share * done / steps
                step_share /= steps
            self._shown = max(self._shown, min(total, 1.0))  # never backwards
            self._progress.update(self._task, completed=self._shown, description=phase)

    def finish(self, phase: str) -> None:
        """End a phase."""
        with self._lock:
            self._phases.pop(phase, None)
