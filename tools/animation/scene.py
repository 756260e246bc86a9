"""Moves the faces of a picture by a motion, each a little out of step, in one picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.errors import PortraitError
from engines.mesh.generator import MeshGenerator
from engines.types import FaceState, Image
from realtime.motion.motion_file import Recorded
from realtime.motion.motion_transfer import MotionTransfer
from realtime.motion.tracked import tracked_face
from realtime.tracking.still_faces import FaceFinder

AROUND = 1.5
"""How much of a picture moves with a face, in heights of the face from its middle."""
LEAST_FACE = 40
"""Pixels of the height of a face: one with fewer stays still."""
APART = 0.13
"""How far the faces of a picture are out of step, as a share of the motion."""


def fitted(image: Image, size: tuple[int, int]) -> Image:
    """Return a picture that fits into ``size``, width and height, of its own shape; both sides are even."""
    height, width = image.shape[:2]
    share = min(size[0] / width, size[1] / height, 1.0)
    sides = (max(round(width * share / 2) * 2, 2), max(round(height * share / 2) * 2, 2))
    return np.ascontiguousarray(cv2.resize(image, sides, interpolation=cv2.INTER_AREA), np.uint8)


def chosen(faces: list[FaceState], which: str) -> list[FaceState]:
    """Return the faces that ``which`` names: all, largest, or the n-th from the left. Raises PortraitError."""
    large = [face for face in faces if np.ptp(face.pixels()[:, 1]) >= LEAST_FACE]
    if not large:
        cure = "choose a picture with a larger face"
        raise PortraitError("animate-no-face", "no face that is large enough", f"{LEAST_FACE} pixels of height", cure)
    if which == "all":
        return large
    if which == "largest":
        return large[:1]
    across = sorted(large, key=lambda face: float(face.landmarks[:, 0].mean()))
    if not 1 <= int(which) <= len(across):
        raise PortraitError("animate-face-missing", f"face {which}", f"1 to {len(across)}", "choose one of them")
    return [across[int(which) - 1]]


class AnimatedFace:
    """A face of a picture with what moves around it."""

    def __init__(self, picture: Image, face: FaceState, finder: FaceFinder, offset: float) -> None:
        """``offset`` is how far it is out of step, as a share of the motion."""
        height, width = picture.shape[:2]
        pixels = face.pixels()
        reach = AROUND * float(np.ptp(pixels[:, 1]))
        middle = pixels[:, :2].mean(axis=0)
        low = np.maximum(middle - reach, 0).astype(int) // 2 * 2
        high = np.minimum(middle + reach, (width, height)).astype(int) // 2 * 2
        self.place = (slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])))
        self.crop = np.ascontiguousarray(picture[self.place])
        size = (self.crop.shape[1], self.crop.shape[0])
        own = pixels - np.array([low[0], low[1], 0], np.float32)
        scale = np.array([size[0], size[1], size[0]], np.float32)
        state = FaceState(0, 0, np.asarray(own / scale, np.float32), size)
        self._offset = offset
        self._generator = MeshGenerator("painted")
        self._portrait = self._generator.prepare("", self.crop, state, finder.matte(self.crop, state))
        self._state = state
        self.begin()

    def begin(self) -> None:
        """Begin a motion: nothing is left of the one before."""
        self._transfer = MotionTransfer()
        self._transfer.set_portrait(self._state)

    def draw(self, canvas: Image, motion: Recorded, share: float, time_ns: int) -> None:
        """Draw it into ``canvas`` at a share of the motion."""
        coefficients, turn = sampled(motion, (share + self._offset) % 1.0)
        moved = self._transfer.update(tracked_face(coefficients, turn, 0, time_ns), time_ns)
        image = self._generator.drive(self._portrait, moved, None)
        # what does not move belongs to whatever else is there
        changed = (image != self.crop).any(axis=2)
        canvas[self.place][changed] = image[changed]

    def close(self) -> None:
        """Release the generator."""
        self._generator.close()


def sampled(motion: Recorded, share: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return coefficients and turn at a share of a motion, between two frames; the last leads to the first."""
    times = np.append(motion.times, motion.duration)
    at = share * motion.duration
    first = min(int(np.searchsorted(times, at, "right")) - 1, len(motion.times) - 1)
    weight = np.float32((at - times[first]) / (times[first + 1] - times[first]))
    after = (first + 1) % len(motion.times)
    return (
        motion.coefficients[first] + weight * (motion.coefficients[after] - motion.coefficients[first]),
        motion.turns[first] + weight * (motion.turns[after] - motion.turns[first]),
    )


class Scene:
    """A picture with the faces that move in it, prepared once for any number of motions."""

    def __init__(self, picture: Image, which: str) -> None:
        """Find the faces that ``which`` names, see ``chosen``. Raises PortraitError, TrackerError."""
        self.picture = picture
        self.faces: list[AnimatedFace] = []
        with ExitStack() as stack:
            with FaceFinder() as finder:
                for number, face in enumerate(chosen(finder.find(picture), which)):
                    self.faces.append(AnimatedFace(picture, face, finder, APART * number))
                    stack.callback(self.faces[-1].close)
            self._open = stack.pop_all()

    def frames(self, motion: Recorded, count: int, fps: float) -> Iterator[Image]:
        """Yield ``count`` pictures of a motion that fills them in whole loops, each a new array."""
        loops = max(1, round(count / fps / motion.duration))
        for face in self.faces:
            face.begin()
        for number in range(count):
            canvas = self.picture.copy()
            for face in self.faces:
                face.draw(canvas, motion, number / count * loops, round(number / fps * 1e9))
            yield canvas

    def close(self) -> None:
        """Release the generators."""
        self._open.close()
