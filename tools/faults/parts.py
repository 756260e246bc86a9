"""A source, a tracker, a generator and a sink that work, each with a place where a fault can be put."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from engines.errors import SourceEnded
from engines.types import FaceState, Image, Mask, Motion, Portrait
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.pipeline.frame_publisher import FrameRelay, PublishedFrame
from realtime.portraits.portrait import PortraitPicture
from realtime.tracking.settings import Driver

SIZE = (320, 240)
FRAMES = 6
"""How many frames the camera delivers."""

Fault = Callable[[int, Any, Image], Any]
"""Takes how often its place was passed, what the part would return, and the camera's picture; returns or raises."""


def no_fault(_: int, value: Any, __: Image) -> Any:
    """Return what the part would return."""
    return value


def camera_picture(number: int) -> Image:
    """Return a picture as a camera's, unlike anything else here: magenta with noise, (H, W, 3) uint8 RGB."""
    random = np.random.default_rng(number)
    noise = random.integers(0, 40, (SIZE[1], SIZE[0], 3))
    return np.asarray(np.array((215, 5, 215)) + noise, np.uint8)


def portrait_picture() -> PortraitPicture:
    """Return a drawn portrait, and a face of random points."""
    random = np.random.default_rng(5)
    image = np.full((SIZE[1], SIZE[0], 3), (90, 110, 100), np.float32)
    for length in (64, 32, 16, 8, 4, 2):
        grain = random.normal(0, 1, (SIZE[1] // length, SIZE[0] // length, 1)).astype(np.float32)
        image += 0.7 * length**0.6 * cv2.resize(grain, SIZE, interpolation=cv2.INTER_CUBIC)[..., None]
    return PortraitPicture("drawn", np.clip(image, 0, 255).astype(np.uint8), _face(0, 0))


def _face(number: int, time_ns: int) -> FaceState:
    points = np.random.default_rng(1).random((478, 3), np.float32)
    return FaceState(number, time_ns, points, SIZE)


class Place:
    """Where a fault happens."""

    def __init__(self, fault: Fault = no_fault) -> None:
        self._fault = fault
        self._count = 0

    def passed(self, value: Any, camera: Image) -> Any:
        """Return the value, or what the fault makes of it."""
        self._count += 1
        return self._fault(self._count, value, camera)


class CameraSource:
    """A live camera of ``FRAMES`` frames."""

    name = "camera"
    size = SIZE
    fps = 200.0
    live = True
    frames: int | None = None
    notes: tuple[str, ...] = ()
    skipped = 0

    def __init__(self, place: Place) -> None:
        self._place = place
        self._number = 0

    def read(self) -> Frame:
        """Return the next frame. Raises SourceEnded."""
        if self._number == FRAMES:
            raise SourceEnded("video-ended", "the camera has ended")
        self._number += 1
        time.sleep(1 / self.fps)
        now = time.monotonic_ns()
        picture = camera_picture(self._number)
        pixels = self._place.passed(picture, picture)
        return Frame(pixels, PixelFormat.RGB, self._number, Stamps(now), now)

    def close(self) -> None:
        """Release nothing."""


class FaceTracker:
    """A tracker that finds a face in every frame."""

    name = "tracker"
    driver: Driver = "auto"

    def __init__(self, place: Place) -> None:
        self._place = place

    def track(self, frame: Frame) -> FaceState | None:
        """Return a face."""
        face: FaceState | None = self._place.passed(_face(frame.seq, frame.time_ns), frame.pixels)
        return face

    def reset(self) -> None:
        """Forget nothing."""

    def close(self) -> None:
        """Release nothing."""


class PictureGenerator:
    """A generator that moves the portrait from frame to frame."""

    name = label = "faulty"
    random_weights = False
    regions: tuple[str, ...] = ("all", "expression", "pose")
    mouths: tuple[str, ...] = ()
    mouth: str | None = None
    refined: bool | None = None

    def __init__(self, place: Place) -> None:
        self._place = place
        self._count = 0

    def prepare(self, name: str, image: Image, *_: Any, **__: Any) -> Portrait:
        """Return a portrait of the picture itself."""
        return Portrait(name, (image.shape[1], image.shape[0]), image)

    def drive(self, portrait: Portrait, motion: Motion, driving: Image | None) -> Image:  # noqa: ARG002
        """Return the picture, moved; faults begin once frames of the camera arrive."""
        self._count += 1
        image: Image = np.roll(np.asarray(portrait.features, np.uint8), 3 * self._count, axis=1)
        if driving is None or driving.shape != image.shape or driving[0, 0, 1] > 60:
            return image
        result: Image = self._place.passed(image, driving)
        return result

    def alpha(self) -> Mask | None:
        """Return None: it does not know."""
        return None

    def set_mouth(self, mouth: str) -> None:
        """Choose nothing."""

    def set_refined(self, on: bool) -> None:
        """Choose nothing."""

    def close(self) -> None:
        """Release nothing."""


class WatchedSink(FrameRelay):
    """A sink that keeps a copy of everything that reaches it, before its own fault."""

    def __init__(self, name: str, place: Place) -> None:
        self.name = name
        self.got: list[Image] = []
        self._place = place
        self._lock = threading.Lock()

    def relay(self, published: PublishedFrame) -> None:
        """Keep a copy."""
        pixels = published.frame(PixelFormat.RGB).pixels
        with self._lock:
            self.got.append(pixels.copy())
        self._place.passed(None, pixels)

    def close(self) -> None:
        """Release nothing."""
