"""Choosing the crop and resampling it: properties that hold for any image, face and frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.face.topology import ALL_EYE_CORNERS
from realtime.portraits.head_crop import FACE_SHARE, HeadCrop, choose_crop, resample
from tests.support.pictures import face, gradient

sizes = st.sampled_from([(1280, 720), (512, 512), (720, 1280), (640, 480), (320, 240)])
pictures = st.tuples(st.integers(200, 1600), st.integers(200, 1600))


@settings(deadline=None, max_examples=60)
@given(pictures, sizes, st.floats(0.2, 0.8), st.floats(0.25, 0.75), st.floats(0.1, 0.7))
def test_the_face_is_whole_and_of_a_usual_size(
    picture: tuple[int, int], size: tuple[int, int], across: float, down: float, share: float
) -> None:
    points = face(across * picture[0], down * picture[1], share * min(picture))
    crop = choose_crop(points, picture, size).crop
    placed = (points[:, :2] - (crop.left, crop.top)) * crop.scale
    assert (placed > 0).all()
    # nothing is shown below the picture: a chin at its edge stays there, and one beyond it is cut
    assert (placed[(points[:, :2] <= picture).all(axis=1)] < np.add(size, 1e-3)).all()
    assert 0.28 < np.ptp(placed[:, 1]) / size[1] < 0.66
    eyes = placed[ALL_EYE_CORNERS, 1].mean() / size[1]
    assert eyes > 0.24
    assert eyes < 0.57 or crop.top + size[1] / crop.scale > picture[1] - 1


@pytest.mark.parametrize("size", [(1280, 720), (512, 512), (640, 480)])
def test_a_roomy_picture_gives_the_usual_portrait(size: tuple[int, int]) -> None:
    points = face(2000, 1500, 500)
    crop = choose_crop(points, (4000, 3000), size).crop
    placed = (points[:, :2] - (crop.left, crop.top)) * crop.scale
    assert np.ptp(placed[:, 1]) / size[1] == pytest.approx(FACE_SHARE, abs=0.02)
    assert placed[ALL_EYE_CORNERS, 1].mean() / size[1] == pytest.approx(0.42, abs=0.02)
    assert placed[2:4, 0].mean() == pytest.approx(size[0] / 2, abs=0.02 * size[0])
    assert crop.left >= 0
    assert crop.top >= 0
    assert crop.left + size[0] / crop.scale <= 4000
    assert crop.top + size[1] / crop.scale <= 3000


@pytest.mark.parametrize(("picture", "size"), [((512, 512), (512, 512)), ((960, 720), (640, 480))])
def test_a_well_framed_picture_in_the_shape_of_the_frame_is_shown_whole(
    picture: tuple[int, int], size: tuple[int, int]
) -> None:
    points = face(0.52 * picture[0], 0.46 * picture[1], 0.38 * picture[1])
    for sides in (False, True):
        assert choose_crop(points, picture, size, sides=sides).crop == (0, 0, size[0] / picture[0])
    image = gradient(*picture)
    if picture == size:  # not one pixel is resampled
        np.testing.assert_array_equal(resample(image, HeadCrop(0, 0, 1.0), (0, 0, *size)), image)


def test_a_small_face_is_enlarged_in_a_picture_of_the_shape_of_the_frame() -> None:
    points = face(256, 220, 130)
    assert choose_crop(points, (512, 512), (512, 512)).crop.scale > 1.3


@settings(deadline=None, max_examples=60)
@given(pictures, sizes, st.floats(0.2, 0.8), st.floats(0.25, 0.75), st.floats(0.1, 0.7), st.booleans(), st.booleans())
def test_a_crop_reaches_beyond_the_picture_only_where_it_may(
    picture: tuple[int, int],
    size: tuple[int, int],
    across: float,
    down: float,
    share: float,
    sides: bool,
    above: bool,
) -> None:
    points = face(across * picture[0], down * picture[1], share * min(picture))
    left, top, scale = choose_crop(points, picture, size, sides=sides, above=above).crop
    assert top + size[1] / scale <= picture[1] + 1e-6, "nothing can be continued below the chin"
    assert above or top >= -1e-6
    assert sides or (left >= -1e-6 and left + size[0] / scale <= picture[0] + 1e-6)


@pytest.mark.parametrize("scale", [0.2, 0.5, 1.0, 1.7, 3.0])
def test_nothing_is_distorted_or_shifted(scale: float) -> None:
    picture = gradient(1500, 1500)
    crop = HeadCrop(400.3, 350.7, scale)
    image = resample(picture, crop, (0, 0, 200, 160)).astype(float)
    x, y = np.meshgrid(np.arange(200) + 0.5, np.arange(160) + 0.5)
    np.testing.assert_allclose(image[..., 0], (crop.left + x / scale) / 1500 * 255, atol=1.5)
    np.testing.assert_allclose(image[..., 1], (crop.top + y / scale) / 1500 * 255, atol=1.5)
