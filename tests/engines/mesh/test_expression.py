"""The transfer of expressions from the driver to a portrait."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from engines.face.topology import (
    BROWS,
    CHIN,
    EYE_CORNERS,
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    IRISES,
    LOWER_LIP_ROWS,
    MIRROR,
    MOUTH_CORNERS,
    OVAL,
    UPPER_LIDS,
    UPPER_LIP_ROWS,
)
from engines.mesh.expression import GAZE_LIMIT, LIPS_MEET, SHUT, Expression, ExpressionTransfer
from engines.types import LANDMARKS, FaceState, Points
from tests.support.faces import distance, eye_gaps, make_motion, mouth_gap, shape_of, with_expression

MOUTH = np.concatenate([INNER_UPPER_LIP, INNER_LOWER_LIP, *UPPER_LIP_ROWS, *LOWER_LIP_ROWS, CHIN])
ELSEWHERE = np.setdiff1d(np.arange(LANDMARKS), MOUTH)
BLINK = 1 - SHUT
"""How far the landmarks of a driver's lids meet when they close."""

amounts = st.floats(0, 1)
expressions = hnp.arrays(np.float32, (LANDMARKS, 3), elements=st.floats(-0.25, 0.25, width=32), fill=st.just(0.0))


@pytest.fixture(scope="module")
def own(portrait_face: FaceState) -> Points:
    """The portrait's shape."""
    return shape_of(portrait_face)


@pytest.fixture(scope="module")
def neutral(driver_face: FaceState) -> Points:
    """The driver's."""
    return shape_of(driver_face)


@pytest.fixture(scope="module")
def agape(own: Points) -> Points:
    """The shape of a portrait with an open mouth."""
    return with_expression(own, jaw=0.35)


def carried(own: Points, neutral: Points, expression: Points | None = None) -> Expression:
    return ExpressionTransfer(own).apply(make_motion(neutral, expression))


def test_at_rest_a_portrait_is_unchanged(own: Points, neutral: Points) -> None:
    rest = carried(own, neutral)
    assert rest.shape.shape == (LANDMARKS, 3)
    assert rest.shape.dtype == np.float32
    np.testing.assert_allclose(rest.shape[ELSEWHERE], own[ELSEWHERE], atol=2e-3)
    np.testing.assert_allclose(rest.shape[MOUTH], own[MOUTH], atol=0.02)
    np.testing.assert_allclose(rest.closure, 0, atol=1e-3)
    np.testing.assert_allclose(rest.gaze, 0, atol=1e-3)
    assert rest.lips == 0


def test_rest_is_rest_for_any_driver(own: Points, neutral: Points) -> None:
    """The driver's own looks are not transferred to the portrait."""
    odd = neutral * np.array([1.3, 0.75, 1.1], np.float32)
    odd[BROWS, 1] += 0.1
    np.testing.assert_allclose(carried(own, odd).shape, carried(own, neutral).shape, atol=2e-3)


def test_rigid_parts_of_a_face_have_no_expression(own: Points, neutral: Points) -> None:
    """The bridge of the nose, the temples and the ears move with the head alone; other motion is noise."""
    bones = np.array([6, 197, 5, 4, 127, 356, 234, 454, 116, 345])
    other = neutral * np.array([1.1, 0.92, 1.0], np.float32)  # the portrait surely shows a different face
    expression = other.copy()
    expression[bones] += np.array([0.04, -0.03, 0.05], np.float32)
    moved = np.abs(carried(own, other, expression).shape - carried(own, other).shape)
    assert moved[bones].max() < 0.6 * 0.05
    assert moved[bones].mean() < 0.3 * 0.04


@pytest.mark.parametrize("said", [{"presence": 0.0}, {"gain": 0.0}, {"region": "pose"}])
@pytest.mark.parametrize("painted", ["own", "agape"])
def test_a_portrait_is_unchanged_where_the_driver_does_not_move_it(
    request: pytest.FixtureRequest, painted: str, neutral: Points, said: dict[str, Any]
) -> None:
    """Also where the neutral was taken in the middle of a word or of a blink."""
    face: Points = request.getfixturevalue(painted)
    caught = with_expression(neutral, jaw=0.3, shut=0.5)
    rest = ExpressionTransfer(face).apply(replace(make_motion(caught), **said))
    np.testing.assert_allclose(rest.shape, face, atol=2e-3)
    np.testing.assert_allclose(rest.closure, 0, atol=1e-6)
    assert rest.lips == pytest.approx(0, abs=1e-6)


