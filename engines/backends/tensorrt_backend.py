"""Stages run as TensorRT engines, with PyCUDA for the context, the stream and the memory.

A frame is one graph launch: inputs from pinned memory, the engine, outputs back, and one event to wait for. Where the
engine cannot be recorded as a graph the same work is put on the stream each time.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.backends import cuda_graph
from engines.backends.backend import CAPTURING, Array, Feeds, put
from engines.backends.engine_cache import Machine, engines_home, load
from engines.backends.onnx_export import identity
from engines.errors import BackendError
from engines.install_hint import install
from engines.types import TensorSpec

if TYPE_CHECKING:
    from engines.backends.network_stage import Stage

_log = logging.getLogger(__name__)
_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: what others do on the default stream must not spoil a recording, nor be spoilt by it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an engine must take and give."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def import_tensorrt() -> Any:
    """TensorRT. Raises BackendError where it is not installed or its libraries are not."""
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        absent = getattr(error, "name", None) == "tensorrt"
        found = "TensorRT is not installed" if absent else f"TensorRT does not load: {_line(error)}"
        raise BackendError(found, cure=install("tensorrt")) from None
    return tensorrt


def import_driver() -> Any:
    """PyCUDA's driver, initialised. Raises BackendError where it is not installed or there is no GPU."""
    try:
        import pycuda.driver as driver
    except ImportError as error:
        absent = (error.name or "").startswith("pycuda")
        found = "PyCUDA is not installed" if absent else f"PyCUDA does not load: {_line(error)}"
        raise BackendError(found, cure=install("tensorrt")) from None
    try:
        driver.init()
        if driver.Device.count() == 0:
            raise BackendError("the NVIDIA driver sees no GPU", cure="see nvidia-smi, or choose --backend torch")
    except driver.Error as error:
        raise BackendError(
            f"CUDA does not start: {_line(error)}", cure="see nvidia-smi, or choose --backend torch --device cpu"
        ) from None
    return driver


def this_machine() -> Machine:
    """What an engine has to fit here. Nothing is raised: what is missing is None."""
    version = gpu = capability = None
    with contextlib.suppress(BackendError):
        version = str(import_tensorrt().__version__)
    with contextlib.suppress(BackendError):
        driver = import_driver()
        with _failures(driver):
            device = driver.Device(0)
            gpu, capability = str(device.name()), ".".join(map(str, device.compute_capability()))
    return Machine(version, gpu, capability)


@functools.cache
def _primary_context(driver: Any) -> Any:
    """The GPU's own context, which every library shares, kept until the process ends.

    PyCUDA does not give it back on another thread than the one that asked for it, and where it does, leaves it current
    there: whoever used CUDA on that thread next would meet a context that is gone.
    """
    return driver.Device(0).retain_primary_context()


