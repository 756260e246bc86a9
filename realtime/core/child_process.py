"""Child processes that run a module of this program, wherever the program itself was started from."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from realtime.core.quiet_libraries import stderr_descriptor

ROOT = str(Path(__file__).parents[2])
"""The folder that holds the packages of this program."""
ORPHAN_S = 1.0
"""How long a process outlives the main process."""


def passes_descriptors() -> bool:
    """Return whether this system passes descriptors between processes."""
    return hasattr(socket, "send_fds")


def command(module: str) -> list[str]:
    """Return the command line that runs a module with this interpreter."""
    return [sys.executable, "-P", "-m", module]


def environment() -> dict[str, str]:
    """Return this process's environment with ``ROOT`` in front of PYTHONPATH."""
    path = os.pathsep.join(part for part in (ROOT, os.environ.get("PYTHONPATH")) if part)
    return os.environ | {"PYTHONPATH": path}


def start_process(command: Sequence[str], fds: Sequence[int], *, pipes: bool = False) -> subprocess.Popen[bytes]:
    """Start a process that inherits descriptors, whose numbers are its arguments. Raises OSError.

    The caller keeps its own copies of ``fds``. Standard input and output are pipes if ``pipes``, otherwise nothing.
    """
    stream = subprocess.PIPE if pipes else subprocess.DEVNULL
    with stderr_descriptor() as errors:
        return subprocess.Popen(
            [*command, *map(str, fds)],
            stdin=stream,
            stdout=stream,
            stderr=errors,
            env=environment(),
            pass_fds=fds,
            start_new_session=True,  # Ctrl-C in a terminal is for the main process, which then ends this one
        )


def wait_or_kill(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Wait until a process has ended, and kill it after a time."""
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_with_parent(connection: int) -> None:
    """End this process soon after the other end of a socket or pipe is closed, whatever hangs. Return at once."""
    threading.Thread(target=_end_with_parent, args=(os.dup(connection),), name="parent", daemon=True).start()


def _end_with_parent(connection: int) -> None:
    poll = select.poll()
    poll.register(connection, select.POLLHUP)
    poll.poll()
    time.sleep(ORPHAN_S)
    os._exit(1)
