from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from realtime.terminal.keys import Keys

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")

# A child makes the terminal its controlling one, then runs the given lines.
CHILD = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.path.insert(0, {root!r})
from realtime.terminal.keys import Keys
def echoes(): return bool(termios.tcgetattr(0)[3] & termios.ECHO)
"""


def in_terminal(lines: str, **typed: bytes) -> str:
    """Run Python lines in a new pseudo-terminal and return their output. ``typed`` is sent when they print its name."""
    import pty

    terminal, slave = pty.openpty()
    root = str(Path(__file__).parents[2])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(root=root) + lines],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    printed = b""
    while True:
        try:
            chunk = os.read(terminal, 1024)
        except OSError:
            break
        if not chunk:
            break
        printed += chunk
        for word in [word for word in typed if word.encode() in printed]:
            os.write(terminal, typed.pop(word))
    os.close(terminal)
    child.wait(10)
    return printed.decode()


def test_keys_are_read_one_by_one_without_enter_and_without_echo() -> None:
    printed = in_terminal(
        """
import queue
got = queue.Queue()
with Keys(got.put) as keys:
    print("ready", keys.active, echoes(), flush=True)
    print("keys", got.get(timeout=5), got.get(timeout=5), got.get(timeout=5), flush=True)
print("after", echoes())
""",
        ready=b"c+q",
    )
    assert "ready True False" in printed
    assert "keys c + q" in printed
    assert "after True" in printed


def test_the_mode_is_restored_after_an_exception() -> None:
    printed = in_terminal(
        """
try:
    with Keys(print):
        raise ValueError
except ValueError:
    print("after", echoes())
"""
    )
    assert "after True" in printed


def test_a_signal_handler_that_ends_the_process_can_restore_the_mode() -> None:
    printed = in_terminal(
        """
with Keys(print) as keys:
    print("inside", echoes())
    keys.restore()
    print("restored", echoes(), flush=True)
    os._exit(130)
"""
    )
    assert "inside False" in printed
    assert "restored True" in printed


def test_nothing_is_read_where_there_is_no_terminal() -> None:
    reader, writer = os.pipe()
    try:
        with Keys(lambda _: None, fd=reader) as keys:
            assert not keys.active
    finally:
        os.close(reader)
        os.close(writer)


def test_a_terminal_that_is_gone_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import pty

    monkeypatch.setattr("realtime.terminal.keys._in_foreground", lambda _: True)
    terminal, slave = pty.openpty()
    try:
        with Keys(lambda _: None, slave) as keys:
            assert keys.active
            os.close(terminal)
            assert not os.isatty(slave)
    finally:
        os.close(slave)


def test_input_that_another_program_reads_first_does_not_block_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Announce input that is gone when it is read, as when the shell reads it while the program continues."""
    import pty

    announced = threading.Event()

    def announce(inputs: list[int], *_: object) -> tuple[list[int], list[int], list[int]]:
        time.sleep(0.001)
        wake, *terminals = inputs
        if terminals:
            announced.set()
        return (terminals or [wake] if not over.is_set() else [wake]), [], []

    over = threading.Event()
    monkeypatch.setattr("realtime.terminal.keys._in_foreground", lambda _: True)
    monkeypatch.setattr("realtime.terminal.keys.select.select", announce)
    master, slave = pty.openpty()
    keys = Keys(lambda _: None, slave)
    keys.__enter__()
    assert announced.wait(5)
    over.set()
    ending = threading.Thread(target=lambda: keys.__exit__(None, None, None), daemon=True)
    ending.start()
    ending.join(5)
    stuck = ending.is_alive()
    os.write(master, b"x")  # lets a read that blocks return
    ending.join(5)
    os.close(master)
    os.close(slave)
    assert not stuck


# A program that is suspended and continues in a terminal, and the shell that started it.
JOB = """
import os, queue, sys
from realtime.terminal.signals import Suspensions
from realtime.terminal.keys import Keys
os.read(int(sys.argv[1]), 1)
got = queue.Queue()
with Keys(got.put) as keys, Suspensions(keys.pause, keys.resume):
    print("listening", flush=True)
    if sys.argv[2]:
        assert got.get(timeout=20) == sys.argv[2]
    else:
        os.read(int(sys.argv[1]), 1)
"""
SHELL = """
import signal, subprocess
signal.alarm(40)
far, near = os.pipe()
command = [sys.executable, "-c", {job!r}, str(far)]
def start(key):
    job = subprocess.Popen([*command, key], process_group=0, pass_fds=[far], cwd={root!r})
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, job.pid)
    os.write(near, b"b")
    return job.pid
def waited(job):
    _, status = os.waitpid(job, os.WUNTRACED)
    os.tcsetpgrp(0, os.getpid())
    return signal.Signals(os.WSTOPSIG(status)).name if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)
"""


def in_shell(lines: str, **typed: bytes) -> str:
    """Do the same as ``in_terminal`` in a shell that has ``start``, ``waited`` and ``echoes``."""
    root = str(Path(__file__).parents[2])
    return in_terminal(SHELL.format(job=JOB, root=root) + lines, **typed)


def test_a_suspended_program_restores_the_mode_and_reads_keys_again_afterwards() -> None:
    printed = in_shell(
        """
job = start("q")
print(f"state {waited(job)} {echoes()}", flush=True)
os.kill(job, signal.SIGCONT)
print(f"aside {os.read(0, 10)}", flush=True)
os.tcsetpgrp(0, job)
print("front", flush=True)
print(f"end {waited(job)} {echoes()}", flush=True)
""",
        listening=b"\x1a",
        state=b"q\n",
        front=b"q",
    )
    assert "state SIGTSTP True" in printed
    assert r"aside b'q\n'" in printed, "the shell gets what is typed meanwhile"
    assert "end 0 True" in printed


def test_a_program_that_ends_in_the_background_leaves_the_mode_alone() -> None:
    printed = in_shell(
        """
job = start("")
print(f"state {waited(job)} {echoes()}", flush=True)
os.kill(job, signal.SIGCONT)
os.write(near, b"e")
print(f"end {waited(job)} {echoes()}", flush=True)
""",
        listening=b"\x1a",
    )
    assert "state SIGTSTP True" in printed
    assert "end 0 True" in printed
