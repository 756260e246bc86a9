"""Loops over pixels, triangles and points, compiled by numba; the machine code is cached for the next start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numba
from numba.core import event
from numba.core.compiler import Compiler

F = TypeVar("F", bound=Callable[..., Any])

Progress = Callable[[int, int], None]
"""Takes how many functions have been begun to compile, the current one included, and about how many there are."""

_functions: set[Any] = set()
"""Every function decorated with ``compiled``."""


class _Separate(Compiler):  # type: ignore[misc]
    """Compiles functions whose arguments share no memory, as a parameter ``noalias`` in LLVM's language says."""

    def __init__(self, typing: Any, target: Any, library: Any, args: Any, returns: Any, flags: Any, names: Any) -> None:
        flags.noalias = True
        super().__init__(typing, target, library, args, returns, flags, names)


def compiled(*, separate: bool = False, **options: Any) -> Callable[[F], F]:
    """Compile a function without Python objects, at its first call, and release the GIL while it runs.

    With ``separate`` its arguments must not share memory: a loop that reads from anywhere in one array and writes to
    another can then take several steps at once. ``options`` are numba's. The code is cached beside the source or in the
    user's cache. If neither can be written, as in a container with a user of its own, every start compiles again.
    """
    if separate:
        options["pipeline_class"] = _Separate

    def decorate(function: F) -> F:
        made: F
        try:
            made = numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError as error:
            if "no locator" not in str(error):  # numba has no type for it
                raise
            made = numba.njit(nogil=True, **options)(function)
        _functions.add(made)
        return made

    return decorate


class Compilation(event.Listener):  # type: ignore[misc]
    """Counts the functions that are compiled, rather than taken from the cache."""

    def __init__(self, progress: Progress) -> None:
        self.count = 0
        self._progress = progress

    def on_start(self, event: Any) -> None:
        """Report one more function; those of numba itself do not count."""
        if event.data["dispatcher"] in _functions:
            self.count += 1
            self._progress(self.count, max(self.count, len(_functions)))

    def on_end(self, event: Any) -> None:
        """Do nothing: the next function, or the end of the block, shows that this one is compiled."""


@contextmanager
def watch(progress: Progress) -> Iterator[Compilation]:
    """Call ``progress`` for each function that any thread begins to compile inside the block."""
    compilation = Compilation(progress)
    with event.install_listener("numba:compile", compilation):
        yield compilation
