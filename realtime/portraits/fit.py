"""Fits a picture of any shape into the output's frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from engines.face.topology import CHIN_TIP
from engines.types import FaceState, Image, Mask
from realtime.portraits.borders import trim_borders
from realtime.portraits.card import Card
from realtime.portraits.continuation import continued
from realtime.portraits.head_crop import Area, HeadCrop, choose_crop, resample
from realtime.portraits.mount import Mount
from realtime.portraits.settings import Fit

Matter = Callable[[Image, FaceState], Mask | None]
"""Finds the matte of the subject with that face in an image, (H, W)."""

CARD_COST = 1.3
"""Penalty of a card relative to a crop: it is chosen where neither of the others is good."""
PLAIN_COST = 0.6
"""The cost of continuing a plain background over the whole width of the frame."""
STRUCTURE_COST = 0.55
"""The further cost, also for the whole width, for each level that the background's structures differ by."""
CROSSING_COST = 14.0
"""The same where hair or a hand crosses the picture's whole edge."""
RAISED = 0.45
"""How far above the chin a shoulder may reach an edge, in heights of the face. What is higher is hair or a hand."""
LOOKED_AT = 240
"""Shorter side of the frame in which an edge is looked at, in pixels."""
BAND = 0.1
"""Width of the band along an edge that is looked at, as a share of the shorter side of the frame."""
STRUCTURES = (0.006, 0.05)
"""Gaussian widths between which structures count, as shares of the same: finer ones are grain, coarser ones shades."""


@dataclass(frozen=True, slots=True)
class FittedPicture:
    """A picture that fills the frame, or the window of its mount."""

    fit: Fit
    """What was done, never ``auto``."""
    image: Image
    """(H, W, 3) uint8 RGB."""
    face: FaceState
    """The face, with its landmarks moved into ``image``."""
    matte: Mask | None
    """(H, W); None if the subject was not found."""
    mount: Mount | None = None
    """The frame that it is shown in, if it does not fill it."""


class _Continuable(NamedTuple):
    """A crop that does not fill the frame."""

    crop: HeadCrop
    cost: float
    """How well the head is framed, as in ``RatedCrop``, and how much the continuation will show."""


def fit_picture(image: Image, face: FaceState, size: tuple[int, int], fit: Fit, find_matte: Matter) -> FittedPicture:
    """Fit an RGB image around the head into a frame of ``size`` (width, height), without distortion.

    ``face`` was found in the image. Borders of scans are left out. ``auto`` takes what looks best: it continues plain
    backgrounds, takes a closer crop where little is lacking, and otherwise makes a card.
    """
    image, face = _without_borders(image, face)
    points = face.pixels()
    if fit != "blur" and choose_crop(points, face.size, size).crop.covered(face.size, size) == (0, 0, *size):
        fit = "crop"  # nothing is lacking
    closer = choose_crop(points, face.size, size, sides=False, above=False)
    if fit == "crop":
        return _cropped(image, face, closer.crop, size, find_matte)
    card = Card(points, face.size, size)
    if fit == "blur":
        return _as_card(image, face, card, find_matte)
    whole = _continuable(image, face, size, find_matte)
    if fit == "extend" or whole.cost <= min(closer.cost, card.cost + CARD_COST):
        return _extended(image, face, whole.crop, size, find_matte)
    if closer.cost <= card.cost + CARD_COST:
        return _cropped(image, face, closer.crop, size, find_matte)
    return _as_card(image, face, card, find_matte)


def _without_borders(image: Image, face: FaceState) -> tuple[Image, FaceState]:
    """Return an image without the borders of a scan, and the face in it."""
    rows, columns = trim_borders(image)
    height, width = image.shape[:2]
    if (rows, columns) == (slice(0, height), slice(0, width)):
        return image, face
    inside = np.ascontiguousarray(image[rows, columns])
    return inside, _placed(face, HeadCrop(columns.start, rows.start, 1.0), (inside.shape[1], inside.shape[0]))


def _placed(face: FaceState, crop: HeadCrop, size: tuple[int, int]) -> FaceState:
    """Return the face with its landmarks moved into the crop, an image of ``size``."""
    points = face.pixels()
    points -= np.array([crop.left, crop.top, 0], np.float32)
    points *= np.float32(crop.scale)
    width, height = size
    return replace(face, landmarks=points / np.array([width, height, width], np.float32), size=size)


def _cropped(image: Image, face: FaceState, crop: HeadCrop, size: tuple[int, int], find_matte: Matter) -> FittedPicture:
    frame, face = resample(image, crop, (0, 0, *size)), _placed(face, crop, size)
    return FittedPicture("crop", frame, face, find_matte(frame, face))


def _as_card(image: Image, face: FaceState, card: Card, find_matte: Matter) -> FittedPicture:
    """Return the picture as a card."""
    left, top, right, bottom, _ = card.window
    picture = card.picture(image)
    placed = _placed(face, _from(card.crop, left, top), (right - left, bottom - top))
    matte = find_matte(picture, placed)
    return FittedPicture("blur", picture, placed, matte, card.mount(picture, matte))


