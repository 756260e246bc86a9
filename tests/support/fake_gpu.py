"""A GPU in memory, as PyCUDA, TensorRT and the driver's own library show it.

What is put on a stream is done when somebody waits for it, and not before; what is recorded is done when the recording
is launched. Every call insists on a current context, which is a matter of the thread.
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

from engines.backends.backend import Array
from engines.types import TensorSpec

NAME, CAPABILITY, VERSION = "NVIDIA In Memory", (9, 0), "11.4.0.106"
NON_BLOCKING = 1


@dataclass
class Plan:
    """What an engine's bytes stand for."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    answer: Callable[..., Mapping[str, Array]]
    """Takes the inputs by name."""


@dataclass
class Card:
    """The GPU and all that a test may ask of it or do to it."""

    plans: dict[bytes, Plan] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    """What was called, in order."""
    faults: dict[str, Exception] = field(default_factory=dict)
    """What a call of that name raises."""
    codes: dict[str, int] = field(default_factory=dict)
    """What a call of the driver's library of that name answers."""
    memory: dict[int, Array] = field(default_factory=dict)
    streams: dict[int, Any] = field(default_factory=dict)
    graphs: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    executables: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    refuse: str = ""
    """``context`` or ``address``: what TensorRT answers with nothing. ``run``: it refuses to run, ``recorded``: only
    when it is recorded."""

    def __post_init__(self) -> None:
        self.handles = itertools.count(0x1000, 16)
        self._threads = threading.local()
        self.driver = _pycuda(self)
        self.tensorrt = _tensorrt(self)

    @property
    def contexts(self) -> list[Any]:
        """This thread's stack."""
        stack: list[Any] = self._threads.__dict__.setdefault("stack", [])
        return stack

    def call(self, name: str) -> None:
        """Note a call, which needs a context; fail if the test says so."""
        assert self.contexts, f"{name} without a context"
        self.note(name)

    def note(self, name: str) -> None:
        self.log.append(name)
        fault = self.faults.get(name, self.faults.get("everything"))
        if fault is not None:
            raise fault

    def lose(self) -> None:
        """From now on everything fails."""
        self.faults["everything"] = self.driver.Error("cuEventSynchronize failed: unspecified launch failure\nsee log")

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Have ``import tensorrt``, ``import pycuda.driver`` and the driver's library find this one."""
        package = ModuleType("pycuda")
        package.__dict__["driver"] = self.driver
        for name, module in (("tensorrt", self.tensorrt), ("pycuda", package), ("pycuda.driver", self.driver)):
            patch.setitem(sys.modules, name, module)
        patch.setattr("engines.backends.cuda_graph.open_driver", lambda: Library(self))


class Library:
    """The driver's own library: functions that answer a number, 0 where all is well."""

    def __init__(self, card: Card) -> None:
        self._card = card

    def _code(self, name: str) -> int:
        self._card.log.append(name)
        return self._card.codes.get(name, 0)

    def cuStreamBeginCapture_v2(self, stream: ctypes.c_void_p, mode: int) -> int:  # noqa: N802 - its name
        code = self._code("cuStreamBeginCapture")
        assert mode == 1
        if not code:
            assert stream.value is not None
            self._card.streams[stream.value].recording = []
        return code

    def cuStreamEndCapture(self, stream: ctypes.c_void_p, graph: Any) -> int:  # noqa: N802
        assert stream.value is not None
        recorded, self._card.streams[stream.value].recording = self._card.streams[stream.value].recording, None
        assert recorded is not None
        code = self._code("cuStreamEndCapture")
        if not code:
            graph._obj.value = next(self._card.handles)
            self._card.graphs[graph._obj.value] = recorded
        return code

    def cuGraphInstantiateWithFlags(self, executable: Any, graph: ctypes.c_void_p, flags: Any) -> int:  # noqa: N802
        assert flags.value == 0
        code = self._code("cuGraphInstantiateWithFlags")
        if not code:
            assert graph.value is not None
            executable._obj.value = next(self._card.handles)
            self._card.executables[executable._obj.value] = self._card.graphs[graph.value]
        return code

    def cuGraphDestroy(self, graph: ctypes.c_void_p) -> int:  # noqa: N802
        assert graph.value is not None
        del self._card.graphs[graph.value]
        return self._code("cuGraphDestroy")

    def cuGraphLaunch(self, executable: ctypes.c_void_p, stream: ctypes.c_void_p) -> int:  # noqa: N802
        code = self._code("cuGraphLaunch")
        if not code:
            assert executable.value is not None
            assert stream.value is not None
            self._card.streams[stream.value].pending += self._card.executables[executable.value]
        return code

    def cuGraphExecDestroy(self, executable: ctypes.c_void_p) -> int:  # noqa: N802
        assert executable.value is not None
        del self._card.executables[executable.value]
        return self._code("cuGraphExecDestroy")


