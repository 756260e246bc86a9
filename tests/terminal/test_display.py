from __future__ import annotations

import errno
import io
import sys
from types import SimpleNamespace
from typing import cast

import pytest

from engines.errors import ConfigError, SinkLost
from realtime.core.latency import Durations, FrameCounts
from realtime.pipeline.run import Run
from realtime.terminal.display import STATUS_INTERVAL_S, Display, format_error, progress_line, status_line, summary
from tests.support.fakes import FailingStream, FakeSink, FakeSource, is_generated
from tests.support.run import running


def test_an_error_is_one_line_with_its_cure() -> None:
    error = ConfigError("config-bad-value", "two\nlines", "one", "do this")
    assert format_error(error) == "reenact: two lines, expected one; do this"
    assert format_error(SinkLost("sink-lost", "gone")) == "reenact: gone"


def test_status_and_summary(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrameCounts, "fps_now", lambda *_: 29.97)
    now = [0.0]
    display = Display(quiet=False, lossless=False, clock=lambda: now[0])
    source, sink = FakeSource(), FakeSink()
    with running(source, [sink]) as run:
        assert status_line(run.pipeline) == "starting"
        assert status_line(run.pipeline, "1 browser") == "starting | 1 browser"
        assert summary(run.pipeline) == "no frame was generated"
        for seq in range(3):
            source.feed(1, start=seq)
            sink.wait_for(lambda frame, seq=seq: frame.seq == seq and is_generated(frame))  # type: ignore[misc]
        source.end()
        run.over()
        run.pipeline.compute.join(5)
        text = status_line(run.pipeline)
        assert text.startswith("30 fps | frame age ")
        assert text.endswith(" | face found | dropped 0 | one")
        assert run.pipeline.parts is not None
        for state in ("frozen", "slated"):
            setattr(run.pipeline.parts.animator, state, True)
        assert status_line(run.pipeline) == f"slate | {text}", "first, where a narrow terminal does not cut it off"
        run.pipeline.parts.animator.frozen = run.pipeline.parts.animator.slated = False
        display.update(run.pipeline)  # not before its time
        now[0] = STATUS_INTERVAL_S
        display.update(run.pipeline)
        display.update(run.pipeline)
        display.close()
        assert capsys.readouterr().out == text + "\n"
    assert summary(run.pipeline).startswith(f"{run.pipeline.counts.frames} frames, 3 with a face, ")


def fake_run(**values: object) -> Run:
    """Return a run that has published 300 frames, 30 of them while starting, and whose driver has a face."""
    counts = FrameCounts(frames=300, faces=300, starting=30, first_ns=1, last_ns=9_966_666_668)
    motion = SimpleNamespace(calibrating=False, gain=1.0)
    generator = SimpleNamespace(random_weights=False)
    animator = SimpleNamespace(
        slated=False, frozen=False, motion=motion, generator=generator, portrait="one", face_found=True
    )
    defaults = {
        "parts": SimpleNamespace(animator=animator),
        "counts": counts,
        "waiting": "starting",
        "total": None,
        "lost": False,
        "recent_age": (21.34, 35.01),
        "dropped": {"capture": 32, "webrtc": 1},
    }
    return cast("Run", SimpleNamespace(**(defaults | values)))


@pytest.fixture
def _steady(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrameCounts, "fps_now", lambda *_: 29.97)


@pytest.mark.usefixtures("_steady")
def test_the_important_parts_of_the_status_fit_into_80_columns() -> None:
    text = status_line(fake_run(), "1 browser, 2 viewers")
    assert text[:80] == "30 fps | frame age 21 ms, p99 35 | face found | 1 browser, 2 viewers | dropped 3"
    assert status_line(fake_run(recent_age=(6.25, 9.0)), "").startswith("30 fps | frame age 6.2 ms, p99 9.0 | ")


@pytest.mark.usefixtures("_steady")
def test_the_status_without_a_measured_age_does_not_mention_it() -> None:
    assert status_line(fake_run(recent_age=(0.0, 0.0)), "1 browser").startswith("30 fps | face found | 1 browser | ")
    assert "camera lost" in status_line(fake_run(lost=True))