@given(st.floats(0, 1), st.floats(0, 1))
def test_lids_and_lips_return_to_rest_gradually_when_the_driver_leaves(
    own: Points, neutral: Points, presence: float, more: float
) -> None:
    caught = with_expression(neutral, jaw=0.3, shut=0.5)
    transfer = ExpressionTransfer(own)
    less, here = sorted((presence, more))
    left, there = (transfer.apply(replace(make_motion(caught), presence=part)) for part in (less, here))
    assert mouth_gap(left.shape) <= mouth_gap(there.shape) + 1e-6
    assert (left.closure <= there.closure + 1e-6).all()
    assert abs(left.lips - there.lips) <= 1.5 * (here - less) + 1e-6


def test_before_any_face_a_portrait_rests(own: Points) -> None:
    """Motion before the first face has a neutral of zeros."""
    rest = carried(own, np.zeros((LANDMARKS, 3), np.float32))
    np.testing.assert_allclose(rest.shape[ELSEWHERE], own[ELSEWHERE], atol=2e-3)
    np.testing.assert_array_equal(rest.closure, 0)
    np.testing.assert_array_equal(rest.gaze, 0)
    assert rest.lips == 0


@pytest.mark.parametrize("mouth", ["own", "agape"])
def test_lips_meet_when_the_drivers_do(request: pytest.FixtureRequest, mouth: str, neutral: Points) -> None:
    shape: Points = request.getfixturevalue(mouth)
    for gap in (0.0, 0.5 * LIPS_MEET):
        shut = carried(shape, neutral, with_expression(neutral, jaw=gap))
        assert mouth_gap(shut.shape) == pytest.approx(0, abs=5e-3)
        assert shut.lips == pytest.approx(0, abs=5e-3)


def test_a_portrait_with_an_open_mouth_closes_it_without_a_dent(agape: Points, own: Points, neutral: Points) -> None:
    """The chin moves along, and the mouth's corners stay."""
    shut = carried(agape, neutral).shape
    assert shut[CHIN, 1].mean() < agape[CHIN, 1].mean() - 0.02
    np.testing.assert_allclose(shut[MOUTH_CORNERS], own[MOUTH_CORNERS], atol=0.05)
    rows = [row[4] for row in (*UPPER_LIP_ROWS[::-1], INNER_UPPER_LIP, INNER_LOWER_LIP, *LOWER_LIP_ROWS)]
    assert (np.diff(shut[rows, 1]) > -5e-3).all()


@pytest.mark.parametrize("mouth", ["own", "agape"])
def test_the_wider_the_driver_opens_the_wider_the_portrait(
    request: pytest.FixtureRequest, mouth: str, neutral: Points
) -> None:
    shape: Points = request.getfixturevalue(mouth)
    gaps = [0.05, 0.1, 0.2, 0.35, 0.5]
    poses = [carried(shape, neutral, with_expression(neutral, jaw=gap)) for gap in gaps]
    opened = [mouth_gap(pose.shape) for pose in poses]
    assert (np.diff(opened) > 0.02).all()
    assert (np.diff([pose.shape[CHIN, 1].mean() for pose in poses]) > 0).all()
    for pose, gap in zip(poses, opened, strict=True):
        assert pose.lips == pytest.approx(gap, rel=0.2, abs=0.02)
    assert 0.7 < (opened[-1] - opened[1]) / (gaps[-1] - gaps[1]) < 1.7


def test_a_closed_eye_closes_the_portraits(own: Points, neutral: Points) -> None:
    shut = carried(own, neutral, with_expression(neutral, shut=BLINK))
    np.testing.assert_allclose(shut.closure, 1, atol=1e-3)
    assert eye_gaps(shut.shape).max() < 0.02
    # the upper lid falls, the lower one hardly rises
    fall = np.concatenate([(shut.shape - own)[row, 1] for row in UPPER_LIDS])
    assert (fall > 0).all()


def test_lids_whose_landmarks_cross_are_closed_and_not_crossed(own: Points, neutral: Points) -> None:
    shut = carried(own, neutral, with_expression(neutral, shut=1.4))
    np.testing.assert_allclose(shut.closure, 1, atol=1e-3)
    assert (eye_gaps(shut.shape) > -0.01).all()


def test_a_wink_closes_one_eye_more_than_the_other(own: Points, neutral: Points) -> None:
    for eye in (0, 1):
        shares = (BLINK, 0.0) if eye == 0 else (0.0, BLINK)
        closure = carried(own, neutral, with_expression(neutral, shut=shares)).closure
        assert closure[eye] > 0.7
        assert closure[1 - eye] < 0.3