class TensorrtBackend:
    """See ``engines.backends.backend.Backend``.

    The context is made current for each call, so that any thread may call.
    """

    def __init__(self, stage: Stage, folder: Path | None = None, rebuild: str = "python -m tools.build_engine") -> None:
        """Load the engine that was built for the stage and this machine, from ``folder`` or the cache.

        ``rebuild`` is the command that builds it. Raises BackendError where TensorRT, PyCUDA, a GPU or a fitting engine
        is missing, or the engine is not what it says.
        """
        tensorrt, driver = import_tensorrt(), import_driver()
        content, sidecar = load(folder or engines_home(), identity(stage), stage.name, this_machine(), rebuild)
        self._start(
            tensorrt, driver, Asked(stage.name, stage.inputs, stage.outputs), content, sidecar.precision, rebuild
        )

    @classmethod
    def of(cls, asked: Asked, engine: bytes, precision: str) -> TensorrtBackend:
        """A backend for an engine that was just built, before it is put anywhere. Raises as the constructor does."""
        self = cls.__new__(cls)
        self._start(import_tensorrt(), import_driver(), asked, engine, precision, "")
        return self

    def _start(self, tensorrt: Any, driver: Any, asked: Asked, content: bytes, precision: str, rebuild: str) -> None:
        self.inputs, self.outputs = asked.inputs, asked.outputs
        self._driver = driver
        self._graphs: dict[frozenset[str], cuda_graph.Graph] = {}
        """A recording for each set of inputs that were kept: those are not sent in it."""
        self._capturable = True
        self._host: dict[str, Array] = {}
        self._memory: dict[str, Any] = {}
        self._keep: frozenset[str] = frozenset()
        self._answers: dict[str, Array] = {}
        self._stream: Any = None
        self._done: Any = None
        self._runtime: Any = None
        self._engine: Any = None
        self._execution: Any = None
        self._context: Any = None
        with _failures(driver):
            self.name = f"tensorrt on {driver.Device(0).name()}, {precision}"
            self._context = _primary_context(driver)
        try:
            with self._current():
                self._load(tensorrt, asked, content, rebuild)
                self._stream = driver.Stream(_NON_BLOCKING)
                self._done = driver.Event(driver.event_flags.BLOCKING_SYNC | driver.event_flags.DISABLE_TIMING)
                self._allocate()
        except BaseException:
            self.close()
            raise

    def _load(self, tensorrt: Any, asked: Asked, content: bytes, rebuild: str) -> None:
        """The engine, and what runs it."""
        words = listener(tensorrt)
        try:
            self._runtime = tensorrt.Runtime(words)
            self._engine = self._runtime.deserialize_cuda_engine(content)
        except (TypeError, RuntimeError) as error:  # pybind's answer to a null pointer
            raise BackendError(
                f"TensorRT does not start: {words.last or _line(error)}", cure="see nvidia-smi, and update the driver"
            ) from None
        if self._engine is None:
            why = words.last or "it does not say why"
            cure = "close what else uses the GPU: see nvidia-smi" if "memory" in why.lower() else rebuild
            raise BackendError(f"TensorRT cannot load the engine of {asked.name}: {why}", cure=cure)
        _compare(tensorrt, self._engine, asked, rebuild)
        self._execution = self._engine.create_execution_context()
        if self._execution is None:
            raise BackendError(
                f"the GPU has no memory left for {asked.name}", cure="close what else uses it: see nvidia-smi"
            )

    def keep(self, name: str, array: Array) -> None:
        """See Backend."""
        with self._current():
            put(name, array, self._host[name])
            self._driver.memcpy_htod_async(self._memory[name], self._host[name], self._stream)
            self._stream.synchronize()
        self._keep |= {name}

    def run(self, feeds: Feeds) -> Feeds:
        """See Backend."""
        for name, array in feeds.items():
            put(name, array, self._host[name])
        if not self._keep.isdisjoint(feeds):
            self._keep = self._keep.difference(feeds)
        with self._current():
            graph = self._graphs.get(self._keep)
            if graph is None and self._capturable:
                graph = self._capture()
            if graph is None:
                self._enqueue()
            else:
                graph.launch(self._stream.handle)
            self._done.record(self._stream)
            self._done.synchronize()
        return self._answers

    def close(self) -> None:
        """See Backend."""
        if self._context is None:
            return
        # what a lost GPU held is gone with it, and says so
        with contextlib.suppress(BackendError), self._current():
            for graph in self._graphs.values():
                graph.close()
            self._execution = self._engine = self._runtime = None
            for memory in self._memory.values():
                memory.free()
            # PyCUDA lets go of these only where their context is current
            self._host, self._answers = {}, {}
            self._stream = self._done = None
        self._graphs, self._memory = {}, {}
        self._context = None

    @contextlib.contextmanager
    def _current(self) -> Iterator[None]:
        """The GPU's context in this thread, and its failures in words."""
        with _failures(self._driver):
            self._context.push()
            try:
                yield
            finally:
                self._driver.Context.pop()

    def _allocate(self) -> None:
        """Every buffer that there will be, on the GPU and in pinned memory."""
        driver = self._driver
        for spec in (*self.inputs, *self.outputs):
            host = driver.pagelocked_zeros(spec.shape, np.dtype(spec.dtype))
            memory = driver.mem_alloc(host.nbytes)
            self._host[spec.name], self._memory[spec.name] = host, memory
            driver.memcpy_htod_async(memory, host, self._stream)
            if not self._execution.set_tensor_address(spec.name, int(memory)):
                raise BackendError(f"TensorRT does not take a buffer for {spec.name}", cure="build the engine again")
        self._stream.synchronize()
        self._answers = {spec.name: self._host[spec.name] for spec in self.outputs}

    def _enqueue(self) -> None:
        """Put a frame's work on the stream; what is kept on the GPU is not sent again."""
        driver = self._driver
        for spec in self.inputs:
            if spec.name not in self._keep:
                driver.memcpy_htod_async(self._memory[spec.name], self._host[spec.name], self._stream)
        if not self._execution.execute_async_v3(self._stream.handle):
            raise BackendError("TensorRT fails to run the engine", cure="see nvidia-smi, then start again")
        for spec in self.outputs:
            driver.memcpy_dtoh_async(self._host[spec.name], self._memory[spec.name], self._stream)

    def _capture(self) -> cuda_graph.Graph | None:
        """Record a frame's work. TensorRT wants to have run once before, outside of a recording."""
        self._enqueue()
        self._stream.synchronize()
        try:
            with CAPTURING:
                graph = self._record(cuda_graph.open_driver())
        except (cuda_graph.GraphError, BackendError, self._driver.Error) as error:
            self._capturable = False
            _log.info("no CUDA graph for this engine (%s): its work is put on the stream each time", error)
            return None
        self._graphs[self._keep] = graph
        return graph

    def _record(self, library: Any) -> cuda_graph.Graph:
        """A frame's work as one graph. Raises what the driver's library, TensorRT and PyCUDA refuse it with."""
        cuda_graph.begin(library, self._stream.handle)
        try:
            self._enqueue()
        except BaseException:
            with contextlib.suppress(cuda_graph.GraphError):
                cuda_graph.end(library, self._stream.handle).close()
            raise
        return cuda_graph.end(library, self._stream.handle)


