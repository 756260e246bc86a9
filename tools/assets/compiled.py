"""Compilation of the renderer's loops with numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """Compile a function. It is cached: numba notices changes of its file, so what it calls has to be in there too."""
    return cast(F, numba.njit(fastmath=True, cache=True)(function))


def parallel(function: F) -> F:
    """Compile a function whose ``numba.prange`` loops run on all cores; the result is the same for any number."""
    return cast(F, numba.njit(fastmath=True, parallel=True, cache=True)(function))
