"""The turn of a head in perspective, compared with a pinhole camera."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engines.face.head import from_turn_angles
from engines.face.perspective import FIELD, seen_turn
from engines.face.topology import MIRROR, RIGID, RIGID_CANONICAL
from engines.types import LANDMARKS, Points
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.portraits.portrait import load_portrait
from realtime.tracking.tracker import open_tracker
from tools.fidelity_suite.reference_tracker import head_angles

SIZE = (640, 480)

angles = st.tuples(*[st.floats(-0.6, 0.6)] * 3)
places = st.tuples(st.floats(-0.5, 0.5), st.floats(-0.35, 0.35), st.floats(25, 120))


def photograph(turn: tuple[float, ...], place: tuple[float, float, float], size: tuple[int, int]) -> Points:
    """The canonical face, turned, at a place (x and y as shares of the distance, distance in cm): pixels (478, 3).

    Depth is as MediaPipe gives it: relative to the face's own middle, on the scale of x.
    """
    width, height = size
    head = np.zeros((LANDMARKS, 3))
    head[RIGID] = RIGID_CANONICAL @ from_turn_angles(np.array(turn, np.float32)).T
    x, y, distance = place
    head[:, 2] -= head[:468, 2].mean()
    head += np.array([x * distance, y * distance, distance])
    focal = 0.5 * height / math.tan(FIELD / 2)
    pixels = np.empty((LANDMARKS, 3), np.float32)
    pixels[:, 0] = focal * head[:, 0] / head[:, 2] + 0.5 * width
    pixels[:, 1] = focal * head[:, 1] / head[:, 2] + 0.5 * height
    pixels[:, 2] = focal * (head[:, 2] / distance - 1)
    return pixels


@given(angles, places)
def test_the_turn_is_seen_wherever_the_head_is(
    turn: tuple[float, float, float], place: tuple[float, float, float]
) -> None:
    np.testing.assert_allclose(seen_turn(photograph(turn, place, SIZE), SIZE), turn, atol=0.002)


@given(angles, places, st.sampled_from([(320, 240), (1280, 720), (480, 854)]))
def test_the_size_of_the_image_does_not_matter(
    turn: tuple[float, float, float], place: tuple[float, float, float], size: tuple[int, int]
) -> None:
    np.testing.assert_allclose(
        seen_turn(photograph(turn, place, size), size), seen_turn(photograph(turn, place, SIZE), SIZE), atol=1e-3
    )


@given(angles, places)
def test_a_flipped_image_shows_the_mirrored_turn(
    turn: tuple[float, float, float], place: tuple[float, float, float]
) -> None:
    pixels = photograph(turn, place, SIZE)
    flipped = (pixels * np.array([-1, 1, 1], np.float32) + np.array([SIZE[0], 0, 0], np.float32))[MIRROR]
    np.testing.assert_allclose(
        seen_turn(flipped, SIZE), seen_turn(pixels, SIZE) * np.array([1, -1, -1], np.float32), atol=1e-3
    )


def test_it_agrees_with_the_landmarkers_own_matrix(face_landmarker: Path) -> None:
    """To a twentieth of a degree, on the same landmarks."""
    picture = load_portrait(None, SIZE)
    tracker = open_tracker(face_landmarker)
    try:
        face = tracker.track(Frame(picture.image, PixelFormat.RGB, 0, Stamps(0), 0))
    finally:
        tracker.close()
    assert face is not None
    assert face.head_matrix is not None
    yaw, pitch, roll = head_angles(face.head_matrix)
    found = np.degrees(seen_turn(face.pixels(), face.size))
    np.testing.assert_allclose(found, (pitch, -yaw, -roll), atol=0.05)