@contextlib.contextmanager
def _failures(driver: Any) -> Iterator[None]:
    """Has the GPU's failures said in one line."""
    try:
        yield
    except driver.MemoryError as error:
        raise BackendError("the GPU is out of memory", cure="close what else uses it: see nvidia-smi") from error
    except (driver.Error, cuda_graph.GraphError) as error:
        raise BackendError(f"the GPU fails: {_line(error)}", cure="see nvidia-smi, then start again") from error


def listener(tensorrt: Any) -> Any:
    """A logger that prints nothing and has TensorRT's last error in ``last``, to be told in one line."""

    class Listener(tensorrt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)
            self.last = ""

        def log(self, severity: Any, message: str) -> None:
            if severity <= tensorrt.ILogger.Severity.ERROR:
                self.last = (message.strip().splitlines() or [""])[0][:300]

    return Listener()


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _compare(tensorrt: Any, engine: Any, asked: Asked, rebuild: str) -> None:
    """Raise BackendError where an engine's tensors are not those asked for."""
    wanted = {spec.name: (tuple(spec.shape), spec.dtype) for spec in (*asked.inputs, *asked.outputs)}
    found = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        found[name] = (tuple(engine.get_tensor_shape(name)), dtype_name(tensorrt, engine.get_tensor_dtype(name)))
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise BackendError(
                f"the engine of {asked.name} has {name} as {_tensor(found.get(name))}, not {_tensor(wanted.get(name))}",
                cure=rebuild,
            )


def dtype_name(tensorrt: Any, kind: Any) -> str:
    """NumPy's name of one of TensorRT's types; of those that NumPy has not, TensorRT's."""
    try:
        return np.dtype(tensorrt.nptype(kind)).name
    except TypeError:
        return str(kind)


def _tensor(what: tuple[tuple[int, ...], str] | None) -> str:
    return "nothing" if what is None else f"{what[1]} {'x'.join(map(str, what[0]))}"
