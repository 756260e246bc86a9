"""The right person on real faces: the tracker with its watch, and the motion that it gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.types import FaceState, Image
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.motion.motion_transfer import MotionTransfer
from realtime.tracking import face_mesh
from realtime.tracking.landmark_model import FaceBox, bounding_box
from realtime.tracking.tracker import FaceMeshTracker, LandmarkerTracker, Tracker

pytestmark = pytest.mark.skipif(not face_mesh.available(), reason="this mediapipe has no Face Mesh")

FRAME_NS = 40_000_000
PERSON_X, WALL_X = 200, 560


def read(path: Path, count: int, height: int) -> list[Image]:
    """Return the first frames of a clip, or a picture, in RGB at a height."""
    video = cv2.VideoCapture(str(path))
    images: list[Image] = []
    while len(images) < count and (got := video.read())[0]:
        scale = height / got[1].shape[0]
        small = cv2.resize(got[1], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        images.append(np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB), np.uint8))
    return images


@pytest.fixture(scope="module")
def person(clips: Path) -> list[Image]:
    return read(clips / "personalive__driving_video.mp4", 100, 270)


@pytest.fixture(scope="module")
def painting(portraits: Path) -> Image:
    return read(portraits / "lp__s8.jpg", 1, 180)[0]


def room(*pictures: tuple[Image, int, int], size: tuple[int, int] = (720, 360)) -> Image:
    """Return a wall with pictures, each with the place of its centre's x and its top."""
    frame = np.full((size[1], size[0], 3), (165, 160, 150), np.uint8)
    for picture, x, top in pictures:
        left = x - picture.shape[1] // 2
        part = picture[: size[1] - top]
        frame[top : top + part.shape[0], left : left + part.shape[1]] = part
    noise = np.random.default_rng(0).normal(0, 3, frame.shape)
    return np.clip(frame + noise, 0, 255).astype(np.uint8)


def track(tracker: Tracker, frames: Sequence[Image]) -> list[FaceState | None]:
    return [
        tracker.track(Frame(image, PixelFormat.RGB, seq, Stamps(0), seq * FRAME_NS)) for seq, image in enumerate(frames)
    ]


def box_of(face: FaceState | None) -> FaceBox | None:
    return None if face is None else bounding_box(face.landmarks, face.size)


@pytest.fixture(params=["Face Mesh", "Face Landmarker"])
def tracker_class(request: pytest.FixtureRequest) -> object:
    if request.param == "Face Mesh":
        return FaceMeshTracker
    path = request.getfixturevalue("face_landmarker")
    return lambda driver="auto": LandmarkerTracker(path, driver)


@pytest.mark.parametrize("away", [6, 38])
def test_a_painting_never_takes_over_and_the_driver_is_followed_at_once(
    tracker_class: type[FaceMeshTracker], person: list[Image], painting: Image, away: int
) -> None:
    leaves, returns = 40, 40 + away
    frames = [
        room((painting, WALL_X, 20), *([] if leaves <= at < returns else [(image, PERSON_X, 90)]))
        for at, image in enumerate(person)
    ]
    tracker = tracker_class()
    boxes = [box_of(face) for face in track(tracker, frames)]
    tracker.close()
    assert all(box is not None and abs(box.x - PERSON_X) < 100 for box in boxes[:leaves])
    assert all(box is None for box in boxes[leaves:returns])
    assert all(box is not None and abs(box.x - PERSON_X) < 100 for box in boxes[returns + 2 :])


def test_a_person_replaces_a_painting_that_was_there_alone(person: list[Image], painting: Image) -> None:
    frames = [
        room((painting, WALL_X, 20), *([] if at < 30 else [(image, PERSON_X, 90)])) for at, image in enumerate(person)
    ]
    tracker = FaceMeshTracker()
    faces = track(tracker, frames)
    tracker.close()
    alone, later = box_of(faces[25]), box_of(faces[-1])
    assert alone is not None
    assert later is not None
    assert abs(alone.x - WALL_X) < 60
    assert abs(later.x - PERSON_X) < 100
    first, last = faces[25], faces[-1]
    assert first is not None
    assert last is not None
    assert first.driver_id != last.driver_id


@pytest.mark.parametrize("driver", ["auto", "left", "right", 2])
def test_two_alike_drive_one_at_a_time(person: list[Image], driver: str | int) -> None:
    """One clip twice: the choice is stable, and is that of the option."""
    frames = [room((image, 170, 90), (person[-1 - at], 550, 90)) for at, image in enumerate(person)]
    tracker = FaceMeshTracker(driver)  # type: ignore[arg-type]
    faces = track(tracker, frames)
    tracker.close()
    settled = [box_of(face) for face in faces[40:]]
    sides = {box is not None and box.x > 360 for box in settled}
    assert len(sides) == 1
    if driver != "auto":
        assert sides == {driver != "left"}
    assert len({face.driver_id for face in faces[40:] if face is not None}) == 1


def test_switching_never_jumps(person: list[Image]) -> None:
    frames = [room((image, 170, 90), (person[-1 - at], 550, 90)) for at, image in enumerate(person)]
    tracker, transfer = FaceMeshTracker("left"), MotionTransfer()
    moved, xs = [], []
    for seq, image in enumerate(frames):
        if seq == 50:
            tracker.driver = "right"
        face = tracker.track(Frame(image, PixelFormat.RGB, seq, Stamps(0), seq * FRAME_NS))
        motion = transfer.update(face, seq * FRAME_NS)
        moved.append(np.array([*motion.translation, motion.scale]))
        box = box_of(face)
        xs.append(0 if box is None else box.x)
    tracker.close()
    assert xs[49] < 360
    assert min(xs[56:]) > 360
    assert np.abs(np.diff(moved, axis=0)).max() < 0.5


def test_a_face_that_comes_and_goes_every_second_never_jumps(person: list[Image]) -> None:
    """It is followed at once each time, and eased in."""
    frames = [
        room((image, PERSON_X, 90)) if (at // 25) % 2 == 0 else room() for at, image in enumerate(person + person)
    ]
    tracker, transfer = FaceMeshTracker(), MotionTransfer()
    faces = track(tracker, frames)
    tracker.close()
    for at, face in enumerate(faces):
        assert (face is not None) == ((at // 25) % 2 == 0)
    motions = [transfer.update(face, at * FRAME_NS) for at, face in enumerate(faces)]
    moved = np.array([[*motion.translation, motion.scale] for motion in motions])
    assert np.abs(np.diff(moved, axis=0)).max() < 0.5


@pytest.mark.parametrize("side", [40, 330])
def test_a_face_of_any_size_drives(clips: Path, side: int) -> None:
    """From 40 pixels wide, in a frame of 360 pixels' height, to one that fills it."""
    images = read(clips / "lp__d6.mp4", 30, round(side * 1.7))
    frames = [room((image, 360, max(0, 180 - image.shape[0] // 2))) for image in images]
    tracker = FaceMeshTracker()
    faces = track(tracker, frames)
    tracker.close()
    assert all(face is not None for face in faces)
    assert {face.driver_id for face in faces if face is not None} == {0}
