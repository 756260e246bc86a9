from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from engines.marking.detector import Detection, Detector
from engines.marking.marks import FrameMarks, Marking
from engines.marking.payload import Payload
from engines.types import Image
from tests.support.pictures import scenery
from tools import verify
from tools.marking import frames as frames_of

SIZE = (640, 360)
FIRST, SECOND = Payload(0x1111111, 2500), Payload(0x2222222, 2501)


def frames(payload: Payload | None, count: int) -> list[Image]:
    # another picture without: an encoder that repeats a picture also repeats what was in it
    picture = scenery(SIZE, 0 if payload is not None else 1)
    if payload is not None:
        picture = FrameMarks(SIZE, Marking(payload, "en")).mark(picture)
    return [picture] * count


def write(path: Path, pictures: Iterable[Image], fps: int = 10, gop: int = 250) -> Path:
    with av.open(str(path), "w") as out:
        options = {"crf": "28", "preset": "ultrafast", "g": str(gop)}
        stream = out.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode())
    return path


def still(path: Path, picture: Image) -> Path:
    assert cv2.imwrite(str(path), picture[..., ::-1])
    return path


def test_a_marked_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = still(tmp_path / "a.jpg", frames(FIRST, 1)[0])
    shown = tmp_path / "map.png"
    assert verify.main([str(picture), "--show", str(shown)]) == 0
    assert str(FIRST) in capsys.readouterr().out
    image = cv2.imread(str(shown))
    assert image is not None
    assert image.shape == (360, 640, 3)
    assert image[..., 1].mean() > 1.2 * image[..., 2].mean(), "it is green where the watermark is"


def test_an_unmarked_picture_is_not_called_genuine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([str(still(tmp_path / "a.png", frames(None, 1)[0]))]) == 1
    out = capsys.readouterr().out
    assert out.startswith("not marked")
    assert "does not make it genuine" in out


def test_a_video_of_two_sessions_and_an_unmarked_part(tmp_path: Path) -> None:
    video = write(tmp_path / "a.mp4", [*frames(FIRST, 40), *frames(None, 40), *frames(SECOND, 40)])
    report = tmp_path / "found.json"
    assert verify.main([str(video), "--json", str(report)]) == 0
    sections = json.loads(report.read_text())["sections"]
    assert [each["session"] for each in sections] == ["1111111", None, "2222222"]
    assert [round(each["start_s"]) for each in sections] == [0, 4, 8]
    assert sections[1]["marked"] is False


def test_an_unmarked_video(tmp_path: Path) -> None:
    assert verify.main([str(write(tmp_path / "a.mp4", frames(None, 12)))]) == 1


def test_a_video_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.mkv", frames(FIRST, 60))
    data = whole.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) * 2 // 3])
    assert verify.main([str(cut)]) == 0


@pytest.mark.parametrize("content", [None, b"", b"text that is no picture", b"\x89PNG\r\n\x1a\n rubbish"])
def test_what_cannot_be_read_is_an_error(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    assert verify.main([str(path)]) == 2
    assert str(path) in capsys.readouterr().err


def test_an_address_that_does_not_answer_is_an_error() -> None:
    assert verify.main(["http://127.0.0.1:9/"]) == 2


def test_frames_of_another_size_begin_a_section() -> None:
    examination = verify.Examination()
    for number in range(3):
        examination.add(0.2 * number, np.full((360, 640), 90, np.uint8))
    examination.add(0.6, np.asarray(cv2.cvtColor(frames(FIRST, 1)[0][:300], cv2.COLOR_RGB2GRAY), np.uint8))
    examination.finish()
    assert [each.found.marked for each in examination.sections] == [False, True]


def test_a_camera_that_ends_before_its_first_picture_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verify, "open_frames", lambda *_: iter(()))
    assert verify.main(["0"]) == 2
    assert "not marked" not in capsys.readouterr().out


@pytest.mark.parametrize("failure", [RuntimeError("a bug"), OSError("a failing disk"), KeyboardInterrupt()])
def test_a_failure_never_exits_as_not_marked(
    failure: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> Iterator[tuple[float, frames_of.Luma]]:
        raise failure

    monkeypatch.setattr(verify, "open_frames", fail)
    assert verify.main(["0"]) == 2
    assert "not marked" not in capsys.readouterr().out


def test_a_name_that_is_too_long_is_an_error() -> None:
    assert verify.main(["x" * 5000]) == 2


def test_without_a_camera_the_performer_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.capture.webcam.open_first_webcam", lambda **_: None)
    assert verify.main(["auto", "--seconds", "0.2"]) == 2


def test_a_video_that_lies_among_the_devices_is_a_file() -> None:
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        pytest.skip("there is no writable /dev/shm here")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        assert verify.main([str(still(Path(folder) / "a.png", frames(FIRST, 1)[0]))]) == 0


def test_damage_inside_a_video_is_told_and_what_follows_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = write(tmp_path / "a.mkv", [*frames(None, 40), *frames(FIRST, 40)], gop=5)
    data = bytearray(video.read_bytes())
    with av.open(str(video)) as container:
        packets = [(each.pos, each.size) for each in container.demux(video=0) if each.pos is not None and each.size]
    place, size = packets[10]
    data[place + 20 : place + size] = b"\x00" * (size - 20)
    video.write_bytes(data)
    report = tmp_path / "found.json"
    assert verify.main([str(video), "--json", str(report)]) == 0
    assert "damaged: from 0:0" in capsys.readouterr().err
    found = json.loads(report.read_text())
    assert 0.5 < found["damaged_from_s"] < 2
    assert found["sections"][-1]["session"] == "1111111"


def test_a_whole_video_is_not_called_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "found.json"
    assert verify.main([str(write(tmp_path / "a.mp4", frames(FIRST, 12))), "--json", str(report)]) == 0
    assert json.loads(report.read_text())["damaged_from_s"] is None
    assert not capsys.readouterr().err


@pytest.mark.parametrize(("false_alarm", "stated"), [(3e-8, 7), (9e-8, 7), (1e-7, 7), (1.1e-7, 6)])
def test_the_odds_of_a_false_alarm_are_not_rounded_up(
    false_alarm: float, stated: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Detection, "false_alarm", property(lambda _: false_alarm))
    section = verify.Section(0, 0, Detection(12.0, FIRST, 1.0, False, (0.0, 0.0)))
    assert verify.describe(section, still=True).endswith(f"below 1 in 10^{stated})")


def test_the_map_is_made_only_where_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Detection] = []
    monkeypatch.setattr(Detector, "map", lambda _, found: made.append(found))
    for mapped, count in ((False, 0), (True, 1)):
        examination = verify.Examination(mapped=mapped)
        examination.add(0.0, np.full((360, 640), 90, np.uint8))
        examination.finish()
        assert len(made) == count
        assert (examination.evidence is not None) == mapped
