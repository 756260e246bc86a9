"""What the user adds to the driver's motion, and how it eases."""

from __future__ import annotations

import numpy as np
import pytest

from engines.errors import CommandError
from engines.face.head import from_turn_angles, turn_angles
from engines.face.rig import shipped_rig
from engines.face.topology import BROWS, INNER_LOWER_LIP, INNER_UPPER_LIP, IRISES, MIRROR, MOUTH_CORNERS
from engines.types import Motion, Points
from realtime.motion.controls import COEFFICIENTS
from realtime.motion.direction import Direction
from realtime.motion.motion_transfer import MotionTransfer
from tests.support.faces import eye_gaps, face_state, make_motion, mouth_gap, with_expression

SECOND = 1_000_000_000
CALM = shipped_rig().face
FLIP = np.array([-1, 1, 1], np.float32)


def at_rest() -> Motion:
    return make_motion(CALM)


def shown(direction: Direction, motion: Motion | None = None) -> Motion:
    """Return the motion after everything has eased."""
    for step in range(12):
        done = direction.apply(motion or at_rest(), step * SECOND // 4)
    return done


def change(motion: Motion) -> Points:
    return np.asarray(motion.expression - motion.neutral, np.float32)


def test_nothing_set_leaves_the_motion_untouched() -> None:
    motion = at_rest()
    assert Direction().apply(motion, 0) is motion
    direction = Direction({"smile": 1.0})
    direction.reset()
    assert shown(direction, motion) is motion


def test_a_smile_lifts_the_corners_and_stays_symmetric() -> None:
    moved = change(shown(Direction({"smile": 0.5})))
    assert (moved[MOUTH_CORNERS, 1] < -0.02).all()
    np.testing.assert_allclose(moved, moved[MIRROR] * FLIP, atol=2e-3)


def test_one_side_alone_leaves_the_other_where_it_is() -> None:
    moved = change(shown(Direction({"mouthSmileLeft": 1.0})))
    right, left = moved[MOUTH_CORNERS]
    assert left[1] < -0.1
    assert abs(right[1]) < 0.2 * abs(left[1])


@pytest.mark.parametrize("scale", [0.7, 1.0, 1.5])
def test_a_blink_shuts_eyes_of_any_shape(scale: float) -> None:
    narrow = with_expression(CALM, shut=1 - scale)
    motion = make_motion(narrow)
    gaps = eye_gaps(shown(Direction({"eyeBlink": 1.0}), motion).expression)
    assert (gaps < 0.3 * eye_gaps(narrow)).all()


def test_what_is_set_is_added_to_the_driver() -> None:
    driver = make_motion(CALM, with_expression(CALM, jaw=0.2, brows=0.05))
    done = shown(Direction({"browDown": 0.5}), driver)
    assert mouth_gap(done.expression) == pytest.approx(mouth_gap(driver.expression), abs=1e-3)
    assert (done.expression[BROWS, 1] > driver.expression[BROWS, 1]).all()


def test_a_fixed_mouth_leaves_the_rest_to_the_driver() -> None:
    driver = make_motion(CALM, with_expression(CALM, jaw=0.3, brows=0.05))
    done = shown(Direction({}, {"mouth": "fixed"}), driver)
    opened = mouth_gap(driver.expression) - mouth_gap(CALM)
    assert mouth_gap(done.expression) - mouth_gap(CALM) < 0.15 * opened
    np.testing.assert_allclose(change(done)[BROWS, 1], change(driver)[BROWS, 1], atol=0.005)
    assert done.made_mouth == 1


def test_a_part_that_is_the_drivers_alone_shows_nothing_of_what_is_set() -> None:
    moved = change(shown(Direction({"smile": 1.0, "jawOpen": 1.0}, {"mouth": "driver", "cheeks": "driver"})))
    assert np.abs(moved[np.concatenate([INNER_LOWER_LIP, INNER_UPPER_LIP])]).max() < 0.01


def test_a_fixed_head_stays_and_turns_by_what_is_set_alone() -> None:
    driver = make_motion(CALM, rotation=(0.1, 0.3, 0))
    still = shown(Direction({}, {"head": "fixed"}), driver)
    np.testing.assert_allclose(still.rotation, np.eye(3), atol=1e-4)
    tilted = turn_angles(shown(Direction({"headTilt": 0.5}), driver).rotation) - turn_angles(driver.rotation)
    np.testing.assert_allclose(tilted, (0, 0, np.radians(15)), atol=1e-3)


@pytest.mark.parametrize(("name", "axis", "sign"), [("headPitch", 1, -1), ("headYaw", 0, 1)])
def test_the_head_looks_up_and_to_the_right(name: str, axis: int, sign: int) -> None:
    nose = shown(Direction({name: 1.0})).rotation @ np.array([0, 0, -1], np.float32)
    assert sign * nose[axis] > 0.4


def test_a_mouth_that_is_opened_by_hand_is_not_the_drivers() -> None:
    assert shown(Direction({"jawOpen": 0.5})).made_mouth == 1
    assert shown(Direction({"browDown": 0.5})).made_mouth == 0


@pytest.mark.parametrize("yaw", [-0.25, 0.25])
def test_looking_at_the_camera_turns_the_eyes_against_the_head(yaw: float) -> None:
    direction = Direction({"lookAtCamera": 1.0})
    direction.set_portrait(face_state(CALM))
    motion = make_motion(CALM)
    turned = direction.apply(
        Motion(from_turn_angles(np.array([0, yaw, 0], np.float32)), motion.translation, 1.0, CALM, CALM), 0
    )
    moved = change(turned)[[iris[0] for iris in IRISES], 0].mean()
    assert moved * yaw > 0
    assert 0.02 < abs(moved) < 0.15


def test_values_ease_and_do_not_jump() -> None:
    direction = Direction()
    direction.apply(at_rest(), 0)
    direction.set({"jawOpen": 1.0})
    frame = SECOND // 30
    gaps = [mouth_gap(direction.apply(at_rest(), at * frame).expression) for at in range(1, 60)]
    steps = np.diff([0.0, *gaps])
    assert steps.max() < 0.2 * gaps[-1]
    assert steps.min() > -1e-6
    assert gaps[-1] == pytest.approx(mouth_gap(shown(Direction({"jawOpen": 1.0})).expression), abs=1e-4)


def test_easing_does_not_depend_on_the_frame_rate() -> None:
    def after(fps: int) -> float:
        direction = Direction()
        direction.apply(at_rest(), 0)
        direction.set({"jawOpen": 1.0, "smile": -0.5})
        for frame in range(1, fps // 5 + 1):
            done = direction.apply(at_rest(), frame * SECOND // fps)
        return mouth_gap(done.expression)

    assert after(10) == pytest.approx(after(60), rel=1e-3)


def test_a_mix_eases_too() -> None:
    driver = make_motion(CALM, with_expression(CALM, jaw=0.3))
    direction = Direction()
    direction.apply(driver, 0)
    direction.set_mix({"mouth": "fixed"})
    gap = mouth_gap(direction.apply(driver, SECOND // 30).expression)
    assert 0.6 * mouth_gap(driver.expression) < gap < mouth_gap(driver.expression) - 1e-4


def test_the_portrait_moves_without_any_driver() -> None:
    transfer = MotionTransfer(direction=Direction({"jawOpen": 0.5}))
    transfer.set_portrait(face_state(CALM))
    motion = transfer.update(None, 0)
    assert motion.neutral.any()
    assert mouth_gap(motion.expression) > mouth_gap(motion.neutral) + 0.1


def test_a_bad_mix_is_refused_and_changes_nothing() -> None:
    direction = Direction()
    for mix in ({"nose": "fixed"}, {"mouth": "loud"}):
        with pytest.raises(CommandError) as caught:
            direction.set_mix(mix)
        assert caught.value.code == "expression-bad-mix"
    assert set(direction.mix.values()) == {"added"}


def test_setting_0_forgets_a_control() -> None:
    direction = Direction({"smile": 0.5})
    direction.set({"smile": 0, "jawOpen": 0.2})
    assert direction.values == {"jawOpen": 0.2}


def test_the_rig_moves_each_coefficient_where_it_belongs() -> None:
    rig = shipped_rig()
    moves = np.linalg.norm(rig.basis.reshape(len(COEFFICIENTS), -1, 3), axis=2)
    for index, name in enumerate(COEFFICIENTS):
        if name.startswith("brow"):
            assert moves[index, BROWS].max() > 5 * moves[index, INNER_LOWER_LIP].max()
        if name.startswith(("mouth", "jaw")):
            assert moves[index, BROWS].max() < 0.05 * max(moves[index].max(), 0.02)
