"""A camera that hangs upside down or on its side."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.types import FaceState, Image
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.pipeline.face_observer import FaceObserver
from realtime.tracking import face_mesh
from realtime.tracking.camera_rotation import CameraRotation
from realtime.tracking.settings import Rotation
from realtime.tracking.still_faces import FaceFinder, turned
from realtime.tracking.tracker import FaceMeshTracker

FRAME_NS = 40_000_000
needs_face_mesh = pytest.mark.skipif(not face_mesh.available(), reason="this mediapipe has no Face Mesh")


class FakeFinder:
    """A finder for images whose brightest corner, at first the upper left one, tells which way up they are."""

    opened = 0
    checked = 0

    def __init__(self) -> None:
        FakeFinder.opened += 1

    def upright_turn(self, image: Image) -> int | None:
        FakeFinder.checked += 1
        corners = {0: image[0, 0], 90: image[-1, 0], 180: image[-1, -1], 270: image[0, -1]}
        brightest = max(corners, key=lambda turn: int(corners[turn].sum()))
        return brightest if corners[brightest].any() else None

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def notices(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(FakeFinder, "opened", 0)
    monkeypatch.setattr(FakeFinder, "checked", 0)
    return []


def upright() -> Image:
    image = np.zeros((60, 80, 3), np.uint8)
    image[:10, :10] = 255
    return image


def rotation_for(notices: list[str], rotation: Rotation = "auto") -> CameraRotation:
    return CameraRotation(rotation, open_finder=FakeFinder, notice=notices.append)


def show(rotation: CameraRotation, image: Image, face: FaceState | None, steps: range) -> Image:
    shown = image
    for step in steps:
        shown = rotation.turn(image)
        rotation.observe(shown, face, step * FRAME_NS)
    return shown


@pytest.mark.parametrize("hangs", [90, 180, 270])
@pytest.mark.parametrize("found", [True, False])
def test_a_camera_that_hangs_otherwise_is_turned_and_said_once(
    notices: list[str], driver_face: FaceState, hangs: int, found: bool
) -> None:
    """Within half a second where the model fits a face, within two where it finds none."""
    rotation = rotation_for(notices)
    image = turned(upright(), hangs)
    shown = show(rotation, image, driver_face if found else None, range(12 if found else 50))
    np.testing.assert_array_equal(shown, upright())
    show(rotation, image, driver_face, range(50, 400))
    assert len(notices) == 1
    assert f"turned by {360 - hangs} degrees" in notices[0]
    assert FakeFinder.checked <= 6


def test_an_upright_camera_is_checked_twice_and_left_alone(notices: list[str], driver_face: FaceState) -> None:
    rotation = rotation_for(notices)
    assert show(rotation, upright(), driver_face, range(500)) is not None
    assert (rotation.degrees, notices, FakeFinder.checked) == (0, [], 2)


def test_a_single_verdict_turns_nothing(notices: list[str], driver_face: FaceState) -> None:
    rotation = rotation_for(notices)
    show(rotation, turned(upright(), 180), driver_face, range(1))
    show(rotation, upright(), driver_face, range(1, 100))
    assert (rotation.degrees, notices) == (0, [])


def test_an_empty_chair_is_checked_rarely(notices: list[str]) -> None:
    rotation = rotation_for(notices)
    show(rotation, np.zeros((60, 80, 3), np.uint8), None, range(60 * 25))
    assert FakeFinder.checked <= 20
    assert rotation.degrees == 0


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_given_rotation_is_kept(notices: list[str], driver_face: FaceState, degrees: int) -> None:
    values: dict[int, Rotation] = {0: "0", 90: "90", 180: "180", 270: "270"}
    rotation = rotation_for(notices, values[degrees])
    shown = show(rotation, turned(upright(), 180), driver_face, range(100))
    np.testing.assert_array_equal(shown, turned(upright(), 180 + degrees if degrees < 180 else degrees - 180))
    assert FakeFinder.opened == 0


def test_a_clock_that_leaps_starts_anew(notices: list[str], driver_face: FaceState) -> None:
    rotation = rotation_for(notices)
    show(rotation, upright(), driver_face, range(100))
    for step in (10**9, 10, 10**7):
        show(rotation, upright(), driver_face, range(step, step + 3))
    assert (rotation.degrees, notices) == (0, [])


@needs_face_mesh
@pytest.mark.parametrize("hangs", [90, 180, 270])
def test_a_real_clip_is_driven_upright(clips: Path, hangs: int) -> None:
    """From the first second on; upside down, the mesh finds a face all the time."""
    video = cv2.VideoCapture(str(clips / "personalive__driving_video.mp4"))
    notices: list[str] = []
    observer = FaceObserver(FaceMeshTracker(), CameraRotation(notice=notices.append), mirror=False)
    upright_frames = 0
    for seq in range(60):
        picture = turned(np.asarray(cv2.cvtColor(video.read()[1], cv2.COLOR_BGR2RGB), np.uint8), hangs)
        seen = observer.observe(Frame(picture, PixelFormat.RGB, seq, Stamps(0), seq * FRAME_NS))
        upright_frames += seen.rotation == 360 - hangs and seen.face is not None
    observer.close()
    observer.close()
    assert len(notices) == 1
    assert upright_frames >= (50 if hangs == 180 else 25)


@needs_face_mesh
def test_the_finder_knows_which_way_up_a_face_is(portraits: Path) -> None:
    with FaceFinder() as finder:
        for name in ("lp__s8.jpg", "lp__s9.jpg"):
            picture = cv2.cvtColor(cv2.imread(str(portraits / name)), cv2.COLOR_BGR2RGB)
            image = np.asarray(cv2.resize(picture, None, fx=0.5, fy=0.5), np.uint8)
            for hangs in (0, 90, 180, 270):
                assert finder.upright_turn(turned(image, hangs)) == (360 - hangs) % 360
        assert finder.upright_turn(np.zeros((240, 320, 3), np.uint8)) is None
