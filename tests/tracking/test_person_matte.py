"""The matte of a portrait: what of it is head and body."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.types import FaceState
from realtime.portraits.portrait import PortraitPicture, load_portrait
from realtime.tracking import person_matte
from realtime.tracking.person_matte import PersonSegmenter, guided, refined
from realtime.tracking.still_faces import FaceFinder
from tests.support.faces import polygon_mask

pytestmark = pytest.mark.skipif(not person_matte.available(), reason="this mediapipe has no selfie segmentation")


def box_of(face: FaceState) -> tuple[int, int, int, int]:
    low, high = face.pixels()[:, :2].min(axis=0), face.pixels()[:, :2].max(axis=0)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def test_head_and_shoulders_are_inside_and_the_corners_above_are_not(portrait_picture: PortraitPicture) -> None:
    matte = portrait_picture.matte
    assert matte is not None
    assert matte.shape == portrait_picture.image.shape[:2]
    left, top, right, bottom = box_of(portrait_picture.face)
    assert (matte[top:bottom, (left + right) // 2] == 255).all()
    assert (matte[bottom:, (left + right) // 2] > 250).all()
    assert matte[:60, :60].max() == 0
    assert matte[:60, -60:].max() == 0
    soft = (matte > 10) & (matte < 245)
    assert 0 < soft.mean() < 0.06


@pytest.mark.parametrize("name", ["hallo__5.jpg", "musev__Mona_Lisa.jpg", "personalive__ref_image.png", "lp__s6.jpg"])
@pytest.mark.parametrize("size", [(512, 512), (1280, 720)])
def test_statues_paintings_and_photographs_are_cut_out(
    face_finder: FaceFinder, portraits: Path, name: str, size: tuple[int, int]
) -> None:
    picture = load_portrait(portraits / name, size, finder=face_finder)
    assert picture.matte is not None
    left, top, right, bottom = box_of(picture.face)
    height = bottom - top
    assert picture.matte[top:bottom, left:right].mean() > 240
    # the upper corners are background, and the frame's lower middle is the chest
    assert picture.matte[: height // 3, : size[0] // 8].mean() < 3
    assert picture.matte[-height // 8 :, left:right].mean() > 240


def test_holes_are_filled_and_what_is_apart_is_left_out(portrait_picture: PortraitPicture) -> None:
    face = portrait_picture.face
    image = np.full_like(portrait_picture.image, 90)
    left, top, right, bottom = box_of(face)
    likely = np.zeros(image.shape[:2], np.float32)
    likely[top - 40 : bottom + 40, left - 40 : right + 40] = 1
    likely[top - 30 : top - 20, left:right] = 0
    likely[:30, :30] = 1
    matte = refined(image, face, likely)
    assert matte is not None
    assert (matte[top - 25, left:right] > 250).all()
    assert matte[:30, :30].max() == 0


def test_a_model_that_does_not_see_the_face_is_not_believed(portrait_picture: PortraitPicture) -> None:
    nothing = np.zeros(portrait_picture.image.shape[:2], np.float32)
    assert refined(portrait_picture.image, portrait_picture.face, nothing) is None


def test_a_blurred_edge_is_drawn_to_that_of_the_image() -> None:
    true = np.zeros((120, 120), np.float32)
    cv2.circle(true, (60, 60), 30, (1,), -1)
    image = np.where(true[..., None] > 0, 200.0, 60.0).repeat(3, axis=2)
    noisy = np.clip(image + np.random.default_rng(1).normal(0, 2, image.shape), 0, 255)
    coarse = cv2.GaussianBlur(np.roll(true, 2, axis=1), (0, 0), 3)
    fine = guided(np.asarray(noisy, np.uint8), np.asarray(coarse, np.float32), 7, 2e-4)
    assert ((coarse > 0.5) != (true > 0.5)).sum() > 100
    assert ((fine > 0.5) != (true > 0.5)).sum() < 5


def test_the_whole_face_is_inside(portrait_picture: PortraitPicture) -> None:
    hull = cv2.convexHull(np.ascontiguousarray(portrait_picture.face.pixels()[:468, :2]))[:, 0]
    assert portrait_picture.matte is not None
    assert portrait_picture.matte[polygon_mask(np.asarray(hull), portrait_picture.face.size)].min() > 240


def test_closing_twice_and_using_it_again_is_possible(portrait_picture: PortraitPicture) -> None:
    segmenter = PersonSegmenter()
    for _ in range(2):
        matte = segmenter.matte(portrait_picture.image, portrait_picture.face)
        assert matte is not None
        segmenter.close()
        segmenter.close()