def test_lids_follow_all_the_way(own: Points, neutral: Points) -> None:
    closure = np.array(
        [carried(own, neutral, with_expression(neutral, shut=s)).closure for s in np.linspace(-0.2, BLINK, 12)]
    )
    assert (np.diff(closure, axis=0) >= -1e-6).all()
    assert (closure[0] < -0.05).all()
    assert closure.min() >= -0.5
    assert closure.max() <= 1


def test_a_neutral_that_caught_a_blink_keeps_the_eyes_open_after(own: Points, neutral: Points) -> None:
    """Otherwise open eyes would stare."""
    blinking = with_expression(neutral, shut=BLINK)
    assert (carried(own, blinking, neutral).closure >= -0.5).all()
    assert eye_gaps(carried(own, blinking, neutral).shape).max() < 2 * eye_gaps(own).max()


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_eyes_look_where_the_drivers_do_and_stay_in_their_sockets(
    own: Points, neutral: Points, across: float, down: float
) -> None:
    gaze = carried(own, neutral, with_expression(neutral, gaze=(across, down))).gaze
    widths = np.array([distance(own, ends) for ends in EYE_CORNERS])
    relative_gaze = gaze / widths[:, None]
    assert (np.abs(relative_gaze) <= GAZE_LIMIT + 1e-5).all()
    np.testing.assert_allclose(relative_gaze[0], relative_gaze[1], atol=1e-4)
    for axis, wanted in enumerate((across, down)):
        if abs(wanted) > 0.01:
            assert np.sign(relative_gaze[0, axis]) == np.sign(wanted)
        if abs(wanted) < 0.5 * GAZE_LIMIT[axis]:
            np.testing.assert_allclose(relative_gaze[:, axis], wanted, rtol=0.1, atol=2e-3)


def test_a_closed_eye_does_not_move_its_iris(own: Points, neutral: Points) -> None:
    gaze = carried(own, neutral, with_expression(neutral, shut=BLINK, gaze=(0.2, 0.1))).gaze
    np.testing.assert_allclose(gaze, 0, atol=1e-3)


def test_a_smile_lifts_and_widens_the_mouth(own: Points, neutral: Points) -> None:
    rest = carried(own, neutral).shape
    moves = [carried(own, neutral, with_expression(neutral, smile=s)).shape - rest for s in (0.05, 0.1, 0.15)]
    rise = [-move[MOUTH_CORNERS, 1] for move in moves]
    spread = [move[MOUTH_CORNERS, 0] * (-1, 1) for move in moves]
    assert (np.diff([np.zeros(2), *rise], axis=0) > 0.02).all()
    assert (np.diff([np.zeros(2), *spread], axis=0) > 0.02).all()
    for move in moves:
        np.testing.assert_allclose(move[UPPER_LIDS[0], 1], 0, atol=0.02)


def test_brows_rise_with_the_drivers(own: Points, neutral: Points) -> None:
    rest = carried(own, neutral).shape
    for amount in (0.05, 0.1, 0.2):
        rise = -(carried(own, neutral, with_expression(neutral, brows=amount)).shape - rest)[BROWS, 1]
        assert ((rise > 0.7 * amount) & (rise < 2 * amount + 0.1)).all()
    frown = -(carried(own, neutral, with_expression(neutral, brows=-0.1)).shape - rest)[BROWS, 1]
    assert (frown < -0.05).all()


def test_a_portrait_with_low_brows_raises_them_as_far(own: Points, neutral: Points) -> None:
    frowning = with_expression(own, brows=-0.08)
    up = with_expression(neutral, brows=0.15)
    short = neutral[BROWS, 1].mean() - own[BROWS, 1].mean()
    gained = carried(own, neutral, up).shape[BROWS, 1].mean() - own[BROWS, 1].mean()
    gained_low = carried(frowning, neutral, up).shape[BROWS, 1].mean() - frowning[BROWS, 1].mean()
    assert short < 0.08
    assert gained_low < gained - 0.02


@given(amounts, amounts, amounts, amounts)
def test_an_expression_is_no_turn_of_the_head(
    own: Points, neutral: Points, jaw: float, smile: float, brows: float, shut: float
) -> None:
    """Otherwise the head would nod with each word."""
    shape = carried(
        own, neutral, with_expression(neutral, jaw=0.6 * jaw, smile=0.2 * smile, brows=0.2 * brows, shut=shut)
    ).shape  # fmt: skip
    corners = np.concatenate(EYE_CORNERS)
    np.testing.assert_allclose(shape[corners], own[corners], atol=0.06)
    top = OVAL[[34, 35, 0, 1, 2]]
    np.testing.assert_allclose(shape[top], own[top], atol=0.06)


