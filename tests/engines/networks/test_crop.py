"""The networks' crop: its place, and that it stands still."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.face.topology import MIRROR
from engines.networks.crop import CATCH_UP_S, GROWN, MOVED, SCALE, UP, StableCrop, Window, crop_window
from engines.networks.paste import EDGE, Paste
from engines.types import FaceState, Image, Points

windows = st.builds(Window, st.floats(100, 500), st.floats(100, 400), st.floats(50, 800), st.floats(-math.pi, math.pi))


def moved(points: Points, x: float = 0, y: float = 0, scale: float = 1, angle: float = 0) -> Points:
    """Return the face shifted, scaled and turned about its middle."""
    middle = points[:, :2].mean(axis=0)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    turned = (points[:, :2] - middle) @ np.array([[cos, sin], [-sin, cos]]) + middle + (x, y)
    return np.asarray(np.concatenate([turned, points[:, 2:]], axis=1), np.float32)


@pytest.fixture(scope="module")
def face(driver_face: FaceState) -> Points:
    return driver_face.pixels()


def test_the_face_fills_its_share_of_the_crop_below_the_middle(face: Points) -> None:
    window = crop_window(face)
    low, high = face[:468, :2].min(axis=0), face[:468, :2].max(axis=0)
    size = float((high - low).max())
    assert window.side == pytest.approx(SCALE * size, rel=0.03)
    assert window.y == pytest.approx((low[1] + high[1]) / 2 - UP * size, abs=0.05 * size)
    assert window.x == pytest.approx((low[0] + high[0]) / 2, abs=0.05 * size)


@given(st.floats(-200, 200), st.floats(-200, 200), st.floats(0.3, 3), st.floats(-1.0, 1.0))
def test_the_crop_moves_with_the_face(face: Points, x: float, y: float, scale: float, angle: float) -> None:
    before, after = crop_window(face), crop_window(moved(face, x, y, scale, angle))
    assert after.side == pytest.approx(before.side * scale, rel=1e-3)
    assert math.remainder(after.angle - before.angle - angle, 2 * math.pi) == pytest.approx(0, abs=1e-3)


@given(windows, st.integers(16, 512))
def test_the_middle_of_the_window_is_the_middle_of_the_crop(window: Window, size: int) -> None:
    middle = window.matrix(size) @ np.array([window.x, window.y, 1])
    np.testing.assert_allclose(middle, (size - 1) / 2, atol=0.01)


@given(windows, windows)
def test_a_weight_of_one_arrives(start: Window, end: Window) -> None:
    place, size, turn = start.towards(end, 1.0).difference(end)
    assert max(place, size, turn) < 1e-6
    assert start.towards(end, 0.0).difference(start) == pytest.approx((0, 0, 0), abs=1e-9)


def test_small_motion_does_not_move_the_crop(face: Points) -> None:
    lock, rng = StableCrop(), np.random.default_rng(1)
    first = lock.update(face, 0)
    for index in range(1, 60):
        shift = rng.normal(0, 0.02, 2) * first.side
        nod = moved(
            face, float(shift[0]), float(shift[1]), scale=1 + 0.03 * math.sin(index), angle=0.05 * math.sin(0.3 * index)
        )
        assert lock.update(nod, index * 33_000_000) is first


@pytest.mark.parametrize("fps", [10, 30])
def test_a_face_that_leaves_is_followed_in_real_time(face: Points, fps: int) -> None:
    lock = StableCrop()
    first = lock.update(face, 0)
    there = moved(face, x=2 * MOVED * first.side, scale=1 + 2 * GROWN)
    window = first
    for index in range(1, round(3 * CATCH_UP_S * fps) + 1):
        window = lock.update(there, round(index * 1e9 / fps))
    place, size, _ = window.difference(crop_window(there))
    assert place < 0.12 * MOVED * 2
    assert size < 0.12 * GROWN * 2
    for index in range(100):
        window = lock.update(there, round((3 * CATCH_UP_S + index / fps) * 1e9) + 10**8)
    assert window.difference(crop_window(there))[0] < 0.03


def test_after_a_pause_the_crop_starts_afresh(face: Points) -> None:
    lock = StableCrop()
    lock.update(face, 0)
    elsewhere = moved(face, x=300)
    assert lock.update(elsewhere, 5_000_000_000) == crop_window(elsewhere)
    lock.reset()
    assert lock.update(face, 5_000_000_001) == crop_window(face)


def test_a_stable_crop_continues_in_the_flipped_image(face: Points) -> None:
    """An offset from the face is mirrored."""
    straight, mirrored, width = StableCrop(), StableCrop(), 640
    for index, x in enumerate([0.0, 0.05 * crop_window(face).side, 3 * MOVED * crop_window(face).side]):
        there = moved(face, x=x, angle=0.05)
        flipped = there[MIRROR] * np.array([-1, 1, 1], np.float32) + np.array([width, 0, 0], np.float32)
        one = straight.update(there, index * 33_000_000)
        other = mirrored.update(flipped if index else there, index * 33_000_000)
        if not index:
            mirrored.mirror(width)
        else:
            assert max(other.difference(one.mirrored(width))) < 1e-3


@pytest.mark.parametrize("size", [(320, 240), (1280, 960), (1280, 720)], ids=str)
def test_a_stable_crop_continues_in_an_image_of_another_size(face: Points, size: tuple[int, int]) -> None:
    """An offset from the face is scaled."""
    lock, old = StableCrop(), (640, 480)
    kept = lock.update(face, 0)
    there = moved(face, x=0.05 * kept.side)
    off = kept.difference(crop_window(there))
    factor = size[1] / old[1]
    smaller = (there[:, :2] - np.array(old) / 2) * factor + np.array(size) / 2
    lock.resize(old, size)
    after = lock.update(np.asarray(np.c_[smaller, there[:, 2] * factor], np.float32), 33_000_000)
    assert after.side == pytest.approx(factor * kept.side)
    assert after.difference(crop_window(np.asarray(smaller, np.float32))) == pytest.approx(off, abs=1e-4)


# --- putting it back


def scene(width: int = 320, height: int = 200) -> Image:
    """Return a smooth image, in which a seam would be visible."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.asarray(np.stack([x * 255 / width, y * 255 / height, 128 + 60 * np.sin(x / 40)], axis=-1), np.uint8)


@given(st.floats(0, 320), st.floats(0, 200), st.floats(60, 500), st.floats(-0.5, 0.5))
def test_the_portraits_own_square_leaves_no_seam(x: float, y: float, side: float, angle: float) -> None:
    image = scene()
    paste = Paste(image, Window(x, y, side, angle), 128)
    assert np.abs(paste.blend_in(paste.own).astype(int) - image).max() <= 16


def test_nothing_changes_outside_the_square_and_its_middle_is_replaced() -> None:
    image = scene()
    paste = Paste(image, Window(160, 100, 100, 0.0), 64)
    red: Image = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 255
    out = paste.blend_in(red)
    np.testing.assert_array_equal(out[:, :108], image[:, :108])
    np.testing.assert_array_equal(out[:, 212:], image[:, 212:])
    inner = round(100 * (0.5 - EDGE)) - 2
    assert (out[100 - inner : 100 + inner, 160 - inner : 160 + inner] == (255, 0, 0)).all()
    steps = np.abs(np.diff(out[100, 105:215, 0].astype(int)))
    assert steps.max() < 60


def test_a_square_outside_the_image_changes_nothing() -> None:
    image = scene()
    paste = Paste(image, Window(900, 900, 100, 0.0), 64)
    np.testing.assert_array_equal(paste.blend_in(np.zeros((64, 64, 3), np.uint8)), image)
