from __future__ import annotations

import math
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from engines.errors import (
    AddressInUse,
    ConfigError,
    PortraitError,
    SinkMissing,
    SourceMissing,
    TrackerError,
    UsageError,
)
from engines.install_hint import command
from engines.types import Image
from realtime import assemble
from realtime.capture import v4l2_devices, webcam
from realtime.capture.source import open_source
from realtime.config import load
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.loader import PipelineLoader
from realtime.pipeline.pipeline import STOP_S, Pipeline
from realtime.portraits.bundled import bundled_portraits
from realtime.webrtc.certificate import own_certificate
from realtime.webrtc.settings import ServerSettings
from tests.support.clips import grey, write_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "grey.mp4"
    write_video(path, [grey(i, (64, 64)) for i in range(5)])
    return path


def opened(**options: object) -> tuple[Pipeline, list[tuple[str, str]]]:
    """Return a pipeline that was opened and closed before it started, and the lines that were said."""
    said: list[tuple[str, str]] = []

    def say(text: str, label: str) -> None:
        said.append((label, text))

    config = load(options)
    stop_signal = StopSignal()
    parts = assemble.make_loader(config, stop_signal, say)
    assert isinstance(parts, PipelineLoader)
    pipeline = assemble.open_run(config, parts, stop_signal, say).run
    assert isinstance(pipeline, Pipeline)
    pipeline.capture.source.close()
    for delivery in pipeline.deliveries:
        delivery.sink.close()
    return pipeline, said


def test_what_is_opened_is_named(clip: Path) -> None:
    pipeline, said = opened(camera=str(clip), sink=["null", "null"])
    assert [label for label, _ in said] == ["source", "sink", "sink", "marks"]
    assert "grey.mp4" in said[0][1]
    assert [delivery.label for delivery in pipeline.deliveries] == ["null", "null"]


def test_options_without_effect_are_reported(clip: Path) -> None:
    options = {"camera": str(clip), "sink": ["null"]}
    _, said = opened(**options, fps=12.0, backend="onnx", device="cpu")
    notes = [text for label, text in said if not label]
    assert notes == [
        "--fps has no effect on a file, which is read at its own 30 fps",
        "--backend and --device have no effect on the mesh, which runs no networks",
    ]
    for fitting in (
        {},
        {"fps": 30.0},
        {"generator": "liveportrait", "device": "cpu"},
        {"camera": "performer", "fps": 5.0},
    ):
        _, said = opened(**options | fitting)
        assert [text for label, text in said if not label] == []