@given(expressions)
def test_any_expression_gives_finite_numbers(own: Points, neutral: Points, change: NDArray[np.float32]) -> None:
    pose = carried(own, neutral, neutral + change)
    assert np.isfinite(pose.shape).all()
    assert np.isfinite(pose.gaze).all()
    assert ((pose.closure >= -0.5) & (pose.closure <= 1)).all()
    assert pose.lips >= 0
    # the irises turn in their sockets: they do not move in the face by themselves
    for ends, iris in zip(EYE_CORNERS, IRISES, strict=True):
        shift = (pose.shape - own)[iris] - (pose.shape - own)[ends].mean(axis=0)
        assert np.abs(shift).max() < 0.3


@given(expressions, st.integers(0, 2**32 - 1))
def test_a_small_change_causes_no_jump(own: Points, neutral: Points, change: NDArray[np.float32], seed: int) -> None:
    transfer = ExpressionTransfer(own)
    expression = neutral + change
    nudge = np.random.default_rng(seed).uniform(-1e-3, 1e-3, expression.shape).astype(np.float32)
    one, other = (
        transfer.apply(make_motion(neutral, expression)),
        transfer.apply(make_motion(neutral, expression + nudge)),
    )
    assert np.abs(one.shape - other.shape).max() < 0.025
    assert np.abs(one.gaze - other.gaze).max() < 0.02
    assert np.abs(one.closure - other.closure).max() < 0.03
    assert abs(one.lips - other.lips) < 0.02


@given(amounts, amounts, amounts)
def test_the_result_does_not_depend_on_earlier_frames(
    own: Points, neutral: Points, jaw: float, brows: float, shut: float
) -> None:
    motion = make_motion(neutral, with_expression(neutral, jaw=jaw, brows=0.2 * brows, shut=shut))
    transfer = ExpressionTransfer(own)
    transfer.apply(
        make_motion(neutral * np.float32(1.2), with_expression(neutral, jaw=0.5, smile=0.2, gaze=(0.2, 0.1)))
    )
    again, fresh = transfer.apply(motion), ExpressionTransfer(own).apply(motion)
    for a, b in zip((again.shape, again.gaze, again.closure), (fresh.shape, fresh.gaze, fresh.closure), strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.lips == fresh.lips


def test_arguments_are_not_written_to(own: Points, neutral: Points) -> None:
    expression = with_expression(neutral, jaw=0.3, smile=0.1, shut=0.5)
    before = own.copy(), neutral.copy(), expression.copy()
    carried(own, neutral, expression)
    for array, kept in zip((own, neutral, expression), before, strict=True):
        np.testing.assert_array_equal(array, kept)


@given(amounts, amounts, amounts, st.floats(-0.2, 0.2))
def test_mirrored_faces_give_the_mirrored_result(
    own: Points, neutral: Points, jaw: float, smile: float, shut: float, look: float
) -> None:
    def mirrored(shape: Points) -> Points:
        return np.ascontiguousarray(shape[MIRROR] * np.array([-1, 1, 1], np.float32))

    expression = with_expression(neutral, jaw=jaw, smile=0.2 * smile, shut=(shut, 0), gaze=(look, 0.05))
    straight = carried(own, neutral, expression)
    flipped = carried(mirrored(own), mirrored(neutral), mirrored(expression))
    np.testing.assert_allclose(flipped.shape, mirrored(straight.shape), atol=3e-3)
    np.testing.assert_allclose(flipped.closure, straight.closure[::-1], atol=3e-3)
    np.testing.assert_allclose(flipped.gaze, straight.gaze[::-1] * (-1, 1), atol=3e-3)


@pytest.mark.parametrize(("same", "least", "most"), [(True, 0.95, 1.05), (False, 0.0, 0.5)])
def test_all_of_the_face_moves_on_a_portrait_of_the_driver_only(
    own: Points, neutral: Points, same: bool, least: float, most: float
) -> None:
    """Elsewhere, what moves at the nose or a cheekbone is noise, or would be a second turn of the head."""
    rest = own if same else neutral * np.array([1.1, 0.92, 1.0], np.float32)
    moved = rest.copy()
    bones = np.array([197, 116, 345])
    moved[bones] += np.array([0.0, 0.03, 0.0], np.float32)
    result = carried(own, rest, moved).shape[bones] - carried(own, rest).shape[bones]
    assert np.all((least * 0.03 <= result[:, 1]) & (result[:, 1] <= most * 0.03))
