"""Standard streams that fail keep nothing else from working."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from realtime.terminal import std_streams
from tests.terminal.test_display import Broken

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left"), "reenact: standard output fails (No space left)\n"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ""),
    ],
)
def test_output_that_fails_is_a_failure(
    error: OSError, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", Broken(error, terminal=False))
    assert std_streams.settle() == 0, "nothing is held back"
    assert std_streams.settle(last="\n") == 1
    assert std_streams.settle(2, last="\n") == 2
    assert capsys.readouterr().err == 2 * told


def test_output_that_works_changes_no_exit_code() -> None:
    assert [std_streams.settle(code) for code in (0, 1, 130)] == [0, 1, 130]


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a Unix thing")
def test_the_cursor_is_shown_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import pty

    std_streams.show_cursor()
    assert capsys.readouterr().out == ""
    terminal, theirs = pty.openpty()
    with open(theirs, "w") as output, open(terminal, "rb", buffering=0) as shown:
        monkeypatch.setattr(sys, "stdout", output)
        std_streams.show_cursor()
        assert shown.read(100) == b"\x1b[?25h"


def left_with(code: str) -> tuple[int, str]:
    """The exit code and the output of a program whose standard error is a device that is always full."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            timeout=60,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            check=False,
        )
    return done.returncode, done.stdout


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")


@FULL
def test_errors_that_cannot_be_told_are_lost() -> None:
    code = (
        "import sys; from realtime.terminal import std_streams; std_streams.open_error(); "
        "print(1, file=sys.stderr); print('went on')"
    )
    assert left_with(code) == (0, "went on\n")


@FULL
def test_libraries_are_kept_quiet_where_standard_error_fails() -> None:
    code = """
import contextlib, os, sys
from realtime.core.quiet_libraries import quiet_libraries
with contextlib.suppress(OSError):
    print("lost", file=sys.stderr)
with quiet_libraries():
    os.write(2, b"this too\\n")
print("went on", flush=True)
os._exit(0)
"""
    assert left_with(code) == (0, "went on\n")
