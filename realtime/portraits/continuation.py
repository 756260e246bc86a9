"""Continues a picture beyond its sides and its top: a plain background with its grain, shoulders with their slope.

What is beyond the edge is made of three parts. The colour is a quadratic function of the place, fitted to the
background (Huber weights), and what the picture differs from it near the edge, averaged the more widely the further
out (a normalised convolution, Knutsson & Westin 1993, filled from coarse to fine). The grain is noise with the spectrum
of a calm piece of the background (Galerne et al., "Random Phase Textures", 2011). The shoulders are what lies below a
parabola that continues their outline. Nothing is mirrored or repeated.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.types import Floats, Image, Mask

SHARPEST = 0.006
"""Gaussian width at the edge, as all lengths here a share of the shorter side of the frame."""
GROWTH = 0.4
"""How much wider it is one length further out."""
LEVEL = 1.8
"""The ratio of the widths that are computed; those between are interpolated."""
WIDEST = 0.4
TREND_REACH = 0.2
"""How far out the trend of the background goes on; it levels off over this length."""
GRAIN = 0.012
"""Structures of less than this are grain."""
GRAIN_LIMIT, CLOTH_LIMIT = 6.0, 2.5
"""Most root mean square of grain in the background and in clothes, in levels: more is a structure, not grain."""
PATCH = 0.1
"""Side of the piece that the grain is taken from."""
NEAR = 0.45
"""Width of the band along the edge that grain and clothes are taken from."""
MARGIN = 0.008
"""How far from the subject's matte the background begins."""
SLOPES = (0.22, 2.0)
"""Least and steepest fall of a shoulder at the edge."""
SHOULDER_RADIUS = 0.35
"""Radius of the curve that a shoulder goes on in."""
LEAST_SHOULDER = 0.004
"""Height from which something at the edge is a shoulder."""
CORNER = 0.12
"""Width of the lower corner, where mattes are weak: what is not of the background's colour is the subject there."""
OTHER_COLOUR = 24.0
"""Least difference from the trend of the background, in levels, of what is not background."""


class Continued(NamedTuple):
    """A picture of the size of the frame."""

    image: Image
    """(H, W, 3) uint8 RGB."""
    matte: Mask
    """(H, W): how much of each pixel is the subject, in the continuation too."""


def continued(part: Image, matte: Mask, place: tuple[int, int], size: tuple[int, int], chin: float) -> Continued:
    """Return a frame of ``size`` (width, height) with ``part`` (h, w, 3) at ``place`` (x, y), continued over the rest.

    ``matte`` (h, w) is the subject's; ``chin`` is a row of the part, about that of the chin, below which what reaches
    the sides is a shoulder. Below the part nothing can be continued: it has to reach the frame's lower edge.
    """
    (x, y), (width, height) = place, size
    unit = float(min(size))
    random = np.random.default_rng(1)
    tall = part.shape[0]
    if y + tall != height:
        raise ValueError(f"a part that ends at {y + tall} in a frame of {height} rows")
    if y > 0:
        above = _beyond(part.transpose(1, 0, 2)[:, ::-1], matte.T[:, ::-1], y, unit, math.inf, random)
        part = np.concatenate([above.image[:, ::-1].transpose(1, 0, 2), part])
        matte = np.concatenate([above.matte[:, ::-1].T, matte])
    sides = [np.ascontiguousarray(part), np.ascontiguousarray(matte)]
    right = width - x - part.shape[1]
    if right > 0:
        beyond = _beyond(part, matte, right, unit, chin + y, random)
        sides = [np.concatenate(pair, axis=1) for pair in zip(sides, beyond, strict=True)]
    if x > 0:
        beyond = _beyond(part[:, ::-1], matte[:, ::-1], x, unit, chin + y, random)
        sides = [np.concatenate([of[:, ::-1], kept], axis=1) for of, kept in zip(beyond, sides, strict=True)]
    return Continued(*(np.ascontiguousarray(each) for each in sides))


