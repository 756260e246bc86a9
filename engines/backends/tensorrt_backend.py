"""Networks run as TensorRT engines, with PyCUDA for the context, the stream and the memory.

A frame is one graph launch: inputs from pinned memory, the engine, outputs back, and one event to wait for. If the
engine cannot be captured as a graph, the same work is put on the stream for each frame.
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
from engines.backends.backend import CAPTURE_LOCK, Precision, copy_input, first_line
from engines.backends.engine_cache import Machine, engines_home, load_engine
from engines.backends.onnx_export import network_id
from engines.errors import BackendError
from engines.install_hint import install_command

if TYPE_CHECKING:
    from engines.backends.network_stage import Array, Feeds, NetworkStage, TensorSpec

_log = logging.getLogger(__name__)
_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: the stream does not synchronise with the default one, which would spoil a capture."""
_SEE_NVIDIA_SMI = "see nvidia-smi, then start again"
_FREE_MEMORY = "close other programs that use the GPU: see nvidia-smi"


@dataclass(frozen=True, slots=True)
class EngineSignature:
    """The inputs and outputs that an engine must have."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def import_tensorrt() -> Any:
    """Import TensorRT. Raises BackendError if it is not installed or does not load."""
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        cure = install_command("tensorrt")
        if getattr(error, "name", None) == "tensorrt":
            raise BackendError("package-missing", "no package tensorrt", cure=cure) from None
        found = f"TensorRT, which does not load: {first_line(error)}"
        raise BackendError("package-broken", found, cure=cure) from None
    return tensorrt


def import_driver() -> Any:
    """Import and initialise PyCUDA's driver. Raises BackendError if it is not installed or there is no GPU."""
    try:
        import pycuda.driver as driver
    except ImportError as error:
        cure = install_command("tensorrt")
        if (error.name or "").startswith("pycuda"):
            raise BackendError("package-missing", "no package pycuda", cure=cure) from None
        raise BackendError("package-broken", f"PyCUDA, which does not load: {first_line(error)}", cure=cure) from None
    try:
        driver.init()
        if driver.Device.count() == 0:
            cure = "see nvidia-smi, or choose --backend torch"
            raise BackendError("gpu-missing", "no GPU that the NVIDIA driver sees", cure=cure)
    except driver.Error as error:
        cure = "see nvidia-smi, or choose --backend torch --device cpu"
        raise BackendError("cuda-not-starting", f"CUDA does not start: {first_line(error)}", cure=cure) from None
    return driver


def this_machine() -> Machine:
    """Return what an engine has to fit on this machine. Nothing is raised: what is missing is None."""
    version = gpu = capability = None
    with contextlib.suppress(BackendError):
        version = str(import_tensorrt().__version__)
    with contextlib.suppress(BackendError):
        driver = import_driver()
        with _translate_errors(driver):
            device = driver.Device(0)
            gpu, capability = str(device.name()), ".".join(map(str, device.compute_capability()))
    return Machine(version, gpu, capability)


@functools.cache
def _primary_context(driver: Any) -> Any:
    """Return the GPU's primary context, which all libraries share; it is kept until the process ends.

    PyCUDA does not release it on another thread than the one that retained it, and where it does, it leaves the
    context current there: the next use of CUDA on that thread would meet a destroyed context.
    """
    return driver.Device(0).retain_primary_context()


