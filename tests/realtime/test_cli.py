"""The command line without a process of its own; tests/e2e/test_cli.py starts the program."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, ClassVar, cast

import av
import numpy as np
import pytest

from engines.errors import UsageError
from engines.install_hint import SUBCOMMANDS, command
from realtime import cli
from realtime import config as configuration
from realtime.assemble import OpenedRun
from realtime.config import Config
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.core.latency import Durations, FrameCounts
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
from tests.support.fakes import SIZE, FakeSink


class SlowRecording(Recording):
    """A recording whose ``close`` waits for ``go``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, size=SIZE, fps=30)
        self.go = threading.Event()

    def close(self) -> None:
        assert self.go.wait(10)
        super().close()


class RunWithOneSink:
    """A run that is over, with the delivery thread of its only sink."""

    def __init__(self, sink: Sink) -> None:
        self.stop_signal = StopSignal()
        self.stop_signal.stop("quit")
        inbox: Mailbox[PublishedFrame] = Mailbox()
        inbox.close()
        self.deliveries = [
            DeliveryThread(OpenedSink("sink", sink), inbox, self.stop_signal, RunHooks(print), lambda: None)
        ]
        self.closed = False
        self.counts = FrameCounts()
        self.age = Durations()

    total = None
    parts = None
    notes = ()
    dropped: ClassVar[dict[str, int]] = {}

    def start(self) -> None:
        self.deliveries[0].start()

    def close(self, _timeout: float) -> bool:
        self.closed = True
        return True


def send_three(sink: Sink) -> None:
    pixels = np.full((SIZE[1] * 3 // 2, SIZE[0]), 128, np.uint8)
    for seq in range(3):
        time_ns = 1 + seq * 33_000_000
        sink.send(Frame(pixels, PixelFormat.I420, seq, Stamps(time_ns), time_ns))


def supervise(run: RunWithOneSink) -> None:
    opened = OpenedRun(cast("Run", run), None)
    display = Display(quiet=False, lossless=False)
    try:
        cli._supervise(opened, display, Interrupts(lambda: None), with_keys=False)
    finally:
        display.close()


def test_a_recording_is_finished_although_the_run_was_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = SlowRecording(tmp_path / "out.mp4")
    send_three(sink)
    run = RunWithOneSink(sink)
    monkeypatch.setattr("realtime.cli.time.sleep", lambda _: sink.go.set())
    supervise(run)
    assert run.closed
    assert "finishing the recording; Ctrl-C leaves it as it is" in capsys.readouterr().out
    assert cli.unfinished(cast("Run", run)) == []
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(list(container.decode(video=0))) == 3


def test_a_recording_that_is_not_finished_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = SlowRecording(tmp_path / "out.mp4")
    send_three(sink)
    run = RunWithOneSink(sink)
    monkeypatch.setattr(cli, "FINISH_S", 0.01)
    try:
        supervise(run)
        (error,) = cli.unfinished(cast("Run", run))
        assert error.code == "recording-unfinished"
        assert str(tmp_path / "out.partial.mp4") in error.found
        assert cli.exit_code(error) == 1
    finally:
        sink.go.set()
        run.deliveries[0].join(5)


@pytest.mark.parametrize(
    ("camera", "frames", "interrupted", "code", "line"),
    [
        ("performer", None, True, 130, "stopped   before the first frame"),
        ("performer", 0, True, 130, "stopped   before the first frame"),
        ("performer", 0, False, 0, "stopped   before the first frame"),
        ("performer", 1, True, 0, "done      1 frames"),
        ("webrtc", 0, True, 0, "done      no frame"),
    ],
)
def test_an_end_before_the_first_frame_is_said_and_has_its_own_code(
    camera: str, frames: int | None, interrupted: bool, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunWithOneSink(FakeSink())
    run.counts.frames = frames or 0
    opened = None if frames is None else OpenedRun(cast("Run", run), None)
    display = Display(quiet=False, lossless=False)
    config = Config(camera=camera)
    assert cli._conclude(config, run.stop_signal, opened, display, interrupted=interrupted) == code
    (printed,) = capsys.readouterr().out.splitlines()
    assert printed.startswith(line)


def test_another_sink_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    sink = FakeSink()
    monkeypatch.setattr(sink, "close", lambda: go.wait(10))
    run = RunWithOneSink(sink)
    began = time.monotonic()
    try:
        supervise(run)
        assert time.monotonic() - began < 5
        assert cli.unfinished(cast("Run", run)) == []
    finally:
        go.set()
        run.deliveries[0].join(5)


def test_a_run_is_closed_when_displaying_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunWithOneSink(FakeSink())
    run.stop_signal = StopSignal()

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_ended", broken)
    with pytest.raises(ZeroDivisionError):
        supervise(run)
    assert run.closed


def test_a_flag_in_a_file_can_be_overridden_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Config] = []
    monkeypatch.setattr(cli, "run", seen.append)
    switches = [key for key, field in Config.model_fields.items() if field.annotation is bool]
    path = tmp_path / "reenact.toml"
    for value, prefix in (("true", "--no-"), ("false", "--")):
        path.write_text("".join(f"{key} = {value}\n" for key in switches))
        options = [prefix + key.replace("_", "-") for key in switches]
        cli.execute([*options, "--config", str(path)])
        assert [getattr(seen[-1], key) for key in switches] == [value == "false"] * len(switches)
    assert {"quiet", "relay_code", "mirror"} <= set(switches)


def test_every_option_of_the_configuration_is_on_the_command_line_and_in_a_group() -> None:
    options = cli.parse([])
    assert options.keys() - {"config", "version", "help"} == Config.model_fields.keys()
    assert {configuration.group(key) for key in Config.model_fields} == set(configuration.GROUPS)


def test_options_arrive_as_the_configuration_takes_them() -> None:
    words = "--gain 2 --fps 29.97 --sink null --sink file:a.mp4 --no-mirror --quiet --camera 0 --frames -3 --size 4x4"
    options = cli.parse(words.split())
    given = {key: value for key, value in options.items() if value not in (None, False) or key == "mirror"}
    assert given == {
        "gain": 2,
        "fps": 29.97,
        "sink": ["null", "file:a.mp4"],
        "mirror": False,
        "quiet": True,
        "camera": "0",
        "frames": -3,
        "size": "4x4",
    }


@pytest.mark.parametrize("words", ["--token --secret", "--token=--secret", "--token --help"])
def test_a_value_may_begin_with_a_dash(words: str) -> None:
    options = cli.parse(words.split())
    assert options["token"].startswith("--")
    assert not options["help"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--bogus", "cli-bad-option"),
        ("--camera", "cli-bad-option"),
        ("--cam 0", "cli-bad-option"),
        ("--quiet surplus", "cli-bad-option"),
        ("surplus", "cli-unknown-command"),
    ],
)
def test_a_command_line_that_cannot_be_read(words: str, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        cli.parse(words.split())
    assert caught.value.code == code
    assert "--help" in caught.value.cure


def test_the_help_has_examples_on_top_and_then_the_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["--help"]) == 0
    text = capsys.readouterr().out
    places = [text.index(f"\n{title}:") for title in ("Examples", *configuration.GROUPS)]
    assert places == sorted(places)
    assert all(configuration.option_name(key) in text for key in Config.model_fields)
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_a_subcommand_runs_its_tool(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute([name, "--help"]) == 0
    assert f"Usage: {command(name)}" in capsys.readouterr().out
    assert name in cli.SUBCOMMAND_HELP