def _beyond(part: Image, matte: Mask, count: int, unit: float, chin: float, random: np.random.Generator) -> Continued:
    """Return ``count`` columns beyond the right edge of a part."""
    height, wide = matte.shape
    near = min(wide, round(NEAR * unit))
    picture = part.astype(np.float32)
    subject = matte.astype(np.float32) / 255
    grow = max(1, round(MARGIN * unit))
    free = _free(subject, grow)
    trend = _trend(picture, free, count, unit)
    subject = _with_corner(picture, subject, free, trend[:, :wide], unit, chin)
    outline, shoulder = _shoulder(subject, count, unit, chin)
    free = _free(subject, grow)
    above = height if math.isinf(outline) else max(round(outline) - grow, 0)
    free[:above, -4 * grow :] = 1  # what else reaches the edge goes on as background
    distance = np.arange(1, count + 1, dtype=np.float32)
    fade = (1 - np.exp(-distance / (0.25 * GRAIN * unit)))[None, :, None]
    picture, free, subject = picture[:, -near:], free[:, -near:], subject[:, -near:]
    colour = _spread(picture - trend[:, wide - near : wide], free, distance, unit) + trend[:, wide:]
    colour += _grain(picture, free, (height, count), unit, GRAIN_LIMIT, random) * fade
    if shoulder.any():
        cloth_seen = (cv2.erode(subject, np.ones((5, 5), np.uint8)) > 0.8).astype(np.float32)
        cloth_seen[: max(round(min(chin, outline)), 0)] = 0
        cloth = _spread(picture, cloth_seen, distance, unit)
        cloth += _grain(picture, cloth_seen, (height, count), unit, CLOTH_LIMIT, random) * fade
        colour += shoulder[..., None] * (cloth - colour)
    return Continued(np.asarray(np.clip(colour + 0.5, 0, 255), np.uint8), np.asarray(shoulder * 255 + 0.5, np.uint8))


def _free(subject: Floats, grow: int) -> Floats:
    """Return 1 for pixels that are background for certain, and 0 for the others, (H, W)."""
    near = cv2.dilate(np.ascontiguousarray(subject), np.ones((2 * grow + 1, 2 * grow + 1), np.uint8))
    return (near < 0.5).astype(np.float32)


def _with_corner(picture: Floats, subject: Floats, free: Floats, trend: Floats, unit: float, chin: float) -> Floats:
    """Return the subject (H, W) with what is not of the background's colour in the lower right corner.

    Before a background that is not of the colours of its ``trend`` the subject stays as it is.
    """
    height = len(picture)
    wide = round(CORNER * unit)
    if chin >= height:
        return subject
    off = np.abs(picture[:, -wide:] - trend[:, -wide:]).max(axis=2)
    background = off[free[:, -wide:] > 0]
    if not len(background) or np.percentile(background, 90) > OTHER_COLOUR / 2:
        return subject
    off = cv2.blur(off, (5, 5), borderType=cv2.BORDER_REFLECT) > OTHER_COLOUR
    off = np.logical_and.accumulate(off[::-1], axis=0)[::-1]  # as far as it goes up from the lower edge
    off[: max(round(chin), 0)] = False
    subject = subject.copy()
    corner = subject[:, -wide:]
    corner[off] = 1
    return subject


def _shoulder(subject: Floats, count: int, unit: float, chin: float) -> tuple[float, Floats]:
    """Return the row in which a shoulder leaves the right edge, and how much of each pixel beyond is shoulder.

    The row is infinite if there is none, or what reaches the edge goes up beyond the chin: hair, a hand.
    """
    height, wide = subject.shape
    columns = np.unique(np.linspace(0, min(0.12 * unit, wide / 4), 9).astype(int))
    rows = np.array([_first_row(subject[:, -3 - at : wide - at].mean(axis=1), unit) for at in columns])
    first = float(rows[0])
    if first < chin or height - first < LEAST_SHOULDER * unit:
        return math.inf, np.zeros((height, count), np.float32)
    slope = float(np.clip(np.polyfit(columns, -rows, 1)[0], *SLOPES))
    distance = np.arange(1, count + 1, dtype=np.float32)[None, :]
    edge = first + slope * distance + distance**2 / (2 * SHOULDER_RADIUS * unit)
    soft = 0.004 * unit + 0.02 * distance
    return first, np.asarray(
        np.clip((np.arange(height, dtype=np.float32)[:, None] - edge) / soft + 0.5, 0, 1), np.float32
    )


