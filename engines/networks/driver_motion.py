"""The driver's motion as a motion network sees it: its output now, and the neutral that this is relative to.

The neutral is the network's own output for the frames that ``Motion.rest_share`` marks. Their crops are kept: when the
driving image is flipped, only the network can tell what it computes for the flipped crops.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from engines.networks.crop import StableCrop, to_tensor
from engines.types import NEUTRAL_EASE_S, FaceState, Image, Motion

if TYPE_CHECKING:
    from engines.backends.backend import Backend
    from engines.backends.network_stage import Array, Feeds

MAX_STEP_S = 0.5
"""The longest time between two frames that counts, so that the neutral does not jump when a face comes back."""
ARRIVED = 1e-4
"""The neutral has arrived when no number differs by more; the networks' unit is half a crop."""


class DriverMotion:
    """Follows one driver. One thread owns it. It runs the network, which belongs to the caller."""

    def __init__(self, network: Backend, keys: tuple[str, ...], side: int) -> None:
        """``keys`` name the network's outputs, without the prefix ``driving_``; ``side`` is its input's, in pixels."""
        self._network = network
        self._keys = keys
        self._stable_crop = StableCrop()
        self._crop: Image = np.zeros((side, side, 3), np.uint8)
        self._tensor = np.zeros((1, 3, side, side), np.float32)
        self._now: Feeds = {}  # the network's own arrays: it overwrites them only in its next run
        self._samples: list[tuple[Image, float]] = []  # the crops that the target neutral is made of, and their shares
        self._target: Feeds = {}
        self._neutral: Feeds = {}
        self._time_ns = 0
        self._size = (0, 0)
        self._flipped = False

    def update(self, motion: Motion, image: Image | None) -> None:
        """Take in a frame. ``image`` is the one that ``motion.face`` was found in, or None if there is none."""
        if motion.flipped != self._flipped:
            self._flipped = motion.flipped
            self._flip()
        if motion.face is not None and image is not None:
            self._observe(motion, motion.face, image)
        elif motion.presence == 0:
            self._stable_crop.reset()  # at rest: the next face is cropped where it then is

    def feeds(self, presence: float) -> dict[str, Array]:
        """Return the inputs of the frame network for a driver with this presence; none before the first face."""
        now = self._now if presence == 1 or not self._now else _interpolate(self._neutral, self._now, presence)
        feeds = {f"driving_{key}": value for key, value in now.items()}
        return feeds | {f"neutral_{key}": value for key, value in self._neutral.items()}

    def _observe(self, motion: Motion, face: FaceState, image: Image) -> None:
        if face.size != self._size:
            self._stable_crop.resize(self._size, face.size)
            self._size = face.size
        window = self._stable_crop.update(face.pixels(), face.time_ns)
        self._now = self._run(window.cut(image, self._crop))
        if not self._neutral:
            self._add_sample(self._crop.copy(), 1.0)
            self._neutral = self._target
        elif motion.rest_share > 0:
            self._add_sample(self._crop.copy(), motion.rest_share)
        self._ease(face.time_ns)

    def _add_sample(self, crop: Image, share: float) -> None:
        """Let the current output, which belongs to ``crop``, be this share of the target neutral. Keep the crop."""
        if share == 1:
            self._samples = []
            self._target = {key: array.copy() for key, array in self._now.items()}
        else:
            self._target = _interpolate(self._target, self._now, share)
        self._samples.append((crop, share))

    def _flip(self) -> None:
        """Continue in the flipped image, with the neutral and the motion that would have been seen in it."""
        if not self._neutral:
            return
        self._stable_crop.mirror(self._size[0])
        for crop, share in self._samples.copy():
            flipped = np.ascontiguousarray(crop[:, ::-1])
            self._now = self._run(flipped)
            self._add_sample(flipped, share)
        self._neutral = self._target
        self._crop = np.ascontiguousarray(self._crop[:, ::-1])
        self._now = self._run(self._crop)

    def _run(self, crop: Image) -> Feeds:
        to_tensor(crop, self._tensor)
        outputs = self._network.run({"crop": self._tensor})
        return {key: outputs[f"driving_{key}"] for key in self._keys}

    def _ease(self, time_ns: int) -> None:
        """Move the neutral towards its target."""
        elapsed = min(max(time_ns - self._time_ns, 0) / 1e9, MAX_STEP_S)
        self._time_ns = time_ns
        if self._neutral is self._target:
            return
        self._neutral = _interpolate(self._neutral, self._target, 1 - math.exp(-elapsed / NEUTRAL_EASE_S))
        if all(np.abs(self._target[key] - value).max() < ARRIVED for key, value in self._neutral.items()):
            self._neutral = self._target


def _interpolate(start: Feeds, end: Feeds, weight: float) -> dict[str, Array]:
    """Interpolate between two motions, in new arrays; rotations stay rotations."""
    mixed: dict[str, Array] = {}
    for key, first in start.items():
        value = first + np.float32(weight) * (end[key] - first)
        if key == "rotation":
            u, _, vt = np.linalg.svd(value)
            value = u @ vt
        mixed[key] = np.ascontiguousarray(value, np.float32)
    return mixed
