"""What a test asks of the operating system."""

from __future__ import annotations

import errno
import gc
import os
import socket


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """Return a port of this machine, of TCP or of another kind of socket, that is free now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def open_descriptors() -> int:
    """Return how many descriptors this process has open, those of unreachable objects left out."""
    gc.collect()
    return len(os.listdir("/dev/fd"))


def cannot_start(*_: object, **__: object) -> None:
    """Fail as starting a process does where memory is short."""
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
