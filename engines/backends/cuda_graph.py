"""CUDA graphs by way of the driver's own library, which PyCUDA has no words for.

What is put on a stream between ``begin`` and ``end`` is recorded instead of done; ``launch`` then does all of it with
one call. See the CUDA Driver API, sections on stream and graph management.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: what other threads do with the GPU meanwhile does not spoil the recording."""
_CALLS = (
    "cuStreamBeginCapture_v2",
    "cuStreamEndCapture",
    "cuGraphInstantiateWithFlags",
    "cuGraphDestroy",
    "cuGraphLaunch",
    "cuGraphExecDestroy",
)
"""What is used of the library; the third is the last to have come, with CUDA 11.4."""


class GraphError(RuntimeError):
    """The driver refuses; the work has to be put on the stream each time."""


def open_driver() -> Any:
    """The driver's library. Raises GraphError where there is none, or one that is too old."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise GraphError(f"no {name}: {error}") from None
    for call in _CALLS:
        if not hasattr(library, call):
            raise GraphError(f"{name} has no {call}")
    return library


class Graph:
    """A recording, ready to be launched. The context that it was made in is current in every call."""

    def __init__(self, driver: Any, executable: ctypes.c_void_p) -> None:
        self._driver = driver
        self._executable: ctypes.c_void_p | None = executable

    def launch(self, stream: int) -> None:
        """Put everything recorded on the stream with that handle. Raises GraphError."""
        assert self._executable is not None
        _must(self._driver.cuGraphLaunch(self._executable, ctypes.c_void_p(stream)), "cuGraphLaunch")

    def close(self) -> None:
        """Let go of it; may be called twice."""
        if self._executable is not None:
            self._driver.cuGraphExecDestroy(self._executable)
            self._executable = None


def begin(driver: Any, stream: int) -> None:
    """Record what is put on the stream with that handle from now on. Raises GraphError."""
    _must(driver.cuStreamBeginCapture_v2(ctypes.c_void_p(stream), _THREAD_LOCAL), "cuStreamBeginCapture")


def end(driver: Any, stream: int) -> Graph:
    """Stop recording. Raises GraphError where something on the stream could not be recorded."""
    graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
    _must(driver.cuStreamEndCapture(ctypes.c_void_p(stream), ctypes.byref(graph)), "cuStreamEndCapture")
    try:
        made = driver.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        _must(made, "cuGraphInstantiateWithFlags")
    finally:
        driver.cuGraphDestroy(graph)
    return Graph(driver, executable)


def _must(code: int, call: str) -> None:
    if code:
        raise GraphError(f"{call} answers {code}")
