"""How far eyes and lips are open, and the inputs of the retargeting networks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.face.topology import INNER_LOWER_LIP, INNER_UPPER_LIP, LOWER_LIDS, MIRROR, UPPER_LIDS
from engines.networks.retarget import (
    NO_CORRECTION,
    PARTED,
    SHUT,
    TOUCHING,
    Openings,
    eye_correction,
    lip_correction,
    openings,
)
from engines.types import FaceState, Points
from tests.support.faces import shape_of, with_expression

apertures = st.floats(0.1, 0.6)
partings = st.floats(0, 0.8)


def face(eye: float | tuple[float, float] = 0.3, mouth: float = 0.0) -> Openings:
    return Openings(eye if isinstance(eye, tuple) else (eye, eye), mouth)


def flat(measured: Openings) -> list[float]:
    return [*measured.eyes, measured.lips]


def similar(points: Points, angle: float, scale: float, x: float, y: float) -> Points:
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])
    return np.asarray(points[:, :2] @ turn + (x, y), np.float32)


@given(st.floats(-3.2, 3.2), st.floats(0.2, 20), st.floats(-2000, 2000), st.floats(-2000, 2000))
def test_openings_do_not_change_with_position_size_or_roll(
    driver_face: FaceState, angle: float, scale: float, x: float, y: float
) -> None:
    still = with_expression(driver_face.pixels(), jaw=0.4, shut=(0.2, 0.5))
    moved = similar(still, angle, scale, x, y)
    np.testing.assert_allclose(flat(openings(moved)), flat(openings(still)), atol=0.005)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_openings_grow_with_the_face(driver_face: FaceState, right: float, left: float, jaw: float) -> None:
    rest = shape_of(driver_face)
    before, after = openings(rest), openings(with_expression(rest, jaw=jaw, shut=(right, left)))
    assert after.eyes[0] == pytest.approx((1 - right) * before.eyes[0], abs=0.01)
    assert after.eyes[1] == pytest.approx((1 - left) * before.eyes[1], abs=0.01)
    # measured over the outer corners, opened in widths between the inner ones
    assert 0.7 * jaw <= after.lips - before.lips + 0.01 <= jaw + 0.02


def test_closed_or_crossed_lids_have_no_opening(driver_face: FaceState) -> None:
    shut = driver_face.pixels()
    for upper, lower in (*zip(UPPER_LIDS, LOWER_LIDS, strict=True), (INNER_UPPER_LIP, INNER_LOWER_LIP)):
        shut[upper] = shut[lower]
    np.testing.assert_allclose(flat(openings(shut)), 0, atol=1e-6)
    for upper in (*UPPER_LIDS, INNER_UPPER_LIP):
        shut[upper, 1] += 5
    assert flat(openings(shut)) == [0, 0, 0]


def test_a_mirrored_face_has_its_eyes_swapped(driver_face: FaceState) -> None:
    shape = with_expression(shape_of(driver_face), jaw=0.3, shut=(0.8, 0.1))
    there = openings(shape)
    flipped = openings(shape[MIRROR] * np.array([-1, 1, 1], np.float32))
    assert flipped.eyes == pytest.approx(there.eyes[::-1], abs=1e-5)
    assert flipped.lips == pytest.approx(there.lips, abs=1e-5)


def test_coincident_points_have_no_opening() -> None:
    assert flat(openings(np.zeros((478, 3), np.float32))) == [0, 0, 0]


@given(apertures, apertures, apertures, apertures)
def test_a_drivers_neutral_leaves_the_eyes_to_the_motion(a: float, b: float, c: float, d: float) -> None:
    correction = eye_correction(face((a, b)), face((c, d)), face((c, d)))
    assert correction.ratio == pytest.approx((a + b) / 2)
    assert correction.weight == pytest.approx(0)


@given(apertures, apertures, st.floats(0, SHUT))
def test_closed_eyes_are_closed_on_any_portrait(own: float, rest: float, left_over: float) -> None:
    correction = eye_correction(face(own), face(rest), face(rest * left_over))
    assert correction.ratio == pytest.approx(0, abs=1e-9)
    assert correction.weight == pytest.approx(1)


@given(apertures, apertures, st.floats(0, 1.5), st.floats(0, 1.5))
def test_eyes_that_close_further_close_the_portraits_further(own: float, rest: float, one: float, two: float) -> None:
    less, more = (eye_correction(face(own), face(rest), face(rest * each)) for each in sorted((one, two)))
    assert 0 <= less.ratio <= more.ratio <= own + 1e-9
    assert 1 >= less.weight >= more.weight >= 0


@given(apertures, apertures, st.floats(0, 1))
def test_narrow_eyes_count_like_wide_ones(narrow: float, wide: float, share: float) -> None:
    one = eye_correction(face(0.4), face(narrow), face(narrow * share))
    other = eye_correction(face(0.4), face(wide), face(wide * share))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_wink_is_left_to_the_motion() -> None:
    assert eye_correction(face(0.3), face(0.3), face((0.3, 0.0))).weight == pytest.approx(0)
    assert eye_correction(face(0.3), face(0.3), face((0.0, 0.3))).weight == pytest.approx(0)


def test_an_eye_that_never_opens_is_ignored() -> None:
    assert eye_correction(face(0.3), face((0.3, 0.01)), face((0.0, 0.02))).weight == pytest.approx(1)
    assert eye_correction(face(0.3), face((0.02, 0.01)), face((0.0, 0.0))).weight == pytest.approx(0)


def summed(own: float, neutral: float, now: float) -> float:
    """Return how far the portrait's lips are open after the driver's motion and the correction."""
    correction = lip_correction(face(mouth=own), face(mouth=neutral), face(mouth=now))
    return own + (now - neutral) + correction.weight * (correction.ratio - own)


@given(partings, partings)
def test_lips_that_meet_meet_on_any_portrait(own: float, neutral: float) -> None:
    assert summed(own, neutral, 0.0) <= TOUCHING


@given(partings, partings)
def test_a_portrait_with_closed_lips_is_not_corrected(neutral: float, now: float) -> None:
    assert lip_correction(face(mouth=0.0), face(mouth=neutral), face(mouth=now)) == NO_CORRECTION


@given(st.floats(TOUCHING, 0.8), partings)
def test_from_a_closed_neutral_the_lips_open_as_far_as_the_drivers(own: float, now: float) -> None:
    assert summed(own, 0.0, now) == pytest.approx(now)


@given(st.floats(TOUCHING, 0.8), st.floats(PARTED, 0.8))
def test_a_parted_neutral_is_the_portraits_own_opening(own: float, neutral: float) -> None:
    assert summed(own, neutral, neutral) == pytest.approx(own)


@given(partings, partings, partings, partings)
def test_lips_that_open_further_open_the_portraits_further(own: float, neutral: float, one: float, two: float) -> None:
    less, more = sorted((one, two))
    assert summed(own, neutral, less) <= summed(own, neutral, more) + 1e-9


@given(partings, partings, partings)
def test_the_correction_never_opens_the_lips(own: float, neutral: float, now: float) -> None:
    assert 0 <= lip_correction(face(mouth=own), face(mouth=neutral), face(mouth=now)).ratio <= max(own, 0)
