from __future__ import annotations

import errno
import io
import sys
from types import SimpleNamespace
from typing import cast

import pytest

from engines.errors import ConfigError, SinkLost
from realtime.core.latency import Ledger
from realtime.pipeline.run import Run
from realtime.terminal.display import EVERY_S, Display, line, summary, tell
from tests.support.fakes import FakeSink, FakeSource, is_generated
from tests.support.run import running


def test_an_error_is_one_line_with_its_cure() -> None:
    error = ConfigError("two\nlines", cure="do this")
    assert tell(error) == "reenact: two lines; do this"
    assert tell(SinkLost("gone")) == "reenact: gone"


def test_status_and_summary(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "fps_now", lambda *_: 29.97)
    now = [0.0]
    display = Display(quiet=False, lossless=False, clock=lambda: now[0])
    source, sink = FakeSource(), FakeSink()
    with running(source, [sink]) as run:
        assert line(run.pipeline) == "starting"
        assert summary(run.pipeline) == "no frame was made"
        for seq in range(3):
            source.feed(1, start=seq)
            sink.wait_for(lambda frame, seq=seq: frame.seq == seq and is_generated(frame))  # type: ignore[misc]
        source.end()
        run.over()
        run.pipeline.compute.join(5)
        text = line(run.pipeline)
        assert text.startswith("30.0 fps | age p50 ")
        assert "dropped none | face found | one, gain 1" in text
        assert run.pipeline.parts is not None
        for held in ("frozen", "slated"):
            setattr(run.pipeline.parts.animator, held, True)
        assert line(run.pipeline) == f"slate | {text}", "first, where a narrow terminal does not cut it off"
        run.pipeline.parts.animator.frozen = run.pipeline.parts.animator.slated = False
        display.update(run.pipeline)  # not before its time
        now[0] = EVERY_S
        display.update(run.pipeline)
        display.update(run.pipeline)
        display.close()
        assert capsys.readouterr().out == text + "\n"
    assert summary(run.pipeline).startswith(f"{run.pipeline.ledger.frames} frames, 3 with a face, ")


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(quiet=True, lossless=False)
    display.say("words", "label")
    display.begin(None)
    display.close()
    assert capsys.readouterr().out == ""


def test_labels_stand_in_a_column(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(quiet=False, lossless=True)
    display.say("a file", "source")
    display.close()
    display.say("too late")
    assert capsys.readouterr().out == "source    a file\n"


class Terminal(io.StringIO):
    """Takes text as a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("lossless", [False, True])
def test_a_terminal_that_can_only_add_lines_has_one_now_and_then(
    lossless: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    now = [0.0]
    run = cast("Run", SimpleNamespace(parts=None, ledger=Ledger(), waiting="starting", total=None))
    display = Display(quiet=False, lossless=lossless, clock=lambda: now[0])
    display.begin(None)
    for now[0] in (0.1, EVERY_S, EVERY_S + 0.1):
        display.update(run)
    display.close()
    assert terminal.getvalue() == "starting\n"


class Broken(io.StringIO):
    """A stream that fails: a pipe whose reader has gone, a full disk, a terminal that is no more."""

    def __init__(self, error: Exception, *, terminal: bool) -> None:
        super().__init__()
        self.error = error
        self.terminal = terminal
        self.tried = 0

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        del text
        self.tried += 1
        raise self.error


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ""),
        (ValueError("I/O operation on closed file"), ""),
        (
            OSError(errno.ENOSPC, "No space left"),
            "reenact: standard output fails (No space left); the run goes on without it\n",
        ),
        (
            OSError(errno.EIO, "Input/output error"),
            "reenact: standard output fails (Input/output error); the run goes on without it\n",
        ),
    ],
)
def test_output_that_fails_ends_nothing(
    error: Exception,
    told: str,
    terminal: bool,
    lossless: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = Broken(error, terminal=terminal)
    monkeypatch.setattr(sys, "stdout", broken)
    display = Display(quiet=False, lossless=lossless)
    display.begin(10)
    display.say("nobody reads this")
    display.say("nor this")
    display.close()
    assert broken.tried == 1
    assert capsys.readouterr().err == told
