"""The crops that the refiner's networks see, and how changes are put back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engines.face.topology import EYE_CORNERS, OUTER_MOUTH_CORNERS
from engines.mesh.refine_crops import EYES, MOUTH, Planes, Region, crop, frame_of, pack, paste, to_crop
from engines.networks.refiner_layout import CHANNELS
from engines.types import FaceState, Points

REGIONS = [MOUTH, *EYES]


@pytest.fixture(scope="module")
def pixels(driver_face: FaceState) -> Points:
    return driver_face.pixels()


@pytest.mark.parametrize("region", REGIONS, ids=["mouth", "right eye", "left eye"])
def test_a_crop_follows_a_head_that_moves_tilts_and_grows(pixels: Points, region: Region) -> None:
    angle, scale = 0.4, 1.7
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    moved = pixels * np.float32(scale)
    moved[:, :2] = pixels[:, :2] @ turn.T + np.float32(40)
    before, after = (to_crop(points, frame_of(points, region)) for points in (pixels, moved))
    assert np.abs(before - after)[region.inner].max() < 0.05
    inside = before[region.inner]
    assert inside.min() > 8
    assert inside.max() < region.size - 9


def test_the_left_eye_is_seen_mirrored(pixels: Points) -> None:
    for region, corners in zip(EYES, EYE_CORNERS, strict=True):
        outer, inner = to_crop(pixels, frame_of(pixels, region))[corners]
        assert outer[0] < inner[0]


@pytest.mark.parametrize("scale", [0.6, 1.0, 2.5])
@pytest.mark.parametrize("region", REGIONS, ids=["mouth", "right eye", "left eye"])
def test_a_pasted_change_lands_where_the_crop_was_taken(pixels: Points, region: Region, scale: float) -> None:
    points = pixels * np.float32(scale)
    image = np.full((int(480 * scale), int(640 * scale), 3), 90, np.uint8)
    frame = frame_of(points, region)
    change = np.zeros((3, region.size, region.size), np.float32)
    middle = region.size // 2
    change[0, middle - 6 : middle + 6, middle - 9 : middle + 3] = 0.4
    paste(change, frame, 1.0, image)
    seen = crop(image, frame, region.size).astype(np.float32)
    wanted = 90 + 255 * change.transpose(1, 2, 0)
    inside = cv2.erode((change[0] > 0).astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    outside = cv2.dilate((change[0] > 0).astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
    assert np.abs(seen - wanted)[inside].max() < 12
    assert np.abs(seen - wanted)[outside].max() < 2


def test_a_change_of_nothing_changes_nothing(pixels: Points) -> None:
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3)).astype(np.uint8)
    before = image.copy()
    paste(np.zeros((3, 96, 96), np.float32), frame_of(pixels, MOUTH), 1.0, image)
    assert (image == before).all()


def test_a_crop_beyond_the_image_is_pasted_without_the_part_outside(pixels: Points) -> None:
    moved = pixels.copy()
    moved[:, :2] -= moved[OUTER_MOUTH_CORNERS, :2].mean(axis=0)
    image = np.zeros((60, 60, 3), np.uint8)
    paste(np.full((3, 96, 96), 0.5, np.float32), frame_of(moved, MOUTH), 1.0, image)
    assert image[2, 2, 0] > 100


def test_planes_show_the_opening_of_frame_and_portrait(pixels: Points) -> None:
    frame = frame_of(pixels, MOUTH)
    own = to_crop(pixels, frame)
    now = own.copy()
    now[MOUTH.inner[11:], 1] += 14
    planes = Planes(MOUTH)
    planes.draw_portrait(own)
    planes.draw(own, now)
    assert planes.drawn[0].sum() > 2 * planes.drawn[4].sum()
    x, y = now[MOUTH.inner].mean(axis=0).astype(int)
    assert planes.drawn[0, y, x] == 255
    assert planes.drawn[1, y, x] == 0
    assert planes.drawn[3, y, x] > 150  # the slit of the mouth has grown
    assert planes.drawn[3, 2, 2] == 128


def test_the_input_has_pictures_around_zero_and_planes_from_zero_to_one() -> None:
    out = np.empty((CHANNELS, 4, 4), np.float32)
    white, black = np.full((4, 4, 3), 255, np.uint8), np.zeros((4, 4, 3), np.uint8)
    pack(white, black, np.full((6, 4, 4), 255, np.uint8), out)
    assert out[:3] == pytest.approx(1)
    assert out[3:6] == pytest.approx(-1)
    assert out[6:] == pytest.approx(1)
