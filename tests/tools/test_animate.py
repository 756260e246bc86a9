"""A photograph comes alive: bundled motions, and the pictures that are written."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from engines.errors import PortraitError
from realtime.motion.motion_file import BUNDLED, Recorded, bundled_motions, read_motion
from realtime.portraits.bundled import bundled_portraits
from tests.support.faces import at_pixels
from tools import animate
from tools.animation.motions import ACTS, rows_of
from tools.animation.scene import chosen, fitted, sampled


def test_ten_motions_come_with_the_program() -> None:
    assert len(bundled_motions()) == 10
    assert set(bundled_motions()) == set(ACTS)


@pytest.mark.parametrize("name", ACTS)
def test_a_bundled_motion_is_what_its_script_writes_and_loops_without_a_seam(name: str) -> None:
    path = BUNDLED / f"{name}.csv"
    assert path.read_text(encoding="utf-8") == rows_of(ACTS[name])
    motion = read_motion(path)
    assert motion.duration == pytest.approx(4.0, abs=0.02)
    everything = np.hstack([motion.coefficients, motion.turns])
    steps = np.abs(np.diff(everything, axis=0)).max()
    seam = np.abs(everything[-1] - everything[0]).max()
    assert seam <= max(0.5 * steps, 0.02)
    assert np.abs(everything).max() > 0.03


def test_a_motion_is_sampled_between_its_frames_and_from_its_end_to_its_start() -> None:
    coefficients = np.zeros((2, 52), np.float32)
    coefficients[1] = 1
    motion = Recorded(np.array([0.0, 0.5]), coefficients, np.zeros((2, 3), np.float32))
    assert [float(sampled(motion, share)[0][0]) for share in (0, 0.25, 0.5, 0.75)] == pytest.approx([0, 0.5, 1, 0.5])


def test_a_picture_is_made_smaller_and_even_and_never_larger() -> None:
    assert fitted(np.zeros((301, 200, 3), np.uint8), (100, 100)).shape == (100, 66, 3)
    assert fitted(np.zeros((30, 21, 3), np.uint8), (100, 100)).shape[0] == 30


def test_faces_are_chosen_by_size_and_by_place() -> None:
    def face(x: float, height: float) -> object:
        pixels = np.zeros((478, 3), np.float32)
        pixels[:, 0] = x
        pixels[:, 1] = np.linspace(0, height, 478)
        return at_pixels(pixels)

    faces = [face(300, 200), face(100, 100), face(200, 10)]
    assert chosen(faces, "all") == faces[:2]  # type: ignore[arg-type]
    assert chosen(faces, "largest") == faces[:1]  # type: ignore[arg-type]
    assert chosen(faces, "1") == faces[1:2]  # type: ignore[arg-type]
    for which, of in (("3", faces), ("all", faces[2:])):
        with pytest.raises(PortraitError):
            chosen(of, which)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_every_face_of_a_picture_moves_and_what_is_between_them_does_not(tmp_path: Path, suffix: str) -> None:
    pictures = [cv2.imread(str(portrait.path)) for portrait in bundled_portraits()[:2]]
    group = np.hstack([cv2.resize(picture, (320, 240), interpolation=cv2.INTER_AREA) for picture in pictures])
    photo, out = tmp_path / "group.png", tmp_path / f"out{suffix}"
    cv2.imwrite(str(photo), group)
    words = [str(photo), "--motion", "turn-and-smile", "--seconds", "1", "--out", str(out), "--label", "off"]
    assert animate.main(words) == 0
    shown = _frames(out)
    assert len(shown) >= 15
    spread = np.ptp(np.stack(shown).astype(int), axis=0).max(axis=2)
    assert (spread[:, :320] > 60).sum() > 300
    assert (spread[:, 320:] > 60).sum() > 300
    assert np.median(spread[:40]) < 12


def _frames(path: Path) -> list[np.ndarray]:  # type: ignore[type-arg]
    if path.suffix == ".gif":
        with Pillow.open(path) as picture:
            frames = []
            for number in range(getattr(picture, "n_frames", 1)):
                picture.seek(number)
                frames.append(np.array(picture.convert("RGB")))
            return frames
    video = cv2.VideoCapture(str(path))
    frames = []
    while True:
        found, image = video.read()
        if not found:
            return frames
        frames.append(image)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 2),
        (["clara", "--out", "x.avi"], 2),
        (["clara", "--size", "9x9"], 2),
        (["clara", "--faces", "none"], 2),
        (["clara", "--motion", "no-such-motion.csv"], 1),
        (["no-such-photo.jpg"], 2),
    ],
)
def test_a_mistake_is_said_in_one_line(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert animate.main(words) == code
    assert "Traceback" not in capsys.readouterr().err


def test_a_picture_without_a_face_is_refused(tmp_path: Path) -> None:
    photo = tmp_path / "wall.png"
    cv2.imwrite(str(photo), np.full((200, 200, 3), 128, np.uint8))
    assert animate.main([str(photo), "--out", str(tmp_path / "x.gif")]) == 2
    assert not (tmp_path / "x.gif").exists()
