from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engines.errors import UsageError
from realtime.commands import COMMANDS, KEYS, Commands
from realtime.keys import Keys

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a Unix thing")

# A child takes the terminal for its own, then runs the lines that are given.
CHILD = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.path.insert(0, {root!r})
from realtime.keys import Keys
def echoes(): return bool(termios.tcgetattr(0)[3] & termios.ECHO)
"""


def in_terminal(lines: str, typed: bytes = b"") -> str:
    """Run Python lines in a pseudo-terminal of their own; what they print. Keys are typed at the line 'ready'."""
    import pty

    terminal, theirs = pty.openpty()
    root = str(Path(__file__).parents[1])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(root=root) + lines],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    printed = b""
    while True:
        try:
            chunk = os.read(terminal, 1024)
        except OSError:
            break
        if not chunk:
            break
        printed += chunk
        if typed and b"ready" in printed:
            os.write(terminal, typed)
            typed = b""
    os.close(terminal)
    child.wait(10)
    return printed.decode()


def test_keys_arrive_one_by_one_without_enter_and_without_echo() -> None:
    printed = in_terminal(
        """
import queue
got = queue.Queue()
with Keys(got.put) as keys:
    print("ready", keys.active, echoes(), flush=True)
    print("keys", got.get(timeout=5), got.get(timeout=5), got.get(timeout=5), flush=True)
print("after", echoes())
""",
        typed=b"c+q",
    )
    assert "ready True False" in printed
    assert "keys c + q" in printed
    assert "after True" in printed


def test_the_terminal_is_given_back_after_an_exception() -> None:
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


def test_the_terminal_is_given_back_by_a_signal_handler_that_ends_the_process() -> None:
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


def test_nothing_happens_where_there_is_no_terminal() -> None:
    reader, writer = os.pipe()
    try:
        with Keys(lambda _: None, fd=reader) as keys:
            assert not keys.active
    finally:
        os.close(reader)
        os.close(writer)


def test_no_two_commands_share_a_key() -> None:
    assert len(KEYS) == sum(bool(command.key) for command in COMMANDS.values())
    assert set(KEYS) == set("cnpfsm+-q")


def test_commands_wait_in_order_and_not_without_end() -> None:
    commands = Commands()
    commands.post("freeze")
    commands.post("next")
    assert [order.name for order in commands.take()] == ["freeze", "next"]
    assert commands.take() == []
    assert [commands.post("next") for _ in range(20)].count(True) == 16


def test_an_unknown_command_is_refused() -> None:
    with pytest.raises(UsageError, match="the command 'dance', expected one of"):
        Commands().post("dance")


def test_a_terminal_that_is_gone_is_not_given_back() -> None:
    import pty

    terminal, theirs = pty.openpty()
    try:
        keys = Keys(lambda _: None, theirs)
        keys._quieten(theirs)
        os.close(terminal)
        assert not os.isatty(theirs)
        keys.restore()  # raises nothing
    finally:
        os.close(theirs)
