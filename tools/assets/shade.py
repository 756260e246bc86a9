"""What each pixel of a rendered head looks like: skin, eyes, teeth, gums, cloth, stone and bronze."""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from engines.types import Floats
from tools.assets.compiled import kernel, parallel
from tools.assets.face_model import CLOTH, EYE, GLASSES, SKIN, SOCKET, TEETH, Ints
from tools.assets.images import resampled
from tools.assets.light import Studio
from tools.assets.skin import RGB, Maps, chart

EYE_CENTRE = (3.2, 3.62, 7.9)
"""The centre of the right-hand eyeball in the mean face."""
BROAD = 10.0
"""The sharpness of the broad reflection that all materials have."""
LAMPS = 4
"""The most lamps that are shaded; what is missing is dark."""


class Eyes(NamedTuple):
    """The look of the eyes; colours are linear, sizes in cm."""

    iris: RGB = (0.10, 0.055, 0.025)
    inner: RGB = (0.22, 0.12, 0.045)
    pupil: float = 0.24
    size: float = 0.68
    white: RGB = (0.62, 0.585, 0.56)


class Finish(NamedTuple):
    """What the whole head is made of where it is not skin: its colour, its reflections and the depth of its patina."""

    colour: RGB
    gloss: float
    metal: float
    sharpness: float


class Buffers(NamedTuple):
    """What each pixel shows: ``kind`` (H, W) uint8, and float32 arrays (H, W, 3), or (H, W) for ``depth``."""

    kind: NDArray[np.uint8]
    normal: Floats
    light: Floats
    share: Floats
    rest: Floats
    depth: Floats


@parallel
def interpolate(triangle: Ints, weight: Floats, corners: Ints, values: Floats) -> Floats:
    """Return the values (H, W, C) at the pixels of triangles for those at vertices (V, C)."""
    height, width = triangle.shape
    out = np.zeros((height, width, values.shape[1]), np.float32)
    for y in numba.prange(height):
        for x in range(width):
            t = triangle[y, x]
            if t >= 0:
                for k in range(3):
                    for c in range(values.shape[1]):
                        out[y, x, c] += weight[y, x, k] * values[corners[t, k], c]
    return out


@kernel
def _hash(x: float, y: float) -> float:
    return abs(math.sin(x * 127.1 + y * 311.7) * 43758.5453) % 1.0


@kernel
def _step(low: float, high: float, x: float) -> float:
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@kernel
def _eye(rest: Floats, centre: Floats, eyes: Floats, out: Floats) -> float:
    """Write the colour of the eye at a point of the mean face into ``out``; return 1 on the cornea, 0 on the white.

    ``eyes`` is (4, 3): iris, inner iris, white, then (pupil, size, 0).
    """
    side = 1.0 if rest[0] > 0 else -1.0
    x, y, z = rest[0] - side * centre[0], rest[1] - centre[1], rest[2] - centre[2]
    away = math.sqrt(x * x + y * y)
    angle = math.atan2(y, x)
    pupil, size = eyes[3, 0], eyes[3, 1]
    veins = 0.03 * math.sin(9 * angle + 13 * away) * _step(0.7, 1.2, away)
    red = 0.20 * _step(size + 0.15, 1.35, away)
    white = (eyes[2, 0] * (1 - veins), eyes[2, 1] * (1 - red - veins), eyes[2, 2] * (1 - red * 1.1 - veins))
    fibre = 0.5 + 0.25 * math.sin(41 * angle + 3 * math.sin(7 * angle)) + 0.25 * math.sin(67 * angle + 11 * away)
    t = min(max((away - pupil) / (size - pupil), 0.0), 1.0)
    ring = 1 - 0.72 * _step(0.62, 0.98, t)
    inner = (1 - _step(0.05, 0.6, t)) * (0.7 + 0.4 * fibre)
    deep = 0.75 + 0.5 * fibre * (1 - t) - 0.15 * y / size
    dark = _step(pupil - 0.035, pupil + 0.035, away)
    on_white = _step(size - 0.05, size + 0.05, away)
    if z < 0:
        on_white = 1.0
    for c in range(3):
        iris = (eyes[0, c] + (eyes[1, c] - eyes[0, c]) * inner) * ring * deep
        iris = 0.004 + (iris - 0.004) * dark
        out[c] = 0.75 * iris + (white[c] - 0.75 * iris) * on_white
    return 1 - on_white


@kernel
def _surface(
    k: int, rest: Floats, colour: Floats, detail: Floats, eyes: Floats, centre: Floats, frame: Floats, albedo: Floats
) -> tuple[float, float, float, float, float]:
    """Write the colour of a material into ``albedo`` (3,), and return its gloss, sharpness, reflection ahead, the
    strength of mirrored windows, and the sheen of cloth."""
    if k == SKIN:
        albedo[:] = colour
        return detail[2], 45.0 + 60 * detail[3], 0.028, 0.0, 0.0
    if k == EYE:
        return 0.12, 40.0, 0.028, 0.08 + 0.92 * _eye(rest, centre, eyes, albedo), 0.0
    if k == CLOTH:
        albedo[:] = colour
        return 0.0, 40.0, 0.028, 0.0, 0.25
    if k == GLASSES:
        albedo[:] = frame
        return 1.0, 160.0, 0.05, 0.0, 0.0
    if k == TEETH:
        albedo[0], albedo[1], albedo[2] = 0.66, 0.61, 0.52
        return 0.9, 90.0, 0.028, 0.0, 0.0
    albedo[0], albedo[1], albedo[2] = 0.34 if k != SOCKET else 0.25, 0.10, 0.095
    return 0.8, 70.0, 0.028, 0.0, 0.0


