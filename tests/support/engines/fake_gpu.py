"""A fake GPU with the interfaces of PyCUDA, TensorRT and the driver's own library.

Work on a stream is done when the stream is waited for, not before; captured work is done when its graph is launched.
Every call needs a current context, which each thread has its own stack of.
"""

from __future__ import annotations

import ctypes
import enum
import itertools
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from engines.backends.network_stage import Array, TensorSpec

NAME, CAPABILITY, VERSION = "NVIDIA In Memory", (9, 0), "11.4.0.106"
NON_BLOCKING = 1


@dataclass
class Plan:
    """What an engine computes."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    compute: Callable[..., Mapping[str, Array]]
    """Takes the inputs by name and returns the outputs."""


@dataclass
class FakeGpu:
    """The GPU, its state and its faults."""

    plans: dict[bytes, Plan] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    """The calls, in order."""
    faults: dict[str, Exception] = field(default_factory=dict)
    """What a call raises, by its name."""
    codes: dict[str, int] = field(default_factory=dict)
    """What a call of the driver's library returns, by its name."""
    memory: dict[int, Array] = field(default_factory=dict)
    streams: dict[int, Any] = field(default_factory=dict)
    graphs: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    executables: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    refuse: str = ""
    """What TensorRT fails to do: ``context``, ``address``, ``run``, or ``captured``: to run in a capture."""

    def __post_init__(self) -> None:
        self.handles = itertools.count(0x1000, 16)
        self._threads = threading.local()
        self.driver = _pycuda(self)
        self.tensorrt = _tensorrt(self)

    @property
    def contexts(self) -> list[Any]:
        """This thread's stack of contexts."""
        stack: list[Any] = self._threads.__dict__.setdefault("stack", [])
        return stack

    def call(self, name: str) -> None:
        """Record a call that needs a context. Raises its fault, if it has one."""
        assert self.contexts, f"{name} without a context"
        self.note(name)

    def note(self, name: str) -> None:
        """Record a call. Raises its fault, if it has one."""
        self.log.append(name)
        fault = self.faults.get(name, self.faults.get("everything"))
        if fault is not None:
            raise fault

    def lose(self) -> None:
        """Let every call fail from now on."""
        self.faults["everything"] = self.driver.Error("cuEventSynchronize failed: unspecified launch failure\nsee log")

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Let ``import tensorrt``, ``import pycuda.driver`` and the driver's library find this GPU."""
        package = ModuleType("pycuda")
        package.__dict__["driver"] = self.driver
        for name, module in (("tensorrt", self.tensorrt), ("pycuda", package), ("pycuda.driver", self.driver)):
            patch.setitem(sys.modules, name, module)
        patch.setattr("engines.backends.cuda_graph.open_driver", lambda: Library(self))


class Library:
    """The driver's own library: functions that return a CUresult, 0 for success."""

    def __init__(self, gpu: FakeGpu) -> None:
        self._gpu = gpu

    def _code(self, name: str) -> int:
        self._gpu.log.append(name)
        return self._gpu.codes.get(name, 0)

    def cuStreamBeginCapture_v2(self, stream: ctypes.c_void_p, mode: int) -> int:  # noqa: N802 - its name
        code = self._code("cuStreamBeginCapture")
        assert mode == 1
        if not code:
            assert stream.value is not None
            self._gpu.streams[stream.value].capturing = []
        return code

    def cuStreamEndCapture(self, stream: ctypes.c_void_p, graph: Any) -> int:  # noqa: N802
        assert stream.value is not None
        captured, self._gpu.streams[stream.value].capturing = self._gpu.streams[stream.value].capturing, None
        assert captured is not None
        code = self._code("cuStreamEndCapture")
        if not code:
            graph._obj.value = next(self._gpu.handles)
            self._gpu.graphs[graph._obj.value] = captured
        return code

    def cuGraphInstantiateWithFlags(self, executable: Any, graph: ctypes.c_void_p, flags: Any) -> int:  # noqa: N802
        assert flags.value == 0
        code = self._code("cuGraphInstantiateWithFlags")
        if not code:
            assert graph.value is not None
            executable._obj.value = next(self._gpu.handles)
            self._gpu.executables[executable._obj.value] = self._gpu.graphs[graph.value]
        return code

    def cuGraphDestroy(self, graph: ctypes.c_void_p) -> int:  # noqa: N802
        assert graph.value is not None
        del self._gpu.graphs[graph.value]
        return self._code("cuGraphDestroy")

    def cuGraphLaunch(self, executable: ctypes.c_void_p, stream: ctypes.c_void_p) -> int:  # noqa: N802
        code = self._code("cuGraphLaunch")
        if not code:
            assert executable.value is not None
            assert stream.value is not None
            self._gpu.streams[stream.value].pending += self._gpu.executables[executable.value]
        return code

    def cuGraphExecDestroy(self, executable: ctypes.c_void_p) -> int:  # noqa: N802
        assert executable.value is not None
        del self._gpu.executables[executable.value]
        return self._code("cuGraphExecDestroy")


class Stream:
    """Work in order, which is done when it is waited for."""

    def __init__(self, gpu: FakeGpu, flags: int = 0) -> None:
        gpu.call("Stream")
        assert flags == NON_BLOCKING, "work on the default stream would spoil a capture"
        self._gpu = gpu
        self.handle = next(gpu.handles)
        self.pending: list[Callable[[], None]] = []
        self.capturing: list[Callable[[], None]] | None = None
        gpu.streams[self.handle] = self

    def put(self, work: Callable[[], None]) -> None:
        (self.pending if self.capturing is None else self.capturing).append(work)

    def synchronize(self) -> None:
        self._gpu.call("synchronize")
        assert self.capturing is None
        pending, self.pending = self.pending, []
        for work in pending:
            work()


