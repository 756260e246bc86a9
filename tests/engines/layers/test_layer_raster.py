"""The loops that draw a warped layer, against a plain computation of the same."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engines.layers import layer_raster
from engines.layers.layer import Layer
from engines.layers.layer_raster import BODY_STEP, FACE_STEP, NOWHERE, ORIGINAL, WHOLE
from engines.types import Floats, Image, Mask

HEIGHT, WIDTH, BEYOND = 70, 90, 16


def picture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> Image:
    """Return smooth random colours."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 4 + 2, width // 4 + 2, 3), dtype=np.uint8)
    return np.ascontiguousarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))


def turned(step: int, rows: int, columns: int, degrees: float) -> Floats:
    """Return the backward map, at every ``step``-th pixel, of a picture that is turned about its middle and shifted."""
    height, width = HEIGHT, WIDTH
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.03)
    y, x = np.mgrid[: rows * step : step, : columns * step : step]
    at = np.stack([x, y, np.ones_like(x)], axis=-1) @ matrix.T
    return np.ascontiguousarray(at + np.array([0.3, -0.6]), np.float32)


def expected(under: Image, colours: Image, opacity: Mask, backward: Floats, step: int) -> Floats:
    """Return a layer over ``under`` with OpenCV's interpolation, of the map's whole area."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32) / step
    maps = cv2.remap(backward, columns, rows, cv2.INTER_LINEAR)
    share = opacity.astype(np.float32)[..., None] / 255
    both = np.concatenate([colours * share, share], axis=2)
    seen = cv2.remap(both, maps, np.empty(0, np.int16), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(seen[..., :3] + (1 - seen[..., 3:]) * under, np.float32)


def soft_disc(height: int, width: int) -> Mask:
    """Return the opacity of a disc with a soft edge."""
    y, x = np.mgrid[:height, :width]
    away = np.hypot(x - width / 2, y - height / 2)
    return np.asarray(np.clip((0.4 * height - away) * 12 + 128, 0, 255), np.uint8)


@pytest.mark.parametrize("degrees", [0.0, 7.0, -25.0])
def test_head_and_body_are_drawn_as_interpolation_and_blending_say(degrees: float) -> None:
    behind, colours = picture(1), picture(2, HEIGHT + 2 * BEYOND, WIDTH + 2 * BEYOND)
    opacity = soft_disc(*colours.shape[:2])
    layer = Layer.of(colours, opacity)
    rows, columns = -(-HEIGHT // BODY_STEP) + 1, -(-WIDTH // BODY_STEP) + 1
    backward = turned(BODY_STEP, rows, columns, degrees) + np.float32(BEYOND)
    out = np.zeros_like(behind)
    shows = np.full((rows - 1, columns - 1), ORIGINAL, np.uint8)
    layer_raster.draw_body(
        out, np.zeros_like(out), behind, layer.pixels, layer.kinds, backward, shows, (0, 0, BEYOND, BEYOND),
        (0, 0, WIDTH, HEIGHT), np.zeros((0, 0), np.uint8),
    )  # fmt: skip
    right = expected(behind, colours, opacity, backward, BODY_STEP)
    assert np.abs(out - right).max() <= 4
    assert np.abs(out - right).mean() < 0.6


def test_a_face_is_drawn_where_it_is_seen_and_as_far_as_its_coverage_says() -> None:
    under, colours = picture(3), picture(4)
    layer = Layer.of(colours, np.full((HEIGHT, WIDTH), 255, np.uint8))
    rows, columns = HEIGHT // FACE_STEP + 1, WIDTH // FACE_STEP + 1
    backward = np.clip(turned(FACE_STEP, rows, columns, 5.0), 1, (WIDTH - 3, HEIGHT - 3)).astype(np.float32)
    backward[: rows // 2] = NOWHERE
    cover = np.full((rows, columns), WHOLE // 2, np.uint8)
    out = under.copy()
    layer_raster.draw_face(out, layer.pixels, layer.kinds, backward, cover, (0, 0))
    half = FACE_STEP * (rows // 2)
    np.testing.assert_array_equal(out[:half], under[:half])
    right = expected(under, colours, np.full((HEIGHT, WIDTH), 128, np.uint8), backward, FACE_STEP)
    assert np.abs(out[half:] - right[half:]).max() <= 4


def test_what_is_brighter_than_its_opacity_stays_white() -> None:
    """Four channels share a word: none may run over into the next."""
    white = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    opacity = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))
    layer = Layer.of(white, opacity)
    rows, columns = HEIGHT // FACE_STEP + 1, WIDTH // FACE_STEP + 1
    backward = np.clip(turned(FACE_STEP, rows, columns, 3.0), 1, (WIDTH - 3, HEIGHT - 3)).astype(np.float32)
    out = white.copy()
    cover = np.full((rows, columns), WHOLE, np.uint8)
    layer_raster.draw_face(out, layer.pixels, layer.kinds, backward, cover, (0, 0))
    assert out.min() >= 253


def test_a_cell_that_has_not_changed_is_left_alone() -> None:
    behind, colours = picture(5), picture(6, HEIGHT + 2 * BEYOND, WIDTH + 2 * BEYOND)
    layer = Layer.of(colours, np.zeros(colours.shape[:2], np.uint8))
    rows, columns = -(-HEIGHT // BODY_STEP) + 1, -(-WIDTH // BODY_STEP) + 1
    backward = turned(BODY_STEP, rows, columns, 9.0) + np.float32(BEYOND)
    shows = np.full((rows - 1, columns - 1), ORIGINAL, np.uint8)
    out = np.zeros_like(behind)
    for shown in (behind, np.zeros_like(behind)):
        layer_raster.draw_body(
            out, shown, shown, layer.pixels, layer.kinds, backward, shows, (0, 0, BEYOND, BEYOND), (0, 0, 0, 0),
            np.zeros((0, 0), np.uint8),
        )  # fmt: skip
        # the middle of a turn stands still, and shows the portrait as it was given
        np.testing.assert_array_equal(out[: HEIGHT // 2 - 8], behind[: HEIGHT // 2 - 8])


def test_triangles_over_nothing_are_told_from_those_near_the_layer() -> None:
    opacity = np.zeros((200, 200), np.uint8)
    opacity[90:110, 90:110] = 255
    layer = Layer.of(np.zeros((200, 200, 3), np.uint8), opacity)
    corner = np.array([(0, 0), (8, 0), (0, 8)], np.float32)
    places = [(100.0, 100.0), (80.0, 95.0), (10.0, 10.0), (10.0, 100.0), (-500.0, 900.0)]
    corners = np.stack([corner + np.array(place, np.float32) for place in places])
    assert layer.shows(corners).tolist() == [True, True, False, False, False]
    around = np.array([[(-50, -50), (400, -50), (100, 400)]], np.float32)
    assert layer.shows(around).all()
