"""Turns the driving video of a camera that hangs upside down or on its side."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np

from engines.types import FaceState, Image
from realtime.core.newest_worker import NewestWorker
from realtime.tracking.landmark_model import bounding_box
from realtime.tracking.settings import Rotation
from realtime.tracking.still_faces import FaceFinder, turned

CHECK_PIXELS = 640
"""The longer side of the images that are checked."""
LOST_NS = 1_000_000_000
"""The four turns of a frame are tried when no face was found for this long."""
AGREE_NS = 200_000_000
"""The time between two checks that have to agree before the video is turned."""
SURE_NS = 2_000_000_000
"""An upright face is checked once more after this time."""
RETRY_NS = (1_000_000_000, 5_000_000_000)
"""The time between checks without a result: of the first ones, and of the others."""
QUICK_RETRIES = 5
"""How many checks count as the first ones."""
LEANING = math.radians(60)
"""A head that leans further than this to a side is in the picture of a camera that is on its side."""


class Upright(Protocol):
    """Tells which way up an image is. Used by one thread at a time."""

    def upright_turn(self, image: Image) -> int | None:
        """Return by how many degrees clockwise an RGB image has to be turned; None if that cannot be told."""

    def close(self) -> None:
        """Release the models. Idempotent."""


class CameraRotation:
    """Turns driving frames, by a number of degrees that is given or, with ``auto``, found out from the faces in them.

    One thread calls everything. With ``threaded`` frames are checked on a thread of their own. ``notice`` is called
    when the video is turned by itself.
    """

    def __init__(
        self,
        rotation: Rotation = "auto",
        *,
        threaded: bool = False,
        open_finder: Callable[[], Upright] = FaceFinder,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.degrees = 0 if rotation == "auto" else int(rotation)
        """By how much frames are turned, clockwise."""
        self._auto = rotation == "auto"
        self._open_finder = open_finder
        self._finder: Upright | None = None
        self._notice = notice
        self._worker: NewestWorker[tuple[int, Image], tuple[int, int | None]] = NewestWorker(
            "find out rotation", self._check, self._close_finder, threaded=threaded
        )
        self._verdict: int | None = None
        self._confirmed = 0
        self._attempts = 0
        self._due_ns: int | None = None
        self._seen_ns: int | None = None
        self._time_ns: int | None = None

    def turn(self, image: Image) -> Image:
        """Return a driving frame the right way up, as far as that is known."""
        if self._auto and (result := self._worker.take()) is not None:
            self._take_verdict(*result)
        return turned(image, self.degrees)

    def observe(self, image: Image, face: FaceState | None, time_ns: int) -> None:
        """Take in a turned frame and the face in it, and have it checked from time to time."""
        if not self._auto:
            return
        if self._time_ns is None or not 0 <= time_ns - self._time_ns < LOST_NS:
            # the first frame, or the clock has leapt: times before mean nothing
            self._seen_ns = None if face is None else time_ns
            self._due_ns = time_ns if face is not None else time_ns + LOST_NS
            self._attempts = self._confirmed = 0
        elif face is None:
            if self._due_ns is None:
                self._due_ns, self._attempts, self._confirmed = self._time_ns + LOST_NS, 0, 0
        else:
            returned = self._seen_ns is None or time_ns - self._seen_ns >= LOST_NS
            if returned or (self._due_ns is None and _leans(face)):
                self._due_ns, self._attempts, self._confirmed = time_ns, 0, 0
            self._seen_ns = time_ns
        self._time_ns = time_ns
        if self._due_ns is not None and time_ns >= self._due_ns:
            self._attempts += 1
            self._due_ns = self._next_check(time_ns)
            self._worker.offer((self.degrees, _shrunk(image)))

    def close(self) -> None:
        """Release the models. Idempotent."""
        self._worker.close()

    def _next_check(self, time_ns: int) -> int | None:
        """Return when to check again, unless the check that begins now settles it."""
        if self._verdict or self._attempts == 1:
            return time_ns + AGREE_NS
        return time_ns + RETRY_NS[self._attempts > QUICK_RETRIES]

    def _take_verdict(self, degrees: int, turn: int | None) -> None:
        """Turn the video if two checks agree. ``degrees`` is how the checked frame was turned already."""
        if degrees != self.degrees:
            return
        if turn == 0:
            self._confirmed += 1
            self._verdict = None
            done = self._confirmed >= 2 or self._time_ns is None
            self._due_ns = None if done else (self._time_ns or 0) + SURE_NS
        elif turn is not None and turn == self._verdict:
            self.degrees = (self.degrees + turn) % 360
            self._verdict, self._due_ns, self._confirmed = None, None, 0
            self._notice(self._text())
        else:
            self._verdict = turn

    def _text(self) -> str:
        if self.degrees == 0:
            return "the camera is the right way up again: its picture is no longer turned"
        how = "upside down" if self.degrees == 180 else "on its side"
        return f"the camera is {how}: its picture is turned by {self.degrees} degrees; --rotate 0 keeps it"

    # on the worker's thread

    def _check(self, job: tuple[int, Image]) -> tuple[int, int | None]:
        degrees, image = job
        if self._finder is None:
            self._finder = self._open_finder()
        turn = self._finder.upright_turn(image)
        if turn == 0:
            self._close_finder()  # it is hardly needed again
        return degrees, turn

    def _close_finder(self) -> None:
        if self._finder is not None:
            self._finder.close()
            self._finder = None


def _leans(face: FaceState) -> bool:
    return abs(bounding_box(face.landmarks, face.size).roll) > LEANING


def _shrunk(image: Image) -> Image:
    """Return a copy of an image of at most ``CHECK_PIXELS`` a side."""
    height, width = image.shape[:2]
    scale = min(1.0, CHECK_PIXELS / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.array(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
