"""Batches of augmented samples, made by a thread while the network learns from the last one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.face.topology import MIRROR
from engines.mesh.refine_crops import EYES, MOUTH, Planes, pack
from engines.networks.refiner_layout import CHANNELS
from engines.types import Floats, Image
from tools.refiner_training.samples import MARGIN, OPEN_LIPS, Samples
from tools.refiner_training.styles import Style, styled

OPENING_SHARE, CLOSING_SHARE = 4.0, 6.0
"""How much more often a pair is taken whose mouth opens, or whose eyes close."""
INNER_WEIGHT, LIPS_WEIGHT, OTHER_WEIGHT = 3.0, 1.2, 0.3
"""Weights of the losses inside an opening, on the lips or the iris, and elsewhere."""
AHEAD = 4
"""Batches that are made in advance."""


class Batch(NamedTuple):
    """Arrays of a batch, float32; planes hold pictures in [-1, 1], everything else is in [0, 1]."""

    planes: Floats
    """(B, 12, S, S)."""
    again: Floats
    """The same with other noise on the landmarks."""
    true: Floats
    """(B, 3, S, S)."""
    weights: Floats
    """(B, 1, S, S)."""


@dataclass(frozen=True, slots=True)
class Turn:
    """How a sample is moved within its margin."""

    matrix: Floats
    """(2, 3), from samples of the augmented crop to those of the crop without its margin."""
    flip: bool

    @staticmethod
    def random(random: np.random.Generator, size: int, *, flip: bool) -> Turn:
        """Return a small random rotation, scale and shift."""
        angle, scale = random.normal(0, 0.04), np.exp(random.normal(0, 0.03))
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = (size - 1) / 2
        shift = np.full(2, middle) + np.clip(random.normal(0, 1.2, 2), -3, 3) - turn @ np.full(2, middle)
        return Turn(np.column_stack([turn, shift]).astype(np.float32), flip and random.random() < 0.5)

    @staticmethod
    def none() -> Turn:
        """Return the turn that moves nothing."""
        return Turn(np.eye(2, 3, dtype=np.float32), False)

    def image(self, image: Image, size: int) -> Image:
        """Return the augmented crop of a picture with its margin, (size, size, 3)."""
        matrix = self.matrix.copy()
        matrix[:, 2] += MARGIN
        moved = cv2.warpAffine(
            image, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
        )
        return np.ascontiguousarray(moved[:, ::-1] if self.flip else moved, np.uint8)

    def points(self, points: Floats, size: int) -> Floats:
        """Return landmarks in the augmented crop, (478, 2)."""
        moved = (points - self.matrix[:, 2]) @ np.linalg.inv(self.matrix[:, :2]).T
        if self.flip:
            moved = moved[MIRROR]
            moved[:, 0] = size - 1 - moved[:, 0]
        return np.asarray(moved, np.float32)


class Maker:
    """Makes the arrays of one sample at a time. One thread uses it."""

    def __init__(self, net: str) -> None:
        self._net = net
        regions = EYES if net == "eyes" else (MOUTH, MOUTH)
        self._planes = [Planes(region) for region in regions]
        self.size = regions[0].size

    def make(self, samples: Samples, k: int, random: np.random.Generator | None) -> Batch:
        """Return the arrays of sample ``k``, without the batch's axis; without ``random`` it is not augmented."""
        size = self.size
        pictures = samples.pictures[k]
        first, again = pictures[2 if self._net == "driver" else 0], pictures[1]
        source, true = pictures[-2], pictures[-1]
        turn = own_turn = Turn.none()
        if random is not None:
            turn = Turn.random(random, size, flip=self._net != "eyes")
            own_turn = Turn(Turn.random(random, size, flip=False).matrix * 0.5 + turn.matrix * 0.5, turn.flip)
        moved = [turn.image(each, size) for each in (first, again, true)]
        moved.append(own_turn.image(source, size))
        if random is not None:
            moved = styled(moved, Style.random(random), random)
        own = own_turn.points(samples.own[k], size)
        planes = self._planes[int(samples.eye[k])]
        planes.draw_portrait(own)
        arrays = []
        for image, now in zip(moved[:2], samples.now[k], strict=True):
            array = np.empty((CHANNELS, size, size), np.float32)
            planes.draw(own, turn.points(now, size))
            pack(image, moved[3], planes.drawn, array)
            arrays.append(array)
        target = np.ascontiguousarray(moved[2].transpose(2, 0, 1), np.float32) / 255
        return Batch(arrays[0], arrays[1], target, self._weights(arrays[0]))

    def _weights(self, planes: Floats) -> Floats:
        """Return the weights of the losses, (1, S, S): highest in the opening of the frame and that of the portrait."""
        inner, outer = planes[6], planes[7]
        opening = np.maximum(inner, planes[10]) if self._net == "eyes" else inner
        soft = cv2.GaussianBlur(cv2.dilate(opening, np.ones((5, 5), np.uint8)), (0, 0), 1.0)
        weights = OTHER_WEIGHT + INNER_WEIGHT * soft + LIPS_WEIGHT * outer
        return np.asarray(weights, np.float32)[None]


class Batches:
    """An endless stream of batches, the same for the same seed. Close it at the end."""

    def __init__(self, clips: Sequence[Samples], net: str, batch: int, seed: int, start: int = 0) -> None:
        """``start``: the batch to begin with; each one has a seed of its own, so that training can be resumed."""
        self._clips = [each for each in clips if len(each) >= batch]
        self._net, self._batch, self._seed = net, batch, seed
        sizes = np.sqrt([len(each) for each in self._clips])
        self._shares = sizes / sizes.sum()
        self._within = [_shares(each, net) for each in self._clips]
        self._queue: queue.Queue[Batch] = queue.Queue(AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(start,), name="batches", daemon=True)
        self._thread.start()

    def next(self) -> Batch:
        """Return the next batch."""
        return self._queue.get()

    def close(self) -> None:
        """Stop making batches."""
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue
        self._thread.join()

    def _run(self, number: int) -> None:
        maker = Maker(self._net)
        while not self._stop.is_set():
            random = np.random.default_rng((self._seed, number))
            rows = []
            for clip in random.choice(len(self._clips), self._batch, p=self._shares):
                samples = self._clips[clip]
                rows.append(maker.make(samples, int(random.choice(len(samples), p=self._within[clip])), random))
            self._queue.put(Batch(*(np.stack(parts) for parts in zip(*rows, strict=True))))
            number += 1


def _shares(samples: Samples, net: str) -> NDArray[np.float64]:
    """Return how often each sample of a clip is taken."""
    before, after = samples.gaps.T
    if net == "eyes":
        shares = 1 + CLOSING_SHARE * (after < 0.7 * before)
    elif net == "driver":
        shares = 0.3 + 1.0 * (after > OPEN_LIPS / 2)
    else:
        shares = 1 + OPENING_SHARE * ((after > OPEN_LIPS) & (before < OPEN_LIPS))
    return np.asarray(shares / shares.sum(), np.float64)


def validation_batch(clips: Sequence[Samples], net: str, most: int) -> Batch:
    """Return a fixed batch of up to ``most`` samples, without augmentation: as many of each clip, those that count."""
    maker, rows = Maker(net), []
    clips = [each for each in clips if len(each)]
    for samples in clips:
        random = np.random.default_rng(0)
        shares = _shares(samples, net)
        count = min(most // len(clips), int((shares > 0).sum()))
        rows += [maker.make(samples, int(k), None) for k in random.choice(len(samples), count, replace=False, p=shares)]
    return Batch(*(np.stack(parts) for parts in zip(*rows, strict=True)))
