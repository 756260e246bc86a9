"""Test that the program continues when a standard stream fails."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from realtime.terminal import std_streams
from tests.support.fakes import FailingStream

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("error", "printed"),
    [
        (OSError(errno.ENOSPC, "No space left"), "reenact: standard output fails (No space left)\n"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ""),
    ],
)
def test_a_failure_of_standard_output_sets_the_exit_code(
    error: OSError, printed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", FailingStream(error, terminal=False))
    assert std_streams.flush_output() == 0, "there is no buffered data"
    assert std_streams.flush_output(last="\n") == 1
    assert std_streams.flush_output(2, last="\n") == 2
    assert capsys.readouterr().err == 2 * printed


def test_standard_output_that_works_leaves_the_exit_code() -> None:
    assert [std_streams.flush_output(code) for code in (0, 1, 130)] == [0, 1, 130]


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a Unix thing")
def test_the_cursor_is_shown_in_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import pty

    std_streams.show_cursor()
    assert capsys.readouterr().out == ""
    terminal, theirs = pty.openpty()
    with open(theirs, "w") as output, open(terminal, "rb", buffering=0) as shown:
        monkeypatch.setattr(sys, "stdout", output)
        std_streams.show_cursor()
        assert shown.read(100) == b"\x1b[?25h"


def run_with_full_stderr(code: str) -> tuple[int, str]:
    """Return the exit code and the output of a program whose standard error is a device that is always full."""
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
def test_errors_that_cannot_be_printed_are_discarded() -> None:
    code = (
        "import sys; from realtime.terminal import std_streams; std_streams.protect_stderr(); "
        "print(1, file=sys.stderr); print('continued')"
    )
    assert run_with_full_stderr(code) == (0, "continued\n")


@FULL
def test_library_messages_are_filtered_where_standard_error_fails() -> None:
    code = """
import contextlib, os, sys
from realtime.core.quiet_libraries import quiet_libraries
with contextlib.suppress(OSError):
    print("lost", file=sys.stderr)
with quiet_libraries():
    os.write(2, b"this too\\n")
print("continued", flush=True)
os._exit(0)
"""
    assert run_with_full_stderr(code) == (0, "continued\n")
