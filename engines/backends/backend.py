"""The interface of a backend, which runs one network.

    torch       PyTorch: float32 on the CPU; on CUDA half precision where a network tolerates it; the reference
    onnx        ONNX Runtime on the CPU, on CUDA, or with TensorRT for RTX GPUs
    tensorrt    TensorRT, with engines that ``python -m tools.build_engine`` built for this GPU

All backends take and return the same named arrays. ``engines.backends.open`` chooses and opens one.
"""

from __future__ import annotations

import threading
from typing import Literal, Protocol

import numpy as np

from engines.backends.network_stage import Array, Feeds, TensorSpec
from engines.errors import BackendError

BACKENDS = ("auto", "torch", "onnx", "tensorrt")
"""The values of ``--backend``."""
DEVICES = ("auto", "cpu", "cuda", "rtx")
"""The values of ``--device``; ``rtx`` is ONNX Runtime with TensorRT for RTX GPUs."""

Precision = Literal["float32", "float16", "bfloat16"]
"""The precision that most of a network is computed in."""

CAPTURE_LOCK = threading.Lock()
"""Held while any backend captures a CUDA graph.

Only one capture at a time may run in a process: each begins by waiting for the whole device, which spoils another one
that is under way.
"""


class Backend(Protocol):
    """Runs one network. One thread owns it and makes all calls."""

    name: str
    """What to show the user, such as ``torch on the CPU, float32``."""
    precision: Precision
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def retain_input(self, name: str, array: Array) -> None:
        """Copy an input that stays the same for many calls; ``run`` may then leave it out.

        Raises BackendError for an array of another shape.
        """

    def run(self, feeds: Feeds) -> Feeds:
        """Run the network on C-contiguous arrays of the inputs' shapes and dtypes, and return its outputs by name.

        The outputs belong to the backend, which may overwrite them in the next call. Their buffers are allocated
        once, except by PyTorch on the CPU, which allocates new ones in every call.

        Raises BackendError for an array of another shape, and if the device is out of memory or lost.
        """

    def close(self) -> None:
        """Release everything. close() is idempotent."""


def copy_input(name: str, array: Array, buffer: Array) -> None:
    """Copy an input into a backend's buffer for it.

    Raises BackendError if the shapes differ: NumPy would broadcast without a word.
    """
    if array.shape != buffer.shape:
        found, expected = ("x".join(map(str, shape)) or "a scalar" for shape in (array.shape, buffer.shape))
        raise BackendError(
            "input-wrong-shape", f"the input {name} of shape {found}", expected, "feed arrays of the inputs' shapes"
        )
    np.copyto(buffer, array, casting="same_kind")


def first_line(error: BaseException, length: int = 300) -> str:
    """Return the first line of an exception's message, or the name of its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:length]
