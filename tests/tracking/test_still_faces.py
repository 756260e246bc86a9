"""Faces in still images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.errors import TrackerError
from engines.install_hint import command
from engines.types import Image
from realtime.portraits.image_file import read_image
from realtime.tracking import face_mesh
from realtime.tracking.still_faces import FaceFinder, find_faces

pytestmark = pytest.mark.skipif(not face_mesh.available(), reason="this mediapipe has no Face Mesh")


@pytest.fixture(scope="module")
def finder() -> Iterator[FaceFinder]:
    with FaceFinder() as opened:
        yield opened


def read(portraits: Path, name: str, height: int) -> Image:
    picture = read_image(portraits / name).image
    size = (round(picture.shape[1] * height / picture.shape[0]), height)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


@pytest.mark.parametrize(
    "name", ["lp__s9.jpg", "lp__s3.jpg", "lp__s6.jpg", "lp__s10.jpg", "hellomeme__toon.png", "musev__dufu.jpeg"]
)
def test_paintings_statues_and_cartoons_are_found(finder: FaceFinder, portraits: Path, name: str) -> None:
    picture = read_image(portraits / name).image
    faces = finder.find(picture)
    assert len(faces) == 1
    assert faces[0].size == (picture.shape[1], picture.shape[0])
    assert faces[0].landmarks.shape == (478, 3)
    assert faces[0].landmarks.dtype == np.float32


@pytest.mark.parametrize("height", [480, 330])
def test_a_small_face_in_a_large_picture_is_found_where_it_is(finder: FaceFinder, portraits: Path, height: int) -> None:
    small = read(portraits, "lp__s9.jpg", height)
    alone = finder.find(small)[0].pixels()
    large = np.full((1500, 2000, 3), 110, np.uint8)
    large[900 : 900 + height, 1300 : 1300 + small.shape[1]] = small
    found = finder.find(large)
    assert len(found) == 1
    shift = found[0].pixels() - alone
    np.testing.assert_allclose(np.median(shift, axis=0)[:2], (1300, 900), atol=0.02 * height)


def test_several_faces_come_largest_first(finder: FaceFinder, portraits: Path) -> None:
    large = np.full((900, 1700, 3), 110, np.uint8)
    for left, name, height in ((0, "lp__s9.jpg", 600), (500, "lp__s3.jpg", 850), (1200, "lp__s6.jpg", 400)):
        picture = read(portraits, name, height)
        large[:height, left : left + picture.shape[1]] = picture[:, : 1700 - left]
    faces = finder.find(large)
    assert len(faces) == 3
    heights = [np.ptp(face.pixels()[:, 1]) for face in faces]
    assert heights == sorted(heights, reverse=True)


def test_an_image_without_a_face_gives_none(finder: FaceFinder) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3)).astype(np.uint8)
    assert finder.find(noise) == []
    assert finder.find(np.zeros((1, 1, 3), np.uint8)) == []
    assert find_faces(np.zeros((40, 3000, 3), np.uint8)) == []


def test_landmarks_hardly_depend_on_how_the_face_lies(finder: FaceFinder, portraits: Path) -> None:
    picture = read(portraits, "lp__s9.jpg", 700)
    reference = finder.find(picture)[0].pixels()[:, :2]
    height, width = picture.shape[:2]
    for degrees, shift in ((3, 7.5), (-4, 2.3)):
        turn = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0), np.float64)
        turn[:, 2] += shift
        moved = cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
        found = finder.find(np.asarray(moved, np.uint8))[0].pixels()[:, :2]
        expected = reference @ turn[:, :2].T + turn[:, 2]
        assert np.abs(found - expected).mean() < 0.004 * np.ptp(reference[:, 1])


def test_without_models_the_error_names_the_cure(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_mesh, "available", lambda: False)
    with pytest.raises(TrackerError) as caught:
        FaceFinder()
    assert caught.value.code == "tracker-model-missing"
    assert caught.value.cure == f"{command('models')} fetch face_landmarker"
    assert not own_cache.exists()
