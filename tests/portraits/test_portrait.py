"""Portraits from file to frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from engines.errors import PortraitError
from engines.face.topology import ALL_EYE_CORNERS
from realtime.portraits.portrait import DEFAULT_PORTRAIT, PortraitPicture, load_portrait, yaw
from realtime.tracking import face_mesh
from realtime.tracking.still_faces import FaceFinder

pytestmark = pytest.mark.skipif(not face_mesh.available(), reason="this mediapipe has no Face Mesh")


@pytest.fixture(scope="module")
def finder() -> Iterator[FaceFinder]:
    with FaceFinder() as opened:
        yield opened


def share(portrait: PortraitPicture) -> float:
    """Return the height of the face as a share of the frame's."""
    return float(np.ptp(portrait.face.landmarks[:, 1]))


def refusal(finder: FaceFinder, path: Path) -> str:
    """Return the code of the error that a portrait is refused with."""
    with pytest.raises(PortraitError) as caught:
        load_portrait(path, (512, 512), finder=finder)
    assert path.name in caught.value.found
    assert caught.value.cure
    return caught.value.code


def resized(source: Path, target: Path, height: int) -> Path:
    with Pillow.open(source) as picture:
        picture.convert("RGB").resize((round(picture.width * height / picture.height), height)).save(target)
    return target


@pytest.mark.parametrize("size", [(1280, 720), (512, 512), (720, 1280), (640, 480)])
@pytest.mark.parametrize("name", ["lp__s9.jpg", "lp__s3.jpg", "sadtalker__art_14.png"])
def test_the_head_fills_the_frame_as_in_a_portrait(
    finder: FaceFinder, portraits: Path, name: str, size: tuple[int, int]
) -> None:
    portrait = load_portrait(portraits / name, size, finder=finder)
    assert portrait.name == Path(name).stem
    assert portrait.image.shape == (size[1], size[0], 3)
    assert portrait.image.flags.c_contiguous
    assert portrait.face.size == size
    assert 0.32 < share(portrait) < 0.6
    assert 0.3 < portrait.face.landmarks[ALL_EYE_CORNERS, 1].mean() < 0.62
    assert ((portrait.face.landmarks[:, :2] > 0) & (portrait.face.landmarks[:, :2] < 1)).all()


def test_the_face_is_that_of_the_frame(finder: FaceFinder, portraits: Path) -> None:
    portrait = load_portrait(portraits / "lp__s9.jpg", (640, 480), finder=finder)
    found = finder.find(portrait.image)[0]
    np.testing.assert_allclose(portrait.face.pixels()[:, :2], found.pixels()[:, :2], atol=1.0)


def test_nothing_is_distorted(finder: FaceFinder, portraits: Path) -> None:
    wide = load_portrait(portraits / "lp__s3.jpg", (1280, 720), finder=finder).face.pixels()
    square = load_portrait(portraits / "lp__s3.jpg", (512, 512), finder=finder).face.pixels()
    ratios = [np.ptp(points[:, 0]) / np.ptp(points[:, 1]) for points in (wide, square)]
    assert ratios[0] == pytest.approx(ratios[1], rel=0.02)


def test_several_faces_are_noted(finder: FaceFinder, portraits: Path, tmp_path: Path) -> None:
    pair = Pillow.new("RGB", (1500, 800), (110, 110, 110))
    for left, name, height in ((0, "lp__s9.jpg", 800), (800, "lp__s3.jpg", 500)):
        pair.paste(Pillow.open(resized(portraits / name, tmp_path / "one.png", height)), (left, 0))
    pair.save(tmp_path / "pair.png")
    portrait = load_portrait(tmp_path / "pair.png", (512, 512), finder=finder)
    assert any("2 faces: the largest" in note for note in portrait.notes)


