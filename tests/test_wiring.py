from __future__ import annotations

from pathlib import Path

import pytest

from engines.errors import SourceMissing, TrackerError
from realtime import webcam, wiring
from realtime.backstage import Backstage
from realtime.config import load
from realtime.daemon import Daemon
from realtime.ending import Ending
from tests.clips import grey, write_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "grey.mp4"
    write_video(path, [grey(i, (64, 64)) for i in range(5)])
    return path


def opened(**options: object) -> tuple[Daemon, list[tuple[str, str]]]:
    """A daemon that was put together and is closed again before it starts."""
    said: list[tuple[str, str]] = []

    def say(text: str, label: str) -> None:
        said.append((label, text))

    config = load(options)
    ending = Ending()
    parts = wiring.backstage(config, ending, say)
    assert isinstance(parts, Backstage)
    daemon = wiring.open_run(config, parts, ending, say).run
    assert isinstance(daemon, Daemon)
    daemon.capture.source.close()
    for delivery in daemon.deliveries:
        delivery.sink.close()
    return daemon, said


def test_what_is_opened_is_introduced(clip: Path) -> None:
    daemon, said = opened(camera=str(clip), sink=["null", "null"])
    assert [label for label, _ in said] == ["source", "sink", "sink"]
    assert "grey.mp4" in said[0][1]
    assert [delivery.label for delivery in daemon.deliveries] == ["null", "null"]


def test_options_that_mean_nothing_are_told(clip: Path) -> None:
    options = {"camera": str(clip), "sink": ["null"]}
    _, said = opened(**options, fps=12.0, backend="onnx", device="cpu")
    notes = [text for label, text in said if not label]
    assert notes == [
        "a file is read at its own 30 fps, whatever --fps says",
        "--backend and --device: for other generators only, as the mesh runs no networks",
    ]
    for fitting in (
        {},
        {"fps": 30.0},
        {"generator": "liveportrait", "device": "cpu"},
        {"camera": "performer", "fps": 5.0},
    ):
        _, said = opened(**options | fitting)
        assert [text for label, text in said if not label] == []


def test_at_the_highest_pace_auto_records_all_of_it(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, said = opened(camera=str(clip), pace="max", sink=["auto"], size="64x64")
    assert any("reenact.mp4" in text for label, text in said if label == "sink")


def test_a_sink_that_cannot_be_had_leaves_nothing_behind(clip: Path, tmp_path: Path) -> None:
    good = tmp_path / "good.mp4"
    with pytest.raises(Exception, match="nowhere"):
        opened(camera=str(clip), sink=[f"file:{good}", f"file:{tmp_path}/nowhere/x.mp4"], size="64x64")
    assert list(tmp_path.iterdir()) == []


def gone(_: webcam.Webcam) -> webcam.Webcam:
    raise SourceMissing("it is not there")


def test_the_performer_does_not_step_in_for_a_camera_that_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webcam, "first_webcam", lambda **_: None)
    before = webcam.Webcam.__new__(webcam.Webcam)
    monkeypatch.setattr(webcam.Webcam, "again", gone)
    with pytest.raises(SourceMissing):
        wiring._reopen_source(load({"camera": "auto"}), before)


def test_the_landmarker_is_not_replaced_by_another_tracker(own_cache: Path) -> None:
    del own_cache
    with pytest.raises(TrackerError) as caught:
        wiring._open_tracker(load({"tracker": "landmarker"}))
    assert "tools.models fetch" in caught.value.cure
