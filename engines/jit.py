"""Loops over pixels, triangles and points, compiled by numba; what is compiled is kept for the next start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[F], F]:
    """Compile a function without Python objects, at its first call, and let other threads run meanwhile.

    ``options`` are numba's. Where neither the package's folder nor the person's cache can be written, as in a container
    with a user of its own, nothing can be kept, and every start compiles.
    """

    def decorate(function: F) -> F:
        made: F
        try:
            made = numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError as error:
            if "no locator" not in str(error):
                raise
            made = numba.njit(nogil=True, **options)(function)
        return made

    return decorate
