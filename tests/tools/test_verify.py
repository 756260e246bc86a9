from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from engines.marking.marks import FrameMarks, Marking
from engines.marking.payload import Payload
from engines.types import Image
from tests.support.pictures import scenery
from tools import verify

SIZE = (640, 360)
FIRST, SECOND = Payload(0x1111111, 2500), Payload(0x2222222, 2501)


def frames(payload: Payload | None, count: int) -> list[Image]:
    # another picture without: an encoder that repeats a picture also repeats what was in it
    picture = scenery(SIZE, 0 if payload is not None else 1)
    if payload is not None:
        picture = FrameMarks(SIZE, Marking(payload, "en")).mark(picture)
    return [picture] * count


def write(path: Path, pictures: Iterable[Image], fps: int = 10) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=fps, options={"crf": "28", "preset": "ultrafast"})
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
