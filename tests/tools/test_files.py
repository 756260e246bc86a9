"""Files of figures: complete or not at all, in UTF-8, and an error that names the option."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image as Pillow

from engines.errors import SinkLost, UsageError
from engines.types import Image
from tools.support.files import check_writable, write_json, write_mp4, write_picture, write_text

ROOT = Path(__file__).parents[2]


def test_figures_are_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    """A processor's name may hold any character, and a Windows code page or the C locale cannot express it."""
    out = tmp_path / "figures.json"
    code = "import sys; from pathlib import Path; from tools.support.files import write_json;"
    code += "write_json(Path(sys.argv[1]), {'processor': '\\u00dcnit \\u2122 3'}, '--json')"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code, str(out)], cwd=ROOT, env=environment, check=True, timeout=60)
    assert json.loads(out.read_text("utf-8"))["processor"] == "Ünit ™ 3"


def test_a_full_disk_is_an_error_and_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "figures.json"
    out.write_text("old")

    def full(*_: Any, **__: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(SinkLost) as caught:
        write_json(out, {"a": 1}, "--json")
    assert caught.value.code == "output-not-writable"
    assert caught.value.found.startswith("--json ")
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_a_device_is_written_into_and_not_replaced() -> None:
    before = os.stat(os.devnull)
    check_writable(Path(os.devnull), "--json")
    write_text(Path(os.devnull), "text", "--json")
    assert os.path.samestat(before, os.stat(os.devnull))


def test_what_cannot_be_written_is_known_before_the_work(tmp_path: Path) -> None:
    check_writable(tmp_path / "new.json", "--json")
    for path in (tmp_path, tmp_path / "no" / "such.json"):
        with pytest.raises(UsageError) as caught:
            check_writable(path, "--html")
        assert caught.value.code == "output-not-writable"
        assert caught.value.found.startswith("--html ")


def test_a_clip_has_the_size_rate_and_key_frames_that_are_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "clip.mp4"
    frames = (np.full((48, 64, 3), 20 + 9 * number, np.uint8) for number in range(13))
    write_mp4(frames, out, 25, {"preset": "ultrafast"}, key_frames=5)
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (64, 48)
        assert stream.average_rate == 25
        shown = list(container.decode(video=0))
    assert [frame.key_frame for frame in shown] == [number % 5 == 0 for number in range(13)]
    assert abs(float(shown[12].to_ndarray(format="rgb24").mean()) - 128) < 6


def test_a_clip_that_fails_leaves_nothing_and_keeps_the_one_before(tmp_path: Path) -> None:
    out = tmp_path / "clip.mp4"
    out.write_bytes(b"before")

    def frames() -> Iterator[Image]:
        yield np.zeros((48, 64, 3), np.uint8)
        raise ValueError("injected")

    with pytest.raises(ValueError, match="injected"):
        write_mp4(frames(), out, 25, {})
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"before"]


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "without"])
def test_a_picture_has_the_format_of_its_suffix(name: str, tmp_path: Path) -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[:] = (200, 100, 30)
    write_picture(tmp_path / name, image, "--sheet")
    with Pillow.open(tmp_path / name) as picture:
        assert picture.format == ("JPEG" if name == "a.jpg" else "PNG")
        assert np.abs(np.asarray(picture.convert("RGB"), int) - image).max() < 6


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    (tmp_path / "file").write_text("")
    for path, code in (
        (tmp_path / "a.xyz", "output-not-a-picture"),
        (tmp_path / "file" / "a.png", "output-not-writable"),
    ):
        with pytest.raises(SinkLost) as caught:
            write_picture(path, image, "--sheet")
        assert caught.value.code == code
        assert caught.value.found.startswith("--sheet ")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
