"""The background that is filled in, and the colours of soft edges."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engines.layers.background import fill_background, push_pull
from engines.layers.foreground import foreground
from engines.layers.strands import with_strands
from engines.types import Image, Mask

HEIGHT, WIDTH = 160, 200


def disc(radius: int = 45, soft: float = 0.0) -> Mask:
    """Return the matte of a disc in the middle, its edge as soft as that."""
    matte: Mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(matte, (WIDTH // 2, HEIGHT // 2), radius, (255,), -1)
    return matte if soft == 0 else np.asarray(cv2.GaussianBlur(matte, (0, 0), soft), np.uint8)


def over(colour: tuple[int, int, int], matte: Mask, behind: Image) -> Image:
    """Return a disc of one colour over an image."""
    share = matte[..., None] / 255
    return np.asarray(np.array(colour) * share + behind * (1 - share) + 0.5, np.uint8)


def gradient() -> Image:
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.asarray(np.stack([60 + across // 2, 80 + down // 2, 140 - across // 4], axis=-1), np.uint8)


def test_what_was_visible_stays_exactly_as_it_was() -> None:
    matte = disc(soft=2)
    image = over((240, 20, 20), matte, gradient())
    filled = fill_background(image, matte)
    far = cv2.dilate(matte, np.ones((9, 9), np.uint8)) == 0
    np.testing.assert_array_equal(filled[far], image[far])


def test_a_gradient_is_continued_without_a_ghost() -> None:
    matte = disc(soft=2)
    filled = fill_background(over((240, 20, 20), matte, gradient()), matte)
    assert np.abs(filled.astype(int) - gradient()).max() < 16
    assert np.abs(filled.astype(int) - gradient()).mean() < 3


def test_texture_is_continued() -> None:
    rng = np.random.default_rng(4)
    noise = cv2.GaussianBlur(rng.normal(0, 25, (HEIGHT, WIDTH, 3)), (0, 0), 1.0)
    behind = np.clip(gradient() + noise * 2, 0, 255).astype(np.uint8)
    matte = disc(30)
    filled = fill_background(over((240, 20, 20), matte, behind), matte)
    rim = (cv2.distanceTransform((matte > 0).astype(np.uint8), cv2.DIST_L2, 3) < 15) & (matte > 0)
    fine = [image - cv2.GaussianBlur(image, (0, 0), 3) for image in (filled.astype(float), behind.astype(float))]
    assert 0.6 < fine[0][rim].std() / fine[1][rim].std() < 1.4


@pytest.mark.parametrize(("pattern", "most"), [("spokes", 1.0), ("diagonals", 2.5)])
def test_the_steps_of_a_matte_do_not_shatter_what_is_continued(pattern: str, most: float) -> None:
    """Lines that meet the ragged edge of a head are continued as lines: no finer detail than theirs comes about."""
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH] - np.array([HEIGHT, WIDTH])[:, None, None] / 2
    angle, radius = np.arctan2(down, across), np.hypot(down, across)
    lines = np.sin(16 * angle) if pattern == "spokes" else np.sin((across + down) / 4)
    image = np.repeat((128 + 90 * lines)[..., None], 3, axis=2).astype(np.uint8)
    ragged = 50 + np.random.default_rng(2).uniform(-2, 2, 60)[((angle + np.pi) * 30 / np.pi).astype(int) % 60]
    matte: Mask = np.where(radius < ragged, 255, 0).astype(np.uint8)
    filled = fill_background(over((20, 20, 20), matte, image), matte)
    beside = (radius > 32) & (radius < 44)
    fine, own = (np.abs(cv2.Laplacian(of[..., 0].astype(np.float32), cv2.CV_32F))[beside] for of in (filled, image))
    assert fine.mean() < most * own.mean()
    assert filled[beside].std() > 25


@pytest.mark.parametrize("value", [0, 255])
def test_a_matte_of_nothing_or_of_everything_changes_nothing(value: int) -> None:
    image = gradient()
    np.testing.assert_array_equal(fill_background(image, np.full((HEIGHT, WIDTH), value, np.uint8)), image)


def test_unknown_pixels_come_from_known_ones_only() -> None:
    image = over((255, 0, 255), disc(), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    filled = push_pull(image, (disc() == 0).astype(np.float32))
    assert np.abs(filled - 90).max() < 0.5


def test_soft_edges_lose_the_colour_of_what_was_behind_them() -> None:
    """Over another background there is no halo of the old one."""
    green, matte = np.full((HEIGHT, WIDTH, 3), (30, 230, 40), np.uint8), disc(soft=3)
    image = over((150, 90, 60), matte, green)
    colours = foreground(image, matte, fill_background(image, matte))
    edge = (matte > 20) & (matte < 250)
    assert edge.sum() > 500
    assert np.abs(colours[edge].astype(int) - (150, 90, 60)).max() < 30
    # and over the old one it looks as before
    share = matte[..., None] / 255
    again = colours * share + fill_background(image, matte) * (1 - share)
    assert np.abs(again - image).max() < 12


def test_a_strand_before_a_calm_background_joins_the_matte() -> None:
    image = over((40, 30, 25), disc(), np.full((HEIGHT, WIDTH, 3), 200, np.uint8))
    cv2.line(image, (WIDTH // 2 + 44, HEIGHT // 2), (WIDTH // 2 + 50, HEIGHT // 2 - 4), (40, 30, 25), 1)
    found = with_strands(image, disc())
    assert found[HEIGHT // 2 - 3, WIDTH // 2 + 49] > 110
    assert found[:20, :20].max() == 0


def test_in_a_busy_background_no_strands_are_seen() -> None:
    rng = np.random.default_rng(2)
    behind = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    image = over((40, 30, 25), disc(), behind)
    np.testing.assert_array_equal(with_strands(image, disc()), disc())
