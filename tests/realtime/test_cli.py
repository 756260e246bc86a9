"""What the command line makes sure of, however a run goes; tests/e2e/test_cli.py starts the program itself."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, cast

import av
import pytest
import typer

from realtime import cli
from realtime.assemble import Opened
from realtime.config import Config
from realtime.core.mailbox import Mailbox
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.delivery_thread import DeliveryThread, OpenedSink
from realtime.pipeline.frame_publisher import PublishedFrame
from realtime.pipeline.run import Run
from realtime.pipeline.settings import RunHooks
from realtime.sinks.recording import Recording
from realtime.sinks.sink import Sink
from realtime.terminal.display import Display
from realtime.terminal.signals import Interrupts
from tests.sinks.test_recording import SIZE, greys, send_all
from tests.support.fakes import FakeSink


class SlowRecording(Recording):
    """Takes until ``go`` to be finished."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, size=SIZE, fps=30)
        self.go = threading.Event()

    def close(self) -> None:
        assert self.go.wait(10)
        super().close()


class OneSink:
    """A run that is over, and the thread of its one sink."""

    def __init__(self, sink: Sink) -> None:
        self.stop_signal = StopSignal()
        self.stop_signal.stop("quit")
        inbox: Mailbox[PublishedFrame] = Mailbox()
        inbox.close()
        self.deliveries = [
            DeliveryThread(OpenedSink("sink", sink), inbox, self.stop_signal, RunHooks(print), lambda: None)
        ]
        self.closed = False

    total = None

    def start(self) -> None:
        self.deliveries[0].start()

    def close(self, _timeout: float) -> bool:
        self.closed = True
        return True


def supervised(run: OneSink) -> None:
    opened = Opened(cast("Run", run), None)
    display = Display(quiet=False, lossless=False)
    try:
        cli._supervise(opened, display, Interrupts(lambda: None), with_keys=False)
    finally:
        display.close()


def test_a_recording_is_finished_although_the_run_was_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = SlowRecording(tmp_path / "out.mp4")
    send_all(sink, greys(3))
    run = OneSink(sink)
    monkeypatch.setattr("realtime.cli.time.sleep", lambda _: sink.go.set())
    supervised(run)
    assert run.closed
    assert "finishing the recording; Ctrl-C leaves it as it is" in capsys.readouterr().out
    assert cli.unfinished(cast("Run", run)) == []
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(list(container.decode(video=0))) == 3


def test_a_recording_that_is_never_finished_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = SlowRecording(tmp_path / "out.mp4")
    send_all(sink, greys(3))
    run = OneSink(sink)
    monkeypatch.setattr(cli, "FINISH_S", 0.01)
    try:
        supervised(run)
        (error,) = cli.unfinished(cast("Run", run))
        assert str(tmp_path / "out.partial.mp4") in str(error)
        assert cli.exit_code(error) == 1
    finally:
        sink.go.set()
        run.deliveries[0].join(5)


def test_nobody_waits_for_another_sink_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    sink = FakeSink()
    monkeypatch.setattr(sink, "close", lambda: go.wait(10))
    run = OneSink(sink)
    began = time.monotonic()
    try:
        supervised(run)
        assert time.monotonic() - began < 5
        assert cli.unfinished(cast("Run", run)) == []
    finally:
        go.set()
        run.deliveries[0].join(5)


def test_a_run_is_closed_whatever_goes_wrong_with_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    run = OneSink(FakeSink())
    run.stop_signal = StopSignal()

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_ended", broken)
    with pytest.raises(ZeroDivisionError):
        supervised(run)
    assert run.closed


def test_every_switch_of_a_file_can_be_turned_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Config] = []
    monkeypatch.setattr(cli, "run", seen.append)
    switches = [key for key, field in Config.model_fields.items() if field.annotation is bool]
    path = tmp_path / "reenact.toml"
    for value, prefix in (("true", "--no-"), ("false", "--")):
        path.write_text("".join(f"{key} = {value}\n" for key in switches))
        options = [prefix + key.replace("_", "-") for key in switches]
        typer.main.get_command(cli._app()).main([*options, "--config", str(path)], standalone_mode=False)
        assert [getattr(seen[-1], key) for key in switches] == [value == "false"] * len(switches)
    assert {"quiet", "relay_code", "mirror"} <= set(switches)
