"""Looks for all faces of the driving video at a low rate, and tells faces that move from pictures of faces.

A landmark model follows one face from frame to frame and sees no other. The watch sees the others: on a thread of its
own, with the newest frames only, so that a frame costs nothing more.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.types import Image
from realtime.core.newest_worker import NewestWorker
from realtime.tracking.landmark_model import FaceBox
from realtime.tracking.settings import MAX_FACES

LOOK_NS = 500_000_000
"""The time from one look to the next."""
INLINE_LOOK_NS = 900_000_000
"""The same where the frame has to wait for the look."""
QUICK_LOOK_NS = 160_000_000
"""The time while the driver is not known for certain."""
LOOK_PIXELS = 640
"""The longer side of the images that are searched."""
PATCH_SIDE = 24
"""Motion is measured on a face of this many pixels a side: camera noise is averaged out before."""
MIN_CHANGE = 0.025
"""A smaller change of a face, as a share of its contrast, is no motion. A face that speaks changes by 0.05 to 2."""
NOISE_FACTOR = 2.5
"""A change from look to look is motion if it is so much larger than the change from one frame to the next.

Noise and flicker change as much from frame to frame as from look to look, whatever their strength.
"""
ANOTHER_CHANGE = 0.6
"""A change above this is not of the same picture: something else is in its place."""
DISPLACEMENT = 0.25
"""A face whose box moves by more than this, in its own sides, moves."""
STILL_NS = 700_000_000
"""A face that has not moved for this long, and never before, is still."""
CALM_NS = 10_000_000_000
"""A face that has moved once, and does not drive, is still after this time."""
FORGET_NS = 2_000_000_000
"""A face that has moved is forgotten when it was not seen for this long."""
REMEMBER_NS = 120_000_000_000
"""The same for a still one, which usually comes to light again where it was."""
_MIN_GAP_NS = 120_000_000
"""Looks that are closer together are not compared."""


class BoxDetector(Protocol):
    """Finds faces in an image. Used by one thread only."""

    def detect(self, image: Image) -> list[FaceBox]:
        """Return the boxes of the faces in an RGB image (H, W, 3) uint8; a face may be among them twice."""

    def close(self) -> None:
        """Release the models. Idempotent."""


@dataclass(frozen=True, slots=True)
class WatchedFace:
    """A face as of the last look."""

    key: int
    """The same for the same face from look to look."""
    box: FaceBox
    """In pixels of the driving frame."""
    visible: bool
    """Whether it was seen in this look."""
    moving: bool
    """Whether it moves, or has moved a short time ago."""
    still: bool
    """Whether it was watched for long enough to tell that it does not move."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the watch saw in a frame."""

    time_ns: int
    size: tuple[int, int]
    faces: tuple[WatchedFace, ...]
    followed: int | None
    """The key of the face that the landmark model follows; None if it follows none."""


class _Job(NamedTuple):
    generation: int
    time_ns: int
    size: tuple[int, int]
    first: Image
    second: Image
    followed: FaceBox | None


@dataclass(slots=True)
class _Known:
    """A face that was seen in some look. Boxes are in pixels of the shrunk image."""

    key: int
    box: FaceBox
    first_ns: int
    seen_ns: int
    anchor: FaceBox
    patch: NDArray[np.float32]
    patch_ns: int
    moved_ns: int | None = None
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=4))
    compared: int = 0

    def is_still(self, time_ns: int, *, followed: bool) -> bool:
        if self.compared < 2:
            return False
        if self.moved_ns is None:
            return time_ns - self.first_ns >= STILL_NS and not any(self.recent)
        return not followed and time_ns - self.moved_ns > CALM_NS

    def is_moving(self, time_ns: int) -> bool:
        return self.moved_ns is not None and time_ns - self.moved_ns <= CALM_NS

    def note(self, moved: bool, time_ns: int) -> None:
        """Take in whether it has moved since the last look. Two times in four looks count: once may be a shadow."""
        self.recent.append(moved)
        self.compared += 1
        if moved and sum(self.recent) >= 2:
            self.moved_ns = time_ns


