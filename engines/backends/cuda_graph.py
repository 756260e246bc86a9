"""CUDA graphs through the driver's own library, which PyCUDA does not wrap.

Work that is put on a stream between ``begin_capture`` and ``end_capture`` is recorded instead of run; ``launch`` then
runs all of it with one call. See the CUDA Driver API, sections on stream and graph management.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads' use of the GPU does not spoil the capture."""
_FUNCTIONS = (
    "cuStreamBeginCapture_v2",
    "cuStreamEndCapture",
    "cuGraphInstantiateWithFlags",
    "cuGraphDestroy",
    "cuGraphLaunch",
    "cuGraphExecDestroy",
)
"""The functions used; the newest, cuGraphInstantiateWithFlags, came with CUDA 11.4."""


class GraphError(RuntimeError):
    """The driver cannot capture or launch a graph; the work has to be put on the stream for each frame."""


def open_driver() -> Any:
    """Return the driver's library. Raises GraphError if it is missing or too old."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise GraphError(f"no {name}: {error}") from None
    for function in _FUNCTIONS:
        if not hasattr(library, function):
            raise GraphError(f"{name} has no {function}")
    return library


class Graph:
    """A captured graph, ready to launch. The CUDA context it was captured in must be current in every call."""

    def __init__(self, driver: Any, executable: ctypes.c_void_p) -> None:
        self._driver = driver
        self._executable: ctypes.c_void_p | None = executable

    def launch(self, stream: int) -> None:
        """Put all the captured work on the stream with this handle. Raises GraphError."""
        assert self._executable is not None
        _check(self._driver.cuGraphLaunch(self._executable, ctypes.c_void_p(stream)), "cuGraphLaunch")

    def close(self) -> None:
        """Release the graph. close() is idempotent."""
        if self._executable is not None:
            self._driver.cuGraphExecDestroy(self._executable)
            self._executable = None


def begin_capture(driver: Any, stream: int) -> None:
    """Start to capture what is put on the stream with this handle. Raises GraphError."""
    _check(driver.cuStreamBeginCapture_v2(ctypes.c_void_p(stream), _THREAD_LOCAL), "cuStreamBeginCapture")


def end_capture(driver: Any, stream: int) -> Graph:
    """Stop capturing and return the graph. Raises GraphError if some of the work cannot be captured."""
    graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
    _check(driver.cuStreamEndCapture(ctypes.c_void_p(stream), ctypes.byref(graph)), "cuStreamEndCapture")
    try:
        status = driver.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        _check(status, "cuGraphInstantiateWithFlags")
    finally:
        driver.cuGraphDestroy(graph)
    return Graph(driver, executable)


def _check(status: int, function: str) -> None:
    """Raise GraphError unless a CUresult is CUDA_SUCCESS."""
    if status:
        raise GraphError(f"{function} answers {status}")
