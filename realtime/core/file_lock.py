"""A lock between the threads and the programs that change the same file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_threads = threading.Lock()


@contextmanager
def locked(descriptor: int) -> Iterator[None]:
    """Hold the lock of an open file, which every program that changes it takes.

    Where the system has no such locks (Windows), only the threads of this program wait for one another.
    """
    with _threads:
        try:
            import fcntl
        except ImportError:
            yield
            return
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