class TensorrtBackend:
    """A network run by TensorRT, see ``engines.backends.backend.Backend``.

    The context is made current for each call, so that any thread may call.
    """

    def __init__(self, stage: NetworkStage, folder: Path | None = None, *, rebuild: str) -> None:
        """Load the engine that was built for the stage and this machine, from ``folder`` or the cache.

        ``rebuild`` is the command that builds it. Raises BackendError if TensorRT, PyCUDA, a GPU or a fitting engine
        is missing, or the engine does not have the stage's inputs and outputs.
        """
        tensorrt, driver = import_tensorrt(), import_driver()
        home = folder or engines_home()
        engine, sidecar = load_engine(home, network_id(stage), stage.name, this_machine(), rebuild)
        signature = EngineSignature(stage.name, stage.inputs, stage.outputs)
        self._start(tensorrt, driver, signature, engine, sidecar.precision, rebuild)

    @classmethod
    def from_engine(cls, signature: EngineSignature, engine: bytes, precision: Precision) -> TensorrtBackend:
        """Return a backend for an engine that is not in the cache. Raises as the constructor does."""
        self = cls.__new__(cls)
        self._start(import_tensorrt(), import_driver(), signature, engine, precision, "")
        return self

    def _start(
        self,
        tensorrt: Any,
        driver: Any,
        signature: EngineSignature,
        engine: bytes,
        precision: Precision,
        rebuild: str,
    ) -> None:
        self.inputs, self.outputs = signature.inputs, signature.outputs
        self.precision = precision
        self._driver = driver
        self._graphs: dict[frozenset[str], cuda_graph.Graph] = {}
        """A graph for each set of retained inputs, which it does not send."""
        self._capturable = True
        self._host: dict[str, Array] = {}
        self._memory: dict[str, Any] = {}
        self._retained: frozenset[str] = frozenset()
        self._output_arrays: dict[str, Array] = {}
        self._stream: Any = None
        self._done: Any = None
        self._runtime: Any = None
        self._engine: Any = None
        self._execution: Any = None
        self._context: Any = None
        with _translate_errors(driver):
            self.name = f"tensorrt on {driver.Device(0).name()}, {precision}"
            self._context = _primary_context(driver)
        try:
            with self._current_context():
                self._load(tensorrt, signature, engine, rebuild)
                self._stream = driver.Stream(_NON_BLOCKING)
                self._done = driver.Event(driver.event_flags.BLOCKING_SYNC | driver.event_flags.DISABLE_TIMING)
                self._allocate()
        except BaseException:
            self.close()
            raise

    def _load(self, tensorrt: Any, signature: EngineSignature, engine: bytes, rebuild: str) -> None:
        """Create the engine and its execution context. Raises BackendError."""
        logger = error_logger(tensorrt)
        try:
            self._runtime = tensorrt.Runtime(logger)
            self._engine = self._runtime.deserialize_cuda_engine(engine)
        except (TypeError, RuntimeError) as error:  # pybind's answer to a null pointer
            found = f"TensorRT does not start: {logger.last or first_line(error)}"
            raise BackendError("tensorrt-not-starting", found, cure="see nvidia-smi, and update the driver") from None
        if self._engine is None:
            reason = logger.last or "no reason given"
            if "memory" in reason.lower():
                found = f"no free memory on the GPU for {signature.name}: {reason}"
                raise BackendError("gpu-out-of-memory", found, cure=_FREE_MEMORY)
            found = f"an engine of {signature.name} that TensorRT cannot load: {reason}"
            raise BackendError("engine-not-loading", found, cure=rebuild)
        _check_tensors(tensorrt, self._engine, signature, rebuild)
        self._execution = self._engine.create_execution_context()
        if self._execution is None:
            found = f"no free memory on the GPU for {signature.name}"
            raise BackendError("gpu-out-of-memory", found, cure=_FREE_MEMORY)

    def retain_input(self, name: str, array: Array) -> None:
        """See ``Backend.retain_input``."""
        with self._current_context():
            copy_input(name, array, self._host[name])
            self._driver.memcpy_htod_async(self._memory[name], self._host[name], self._stream)
            self._stream.synchronize()
        self._retained |= {name}

    def run(self, feeds: Feeds) -> Feeds:
        """See ``Backend.run``."""
        for name, array in feeds.items():
            copy_input(name, array, self._host[name])
        if not self._retained.isdisjoint(feeds):
            self._retained = self._retained.difference(feeds)
        with self._current_context():
            graph = self._graphs.get(self._retained)
            if graph is None and self._capturable:
                graph = self._capture()
            if graph is None:
                self._enqueue()
            else:
                graph.launch(self._stream.handle)
            self._done.record(self._stream)
            self._done.synchronize()
        return self._output_arrays

    def close(self) -> None:
        """See ``Backend.close``."""
        if self._context is None:
            return
        # a lost GPU raises here, and what it held is gone with it
        with contextlib.suppress(BackendError), self._current_context():
            for graph in self._graphs.values():
                graph.close()
            self._execution = self._engine = self._runtime = None
            for memory in self._memory.values():
                memory.free()
            # PyCUDA releases these only while their context is current
            self._host, self._output_arrays = {}, {}
            self._stream = self._done = None
        self._graphs, self._memory = {}, {}
        self._context = None

    @contextlib.contextmanager
    def _current_context(self) -> Iterator[None]:
        """Make the GPU's context current in this thread, and turn failures of the GPU into BackendError."""
        with _translate_errors(self._driver):
            self._context.push()
            try:
                yield
            finally:
                self._driver.Context.pop()

    def _allocate(self) -> None:
        """Allocate all buffers, on the GPU and in pinned memory."""
        driver = self._driver
        for spec in (*self.inputs, *self.outputs):
            host = driver.pagelocked_zeros(spec.shape, np.dtype(spec.dtype))
            memory = driver.mem_alloc(host.nbytes)
            self._host[spec.name], self._memory[spec.name] = host, memory
            driver.memcpy_htod_async(memory, host, self._stream)
            if not self._execution.set_tensor_address(spec.name, int(memory)):
                found = f"a buffer for {spec.name} that TensorRT refuses"
                raise BackendError("engine-buffer-refused", found, cure="build the engine again")
        self._stream.synchronize()
        self._output_arrays = {spec.name: self._host[spec.name] for spec in self.outputs}

    def _enqueue(self) -> None:
        """Put a frame's work on the stream; retained inputs are not sent again."""
        driver = self._driver
        for spec in self.inputs:
            if spec.name not in self._retained:
                driver.memcpy_htod_async(self._memory[spec.name], self._host[spec.name], self._stream)
        if not self._execution.execute_async_v3(self._stream.handle):
            raise BackendError("gpu-failed", "TensorRT fails to run the engine", cure=_SEE_NVIDIA_SMI)
        for spec in self.outputs:
            driver.memcpy_dtoh_async(self._host[spec.name], self._memory[spec.name], self._stream)

    def _capture(self) -> cuda_graph.Graph | None:
        """Capture a frame's work, or return None if that fails. TensorRT has to run once before outside a capture."""
        self._enqueue()
        self._stream.synchronize()
        try:
            with CAPTURE_LOCK:
                graph = self._capture_graph(cuda_graph.open_driver())
        except (cuda_graph.GraphError, BackendError, self._driver.Error) as error:
            self._capturable = False
            _log.info("no CUDA graph for this engine (%s): its work is put on the stream for each frame", error)
            return None
        self._graphs[self._retained] = graph
        return graph

    def _capture_graph(self, library: Any) -> cuda_graph.Graph:
        """Return a frame's work as a graph. Raises GraphError, BackendError or PyCUDA's errors."""
        cuda_graph.begin_capture(library, self._stream.handle)
        try:
            self._enqueue()
        except BaseException:
            with contextlib.suppress(cuda_graph.GraphError):
                cuda_graph.end_capture(library, self._stream.handle).close()
            raise
        return cuda_graph.end_capture(library, self._stream.handle)


