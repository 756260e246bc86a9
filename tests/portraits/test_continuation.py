"""Continuing a picture: what is beyond its edge looks as if it had been there."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.types import Floats
from realtime.portraits.continuation import Continued, continued
from tests.support.pictures import bust

PART, SIZE, LEFT = (300, 360), (700, 360), 200
"""The picture's width and height, the frame's, and where it is in the frame."""
RIGHT = LEFT + PART[0]
CHIN = 250.0


def extended(*, grain: float = 3.0, slope: float = 0.0) -> Continued:
    image, matte, _ = bust(*PART, grain=grain, slope=slope)
    return continued(image, matte, (LEFT, 0), SIZE, CHIN)


def roughness(area: NDArray[np.uint8], axis: int) -> float:
    """Return the root mean square difference between neighbours along an axis, in levels."""
    return float(np.sqrt((np.diff(area.astype(np.float32).mean(axis=2), axis=axis) ** 2).mean()))


def smooth(image: NDArray[np.uint8]) -> Floats:
    return np.asarray(cv2.GaussianBlur(image.astype(np.float32), (0, 0), 8), np.float32)


def test_the_picture_itself_stays_as_it_is() -> None:
    image, matte, _ = bust(*PART)
    frame = extended()
    np.testing.assert_array_equal(frame.image[:, LEFT:RIGHT], image)
    np.testing.assert_array_equal(frame.matte[:, LEFT:RIGHT], matte)
    assert frame.image.shape == (SIZE[1], SIZE[0], 3)
    assert frame.image.flags.c_contiguous


def test_the_grain_goes_on_in_every_direction() -> None:
    """A mirrored or smeared edge has less difference along the smear than across it."""
    frame = extended(grain=4.0)
    within = frame.image[20:200, LEFT + 4 : LEFT + 60]
    for beyond in (frame.image[20:200, 20:180], frame.image[20:200, RIGHT + 20 : RIGHT + 180]):
        for axis in (0, 1):
            assert roughness(beyond, axis) == pytest.approx(roughness(within, axis), rel=0.35)


def test_no_column_of_the_edge_is_repeated() -> None:
    frame = extended(grain=4.0)
    edge = frame.image[:200, RIGHT - 1].astype(np.float32).mean(axis=1)
    for at in (4, 10, 60, 150):
        beyond = frame.image[:200, RIGHT - 1 + at].astype(np.float32).mean(axis=1)
        assert abs(np.corrcoef(fine(edge), fine(beyond))[0, 1]) < 0.4


def fine(line: Floats) -> Floats:
    """Return what a line differs from the average of 15 values, without its ends."""
    return line[7:-7] - np.convolve(line, np.ones(15, np.float32) / 15, mode="valid")


def test_nothing_of_the_inside_is_mirrored() -> None:
    image, matte, _ = bust(*PART, grain=0)
    image[40:120, 20:60] = (220, 30, 30)
    frame = continued(image, matte, (LEFT, 0), SIZE, CHIN).image.astype(int)
    assert np.abs(frame[:200, :LEFT, 0] - 150).max() < 25


def test_a_shade_of_the_background_goes_on_without_a_kink() -> None:
    frame = smooth(extended(grain=2.0, slope=60.0).image)
    steps = np.diff(frame[30:180, RIGHT - 30 : RIGHT + 30].mean(axis=(0, 2)))
    assert steps.max() < 0.5, "the background goes on darkening"
    assert np.abs(np.diff(steps)).max() < 0.3
    assert frame[100, -1, 0] < frame[100, RIGHT - 10, 0] - 1


def test_shoulders_go_on_down_to_the_lower_edge() -> None:
    frame = extended()
    for columns in (range(LEFT - 1, -1, -1), range(RIGHT, SIZE[0])):
        heights = [int((frame.matte[:, column] > 127).sum()) for column in columns]
        assert heights[0] > 20
        assert heights[-1] == 0
        assert all(later <= earlier for earlier, later in itertools.pairwise(heights))
        cloth = frame.image[-4, columns[5]].astype(int)
        assert np.abs(cloth - (40, 60, 110)).max() < 12


def test_a_hand_at_the_edge_is_no_shoulder() -> None:
    image, matte, _ = bust(*PART)
    image[80:140, -60:] = (230, 180, 150)
    matte[80:140, -60:] = 255
    frame = continued(image, matte, (LEFT, 0), SIZE, CHIN)
    assert not frame.matte[:200, RIGHT:].any()


def test_a_picture_is_continued_above_too() -> None:
    image, matte, _ = bust(*PART, grain=4.0)
    frame = continued(image, matte, (LEFT, 120), (700, 480), CHIN)
    assert roughness(frame.image[10:110, 250:450], 0) == pytest.approx(roughness(image[4:60, 4:60], 0), rel=0.4)
    assert not frame.matte[:120].any()


def test_nothing_is_continued_below() -> None:
    image, matte, _ = bust(*PART)
    with pytest.raises(ValueError, match="ends at 360"):
        continued(image, matte, (0, 0), (300, 400), CHIN)