class FaceWatch:
    """Looks for all faces at a low rate. One thread calls everything.

    It owns the detector, and looks on a thread of its own with ``threaded``.
    """

    def __init__(self, detector: BoxDetector, *, threaded: bool, look_ns: int = LOOK_NS) -> None:
        self._detector = detector
        self._look_ns = look_ns
        self._worker: NewestWorker[_Job, tuple[int, Look]] = NewestWorker(
            "watch faces", self._look, detector.close, threaded=threaded
        )
        self._generation = 0
        self._pending: Image | None = None
        self._last_ns: int | None = None
        # used by the worker only
        self._known: list[_Known] = []
        self._known_generation = 0
        self._known_size = (0, 0)
        self._followed: int | None = None
        self._next_key = 0

    def offer(self, image: Image, time_ns: int, followed: FaceBox | None, *, quick: bool = False) -> None:
        """Look at a frame, and at the next one, if it is time to. ``followed`` is the face in the frame before.

        ``quick`` looks more often.
        """
        if self._pending is not None:
            first, self._pending = self._pending, None
            size = (image.shape[1], image.shape[0])
            second = _shrunk(image)
            if first.shape == second.shape:
                self._worker.offer(_Job(self._generation, time_ns, size, first, second, followed))
        elif self._last_ns is None or not 0 <= time_ns - self._last_ns < (QUICK_LOOK_NS if quick else self._look_ns):
            self._pending, self._last_ns = _shrunk(image), time_ns

    def hurry(self) -> None:
        """Look at the next frame, whatever the time."""
        self._last_ns = None

    def take(self) -> Look | None:
        """Return what was seen since the last call, or None."""
        result = self._worker.take()
        return None if result is None or result[0] != self._generation else result[1]

    def reset(self) -> None:
        """Forget all faces: the next frame does not continue the last one."""
        self._generation += 1
        self._pending = self._last_ns = None

    def close(self) -> None:
        """Stop looking and release the models. Idempotent."""
        self._worker.close()

    # on the worker's thread

    def _look(self, job: _Job) -> tuple[int, Look]:
        if (job.generation, job.size) != (self._known_generation, self._known_size):
            self._known, self._followed = [], None
            self._known_generation, self._known_size = job.generation, job.size
        grown = job.size[0] / job.second.shape[1]
        followed = None if job.followed is None else _scaled(job.followed, 1 / grown)
        boxes = merged(self._detector.detect(job.second))
        seen = self._match(boxes, followed, job)
        for known in self._known:
            if known.key in seen:
                self._compare(known, followed, job)
        self._known = [known for known in self._known if not _outdated(known, job.time_ns)][-2 * MAX_FACES :]
        faces = tuple(
            WatchedFace(
                known.key,
                _scaled(known.box, grown),
                known.key in seen,
                known.is_moving(job.time_ns),
                known.is_still(job.time_ns, followed=known.key == self._followed),
            )
            for known in self._known
        )
        return job.generation, Look(job.time_ns, job.size, faces, self._followed)

    def _match(self, boxes: list[FaceBox], followed: FaceBox | None, job: _Job) -> set[int]:
        """Find out which known face each box is, and add the others. Return the keys of the faces in this look."""
        seen: set[int] = set()
        self._followed = self._followed_key(followed, job)
        if followed is not None:
            boxes = [box for box in boxes if not same_face(box, followed)]
            seen.add(self._update(self._followed, followed, job))
            self._followed = next(iter(seen))
        for box in boxes[:MAX_FACES]:
            near = [known for known in self._known if known.key not in seen and same_face(box, known.box)]
            known = min(near, key=lambda known: _distance(box, known.box), default=None)
            seen.add(self._update(None if known is None else known.key, box, job))
        return seen

    def _followed_key(self, followed: FaceBox | None, job: _Job) -> int | None:
        """Return which known face the landmark model follows, if it is a known one."""
        if followed is None:
            return None
        before = next((known for known in self._known if known.key == self._followed), None)
        for known in self._known:
            # a model that has lost its face may slip over to a picture on the wall
            picture = known is not before and known.is_still(job.time_ns, followed=False)
            if picture and same_face(followed, known.box) and _change(known, job.second) < ANOTHER_CHANGE / 2:
                return known.key
        if before is not None and _distance(before.box, followed) < 1.5 * max(before.box.side, followed.side):
            return before.key
        near = [known for known in self._known if same_face(followed, known.box)]
        nearest = min(near, key=lambda known: _distance(followed, known.box), default=None)
        return None if nearest is None else nearest.key

    def _update(self, key: int | None, box: FaceBox, job: _Job) -> int:
        """Note where a face is, or add a new one. Return its key."""
        known = next((known for known in self._known if known.key == key), None)
        if known is None:
            key, self._next_key = self._next_key, self._next_key + 1
            self._known.append(_Known(key, box, job.time_ns, job.time_ns, box, _patch(job.first, box), job.time_ns))
            return key
        known.box, known.seen_ns = box, job.time_ns
        return known.key

    def _compare(self, known: _Known, followed: FaceBox | None, job: _Job) -> None:
        """Find out whether a face has moved since the last look."""
        passed_ns = job.time_ns - known.patch_ns
        if 0 <= passed_ns < _MIN_GAP_NS:
            return
        covered = known.key != self._followed and followed is not None and _touch(followed, known.anchor)
        if covered:
            return  # the driver's shoulder before a picture is not the picture's motion
        if _distance(known.anchor, known.box) > DISPLACEMENT * known.anchor.side:
            known.note(True, job.time_ns)
            known.anchor = known.box
        elif 0 < passed_ns < 4 * LOOK_NS:
            first = _patch(job.first, known.anchor)
            noise = _difference(first, _patch(job.second, known.anchor))
            change = _difference(first, known.patch)
            known.note(change > max(MIN_CHANGE, NOISE_FACTOR * noise), job.time_ns)
            if change > ANOTHER_CHANGE and change > NOISE_FACTOR * noise:
                known.note(True, job.time_ns)
        known.patch, known.patch_ns = _patch(job.first, known.anchor), job.time_ns


