"""The pose of a head, for known motions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.face.head import (
    Pose,
    from_turn_angles,
    own_pose,
    pose_against,
    rotation_matrix,
    rotation_vector,
    turn_angles,
)
from engines.face.topology import MIRROR, RIGID
from engines.types import FaceState
from tests.support.faces import shape_of, with_expression

Vector = tuple[float, float, float]


def vectors(longest: float) -> st.SearchStrategy[NDArray[np.float32]]:
    """Return a strategy for rotation vectors up to an angle, inclusive."""

    def scaled(parts: tuple[Vector, float]) -> NDArray[np.float32]:
        axis = np.array(parts[0])
        return np.asarray(axis / max(float(np.linalg.norm(axis)), 1e-9) * parts[1], np.float32)

    axes = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda axis: np.linalg.norm(axis) > 0.01)
    return st.tuples(axes, st.floats(0, longest)).map(scaled)


poses = st.builds(
    lambda vector, origin, scale: Pose(rotation_matrix(vector), np.array(origin, np.float32), scale),
    vectors(3.1),
    st.tuples(st.floats(-2000, 2000), st.floats(-2000, 2000), st.floats(-500, 500)),
    st.floats(5, 600),
)


@given(vectors(3.1))
def test_vector_and_matrix_are_inverse(vector: NDArray[np.float32]) -> None:
    matrix = rotation_matrix(vector)
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-5)
    assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-5)
    back = rotation_vector(matrix)
    assert back.dtype == np.float32
    # near half a turn float32 knows the axis less well
    np.testing.assert_allclose(back, vector, atol=2e-3 if np.linalg.norm(vector) < 2.9 else 0.05)


@given(vectors(1e-3))
def test_small_turns_survive_the_round_trip(vector: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(rotation_vector(rotation_matrix(vector)), vector, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(
    ("vector", "point", "there"),
    [
        ((0, 0, np.pi / 2), (1, 0, 0), (0, 1, 0)),
        ((np.pi / 2, 0, 0), (0, 1, 0), (0, 0, 1)),
        ((0, np.pi / 2, 0), (0, 0, 1), (1, 0, 0)),
    ],
)
def test_axes_turn_by_the_right_hand(vector: Vector, point: Vector, there: Vector) -> None:
    np.testing.assert_allclose(rotation_matrix(np.array(vector, np.float32)) @ np.array(point), there, atol=1e-6)


def test_the_identity_has_no_rotation_vector() -> None:
    np.testing.assert_array_equal(rotation_matrix(np.zeros(3, np.float32)), np.eye(3))
    np.testing.assert_array_equal(rotation_vector(np.eye(3, dtype=np.float32)), np.zeros(3))


@given(st.floats(-3.1, 3.1), st.floats(-1.5, 1.5), st.floats(-3.1, 3.1))
def test_turn_angles_and_matrix_are_inverse(x: float, y: float, z: float) -> None:
    angles = np.array([x, y, z], np.float32)
    matrix = from_turn_angles(angles)
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-5)
    assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(turn_angles(matrix), angles, atol=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
@given(angle=st.floats(-1.5, 1.5))
def test_about_one_axis_angles_are_the_vector(axis: int, angle: float) -> None:
    vector = (np.eye(3)[axis] * angle).astype(np.float32)
    np.testing.assert_allclose(turn_angles(rotation_matrix(vector)), vector, atol=1e-4)
    np.testing.assert_allclose(from_turn_angles(vector), rotation_matrix(vector), atol=1e-5)


@given(poses)
def test_unproject_undoes_project(driver_face: FaceState, pose: Pose) -> None:
    shape = shape_of(driver_face)
    pixels = pose.project(shape)
    assert pixels.dtype == np.float32
    assert pixels.shape == shape.shape
    np.testing.assert_allclose(pose.unproject(pixels), shape, atol=2e-3 * max(1, 100 / pose.scale))


@given(poses)
def test_the_pose_of_a_moved_face_is_the_motion(driver_face: FaceState, pose: Pose) -> None:
    shape = shape_of(driver_face)
    found = pose_against(pose.project(shape), shape)
    np.testing.assert_allclose(found.rotation, pose.rotation, atol=1e-3)
    np.testing.assert_allclose(found.origin, pose.origin, atol=0.5)
    assert found.scale == pytest.approx(pose.scale, rel=1e-3)
    assert np.linalg.det(found.rotation) == pytest.approx(1, abs=1e-4)


@given(poses)
def test_the_pose_of_another_face_is_a_proper_rotation(
    driver_face: FaceState, portrait_face: FaceState, pose: Pose
) -> None:
    """Two faces never fit exactly: the result is the best fit, no reflection, and close to the face."""
    found = pose_against(pose.project(shape_of(driver_face)), shape_of(portrait_face))
    np.testing.assert_allclose(found.rotation @ found.rotation.T, np.eye(3), atol=1e-4)
    assert np.linalg.det(found.rotation) == pytest.approx(1, abs=1e-4)
    off = float(np.linalg.norm(rotation_vector(found.rotation @ pose.rotation.T)))
    assert off < np.radians(12)
    assert found.scale == pytest.approx(pose.scale, rel=0.1)


def test_speech_and_blinks_are_no_turn_of_the_head(driver_face: FaceState) -> None:
    shape = shape_of(driver_face)
    found = pose_against(with_expression(shape, jaw=0.5, shut=1.0, gaze=(0.2, 0)), shape)
    assert np.linalg.norm(rotation_vector(found.rotation)) < np.radians(1)
    assert found.scale == pytest.approx(1, abs=0.01)


def test_a_frontal_face_faces_the_camera(driver_face: FaceState, portrait_face: FaceState) -> None:
    for face in (driver_face, portrait_face):
        pose = own_pose(face.pixels())
        assert np.linalg.norm(rotation_vector(pose.rotation)) < np.radians(20)
        shape = pose.unproject(face.pixels())
        assert abs(shape[:468, 0].mean()) < 0.05
        rigid = shape[RIGID] - shape[RIGID].mean(axis=0)
        assert np.sqrt((rigid**2).sum(axis=1).mean()) == pytest.approx(1, abs=0.5)


@given(poses)
def test_own_pose_moves_with_the_face(driver_face: FaceState, pose: Pose) -> None:
    shape = shape_of(driver_face)
    found = own_pose(pose.project(shape))
    np.testing.assert_allclose(found.rotation, pose.rotation, atol=1e-3)
    np.testing.assert_allclose(found.origin, pose.origin, atol=0.5)
    assert found.scale == pytest.approx(pose.scale, rel=1e-3)


@given(vectors(0.8))
def test_a_mirrored_face_has_the_mirrored_pose(driver_face: FaceState, vector: NDArray[np.float32]) -> None:
    width = 640
    pose = Pose(rotation_matrix(vector), np.array([250, 200, 0], np.float32), 70.0)
    pixels = pose.project(shape_of(driver_face))
    flipped = pixels[MIRROR] * np.array([-1, 1, 1], np.float32) + np.array([width, 0, 0], np.float32)
    straight, mirrored = own_pose(pixels), own_pose(flipped)
    flip = np.array([-1, 1, 1])
    np.testing.assert_allclose(mirrored.rotation, straight.rotation * flip[:, None] * flip, atol=1e-4)
    np.testing.assert_allclose(mirrored.origin, straight.origin * flip + (width, 0, 0), atol=0.05)
    assert mirrored.scale == pytest.approx(straight.scale, rel=1e-4)
    np.testing.assert_allclose(
        rotation_vector(mirrored.rotation), rotation_vector(straight.rotation) * (1, -1, -1), atol=1e-3
    )