class Stream:
    """Work in order; nothing of it is done before it is waited for."""

    def __init__(self, card: Card, flags: int = 0) -> None:
        card.call("Stream")
        assert flags == NON_BLOCKING, "what others do on the default stream would spoil a recording"
        self._card = card
        self.handle = next(card.handles)
        self.pending: list[Callable[[], None]] = []
        self.recording: list[Callable[[], None]] | None = None
        card.streams[self.handle] = self

    def put(self, work: Callable[[], None]) -> None:
        (self.pending if self.recording is None else self.recording).append(work)

    def synchronize(self) -> None:
        self._card.call("synchronize")
        assert self.recording is None
        pending, self.pending = self.pending, []
        for work in pending:
            work()


class Allocation:
    """Memory of the GPU."""

    def __init__(self, card: Card, size: int) -> None:
        self._card = card
        self._handle = next(card.handles)
        card.memory[self._handle] = np.full(size, 0xA5, np.uint8)

    def __int__(self) -> int:
        return self._handle

    def free(self) -> None:
        self._card.call("free")
        del self._card.memory[self._handle]


def _pycuda(card: Card) -> Any:
    module: Any = ModuleType("pycuda.driver")

    class Error(Exception):
        pass

    class OutOfMemoryError(Error):
        pass

    class Context:
        def push(self) -> None:
            card.note("push")
            card.contexts.append(self)

        @staticmethod
        def pop() -> None:
            card.log.append("pop")
            card.contexts.pop()

    class Device:
        def __init__(self, index: int) -> None:
            assert index == 0

        @staticmethod
        def count() -> int:
            card.note("count")
            return 1

        def name(self) -> str:
            return NAME

        def compute_capability(self) -> tuple[int, int]:
            return CAPABILITY

        def retain_primary_context(self) -> Context:
            card.note("retain")
            return Context()

    class Event:
        def __init__(self, flags: int) -> None:
            card.call("Event")
            assert flags == 3

        def record(self, stream: Stream) -> None:
            card.call("record")
            self._stream = stream

        def synchronize(self) -> None:
            card.call("wait")
            self._stream.synchronize()

    def mem_alloc(size: int) -> Allocation:
        card.call("mem_alloc")
        return Allocation(card, size)

    def pagelocked_zeros(shape: tuple[int, ...], dtype: Any) -> Array:
        card.call("pagelocked_zeros")
        return np.zeros(shape, dtype)

    def memcpy_htod_async(memory: Allocation, host: Array, stream: Stream) -> None:
        card.call("htod")
        stream.put(lambda: np.copyto(card.memory[int(memory)], host.reshape(-1).view(np.uint8)))

    def memcpy_dtoh_async(host: Array, memory: Allocation, stream: Stream) -> None:
        card.call("dtoh")
        stream.put(lambda: np.copyto(host.reshape(-1).view(np.uint8), card.memory[int(memory)]))

    module.init = lambda: card.note("init")
    module.event_flags = type("event_flags", (), {"BLOCKING_SYNC": 1, "DISABLE_TIMING": 2})
    module.Error, module.MemoryError, module.Context, module.Device = Error, OutOfMemoryError, Context, Device
    module.Stream = lambda flags=0: Stream(card, flags)
    module.Event, module.mem_alloc, module.pagelocked_zeros = Event, mem_alloc, pagelocked_zeros
    module.memcpy_htod_async, module.memcpy_dtoh_async = memcpy_htod_async, memcpy_dtoh_async
    return module


class Execution:
    """Runs a plan on the card's memory."""

    def __init__(self, card: Card, plan: Plan) -> None:
        self._card, self._plan = card, plan
        self._at: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._at[name] = address
        return self._card.refuse != "address"

    def execute_async_v3(self, handle: int) -> bool:
        self._card.call("execute")
        stream = self._card.streams[handle]
        stream.put(self._work)
        return not (self._card.refuse == "run" or (self._card.refuse == "recorded" and stream.recording is not None))

    def _work(self) -> None:
        def seen(spec: TensorSpec) -> Array:
            return self._card.memory[self._at[spec.name]].view(spec.dtype).reshape(spec.shape)

        answers = self._plan.answer(**{spec.name: seen(spec) for spec in self._plan.inputs})
        for spec in self._plan.outputs:
            seen(spec)[:] = answers[spec.name]


def _tensorrt(card: Card) -> Any:
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
            card.call("create_execution_context")
            return None if card.refuse == "context" else Execution(card, self._plan)

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            card.call("Runtime")
            self._logger = logger

        def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
            card.call("deserialize")
            self._logger.log(ILogger.Severity.WARNING, "this is of no account")
            if content not in card.plans:
                self._logger.log(ILogger.Severity.ERROR, "the magic tag does not match\nmore of it")
                return None
            return Engine(card.plans[content])

    def nptype(dtype: str) -> Any:
        if dtype == "bfloat16":
            raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
        return np.dtype(dtype).type

    module.__version__ = VERSION
    module.ILogger, module.Runtime, module.nptype = ILogger, Runtime, nptype
    return module