def merged(boxes: Sequence[FaceBox]) -> list[FaceBox]:
    """Return the boxes, largest first, without those of a face that is among them already."""
    kept: list[FaceBox] = []
    for box in sorted(boxes, key=lambda box: -box.side):
        if not any(_distance(box, other) < 0.5 * other.side for other in kept):
            kept.append(box)
    return kept


def same_face(one: FaceBox, other: FaceBox) -> bool:
    """Return True if two boxes are at the same place and of about the same size, as by two models."""
    larger, smaller = max(one.side, other.side), min(one.side, other.side)
    return _distance(one, other) < 0.5 * larger and larger < 2 * smaller


def _outdated(known: _Known, time_ns: int) -> bool:
    unseen_ns = time_ns - known.seen_ns
    return unseen_ns < 0 or unseen_ns > (REMEMBER_NS if known.is_still(time_ns, followed=False) else FORGET_NS)


def _distance(one: FaceBox, other: FaceBox) -> float:
    return math.hypot(one.x - other.x, one.y - other.y)


def _touch(followed: FaceBox, other: FaceBox) -> bool:
    """Return True if the followed head, with its hair, may cover some of another face."""
    reach = 0.8 * followed.side + 0.5 * other.side
    return abs(followed.x - other.x) < reach and abs(followed.y - other.y) < reach


def _scaled(box: FaceBox, scale: float) -> FaceBox:
    return box._replace(x=box.x * scale, y=box.y * scale, side=box.side * scale)


def _shrunk(image: Image) -> Image:
    """Return a copy of an image of at most ``LOOK_PIXELS`` a side; the image itself may be reused by its owner."""
    height, width = image.shape[:2]
    scale = LOOK_PIXELS / max(height, width)
    if scale >= 1:
        return image.copy()
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _patch(image: Image, box: FaceBox) -> NDArray[np.float32]:
    """Return a face as (PATCH_SIDE, PATCH_SIDE) float32 of mean 0 and variance 1, without slow changes of light."""
    half = box.side / 2
    left, top = max(0, int(box.x - half)), max(0, int(box.y - half))
    crop = image[top : max(top + 1, int(box.y + half)), left : max(left + 1, int(box.x + half))]
    if crop.size == 0:
        return np.zeros((PATCH_SIDE, PATCH_SIDE), np.float32)
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (PATCH_SIDE, PATCH_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    detail = small - cv2.blur(small, (9, 9))
    return np.asarray((detail - detail.mean()) / max(float(detail.std()), 1.0), np.float32)


def _difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.mean((one - other) ** 2))


def _change(known: _Known, image: Image) -> float:
    """Return how much the picture at a known face's place has changed since it was looked at."""
    return _difference(known.patch, _patch(image, known.anchor))
