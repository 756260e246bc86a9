"""Tracking: from a driving frame to the face in it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import cv2
import numpy as np

from engines.types import FaceState
from realtime.core.frames import Frame
from realtime.motion.tracked import FaceListener, mirrored
from realtime.pipeline.settings import Clock
from realtime.tracking.camera_rotation import CameraRotation
from realtime.tracking.settings import Driver, Place
from realtime.tracking.tracker import Tracker


@dataclass(frozen=True, slots=True)
class Observation:
    """A driving frame and the face in it."""

    frame: Frame
    face: FaceState | None
    mirrored: bool
    rotation: int
    """By how many degrees the frame was turned clockwise."""
    tracking_ns: int
    """How long tracking took."""


class FaceObserver:
    """Turns and flips driving frames as needed, and tracks the face in them. One thread calls ``observe``.

    ``mirror`` may be set from any thread; it takes effect with the next frame.
    """

    def __init__(
        self,
        tracker: Tracker,
        rotation: CameraRotation | None = None,
        *,
        mirror: bool,
        clock: Clock = time.monotonic_ns,
        listeners: Sequence[FaceListener] = (),
    ) -> None:
        """``listeners`` are given every face; they belong to the observer."""
        self._listeners = listeners
        self.tracker = tracker
        self._rotation = rotation or CameraRotation("0")
        self._last_rotation = self._rotation.degrees
        self.mirror = mirror
        self._was_mirrored = mirror
        self._clock = clock
        self._place: Place | None = None

    @property
    def driver(self) -> Driver:
        """The face that drives. A place is one of the camera's own picture, neither turned nor flipped."""
        return self._place or self.tracker.driver

    @driver.setter
    def driver(self, driver: Driver) -> None:
        self._place = driver if isinstance(driver, Place) else None
        self.tracker.driver = (
            driver.in_frame(self._rotation.degrees, mirror=self.mirror) if isinstance(driver, Place) else driver
        )

    def observe(self, frame: Frame) -> Observation:
        """Track the face in a driving frame. The tracker starts again when ``mirror`` or the rotation was changed."""
        mirror = self.mirror
        if frame.tracked:
            face = mirrored(frame.face) if mirror and frame.face is not None else frame.face
            return self._observed(Observation(frame.stamped(tracked=self._clock()), face, mirror, 0, 0))
        upright = self._rotation.turn(frame.pixels)
        degrees = self._rotation.degrees
        if (mirror, degrees) != (self._was_mirrored, self._last_rotation):
            self.tracker.reset()
            self._was_mirrored, self._last_rotation = mirror, degrees
        if upright is not frame.pixels:
            frame = replace(frame, pixels=upright)
        if mirror:
            frame = replace(frame, pixels=cv2.flip(frame.pixels, 1).astype(np.uint8, copy=False))
        started = self._clock()
        face = self.tracker.track(frame)
        tracked = self._clock()
        self._rotation.observe(upright, face, frame.time_ns)
        return self._observed(Observation(frame.stamped(tracked=tracked), face, mirror, degrees, tracked - started))

    def _observed(self, observation: Observation) -> Observation:
        if observation.face is not None:
            for listener in self._listeners:
                listener.add(observation.face)
        return observation

    def close(self) -> None:
        """Close the tracker, what finds out the rotation, and the listeners. Idempotent.

        Raises SinkLost if what a listener wrote could not be finished; the rest is closed all the same.
        """
        with ExitStack() as stack:
            stack.callback(self._rotation.close)
            stack.callback(self.tracker.close)
            for listener in self._listeners:
                stack.callback(listener.close)
