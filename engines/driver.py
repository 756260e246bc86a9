"""The driver as a motion network sees one: what it answers now, and the neutral which that is relative to.

The neutral is the network's own answer for the very frames that ``realtime.motion`` chose.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from engines.backend import Array, Backend
from engines.crop import Lock, feed
from engines.types import FaceState, Image, Motion

EASE_S = 0.35
"""Time constant with which a new neutral takes over from the last, as in ``realtime.motion``."""
LONGEST_S = 0.5
"""No more time than this is taken to pass between two frames: a driver who comes back is no reason to jump."""
ARRIVED = 1e-4
"""A neutral whose every number is so near to the one that it goes to has arrived; the networks' unit is half a crop."""

Answer = Mapping[str, Array]


class Driver:
    """Follows one driver. One thread owns it; it calls on the network and owns nothing of it."""

    def __init__(self, network: Backend, keys: tuple[str, ...], side: int) -> None:
        """``keys`` name the network's answers, ``driving_`` left out; ``side`` is that of its crop, in pixels."""
        self._network = network
        self._keys = keys
        self._lock = Lock()
        self._crop: Image = np.zeros((side, side, 3), np.uint8)
        self._fed = np.zeros((1, 3, side, side), np.float32)
        self._now: Answer = {}  # the network's own arrays: it writes over them only when it is asked again
        self._wanted: Answer = {}
        self._neutral: Answer = {}
        self._time_ns = 0

    def follow(self, motion: Motion, picture: Image | None) -> None:
        """Take in a frame; ``picture`` is the one that ``motion.face`` was seen in, and None where there is none."""
        if motion.face is not None and picture is not None:
            self._look(motion, motion.face, picture)
        elif motion.presence == 0:
            self._lock.reset()  # at rest, so the next face is looked for where it then is

    def feeds(self, presence: float) -> dict[str, Array]:
        """What the frame network is to be fed for a driver of that presence; nothing before the first face."""
        now = self._now if presence == 1 or not self._now else _between(self._neutral, self._now, presence)
        feeds = {f"driving_{key}": value for key, value in now.items()}
        return feeds | {f"neutral_{key}": value for key, value in self._neutral.items()}

    def _look(self, motion: Motion, face: FaceState, picture: Image) -> None:
        window = self._lock.update(face.pixels(), face.time_ns)
        self._now = self._ask(window.cut(picture, self._crop))
        if not self._neutral:
            self._neutral = self._wanted = {key: array.copy() for key, array in self._now.items()}
        elif motion.rest_share > 0:
            self._wanted = _between(self._wanted, self._now, motion.rest_share)
        self._ease(face.time_ns)

    def _ask(self, crop: Image) -> Answer:
        feed(crop, self._fed)
        answer = self._network.run({"crop": self._fed})
        return {key: answer[f"driving_{key}"] for key in self._keys}

    def _ease(self, time_ns: int) -> None:
        """Bring the neutral nearer to the one that is wanted."""
        elapsed = min(max(time_ns - self._time_ns, 0) / 1e9, LONGEST_S)
        self._time_ns = time_ns
        if self._neutral is self._wanted:
            return
        self._neutral = _between(self._neutral, self._wanted, 1 - math.exp(-elapsed / EASE_S))
        if all(np.abs(self._wanted[key] - value).max() < ARRIVED for key, value in self._neutral.items()):
            self._neutral = self._wanted


def _between(start: Answer, end: Answer, weight: float) -> dict[str, Array]:
    """Part of the way from one motion to another, in new arrays; rotations stay rotations."""
    mixed: dict[str, Array] = {}
    for key, first in start.items():
        value = first + np.float32(weight) * (end[key] - first)
        if key == "rotation":
            u, _, vt = np.linalg.svd(value)
            value = u @ vt
        mixed[key] = np.ascontiguousarray(value, np.float32)
    return mixed