def _from(crop: HeadCrop, left: int, top: int) -> HeadCrop:
    """Return the crop that begins at a place of the frame."""
    return HeadCrop(crop.left + left / crop.scale, crop.top + top / crop.scale, crop.scale)


def _continuable(image: Image, face: FaceState, size: tuple[int, int], find_matte: Matter) -> _Continuable:
    """Return the crop that is to be continued: not beyond its top where the head reaches that.

    This is decided at a smaller size, where mattes cost little.
    """
    shrink = min(1.0, LOOKED_AT / min(size))
    small = (round(size[0] * shrink), round(size[1] * shrink))
    points = face.pixels()
    for above in (True, False):
        rated = choose_crop(points, face.size, small, above=above)
        area = rated.crop.covered(face.size, small)
        left, top, right, bottom = area
        part = resample(image, rated.crop, area)
        placed = _placed(face, _from(rated.crop, left, top), (right - left, bottom - top))
        subject = _subject(find_matte(part, placed), placed)
        if top == 0 or (subject[:2] > 64).mean() < 0.01:
            break
    crop = rated.crop._replace(scale=rated.crop.scale * size[1] / small[1])
    return _Continuable(crop, rated.cost + _showing(part, subject, area, small, placed))


def _subject(matte: Mask | None, face: FaceState) -> Mask:
    """Return the matte, or where a body is likely to be if that was not found, (H, W)."""
    if matte is not None:
        return matte
    width, height = face.size
    points = face.pixels()[:, :2]
    likely = np.zeros((height, width), np.uint8)
    low, high = points.min(axis=0), points.max(axis=0)
    middle, tall = (low + high) / 2, float(high[1] - low[1])
    axes = (round(0.62 * tall), round(0.85 * tall))
    cv2.ellipse(likely, (round(float(middle[0])), round(float(middle[1]))), axes, 0, 0, 360, (255,), -1)
    body = (round(float(middle[0])), round(float(high[1]) + 0.95 * tall))
    cv2.ellipse(likely, body, (round(1.15 * tall), round(0.85 * tall)), 0, 0, 360, (255,), -1)
    return likely


def _showing(part: Image, subject: Mask, area: Area, size: tuple[int, int], face: FaceState) -> float:
    """Return how much the continuation of a part will show: the structures and crossings at each edge that lacks."""
    unit = min(size)
    left, top, right, _ = area
    chin = float(face.pixels()[CHIN_TIP, 1])
    edges = (
        (part, subject, left / size[0], chin),
        (part[:, ::-1], subject[:, ::-1], (size[0] - right) / size[0], chin),
        (part.transpose(1, 0, 2), subject.T, top / size[1], np.inf),
    )
    cost = 0.0
    for picture, matte, lacking, below in edges:
        if lacking > 0:
            structure, crossing = _edge(picture, matte, unit, below)
            cost += lacking * (PLAIN_COST + STRUCTURE_COST * structure + CROSSING_COST * crossing)
    return cost


def _edge(picture: Image, matte: Mask, unit: int, below: float) -> tuple[float, float]:
    """Return what a picture (H, W, 3) shows at its left edge.

    First the root mean square of the background's structures, in levels; then the share of the edge that the subject
    crosses above the row ``below``.
    """
    band = max(8, round(BAND * unit))
    strip = np.ascontiguousarray(picture[:, : 2 * band]).astype(np.float32).mean(axis=2)
    free = (np.ascontiguousarray(matte[:, : 2 * band]) < 64).astype(np.float32)

    def average(width: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        of = cv2.GaussianBlur(strip * free, (0, 0), width * unit, borderType=cv2.BORDER_REFLECT)
        share = cv2.GaussianBlur(free, (0, 0), width * unit, borderType=cv2.BORDER_REFLECT)
        return np.asarray(of / np.maximum(share, 1e-3), np.float32)

    fine, coarse = (average(width) for width in STRUCTURES)
    seen = free[:, :band] > 0
    structure = float(np.sqrt(((fine - coarse)[:, :band][seen] ** 2).mean())) if seen.any() else 0.0
    edge = matte[:, :3].mean(axis=1)
    crossing = float((edge[: int(min(below, len(edge)))] > 100).sum() / len(edge))
    return structure, crossing


def _extended(
    image: Image, face: FaceState, crop: HeadCrop, size: tuple[int, int], find_matte: Matter
) -> FittedPicture:
    """Return the picture continued over the frame."""
    left, top, right, _ = crop.covered(face.size, size)
    area = (left, top, right, size[1])
    part = resample(image, crop, area)
    placed = _placed(face, _from(crop, left, top), (right - left, size[1] - top))
    matte = find_matte(part, placed)
    rows = placed.pixels()[:, 1]
    highest = float(rows[CHIN_TIP]) - RAISED * float(np.ptp(rows))
    frame, subject = continued(part, _subject(matte, placed), (left, top), size, highest)
    return FittedPicture("extend", frame, _placed(face, crop, size), None if matte is None else subject)
