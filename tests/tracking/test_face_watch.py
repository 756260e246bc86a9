"""Which faces of a frame move, and which are pictures of faces."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from engines.types import Image
from realtime.tracking.face_watch import CALM_NS, LOOK_NS, FaceWatch, Look, merged, same_face
from realtime.tracking.landmark_model import FaceBox

FRAME_NS = 40_000_000
RNG = np.random.default_rng(0)
TEXTURES = [
    np.asarray(cv2.GaussianBlur(RNG.integers(0, 255, (120, 120, 3), np.uint8), (0, 0), 5), np.uint8) for _ in range(3)
]
TEXTURES = [np.clip((texture.astype(np.float32) - 127) * 5 + 127, 0, 255).astype(np.uint8) for texture in TEXTURES]


class FakeDetector:
    """Finds the boxes that it is told of."""

    def __init__(self) -> None:
        self.boxes: list[FaceBox] = []
        self.closed = False
        self.threads: set[int] = set()

    def detect(self, image: Image) -> list[FaceBox]:  # noqa: ARG002
        self.threads.add(threading.get_ident())
        return list(self.boxes)

    def close(self) -> None:
        self.closed = True


def scene(places: Sequence[tuple[int, int]], *, noise: float = 0.0, light: float = 1.0) -> Image:
    """Return a grey frame with a face-like texture of 120 pixels around each place."""
    frame = np.full((480, 640, 3), 128, np.float32)
    for texture, (x, y) in zip(TEXTURES, places, strict=False):
        frame[y - 60 : y + 60, x - 60 : x + 60] = texture
    frame *= light
    if noise:
        frame += RNG.normal(0, noise, frame.shape)
    return np.clip(frame, 0, 255).astype(np.uint8)


class Watching:
    """A watch that is shown one frame after another."""

    def __init__(self) -> None:
        self.detector = FakeDetector()
        self.watch = FaceWatch(self.detector, threaded=False)
        self.time_ns = 0
        self.look: Look | None = None

    def show(self, frame: Image, places: Sequence[tuple[int, int]], followed: FaceBox | None = None) -> None:
        self.detector.boxes = [FaceBox(x, y, 120) for x, y in places]
        self.watch.offer(frame, self.time_ns, followed)
        self.time_ns += FRAME_NS
        self.look = self.watch.take() or self.look


def moving_place(step: int) -> tuple[int, int]:
    return 200 + round(8 * np.sin(step * 0.7)), 200 + round(5 * np.cos(step * 0.45))


@pytest.mark.parametrize(("noise", "light"), [(0, 1), (5, 0.5), (8, 0.25)])
def test_a_face_that_moves_is_told_from_a_picture(noise: float, light: float) -> None:
    """Sensor noise, however strong, is no motion."""
    watching = Watching()
    for step in range(100):
        places = [moving_place(step), (500, 250)]
        watching.show(scene(places, noise=noise, light=light), places)
        if step > 1.2e9 / FRAME_NS and watching.look is not None:
            assert not watching.look.faces[1].moving
    assert watching.look is not None
    person, picture = watching.look.faces
    assert (person.moving, person.still) == (True, False)
    assert (picture.moving, picture.still) == (False, True)


def test_flicker_and_a_slow_change_of_light_are_no_motion() -> None:
    watching = Watching()
    rows = np.arange(480)[:, None, None]
    for step in range(100):
        bands = 1 + 0.18 * np.sin(2 * np.pi * (rows / 160 + step * 0.33))
        frame = scene([(300, 200)]) * bands * (0.7 + 0.002 * step)
        watching.show(np.clip(frame, 0, 255).astype(np.uint8), [(300, 200)])
    assert watching.look is not None
    assert watching.look.faces[0].still


def test_a_picture_behind_the_followed_face_does_not_move_with_it() -> None:
    watching = Watching()
    for step in range(150):
        x = 140 + 4 * step if step < 40 else 300 - 2 * (step - 40) if step < 100 else 180
        places = [(500, 200), (x, 220)]
        watching.show(scene(places), places, followed=FaceBox(x, 220, 120))
    assert watching.look is not None
    picture = min(watching.look.faces, key=lambda face: abs(face.box.x - 500))
    assert picture.still
    assert picture.key != watching.look.followed


def test_a_person_who_drives_is_not_still_however_long_the_calm() -> None:
    watching = Watching()
    for step in range(40):
        watching.show(scene([moving_place(step)]), [moving_place(step)], FaceBox(*moving_place(step), 120))
    for _ in range(int(1.5 * CALM_NS / FRAME_NS)):
        watching.show(scene([moving_place(0)]), [moving_place(0)], FaceBox(*moving_place(0), 120))
    assert watching.look is not None
    assert not watching.look.faces[0].still


def test_a_look_is_rare_and_scales_its_boxes() -> None:
    watching = Watching()
    looks = 0
    for step in range(50):
        frame = cv2.resize(scene([(300, 200)]), (1280, 960))
        watching.detector.boxes = [FaceBox(300, 200, 120)]
        watching.watch.offer(np.asarray(frame, np.uint8), step * FRAME_NS, None)
        look = watching.watch.take()
        if look is not None:
            looks += 1
            assert look.faces[0].box == FaceBox(600, 400, 240)
    assert looks == 4
    assert LOOK_NS / FRAME_NS == 12.5


def test_a_clock_that_leaps_ends_nothing() -> None:
    watching = Watching()
    for step in range(60):
        if step in (20, 40):
            watching.time_ns += 3_600_000_000_000 if step == 20 else -7_200_000_000_000
        watching.show(scene([moving_place(step)]), [moving_place(step)])
    assert watching.look is not None
    assert len(watching.look.faces) == 1


def test_a_reset_forgets_everything() -> None:
    watching = Watching()
    for _ in range(60):
        watching.show(scene([(300, 200)]), [(300, 200)])
    watching.watch.reset()
    assert watching.watch.take() is None
    for _ in range(3):
        watching.show(scene([(300, 200)]), [(300, 200)])
    assert watching.look is not None
    assert not watching.look.faces[0].still


def test_looking_in_the_background_uses_one_other_thread() -> None:
    detector = FakeDetector()
    watch = FaceWatch(detector, threaded=True)
    for step in range(60):
        watch.offer(scene([(300, 200)]), step * FRAME_NS, None)
    watch.close()
    watch.close()
    assert detector.closed
    assert len(detector.threads) == 1
    assert threading.get_ident() not in detector.threads
    watch.offer(scene([(300, 200)]), 10**12, None)  # ignored


def test_two_detectors_boxes_of_a_face_are_one() -> None:
    boxes = [FaceBox(434, 460, 258), FaceBox(461, 477, 250), FaceBox(1149, 127, 71)]
    assert merged(boxes) == [boxes[0], boxes[2]]
    assert same_face(boxes[0], boxes[1])
    assert not same_face(boxes[0], boxes[2])
    assert not same_face(FaceBox(100, 100, 40), FaceBox(100, 100, 100))
