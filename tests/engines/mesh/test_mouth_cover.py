"""What is in front of a mouth is not shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.face.topology import AROUND_MOUTH, MOUTH_CORNERS, OUTER_EYE_CORNERS
from engines.mesh.driver_mouth import DriverMouth
from engines.mesh.mouth_cover import UNCOVER_NS
from engines.mesh.mouth_light import skin_colour
from engines.types import FaceState, Image, Points
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.tracking import face_mesh
from realtime.tracking.tracker import FaceMeshTracker
from tests.support.faces import make_motion, shape_of

FRAME_NS = 40_000_000
FRAMES = 40


@pytest.fixture(scope="module")
def talking(clips: Path) -> list[tuple[Image, FaceState]]:
    """Frames of a talking face, and the face."""
    if not face_mesh.available():
        pytest.skip("this mediapipe has no Face Mesh")
    video, tracker = cv2.VideoCapture(str(clips / "personalive__driving_video.mp4")), FaceMeshTracker()
    seen = []
    for seq in range(FRAMES):
        image = np.asarray(cv2.cvtColor(video.read()[1], cv2.COLOR_BGR2RGB), np.uint8)
        face = tracker.track(Frame(image, PixelFormat.RGB, seq, Stamps(0), seq * FRAME_NS))
        assert face is not None
        seen.append((image, face))
    tracker.close()
    return seen


def covered(image: Image, pixels: Points, cover: str) -> Image:
    """Return a frame with something before the mouth."""
    eyes = pixels[OUTER_EYE_CORNERS, :2]
    size = float(np.hypot(*(eyes[1] - eyes[0])))
    x, y = pixels[MOUTH_CORNERS, :2].mean(axis=0)
    skin = skin_colour(image, pixels)
    rows = np.arange(image.shape[0])[:, None, None] * (4 * np.pi / size)
    texture = {
        "hand": np.broadcast_to(skin * (0.9 + 0.15 * np.sin(rows)), image.shape),  # fingers
        "cup": np.full(image.shape, 235.0),
        "microphone": np.full(image.shape, 30.0),
    }[cover]
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    inside = ((columns - x) / (0.55 * size)) ** 2 + ((rows - y) / (0.4 * size)) ** 2 < 1
    return np.where(inside[..., None], texture, image).astype(np.uint8)


def opacities(frames: list[tuple[Image, FaceState]], mouth: DriverMouth) -> list[float]:
    return [mouth.update(make_motion(shape_of(face), face=face), image) for image, face in frames]


def test_a_mouth_that_talks_is_shown_all_the_time(talking: list[tuple[Image, FaceState]]) -> None:
    assert min(opacities(talking, DriverMouth())) == 1


@pytest.mark.parametrize("cover", ["hand", "cup", "microphone"])
def test_what_covers_a_mouth_is_not_shown(talking: list[tuple[Image, FaceState]], cover: str) -> None:
    """From the first frame on; the mouth comes back gently when it is uncovered."""
    mouth = DriverMouth()
    frames = [
        (covered(image, face.pixels(), cover) if 10 <= at < 25 else image, face)
        for at, (image, face) in enumerate(talking)
    ]
    shown = opacities(frames, mouth)
    assert min(shown[:10]) == 1
    assert max(shown[10:25]) == 0
    assert max(np.diff(shown[24:])) <= 1.01 * FRAME_NS / UNCOVER_NS
    assert shown[-1] == 1


def test_a_beard_and_a_change_of_light_are_no_cover(talking: list[tuple[Image, FaceState]]) -> None:
    mouth = DriverMouth()
    frames = []
    for at, (image, face) in enumerate(talking):
        bearded = image.copy()
        for x, y in face.pixels()[AROUND_MOUTH, :2]:
            cv2.circle(bearded, (round(float(x)), round(float(y))), 4, (60, 45, 40), -1)
        frames.append(((bearded * (0.5 + at / (2 * FRAMES))).astype(np.uint8), face))
    assert min(opacities(frames, mouth)) == 1


def test_another_persons_mouth_is_judged_by_itself(talking: list[tuple[Image, FaceState]]) -> None:
    mouth = DriverMouth()
    image, face = talking[0]
    opacities([(image, face)], mouth)
    bearded = image.copy()
    for x, y in face.pixels()[AROUND_MOUTH, :2]:
        cv2.circle(bearded, (round(float(x)), round(float(y))), 4, (20, 15, 10), -1)
    later = replace(face, time_ns=face.time_ns + FRAME_NS)
    assert opacities([(bearded, later)], mouth) == [0]
    assert opacities([(bearded, replace(later, driver_id=1))], mouth) == [1]