def _first_row(column: Floats, unit: float) -> int:
    """Return the first row of the subject's run that ends at the lower edge, (H,); mattes may end a little above."""
    column = column.copy()
    low = max(1, round(0.012 * unit))
    column[-low:] = column[-low:].max()
    outside = np.flatnonzero(column < 0.5)
    return int(outside[-1]) + 1 if len(outside) else 0


def _trend(picture: Floats, free: Floats, count: int, unit: float) -> Floats:
    """Return the background's smooth colour for each pixel of the picture and ``count`` columns to its right."""
    height, wide = free.shape
    step = max(1, min(height, wide) // 60)
    rows, columns = np.mgrid[0:height:step, 0:wide:step]
    weight = free[::step, ::step].ravel().astype(np.float64)
    colours = picture[::step, ::step].reshape(-1, 3).astype(np.float64)
    basis = _quadratic((columns.ravel() - wide) / unit, (rows.ravel() - height / 2) / unit)
    huber = np.ones(len(basis))
    factors = np.zeros((6, 3))
    for _ in range(4):
        of = basis * (weight * huber)[:, None]
        stiff = np.diag([1e-6, 1, 1, 20, 20, 20]) * max(float((weight * huber).sum()), 1.0) * 2e-3
        factors = np.linalg.solve(of.T @ basis + stiff, of.T @ colours)
        off = np.abs(colours - basis @ factors).max(axis=1)
        usual = float(np.median(off[weight > 0])) if weight.any() else 0.0
        huber = 1 / np.maximum(1, off / max(4.0, 1.5 * usual))
    along = np.arange(wide + count, dtype=np.float64) - wide
    reach = TREND_REACH * unit
    along = np.where(along > 0, reach * -np.expm1(-np.maximum(along, 0) / reach), along)
    x, y = np.meshgrid(along[:: max(1, step // 2)] / unit, (np.arange(0, height, step) - height / 2) / unit)
    smooth = _quadratic(x, y) @ factors
    if weight.any():
        low, high = np.percentile(colours[weight > 0], [1, 99], axis=0)
        smooth = np.clip(smooth, low - 6, high + 6)
    sampled_x = np.arange(wide + count, dtype=np.float32) / max(1, step // 2)
    sampled_y = np.arange(height, dtype=np.float32) / step
    at_x, at_y = np.meshgrid(sampled_x, sampled_y)
    return np.asarray(
        cv2.remap(smooth.astype(np.float32), at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32
    )


def _quadratic(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the monomials of degree 0 to 2, (..., 6)."""
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)


def _spread(values: Floats, weight: Floats, distance: Floats, unit: float) -> Floats:
    """Return averages of ``values`` (H, W, 3) for columns beyond their right edge, (H, N, 3).

    ``weight`` (H, W) says which values count. The averages are the wider, the larger their
    ``distance`` (N,) from the edge.
    """
    height, wide = weight.shape
    count = len(distance)
    levels = math.ceil(math.log(WIDEST / SHARPEST, LEVEL)) + 1
    widths = unit * SHARPEST * LEVEL ** np.arange(levels)
    at = np.interp(np.log(np.maximum(unit * SHARPEST + GROWTH * distance, 1e-6)), np.log(widths), np.arange(levels))
    whole = weight.sum()
    coarse = np.full((height, count, 3), (values * weight[..., None]).sum(axis=(0, 1)) / max(whole, 1), np.float32)
    result = np.zeros((height, count, 3), np.float32)
    for level in range(levels - 1, -1, -1):
        share = np.clip(1 - np.abs(at - level), 0, 1).astype(np.float32)
        used = np.flatnonzero(np.abs(at - level) < 2)  # the finer levels are filled from this one
        if not len(used):
            continue
        end = int(used[-1]) + 1
        near = min(wide, math.ceil(4 * widths[level]) + 4)
        mean = _average(values[:, -near:], weight[:, -near:], coarse[:, :end], float(widths[level]))
        coarse[:, :end] = mean
        share = share * share * (3 - 2 * share)  # smooth, so that no bands show
        result[:, :end] += mean * share[None, :end, None]
    return result


def _average(values: Floats, weight: Floats, coarse: Floats, width: float) -> Floats:
    """Return the Gaussian average of ``values`` at columns beyond them; ``coarse`` (H, N, 3) where none are near."""
    height, wide = weight.shape
    count = coarse.shape[1]
    factor = max(1, int(width / 2.5))
    small = (math.ceil((wide + count) / factor), math.ceil(height / factor))
    padded = np.zeros((height, wide + count, 4), np.float32)
    padded[:, :wide, :3] = values * weight[..., None]
    padded[:, :wide, 3] = weight
    shrunk = cv2.resize(padded, small, interpolation=cv2.INTER_AREA) if factor > 1 else padded
    soft = cv2.GaussianBlur(shrunk, (0, 0), width / factor, borderType=cv2.BORDER_REFLECT)
    if factor > 1:
        soft = cv2.resize(soft, (wide + count, height), interpolation=cv2.INTER_LINEAR)
    beyond = np.asarray(soft[:, wide:], np.float32)
    prior = np.float32(2e-3)
    return np.asarray((beyond[..., :3] + prior * coarse) / (beyond[..., 3:] + prior), np.float32)


def _grain(
    picture: Floats, free: Floats, shape: tuple[int, int], unit: float, limit: float, random: np.random.Generator
) -> Floats:
    """Return noise (H, N, 3) that looks like the grain of a picture (H, W, 3) where it is ``free``.

    ``limit`` is its most root mean square.
    """
    width = GRAIN * unit
    total = cv2.GaussianBlur(picture * free[..., None], (0, 0), width, borderType=cv2.BORDER_REFLECT)
    share = cv2.GaussianBlur(free, (0, 0), width, borderType=cv2.BORDER_REFLECT)
    fine = np.asarray((picture - total / (share[..., None] + 1e-3)) * free[..., None], np.float32)
    patch = _calm_patch(fine, free, margin=round(1.5 * width), side=round(PATCH * unit))
    if patch is None:
        return np.zeros((*shape, 3), np.float32)
    window = np.outer(np.hanning(patch.shape[0] + 2)[1:-1], np.hanning(patch.shape[1] + 2)[1:-1]).astype(np.float32)
    patch = (patch - patch.mean(axis=(0, 1))) * window[..., None]
    padded = tuple(cv2.getOptimalDFTSize(length + side) for length, side in zip(shape, patch.shape, strict=False))
    spectrum = np.fft.rfft2(random.standard_normal(padded, np.float32))
    noise = np.empty((*shape, 3), np.float32)
    for channel in range(3):
        filtered = np.fft.irfft2(spectrum * np.fft.rfft2(patch[..., channel], padded), padded)
        noise[..., channel] = filtered[: shape[0], : shape[1]]
    noise /= math.sqrt(float((window**2).sum()))
    strength = float(np.sqrt((noise**2).mean()))
    return noise * np.float32(min(1.0, limit / max(strength, 1e-6)))


def _calm_patch(fine: Floats, free: Floats, margin: int, side: int) -> Floats | None:
    """Return a square of ``fine`` (H, W, 3) that is mostly free and calmer than most, or None if nothing is free."""
    height, wide = free.shape
    side = min(side, height - 2 * margin, wide - 2 * margin)
    while side >= 12:
        energy = cv2.boxFilter((fine**2).mean(axis=2), -1, (side, side), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
        share = cv2.boxFilter(free, -1, (side, side), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
        rows, columns = slice(margin, height - side - margin + 1, 4), slice(margin, wide - side - margin + 1, 4)
        energy, share = np.asarray(energy[rows, columns]), np.asarray(share[rows, columns])
        usable = share > 0.95
        if usable.any():
            typical = float(np.percentile(energy[usable], 20))
            row, column = np.unravel_index(
                int(np.argmin(np.where(usable, np.abs(energy - typical), np.inf))), energy.shape
            )
            top, left = margin + 4 * int(row), margin + 4 * int(column)
            return fine[top : top + side, left : left + side]
        side = round(side * 0.6)
    return None