@kernel
def _tilted(k: int, n: Floats, sx: float, sy: float) -> None:
    """Tilt a normal (3,) by slopes across and up: of the chart on skin, of the picture on cloth."""
    if k == SKIN:
        m = 1 / math.sqrt(n[0] * n[0] + n[2] * n[2] + 1e-6)
        tx, tz = n[2] * m, -n[0] * m
        bx, by, bz = n[1] * tz, n[2] * tx - n[0] * tz, -n[1] * tx
        n[0], n[1], n[2] = n[0] - sx * tx - sy * bx, n[1] - sy * by, n[2] - sx * tz - sy * bz
    elif k == CLOTH:
        n[0], n[1] = n[0] - sx, n[1] - sy
    n /= math.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2] + 1e-9)


@parallel
def _shade(
    kind: NDArray[np.uint8], normal: Floats, light: Floats, share: Floats, rest: Floats, colour: Floats,
    detail: Floats, eyes: Floats, centre: Floats, lamps: Floats, frame: Floats, span: float, distance: float,
) -> Floats:  # fmt: skip
    """Return linear light (H, W, 3). ``lamps`` is (LAMPS, 7): direction, colour, sharpness; lengths are in cm."""
    height, width = kind.shape
    out = np.zeros((height, width, 3), np.float32)
    for y in numba.prange(height):
        albedo, n, mirrored = np.zeros(3, np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32)
        for x in range(width):
            k = kind[y, x]
            if k == 0:
                continue
            n[:] = normal[y, x]
            vx, vy = (
                -(x + 0.5 - width / 2) / height * span / distance,
                (y + 0.5 - height / 2) / height * span / distance,
            )
            m = 1 / math.sqrt(vx * vx + vy * vy + 1)
            vx, vy, vz = vx * m, vy * m, m
            gloss, sharp, ahead, window, sheen = _surface(
                k, rest[y, x], colour[y, x], detail[y, x], eyes, centre, frame, albedo
            )
            _tilted(k, n, detail[y, x, 0], detail[y, x, 1])
            facing = max(n[0] * vx + n[1] * vy + n[2] * vz, 0.02)
            rx, ry, rz = 2 * facing * n[0] - vx, 2 * facing * n[1] - vy, 2 * facing * n[2] - vz
            fresnel = ahead + (0.55 - ahead) * (1 - facing) ** 5
            relief = 1.0
            mirrored[:] = 0
            for a in range(lamps.shape[0]):
                lamp, part = lamps[a], share[y, x, a]
                along = rx * lamp[0] + ry * lamp[1] + rz * lamp[2]
                one = _lobe(BROAD, lamp[6], along)
                shine = part * gloss * fresnel * (0.6 * one + 0.5 * _lobe(sharp, lamp[6], along))
                shine += min(2 * part, 1.0) * window * (0.30 * _step(0.975, 0.983, along) + 0.012 * one)
                lit = (n[0] - normal[y, x, 0]) * lamp[0] + (n[1] - normal[y, x, 1]) * lamp[1]
                relief += 0.7 * part * (lit + (n[2] - normal[y, x, 2]) * lamp[2])
                for c in range(3):
                    mirrored[c] += shine * lamp[3 + c]
            soft = relief * (1 + sheen * (1 - facing) ** 3)
            for c in range(3):
                out[y, x, c] = light[y, x, c] * (albedo[c] * soft + 0.10 * fresnel * gloss) + mirrored[c]
    return out


@kernel
def _lobe(sharp: float, own: float, along: float) -> float:
    """Return the reflection of a lamp of sharpness ``own`` in a surface of sharpness ``sharp``."""
    joint = sharp * own / (sharp + own)
    return sharp / (sharp + own) * math.exp(joint * (along - 1))


def lamp_table(studio: Studio) -> Floats:
    """Return the lamps as (LAMPS, 7): direction, colour, sharpness."""
    table = np.zeros((LAMPS, 7), np.float32)
    table[:, 6] = 1
    for row, lamp in zip(table, studio.lamps, strict=False):
        row[:3], row[3:6], row[6] = lamp.direction(), lamp.colour, lamp.sharpness()
    return table


def shade(
    buffers: Buffers, maps: Maps, eyes: Eyes, studio: Studio, cloth: Maps | None, frame: RGB, view: tuple[float, float]
) -> Floats:
    """Return the linear light (H, W, 3) of a head. ``view``: the height that is seen and the distance, in cm.

    ``cloth`` is painted in the picture's own pixels; ``frame`` is the colour of glasses.
    """
    at = chart(buffers.rest)
    colour = resampled(maps.colour, at[..., 0], at[..., 1])
    detail = resampled(maps.detail, at[..., 0], at[..., 1])
    if cloth is not None:
        on = buffers.kind == CLOTH
        colour[on], detail[on] = cloth.colour[on], cloth.detail[on]
    look = np.array([eyes.iris, eyes.inner, eyes.white, (eyes.pupil, eyes.size, 0)], np.float32)
    result = _shade(
        buffers.kind,
        buffers.normal,
        buffers.light,
        buffers.share,
        buffers.rest,
        colour,
        detail,
        look,
        np.array(EYE_CENTRE, np.float32),
        lamp_table(studio),
        np.array(frame, np.float32),
        *view,
    )
    return np.asarray(result, np.float32)
