"""Tracking: from a driving frame to the face in it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import cv2
import numpy as np

from engines.types import FaceState
from realtime.core.frames import Frame
from realtime.pipeline.settings import Clock
from realtime.tracking.tracker import Tracker


@dataclass(frozen=True, slots=True)
class Observation:
    """A driving frame and the face in it."""

    frame: Frame
    face: FaceState | None
    mirrored: bool
    tracking_ns: int
    """How long tracking took."""


class FaceObserver:
    """Flips driving frames if wanted, and tracks the face in them. One thread calls ``observe``.

    ``mirror`` may be set from any thread; it takes effect with the next frame.
    """

    def __init__(self, tracker: Tracker, *, mirror: bool, clock: Clock = time.monotonic_ns) -> None:
        self.tracker = tracker
        self.mirror = mirror
        self._was_mirrored = mirror
        self._clock = clock

    def observe(self, frame: Frame) -> Observation:
        """Track the face in a driving frame. The tracker starts anew when ``mirror`` was changed."""
        mirror = self.mirror
        if mirror != self._was_mirrored:
            self.tracker.reset()
            self._was_mirrored = mirror
        if mirror:
            frame = replace(frame, pixels=cv2.flip(frame.pixels, 1).astype(np.uint8, copy=False))
        started = self._clock()
        face = self.tracker.track(frame)
        tracked = self._clock()
        return Observation(frame.stamped(tracked=tracked), face, mirror, tracked - started)
