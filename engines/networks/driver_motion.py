"""The driver as a motion network sees one: what it answers now, and the neutral that this is relative to.

The neutral is the network's own answer for the very frames that ``realtime.motion.neutral`` chose. Their crops are
kept: nobody but the network can tell what it would have answered for their flips, once the driving picture is flipped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from engines.backends.backend import Array, Backend
from engines.networks.crop import Lock, feed
from engines.types import FaceState, Image, Motion

EASE_S = 0.35
"""Time constant with which a new neutral takes over from the last, as in ``realtime.motion.neutral``."""
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
        self._taken: list[tuple[Image, float]] = []  # the crops that the wanted neutral is made of, and their shares
        self._wanted: Answer = {}
        self._neutral: Answer = {}
        self._time_ns = 0
        self._size = (0, 0)
        self._flipped = False

    def follow(self, motion: Motion, picture: Image | None) -> None:
        """Take in a frame; ``picture`` is the one that ``motion.face`` was seen in, and None where there is none."""
        if motion.flipped != self._flipped:
            self._flipped = motion.flipped
            self._flip()
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
        if face.size != self._size:
            self._lock.resize(self._size, face.size)
            self._size = face.size
        window = self._lock.update(face.pixels(), face.time_ns)
        self._now = self._ask(window.cut(picture, self._crop))
        if not self._neutral:
            self._learn(self._crop.copy(), 1.0)
            self._neutral = self._wanted
        elif motion.rest_share > 0:
            self._learn(self._crop.copy(), motion.rest_share)
        self._ease(face.time_ns)

    def _learn(self, crop: Image, share: float) -> None:
        """Let the answer for a crop, the one now, be that share of the wanted neutral; keeps the crop."""
        if share == 1:
            self._taken = []
            self._wanted = {key: array.copy() for key, array in self._now.items()}
        else:
            self._wanted = _between(self._wanted, self._now, share)
        self._taken.append((crop, share))

    def _flip(self) -> None:
        """Go on in the flipped picture: with the neutral and the motion that would have been seen in it."""
        if not self._neutral:
            return
        self._lock.mirror(self._size[0])
        for crop, share in self._taken.copy():
            flip = np.ascontiguousarray(crop[:, ::-1])
            self._now = self._ask(flip)
            self._learn(flip, share)
        self._neutral = self._wanted
        self._crop = np.ascontiguousarray(self._crop[:, ::-1])
        self._now = self._ask(self._crop)

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