@pytest.mark.usefixtures("_steady")
def test_the_status_shows_the_gain_and_random_weights() -> None:
    run = fake_run()
    assert run.parts is not None
    run.parts.animator.motion.gain = 1.5
    vars(run.parts.animator.generator)["random_weights"] = True
    assert status_line(run).endswith("dropped 3 | random weights: the picture is noise | one, gain 1.5")


def test_the_progress_through_a_file_has_a_percentage_and_the_time_left_and_no_age() -> None:
    assert progress_line(fake_run(total=700)) == "42 %, 13 s left | 30 fps | face found | one"
    assert progress_line(fake_run(total=100_000)).startswith("0 %, 55 min left | ")
    assert progress_line(fake_run()) == "300 frames | 30 fps | face found | one"
    assert progress_line(fake_run(parts=None)) == "starting"


def test_the_summary_of_a_file_has_no_age() -> None:
    age = Durations()
    age.record(20_000_000, 0)
    run = fake_run(age=age)
    assert "frame age p50 20" in summary(run)
    assert summary(run, lossless=True) == "300 frames, 300 with a face, 30.0 fps, 3 dropped (and 30 while starting)"


def test_a_file_is_processed_with_progress_lines(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    display = Display(quiet=False, lossless=True, clock=lambda: now[0])
    now[0] = STATUS_INTERVAL_S
    display.update(fake_run(total=700))
    display.close()
    assert capsys.readouterr().out == "42 %, 13 s left | 30 fps | face found | one\n"


@pytest.mark.usefixtures("_steady")
def test_the_end_of_a_calibration_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(quiet=False, lossless=False, clock=lambda: 0.0)
    run = fake_run()
    assert run.parts is not None
    motion = vars(run.parts.animator.motion)
    for calibrating in (False, True, True, False, False):
        motion["calibrating"] = calibrating
        assert status_line(run).startswith("calibrating | ") == calibrating
        display.update(run)
    motion["calibrating"] = True
    display.update(run)
    display.update(fake_run())  # another session is selected meanwhile
    display.close()
    assert capsys.readouterr().out == "calibrated\n"


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(quiet=True, lossless=False)
    display.say("words", "label")
    display.begin(None)
    display.close()
    assert capsys.readouterr().out == ""


def test_labels_are_in_a_column(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(quiet=False, lossless=True)
    display.say("a file", "source")
    display.close()
    display.say("too late")
    assert capsys.readouterr().out == "source    a file\n"


class Terminal(io.StringIO):
    """A terminal in memory."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("lossless", [False, True])
def test_a_dumb_terminal_gets_a_status_line_now_and_then(lossless: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    now = [0.0]
    run = cast("Run", SimpleNamespace(parts=None, counts=FrameCounts(), waiting="starting", total=None))
    display = Display(quiet=False, lossless=lossless, clock=lambda: now[0])
    display.begin(None)
    for now[0] in (0.1, STATUS_INTERVAL_S, STATUS_INTERVAL_S + 0.1):
        display.update(run)
    display.close()
    assert terminal.getvalue() == "starting\n"


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    ("error", "printed"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ""),
        (ValueError("I/O operation on closed file"), ""),
        (
            OSError(errno.ENOSPC, "No space left"),
            "reenact: standard output fails (No space left); the run continues without it\n",
        ),
        (
            OSError(errno.EIO, "Input/output error"),
            "reenact: standard output fails (Input/output error); the run continues without it\n",
        ),
    ],
)
def test_the_display_survives_output_that_fails(
    error: Exception,
    printed: str,
    terminal: bool,
    lossless: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing = FailingStream(error, terminal=terminal)
    monkeypatch.setattr(sys, "stdout", failing)
    display = Display(quiet=False, lossless=lossless)
    display.begin(10)
    display.say("first")
    display.say("second")
    display.close()
    assert failing.writes == 1
    assert capsys.readouterr().err == printed