def test_at_the_highest_pace_auto_records_a_file(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, said = opened(camera=str(clip), pace="max", sink=["auto"], size="64x64")
    assert any("reenact.mp4" in text for label, text in said if label == "sink")


def test_a_sink_that_cannot_be_opened_leaves_nothing_behind(clip: Path, tmp_path: Path) -> None:
    good = tmp_path / "good.mp4"
    with pytest.raises(SinkMissing):
        opened(camera=str(clip), sink=[f"file:{good}", f"file:{tmp_path}/nowhere/x.mp4"], size="64x64")
    assert list(tmp_path.iterdir()) == []


class FakeStream:
    """A camera's stream, in memory."""

    size = (64, 48)
    fps = 30.0
    fourcc = "YUYV"
    stamping = "this program's clock"

    def __init__(self) -> None:
        self.closed = False

    def grab(self) -> tuple[Image, int, int]:
        return np.zeros((48, 64, 3), np.uint8), 0, time.monotonic_ns()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def cameras(monkeypatch: pytest.MonkeyPatch) -> list[v4l2_devices.Node]:
    """The cameras that are plugged in: two, which the test may change."""
    nodes = [
        v4l2_devices.Node("/dev/video0", "Built-in", "uvcvideo", captures=True, bus="usb-1"),
        v4l2_devices.Node("/dev/video1", "Living room", "uvcvideo", captures=True, bus="usb-2"),
    ]
    monkeypatch.setattr(v4l2_devices, "list_nodes", lambda: list(nodes))
    monkeypatch.setattr(webcam, "_check", lambda path: next(node for node in nodes if node.path == path))
    monkeypatch.setattr(webcam, "_open", lambda *_: FakeStream())
    return nodes


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells cameras apart")
def test_a_lost_camera_is_not_replaced_by_another(cameras: list[v4l2_devices.Node]) -> None:
    """Neither by another camera nor by the performer, even where auto chose it."""
    config = load({"camera": "auto"})
    before = open_source("auto", size=None, fps=None, pace="live")
    assert before.name.startswith("/dev/video0 (Built-in)")
    ours = cameras.pop(0)
    for _ in ("the other camera is there", "no camera is there"):
        with pytest.raises(SourceMissing) as caught:
            assemble.reopen_source(config, before)
        assert caught.value.code == "camera-missing"
        assert "Built-in" in caught.value.found
        cameras.clear()
    cameras.append(replace(ours, path="/dev/video2"))
    assert assemble.reopen_source(config, before).name.startswith("/dev/video2 (Built-in)")


@pytest.mark.skipif(sys.platform != "linux", reason="cameras have names on Linux")
def test_the_highest_pace_refuses_a_camera_however_it_is_named(
    cameras: list[v4l2_devices.Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    del cameras
    stream = FakeStream()
    monkeypatch.setattr(webcam, "_open", lambda *_: stream)
    with pytest.raises(ConfigError) as caught:
        opened(camera="living", pace="max", sink=["null"])
    assert caught.value.code == "config-pace-needs-file"
    assert stream.closed


class SlowToClose:
    """A run or a page that needs a time in seconds to end, on a clock that it alone advances."""

    def __init__(self, needs: float, clock: SimpleNamespace) -> None:
        self.ended = False
        self.given = 0.0
        self._needs = needs
        self._clock = clock

    def close(self, timeout: float) -> bool:
        passed = min(timeout, self._needs)
        self._needs -= passed
        self._clock.now += passed
        self.given += timeout
        self.ended = self._needs <= 0
        return self.ended


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=100.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(assemble, "time", clock)
    return clock


@pytest.mark.parametrize(("run", "page"), [(math.inf, 0.2), (0.1, math.inf), (math.inf, math.inf)])
def test_a_run_stops_in_time_whatever_hangs(clock: SimpleNamespace, run: float, page: float) -> None:
    began, running, application = clock.now, SlowToClose(run, clock), SlowToClose(page, clock)
    assemble.OpenedRun(cast(Any, running), cast(Any, application)).close()
    assert clock.now - began == pytest.approx(STOP_S)
    assert application.given >= assemble.PAGE_STOP_S - 1e-6


def test_a_recording_is_finished_in_the_time_that_the_page_leaves(clock: SimpleNamespace) -> None:
    running, application = SlowToClose(1.7, clock), SlowToClose(0.2, clock)
    assemble.OpenedRun(cast(Any, running), cast(Any, application)).close()
    assert running.ended
    assert application.ended


def test_the_landmarker_is_not_replaced_by_another_tracker(own_cache: Path) -> None:
    del own_cache
    with pytest.raises(TrackerError) as caught:
        assemble.open_configured_tracker(load({"tracker": "landmarker"}))
    assert caught.value.code == "tracker-model-missing"
    assert command("models") in caught.value.cure


def test_the_gallery_is_offered_where_no_portrait_was_named_and_can_be_chosen() -> None:
    gallery = [portrait.path for portrait in bundled_portraits()]
    assert assemble.portrait_files(load({})) == gallery
    assert assemble.portrait_files(load({"camera": "in.mp4", "pace": "max"})) == gallery[:1]
    named = load({"portrait": [bundled_portraits()[2].name.lower(), "own.jpg"]})
    assert assemble.portrait_files(named) == [gallery[2], Path("own.jpg")]


def test_a_portrait_that_is_not_there_is_reported_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("nothing is loaded")

    monkeypatch.setattr(assemble, "open_configured_tracker", fail)
    monkeypatch.setattr(assemble, "create_generator", fail)
    with pytest.raises(PortraitError) as caught:
        assemble.make_loader(load({"portrait": ["nowhere.png"]}), StopSignal(), lambda *_: None)
    assert caught.value.code == "portrait-missing"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"portrait": ["text.jpg"]}, "portrait-bad-format"),
        ({"portrait": ["cut.png"]}, "portrait-bad-format"),
        ({"portrait": ["nowhere.png"]}, "portrait-missing"),
        ({"sink": ["null", "file:out.avi"]}, "recording-not-mp4"),
    ],
)
def test_what_a_file_says_at_once_is_checked_before_anything_is_opened(
    options: dict[str, object], code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.jpg").write_text("This is not an image.")
    Path("cut.png").write_bytes(b"\x89PNG")
    with pytest.raises(UsageError) as caught:
        assemble.check_files(load(options))
    assert caught.value.code == code


@pytest.mark.parametrize("options", [{"expression": ["smile=0.5"]}, {"mix": ["mouth=fixed"]}])
def test_networks_refuse_an_expression_and_a_mix(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        assemble.open_direction(load(options | {"generator": "liveportrait"}))
    assert caught.value.code == "config-expression-not-available"
    assert assemble.open_direction(load(options)).is_set
    assert not assemble.open_direction(load({"mix": ["mouth=added"], "generator": "liveportrait"})).is_set


class Page:
    """A server application that starts unless its port is in use."""

    def __init__(self, port: int, error: SinkMissing | None) -> None:
        self.address = f"http://127.0.0.1:{port or 9999}/"
        self.closed = False
        self._error = error

    def start(self) -> None:
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("given", [False, True])
def test_the_page_is_served_with_a_certificate(given: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[ServerSettings] = []
    said: list[str] = []

    def make(_: object, settings: ServerSettings, __: object) -> Page:
        served.append(settings)
        return Page(settings.port, None)

    monkeypatch.setattr(assemble, "_make_application", make)
    monkeypatch.setattr("realtime.webrtc.certificate.own_path", lambda: tmp_path / "own.pem")
    own = own_certificate(["localhost"], tmp_path / "site.pem")
    https = str(own.path) if given else "auto"
    with ExitStack() as stack:
        assemble._open_application(load({"https": https}), lambda text, _: said.append(text), stack)
    assert served[0].certificate == str(tmp_path / ("site.pem" if given else "own.pem"))
    assert served[0].scheme == "https"
    # browsers warn of a certificate of the machine's own: its fingerprint tells it from another's
    assert any(":" in word and len(word) == 95 for text in said for word in text.split()) is not given


@pytest.mark.parametrize(
    ("options", "error", "ports"),
    [
        ({}, AddressInUse("listen-address-in-use", "port 8080 is taken"), [8080, 0]),
        ({"sink": ["webrtc"]}, AddressInUse("listen-address-in-use", "port 8080 is taken"), [8080]),
        ({}, SinkMissing("listen-failed", "port 8080 cannot be used"), [8080]),
    ],
)
def test_a_page_that_is_only_offered_takes_another_port(
    options: dict[str, object], error: SinkMissing, ports: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[tuple[int, Page]] = []

    def make(_: object, settings: ServerSettings, __: object) -> Page:
        page = Page(settings.port, None if pages else error)
        pages.append((settings.port, page))
        return page

    monkeypatch.setattr(assemble, "_make_application", make)
    with ExitStack() as stack:
        if len(ports) == 2:
            assert assemble._open_application(load(options), lambda *_: None, stack) is pages[1][1]  # type: ignore[comparison-overlap]
        else:
            with pytest.raises(SinkMissing) as caught:
                assemble._open_application(load(options), lambda *_: None, stack)
            assert caught.value is error
    assert [port for port, _ in pages] == ports
    assert all(page.closed for _, page in pages)
