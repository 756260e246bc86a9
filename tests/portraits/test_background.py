"""Custom backgrounds: what names one, and edges without the colours of the old."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.errors import UsageError
from engines.types import Image, Window
from realtime.portraits.background import KEY, Background, before, is_named, open_background
from realtime.portraits.mount import Mount
from realtime.portraits.portrait import PortraitPicture
from tests.support.pictures import bust, in_picture

CLOTH = (40, 60, 110)


def portrait(width: int = 400, height: int = 360) -> PortraitPicture:
    """Return a blue bust before a light background, with soft edges."""
    _, matte, points = bust(width, height)
    matte = np.asarray(cv2.GaussianBlur(matte, (0, 0), 2), np.uint8)
    share = matte[..., None].astype(np.float32) / 255
    image = np.asarray(share * np.array(CLOTH) + (1 - share) * np.array((235, 225, 210)), np.uint8)
    return PortraitPicture("bust", image, in_picture(points, (width, height)), matte=matte)


@pytest.mark.parametrize(
    ("text", "kind", "colour"),
    [
        ("keep", "keep", KEY),
        ("blur", "blur", KEY),
        ("transparent", "transparent", KEY),
        ("transparent:#ff00ff", "transparent", (255, 0, 255)),
        ("green", "colour", (0, 128, 0)),
        ("#0a1", "colour", (0, 170, 17)),
        ("#00ff00", "colour", (0, 255, 0)),
        ("rgb(1,2,3)", "colour", (1, 2, 3)),
    ],
)
def test_words_and_colours(text: str, kind: str, colour: tuple[int, int, int]) -> None:
    background = open_background(text)
    assert (background.kind, background.colour) == (kind, colour)
    assert is_named(text)


@pytest.mark.parametrize("text", ["#12", "#gg0000", "greeen", "transparent:greeen", "rgb(1,2)"])
def test_a_bad_colour_is_an_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_background(text)
    assert caught.value.code == "background-bad-colour"
    assert not is_named(text)


def test_a_missing_or_bad_image_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        open_background(str(tmp_path / "none.png"))
    assert caught.value.code == "background-missing"
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(UsageError) as caught:
        open_background(str(bad))
    assert caught.value.code == "background-unreadable"


def test_an_image_covers_the_frame_from_its_middle(tmp_path: Path) -> None:
    wide = np.zeros((100, 400, 3), np.uint8)
    wide[:, 150:250] = 255
    cv2.imwrite(str(tmp_path / "wide.png"), wide)
    background = open_background(str(tmp_path / "wide.png"))
    assert (background.kind, background.name) == ("image", "wide.png")
    _, behind = before(portrait(), background)
    assert behind is not None
    assert behind.shape == (360, 400, 3)
    assert behind[180, 200].min() == 255
    assert behind[180, 10].max() == 0


@pytest.mark.parametrize("colour", ["#00ff00", "#000000", "#ffffff"])
def test_soft_edges_keep_nothing_of_the_old_background(colour: str) -> None:
    """The image over a colour is the subject's own colour mixed with it by the matte, and with nothing else."""
    picture = portrait()
    placed, behind = before(picture, open_background(colour))
    assert behind is not None
    assert picture.matte is not None
    share = picture.matte[..., None].astype(float) / 255
    wanted = share * np.array(CLOTH) + (1 - share) * behind
    assert np.abs(placed.image - wanted).max() < 12
    assert np.abs(placed.image - wanted).mean() < 0.8


def test_a_matte_that_is_too_wide_leaves_no_halo() -> None:
    picture = portrait()
    assert picture.matte is not None
    true = picture.matte[..., None].astype(float) / 255
    wide = np.asarray(cv2.dilate(picture.matte, np.ones((7, 7), np.uint8)), np.uint8)
    placed, _ = before(replace(picture, matte=wide), open_background("#00ff00"))
    wanted = true * np.array(CLOTH) + (1 - true) * np.array((0, 255, 0))
    off = np.abs(placed.image - wanted).max(axis=2)
    assert (off > 60).sum() < 0.1 * ((wide > 127) & (picture.matte < 40)).sum()


def test_colours_like_the_background_stay_in_the_subject() -> None:
    """White cloth before a white wall is no halo."""
    picture = portrait()
    assert picture.matte is not None
    white = np.asarray(np.where(picture.matte[..., None] > 127, 230, picture.image), np.uint8)
    placed, _ = before(replace(picture, image=white), open_background("#000000"))
    assert placed.matte is not None
    assert np.abs(placed.matte.astype(int) - picture.matte).max() < 8


def test_a_blurred_background_has_no_edges_and_nothing_of_the_subject() -> None:
    picture = portrait()
    _, behind = before(picture, open_background("blur"))
    assert behind is not None
    assert np.abs(np.diff(behind.astype(int), axis=1)).max() <= 3
    assert np.abs(behind.astype(int) - (235, 225, 210)).max() < 12


def test_without_an_outline_the_portrait_stays_as_it_is() -> None:
    picture = replace(portrait(), matte=None)
    placed, behind = before(picture, open_background("blur"))
    assert placed is picture
    assert behind is None


def test_the_frame_around_a_card_shows_the_same_image() -> None:
    rows = np.linspace(0, 255, 500).astype(np.uint8)[:, None, None]
    image: Image = np.ascontiguousarray(np.broadcast_to(rows, (500, 800, 3)))
    mount = Mount(np.zeros((500, 800, 3), np.uint8), Window(200, 70, 600, 430, 16))
    placed, behind = before(replace(portrait(), mount=mount), Background("image", "rows", image=image))
    assert behind is not None
    assert placed.mount is not None
    np.testing.assert_array_equal(behind, image[70:430, 200:600])
    np.testing.assert_array_equal(placed.mount.frame, image)
    alpha = np.full((360, 400), 255, np.uint8)
    whole = placed.mount.alpha(alpha)
    assert whole[70:430, 200:600].all()
    assert whole.sum() == 255 * alpha.size