@pytest.mark.parametrize("turn", [Pillow.Transpose.ROTATE_90, Pillow.Transpose.ROTATE_270])
def test_a_picture_on_its_side_is_refused(
    finder: FaceFinder, portraits: Path, tmp_path: Path, turn: Pillow.Transpose
) -> None:
    with Pillow.open(portraits / "lp__s3.jpg") as picture:
        picture.convert("RGB").transpose(turn).save(tmp_path / "side.png")
    assert refusal(finder, tmp_path / "side.png") == "portrait-on-its-side"


def test_a_picture_upside_down_is_refused(finder: FaceFinder, tmp_path: Path) -> None:
    with Pillow.open(DEFAULT_PORTRAIT) as picture:
        upright = picture.convert("RGB")
    upright.save(tmp_path / "up.png")
    upright.transpose(Pillow.Transpose.ROTATE_180).save(tmp_path / "down.png")
    load_portrait(tmp_path / "up.png", (512, 512), finder=finder)
    assert refusal(finder, tmp_path / "down.png") in ("portrait-upside-down", "portrait-no-face")


def test_a_photograph_upside_down_is_refused_as_that(finder: FaceFinder, portraits: Path, tmp_path: Path) -> None:
    with Pillow.open(portraits / "lp__s12.jpg") as picture:
        picture.convert("RGB").transpose(Pillow.Transpose.ROTATE_180).save(tmp_path / "down.png")
    assert refusal(finder, tmp_path / "down.png") == "portrait-upside-down"


def test_a_face_too_small_is_refused_and_a_small_one_noted(finder: FaceFinder, portraits: Path, tmp_path: Path) -> None:
    tiny = resized(portraits / "lp__s9.jpg", tmp_path / "tiny.png", 240)
    assert refusal(finder, tiny) == "portrait-face-too-small"
    small = resized(portraits / "lp__s9.jpg", tmp_path / "small.png", 640)
    assert any("small" in note for note in load_portrait(small, (512, 512), finder=finder).notes)


def test_a_turned_face_is_noted_and_a_profile_refused(finder: FaceFinder, portraits: Path) -> None:
    turned = load_portrait(portraits / "lp__s10.jpg", (512, 512), finder=finder)
    assert any("turned" in note for note in turned.notes)
    assert yaw(turned.face) < -25
    assert refusal(finder, portraits / "hallo3__0018.jpg") == "portrait-in-profile"


def test_yaw_changes_sign_with_the_mirror(finder: FaceFinder, portraits: Path) -> None:
    face = load_portrait(portraits / "lp__s10.jpg", (512, 512), finder=finder)
    mirrored = finder.find(np.ascontiguousarray(cv2.flip(face.image, 1)))[0]
    assert yaw(mirrored) == pytest.approx(-yaw(face.face), abs=6)


def test_a_picture_without_a_face_is_refused(finder: FaceFinder, tmp_path: Path) -> None:
    path = tmp_path / "empty room.png"
    Pillow.new("RGB", (300, 200), (90, 120, 150)).save(path)
    assert refusal(finder, path) == "portrait-no-face"


@pytest.mark.skipif(not DEFAULT_PORTRAIT.is_file(), reason="the default portrait has not been rendered")
@pytest.mark.parametrize("size", [(1280, 720), (512, 512), (720, 1280)])
def test_the_default_portrait_has_no_notes(finder: FaceFinder, size: tuple[int, int]) -> None:
    portrait = load_portrait(None, size, finder=finder)
    assert portrait.notes == ()
    assert portrait.face.confidence > 0.9
    assert abs(yaw(portrait.face)) < 10


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("vhuman__stock-emotions-b-1.jpg", "the eyes are shut"),
        ("vhuman__stock-emotions-b-8.jpg", "one eye is shut"),
        ("azure__Family3-Man1.jpg", None),
        ("musev__Mona_Lisa.jpg", None),
    ],
)
def test_eyes_that_the_picture_cannot_open_are_noted(
    finder: FaceFinder, portraits: Path, name: str, note: str | None
) -> None:
    """Narrow eyes are not: their irises are seen."""
    notes = [text for text in load_portrait(portraits / name, (512, 512), finder=finder).notes if "shut" in text]
    assert len(notes) == (note is not None)
    assert note is None or note in notes[0]