class Allocation:
    """Memory on the GPU."""

    def __init__(self, gpu: FakeGpu, size: int) -> None:
        self._gpu = gpu
        self._handle = next(gpu.handles)
        gpu.memory[self._handle] = np.full(size, 0xA5, np.uint8)

    def __int__(self) -> int:
        return self._handle

    def free(self) -> None:
        self._gpu.call("free")
        del self._gpu.memory[self._handle]


def _pycuda(gpu: FakeGpu) -> Any:
    module: Any = ModuleType("pycuda.driver")

    class Error(Exception):
        pass

    class OutOfMemoryError(Error):
        pass

    class Context:
        def push(self) -> None:
            gpu.note("push")
            gpu.contexts.append(self)

        @staticmethod
        def pop() -> None:
            gpu.log.append("pop")
            gpu.contexts.pop()

    class Device:
        def __init__(self, index: int) -> None:
            assert index == 0

        @staticmethod
        def count() -> int:
            gpu.note("count")
            return 1

        def name(self) -> str:
            return NAME

        def compute_capability(self) -> tuple[int, int]:
            return CAPABILITY

        def retain_primary_context(self) -> Context:
            gpu.note("retain")
            return Context()

    class Event:
        def __init__(self, flags: int) -> None:
            gpu.call("Event")
            assert flags == 3

        def record(self, stream: Stream) -> None:
            gpu.call("record")
            self._stream = stream

        def synchronize(self) -> None:
            gpu.call("wait")
            self._stream.synchronize()

    def mem_alloc(size: int) -> Allocation:
        gpu.call("mem_alloc")
        return Allocation(gpu, size)

    def pagelocked_zeros(shape: tuple[int, ...], dtype: Any) -> Array:
        gpu.call("pagelocked_zeros")
        return np.zeros(shape, dtype)

    def memcpy_htod_async(memory: Allocation, host: Array, stream: Stream) -> None:
        gpu.call("htod")
        stream.put(lambda: np.copyto(gpu.memory[int(memory)], host.reshape(-1).view(np.uint8)))

    def memcpy_dtoh_async(host: Array, memory: Allocation, stream: Stream) -> None:
        gpu.call("dtoh")
        stream.put(lambda: np.copyto(host.reshape(-1).view(np.uint8), gpu.memory[int(memory)]))

    module.init = lambda: gpu.note("init")
    module.event_flags = type("event_flags", (), {"BLOCKING_SYNC": 1, "DISABLE_TIMING": 2})
    module.Error, module.MemoryError, module.Context, module.Device = Error, OutOfMemoryError, Context, Device
    module.Stream = lambda flags=0: Stream(gpu, flags)
    module.Event, module.mem_alloc, module.pagelocked_zeros = Event, mem_alloc, pagelocked_zeros
    module.memcpy_htod_async, module.memcpy_dtoh_async = memcpy_htod_async, memcpy_dtoh_async
    return module


class Execution:
    """Runs a plan on the GPU's memory."""

    def __init__(self, gpu: FakeGpu, plan: Plan) -> None:
        self._gpu, self._plan = gpu, plan
        self._at: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._at[name] = address
        return self._gpu.refuse != "address"

    def execute_async_v3(self, handle: int) -> bool:
        self._gpu.call("execute")
        stream = self._gpu.streams[handle]
        stream.put(self._work)
        return not (self._gpu.refuse == "run" or (self._gpu.refuse == "captured" and stream.capturing is not None))

    def _work(self) -> None:
        def tensor(spec: TensorSpec) -> Array:
            return self._gpu.memory[self._at[spec.name]].view(spec.dtype).reshape(spec.shape)

        outputs = self._plan.compute(**{spec.name: tensor(spec) for spec in self._plan.inputs})
        for spec in self._plan.outputs:
            tensor(spec)[:] = outputs[spec.name]


def _tensorrt(gpu: FakeGpu) -> Any:
    module: Any = ModuleType("tensorrt")

    class ILogger:
        Severity = enum.IntEnum("Severity", ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO"), start=0)

        def log(self, severity: int, message: str) -> None: ...

    class Engine:
        def __init__(self, plan: Plan) -> None:
            self._plan = plan
            self._tensors = {spec.name: spec for spec in (*plan.inputs, *plan.outputs)}
            self.num_io_tensors = len(self._tensors)

        def get_tensor_name(self, index: int) -> str:
            return list(self._tensors)[index]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self._tensors[name].shape

        def get_tensor_dtype(self, name: str) -> str:
            return self._tensors[name].dtype

        def create_execution_context(self) -> Execution | None:
            gpu.call("create_execution_context")
            return None if gpu.refuse == "context" else Execution(gpu, self._plan)

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            gpu.call("Runtime")
            self._logger = logger

        def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
            gpu.call("deserialize")
            self._logger.log(ILogger.Severity.WARNING, "a warning that does not matter")
            if content not in gpu.plans:
                self._logger.log(ILogger.Severity.ERROR, "the magic tag does not match\nmore of it")
                return None
            return Engine(gpu.plans[content])

    def nptype(dtype: str) -> Any:
        if dtype == "bfloat16":
            raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
        return np.dtype(dtype).type

    module.__version__ = VERSION
    module.ILogger, module.Runtime, module.nptype = ILogger, Runtime, nptype
    return module