@contextlib.contextmanager
def _translate_errors(driver: Any) -> Iterator[None]:
    """Turn failures of the GPU into BackendError."""
    try:
        yield
    except driver.MemoryError as error:
        raise BackendError("gpu-out-of-memory", "no free memory on the GPU", cure=_FREE_MEMORY) from error
    except (driver.Error, cuda_graph.GraphError) as error:
        found = f"the GPU fails: {first_line(error)}"
        raise BackendError("gpu-failed", found, cure=_SEE_NVIDIA_SMI) from error


def error_logger(tensorrt: Any) -> Any:
    """Return a logger for TensorRT that prints nothing and keeps the last error in its attribute ``last``."""

    class ErrorLogger(tensorrt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)
            self.last = ""

        def log(self, severity: Any, message: str) -> None:
            if severity <= tensorrt.ILogger.Severity.ERROR:
                self.last = (message.strip().splitlines() or [""])[0][:300]

    return ErrorLogger()


def _check_tensors(tensorrt: Any, engine: Any, signature: EngineSignature, rebuild: str) -> None:
    """Raise BackendError unless an engine has the tensors of its signature."""
    expected = {spec.name: (tuple(spec.shape), spec.dtype) for spec in (*signature.inputs, *signature.outputs)}
    found = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        found[name] = (tuple(engine.get_tensor_shape(name)), dtype_name(tensorrt, engine.get_tensor_dtype(name)))
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise BackendError(
                "engine-wrong-tensors",
                f"an engine of {signature.name} with {_tensor_text(name, found.get(name))}",
                _tensor_text(name, expected.get(name)),
                rebuild,
            )


def dtype_name(tensorrt: Any, kind: Any) -> str:
    """Return NumPy's name of one of TensorRT's types, or TensorRT's name where NumPy has no such type."""
    try:
        return np.dtype(tensorrt.nptype(kind)).name
    except TypeError:
        return str(kind)


def _tensor_text(name: str, tensor: tuple[tuple[int, ...], str] | None) -> str:
    return f"no tensor {name}" if tensor is None else f"{name} as {tensor[1]} {'x'.join(map(str, tensor[0]))}"
