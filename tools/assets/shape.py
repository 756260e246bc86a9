"""The modelled head and shoulders, as a signed distance field.

Centimetres; x to the picture's right, y up, z towards the viewer; the origin lies between the pupils, on the axis of
the skull. The left and right halves mirror each other, so the kernels take the absolute value of x (``ax``).

The large forms (skull, jaw, cheeks, nose, sockets, neck, shoulders, clothes) are ellipsoids and cones blended by
smooth minima; lids are shells around the eyeballs, cut by the opening of the eye; lips, folds and wrinkles displace
the surface along the view. The primitives follow Inigo Quilez, "Distance functions".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar, cast

import numba

SKIN, EYE, CLOTH = 1, 2, 3
"""Materials; 0 is the backdrop."""

EYE_X, EYE_Z, EYE_RADIUS, LID = 3.2, 2.65, 1.6, 0.15
"""Centre and radius of the right-hand eyeball (its y is 0), and the thickness of a lid."""

F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """Compile a scalar function with numba.

    It is not cached: numba does not notice changes in the functions that a cached one calls.
    """
    return cast(F, numba.njit(fastmath=True)(function))


def parallel(function: F) -> F:
    """Compile a function whose ``numba.prange`` loops run on all cores; the result is the same for any number."""
    return cast(F, numba.njit(fastmath=True, parallel=True)(function))


class Shape(NamedTuple):
    """The parameters of a head. Lengths in centimetres; ``age`` and ``hood`` from 0 to 1."""

    skull: float = 7.15
    cheekbone: float = 0.88
    cheek: float = 1.0
    jaw: float = 5.45
    chin: float = 1.6
    chin_y: float = -9.9
    brow: float = 0.8
    nose_width: float = 1.25
    nose_tip: float = 0.82
    nose_y: float = -3.8
    bridge: float = 0.72
    bridge_z: float = 4.75
    mouth_y: float = -6.75
    mouth_width: float = 2.5
    smile: float = 0.2
    upper_lip: float = 0.78
    lower_lip: float = 1.0
    lip_out: float = 0.42
    eye_width: float = 1.56
    eye_top: float = 0.56
    eye_bottom: float = 0.54
    eye_tilt: float = 0.2
    hood: float = 0.3
    age: float = 0.0
    ear: float = 0.3
    neck: float = 4.5
    shoulder: float = 15.5
    rise: float = 1.5
    collar: float = 0.0


@kernel
def smooth_min(a: float, b: float, k: float) -> float:
    """Return the minimum, rounded over a width of ``k``."""
    h = max(k - abs(a - b), 0.0) / k
    return min(a, b) - h * h * k * 0.25


@kernel
def smooth_max(a: float, b: float, k: float) -> float:
    """Return the maximum, rounded over a width of ``k``."""
    return -smooth_min(-a, -b, k)


@kernel
def smooth_step(low: float, high: float, x: float) -> float:
    """Return 0 below ``low``, 1 above ``high`` and a cubic in between."""
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@kernel
def bell(x: float, width: float) -> float:
    """Return a Gaussian of height 1."""
    return math.exp(-(x * x) / (width * width))


@kernel
def rounded(ax: float, r: float) -> float:
    """Return ``ax``, smoothed where the two halves of the head meet."""
    return math.sqrt(ax * ax + r * r) - 0.3 * r


@kernel
def ellipsoid(x: float, y: float, z: float, rx: float, ry: float, rz: float) -> float:
    """Return the approximate distance to an ellipsoid around the origin."""
    k0 = math.sqrt((x / rx) ** 2 + (y / ry) ** 2 + (z / rz) ** 2)
    k1 = math.sqrt((x / rx**2) ** 2 + (y / ry**2) ** 2 + (z / rz**2) ** 2)
    return k0 * (k0 - 1.0) / max(k1, 1e-6)


@kernel
def cone(
    x: float, y: float, z: float, ax: float, ay: float, az: float, ar: float,
    bx: float, by: float, bz: float, br: float,
) -> float:  # fmt: skip
    """Return the approximate distance to a rod from ``a`` to ``b`` whose radius runs from ``ar`` to ``br``."""
    dx, dy, dz = bx - ax, by - ay, bz - az
    t = ((x - ax) * dx + (y - ay) * dy + (z - az) * dz) / (dx * dx + dy * dy + dz * dz)
    t = min(max(t, 0.0), 1.0)
    gap = math.sqrt((x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2 + (z - az - t * dz) ** 2)
    return gap - (ar + t * (br - ar))


@kernel
def lid_upper(u: float, s: Shape) -> float:
    """Return the height of the upper lid's edge; ``u`` runs from -1 at the inner corner to 1 at the outer one."""
    w = min(max(u, -1.0), 1.0)
    w = w + 0.16 * (1.0 - w * w)
    arch = max(1.0 - w * w, 0.0)
    return (s.eye_top + 0.1) * math.pow(arch, 0.8) + s.eye_tilt * 0.5 * (u + 1.0) - 0.1


@kernel
def lid_lower(u: float, s: Shape) -> float:
    """Return the height of the lower lid's edge, as ``lid_upper``."""
    w = min(max(u, -1.0), 1.0)
    w = w - 0.14 * (1.0 - w * w)
    arch = max(1.0 - w * w, 0.0)
    return -(s.eye_bottom - 0.03) * math.pow(arch, 0.75) + s.eye_tilt * 0.5 * (u + 1.0) - 0.1


@kernel
def mouth_line(ax: float, s: Shape) -> float:
    """Return the height of the line along which the lips meet."""
    r = ax / s.mouth_width
    return s.mouth_y - 0.07 * bell(ax, 0.45) + 0.07 * bell(ax - 1.0, 0.6) + s.smile * r * r


@kernel
def upper_height(ax: float, s: Shape) -> float:
    """Return the height of the red of the upper lip above the mouth line, with the bow."""
    r = min(ax / s.mouth_width, 1.0)
    bow = 1.0 - 0.22 * bell(ax, 0.32) + 0.06 * bell(ax - 0.62, 0.4)
    return s.upper_lip * bow * math.pow(max(1.0 - math.pow(r, 1.7), 0.0), 0.85) + 1e-3


@kernel
def lower_height(ax: float, s: Shape) -> float:
    """Return the height of the red of the lower lip below the mouth line."""
    r = min(ax / s.mouth_width, 1.0)
    return s.lower_lip * math.pow(max(1.0 - math.pow(r, 2.4), 0.0), 0.9) + 1e-3


@kernel
def lips(ax: float, y: float, s: Shape) -> float:
    """Return how far lips, philtrum and the folds around the mouth stand out."""
    line = mouth_line(ax, s)
    r = min(ax / s.mouth_width, 1.0)
    taper = math.pow(max(1.0 - r * r, 0.0), 0.6)
    out = 0.0
    if y > line:
        t = (y - line) / upper_height(ax, s)
        if t < 1.0:
            out += s.lip_out * taper * math.sqrt(0.1 + t) * math.pow(1.0 - t, 0.8) * 1.45
    else:
        t = (line - y) / lower_height(ax, s)
        if t < 1.0:
            out += s.lip_out * taper * math.sqrt(0.08 + t) * math.pow(1.0 - t, 0.7) * 1.75
    inside = smooth_step(1.03, 0.9, ax / s.mouth_width)
    out -= (0.05 + 0.16 * taper) * inside * bell(y - line, 0.07)
    out -= 0.14 * bell(ax - s.mouth_width - 0.05, 0.28) * bell(y - s.mouth_y - s.smile, 0.3)
    philtrum = bell(y - (s.mouth_y + s.upper_lip + 0.55), 0.55)
    out += philtrum * (0.05 * bell(ax - 0.45, 0.26) - 0.07 * bell(ax, 0.28))
    out -= 0.2 * bell(y - (s.mouth_y - s.lower_lip - 0.55), 0.45) * bell(ax, 1.6)
    return out


@kernel
def folds(ax: float, y: float, s: Shape) -> float:
    """Return how far the lines of the face stand out: from nose to mouth, under the eyes, on the forehead."""
    t = (-4.0 - y) / 3.2
    out = 0.0
    if -0.2 < t < 1.25:
        gap = ax - (1.95 + 1.25 * t**0.85 if t > 0.0 else 1.95)
        fade = smooth_step(-0.2, 0.2, t) * smooth_step(1.25, 0.7, t)
        out += fade * ((0.06 + 0.12 * s.age) * bell(gap - 0.55, 0.6) - (0.045 + 0.11 * s.age) * bell(gap, 0.22))
    if s.age > 0.0:
        bag = y + 1.28 - 0.1 * (ax - EYE_X) ** 2
        out += s.age * bell(ax - EYE_X + 0.1, 1.3) * (0.07 * bell(bag - 0.3, 0.3) - 0.07 * bell(bag, 0.16))
        wave = y - 4.4 + 0.2 * math.cos(ax * 0.9) + 0.05 * math.sin(ax * 3.1)
        side = smooth_step(4.4, 2.0, ax)
        for i in range(3):
            out -= s.age * 0.028 * side * bell(wave - 0.95 * (i - 1) - 0.03 * i * ax, 0.17)
        crow = ax - EYE_X - s.eye_width - 0.55
        for i in range(3):
            out -= s.age * 0.014 * bell(crow - 0.2, 0.5) * bell(y - 0.1 - (i - 1) * (0.32 + 0.3 * crow), 0.09)
        out -= s.age * 0.05 * bell(ax - 0.55, 0.13) * bell(y - 1.9, 0.6)
    return out


@kernel
def nose(d: float, ax: float, y: float, z: float, s: Shape) -> float:
    """Blend the nose onto a face at distance ``d``."""
    if z < 2.5 or ax > 4.0:
        return d
    top = s.nose_y
    bridge = cone(ax, y, z, 0.0, 0.9, s.bridge_z, s.bridge, 0.0, top + 0.2, 6.35, s.nose_tip * 0.86)
    side = cone(rounded(ax, 0.4), y, z, 0.35, 0.0, s.bridge_z - 0.7, 0.75, 0.75, top, 5.2, 0.85)
    d = smooth_min(d, side, 0.9)
    d = smooth_min(d, bridge, 0.7)
    d = smooth_min(d, ellipsoid(ax, y - top, z - 6.45, s.nose_tip * 1.08, s.nose_tip * 0.9, s.nose_tip), 0.35)
    wing = ellipsoid(ax - s.nose_width, y - top + 0.25, z - 5.25, 0.6, 0.62, 0.85)
    d = smooth_min(d, wing, 0.32)
    d = smooth_min(d, cone(ax, y, z, 0.0, top - 0.6, 6.4, 0.34, 0.0, top - 0.95, 5.3, 0.4), 0.35)
    hole = ellipsoid(ax - 0.62 * s.nose_width / 1.25, y - top + 0.85, z - 5.85, 0.3, 0.42, 0.5)
    return smooth_max(d, -hole, 0.22)


@kernel
def lids(d: float, ax: float, y: float, z: float, s: Shape) -> float:
    """Open the eye sockets of a face at distance ``d`` and close them with lids."""
    if z < 0.0 or abs(ax - EYE_X) > 3.2 or abs(y) > 3.0:
        return d
    ball = math.sqrt((ax - EYE_X) ** 2 + y * y + (z - EYE_Z) ** 2)
    d = smooth_max(d, -(ball - EYE_RADIUS - 0.02), 0.12)
    u = (ax - EYE_X) / s.eye_width
    top, bottom = lid_upper(u, s), lid_lower(u, s)
    crease = y - top - 0.34 + 0.1 * u * u
    over = smooth_step(1.5, 0.9, abs(u - 0.05))
    fold = over * (0.06 * bell(crease - 0.3, 0.3) * (0.6 + s.hood) - 0.1 * bell(crease, 0.11))
    shell = ball - EYE_RADIUS - LID - 0.05 * over * bell(y - top - 0.1, 0.2)
    lid = smooth_max(shell, EYE_RADIUS - 0.2 - ball, 0.1)
    d = smooth_min(d, lid, 0.45) - fold
    gap = min(top - y, y - bottom)
    if abs(u) > 1.0:
        gap = min(gap, (1.0 - abs(u)) * s.eye_width)
    if z > EYE_Z - 0.3:
        d = smooth_max(d, gap, 0.07)
    return d


@kernel
def ear(ax: float, y: float, z: float, s: Shape) -> float:
    """Return the distance to the ear."""
    x0, y0, z0 = ax - 6.9 - s.ear, y + 1.3, z + 2.9
    if x0 * x0 + y0 * y0 + z0 * z0 > 25.0:
        return math.sqrt(x0 * x0 + y0 * y0 + z0 * z0) - 4.2
    c, q = math.cos(0.5), math.sin(0.5)
    depth = c * x0 + q * z0
    along = -q * x0 + c * z0 - 0.12 * y0
    oval = math.sqrt((along / 1.75) ** 2 + ((y0 - 0.25) / 3.0) ** 2)
    rim = math.sqrt(((oval - 1.0) * 1.9) ** 2 + (depth - 0.35 - 0.1 * y0) ** 2) - 0.3
    rim = smooth_max(rim, -(y0 + 2.3), 0.5)
    buffer = ellipsoid(depth, y0 - 0.25, along, 0.34, 3.15, 1.9)
    inner = math.sqrt(((oval - 0.6) * 1.9) ** 2 + (depth - 0.25) ** 2) - 0.24
    d = smooth_min(buffer, rim, 0.25)
    d = smooth_min(d, inner, 0.2)
    d = smooth_max(d, -ellipsoid(depth - 0.45, y0 + 0.4, along - 0.3, 0.5, 0.9, 0.65), 0.25)
    d = smooth_min(d, ellipsoid(depth, y0 + 2.5, along - 0.4, 0.36, 0.8, 0.8), 0.8)
    return smooth_min(d, ellipsoid(depth + 0.5, y0 - 0.3, along - 1.0, 0.7, 2.5, 1.2), 0.5)


@kernel
def skull(ax: float, y: float, z: float, s: Shape) -> float:
    """Return the distance to the plain head, without its features, on which the hair lies."""
    d = ellipsoid(ax, y - 2.8, z + 3.4, s.skull, 8.6, 9.1)
    d = smooth_min(d, ellipsoid(ax, y + 3.0, z + 0.6, s.jaw, 7.7, 6.0), 2.2)
    rx = rounded(ax, 0.8)
    corner = cone(rx, y, z, s.jaw - 1.7, -5.0, -1.4, 1.7, 0.5, s.chin_y + 0.2, 3.1, 0.62 * s.chin)
    d = smooth_min(d, corner, 2.6)
    return smooth_min(d, ellipsoid(ax, y - s.chin_y, z - 3.1, s.chin, 1.5, 1.9), 2.4)


@kernel
def neck_and_body(ax: float, y: float, z: float, s: Shape) -> float:
    """Return the distance to neck, shoulders and chest, unclothed."""
    y -= s.rise
    neck = cone(ax, y, z, 0.0, -5.5, -4.6, s.neck, 0.0, -16.5, -5.2, s.neck + 0.4)
    slope = cone(ax, y, z, 2.0, -14.5, -6.5, 3.4, s.shoulder, -20.6, -6.0, 4.3)
    chest = ellipsoid(ax, y + 33.0, z + 5.0, s.shoulder + 0.5, 16.0, 9.0)
    arm = cone(ax, y, z, s.shoulder, -21.3, -6.0, 4.7, s.shoulder + 3.0, -36.0, -6.0, 4.6)
    d = smooth_min(smooth_min(slope, chest, 4.0), arm, 2.5)
    d = smooth_min(d, neck, 3.0)
    rx = rounded(ax, 0.5)
    tendon = cone(rx, y, z, 5.0, -7.0, -4.4, 0.7, 1.5, -17.6, -0.4, 0.5)
    d = smooth_min(d, tendon, 2.2)
    bone = cone(rx, y, z, 1.9, -18.0, 0.0, 0.4, s.shoulder - 3.0, -17.4, -4.2, 0.4)
    return smooth_min(d, bone, 1.8)


@kernel
def skin(x: float, y: float, z: float, s: Shape) -> float:
    """Return the distance to the skin."""
    ax = abs(x)
    body = neck_and_body(ax, y, z, s)
    far = math.sqrt((ax / 8.6) ** 2 + (y / 13.0) ** 2 + ((z + 2.5) / 11.5) ** 2) - 1.0
    if far > 0.5:
        return min(body, far * 8.6)
    d = skull(ax, y, z, s)
    if d < 4.0:
        d = smooth_min(d, ellipsoid(ax - 4.7, y + 1.9, z - 1.7, 2.0 * s.cheekbone, 1.4, 2.4), 1.8)
        d = smooth_min(d, ellipsoid(ax - 3.3, y + 3.9, z - 2.7, 2.2, 2.3, 2.2 * s.cheek), 1.8)
        d = smooth_min(d, ellipsoid(ax, y + 6.5, z - 2.7, 3.2, 2.6, 2.75), 1.5)
        ridge = cone(rounded(ax, 0.8), y, z, 0.9, 1.6, 4.3, s.brow, 4.6, 2.1, 2.4, s.brow * 0.8)
        d = smooth_min(d, ridge, 1.4)
        socket = ellipsoid(ax - EYE_X + 0.1, y - 0.1, z - 5.2, 1.9, 1.25, 1.5)
        d = smooth_max(d, -socket, 1.1)
        d = nose(d, ax, y, z, s)
        d = lids(d, ax, y, z, s)
        if z > 0.0 and d < 1.0:
            d -= (lips(ax, y, s) * smooth_step(2.0, 3.5, z) + folds(ax, y, s)) * smooth_step(0.0, 1.5, z)
        d = smooth_min(d, ear(ax, y, z, s), 0.5)
    else:
        d -= 2.6
    return smooth_min(d, body, 0.7)


@kernel
def eyeball(x: float, y: float, z: float) -> float:
    """Return the distance to the nearer eyeball."""
    return math.sqrt((abs(x) - EYE_X) ** 2 + y * y + (z - EYE_Z) ** 2) - EYE_RADIUS


@kernel
def cloth(x: float, y: float, z: float, s: Shape) -> float:
    """Return the distance to the garment: a jumper with a round neckline, or with a stand-up collar."""
    if y > -9.0:
        return y + 12.0 if y > -6.0 else 3.0
    ax = abs(x)
    body = neck_and_body(ax, y, z, s)
    angle = math.atan2(x, z + 5.0)
    if s.collar > 0.5:
        tube = cone(ax, y, z, 0.0, -12.0, -4.6, s.neck + 0.75, 0.0, -18.0, -5.1, s.neck + 1.15)
        tube -= 0.3 * bell(y + 14.8, 1.0)
        tube = smooth_max(tube, y + 13.4 - 0.06 * z, 0.7)
        wrinkle = 0.1 * math.sin(0.8 * y + 0.7 * ax + 1.3 * math.sin(0.3 * x)) * smooth_step(6.0, 14.0, ax)
        jumper = smooth_max(
            body - 0.5 - wrinkle, -ellipsoid(ax, y + 8.0, z + 4.5, s.neck + 1.4, 8.0, s.neck + 2.5), 0.6
        )
        return smooth_min(tube, jumper, 1.2)
    cut = ellipsoid(ax, y + 9.5, z + 2.0, 8.4, 8.8, 11.0)
    band = smooth_step(1.5, 1.2, cut)
    wrinkle = 0.12 * math.sin(0.9 * y + 0.8 * ax + 1.3 * math.sin(0.31 * x)) * smooth_step(6.0, 14.0, ax)
    d = body - 0.45 - 0.15 * band - 0.04 * band * math.cos(angle * 110.0) - wrinkle
    return smooth_max(d, -cut, 0.25)


@kernel
def distance(x: float, y: float, z: float, s: Shape) -> float:
    """Return the distance to the nearest surface."""
    return min(skin(x, y, z, s), eyeball(x, y, z), cloth(x, y, z, s))


@kernel
def material(x: float, y: float, z: float, s: Shape) -> int:
    """Return which of ``SKIN``, ``EYE`` and ``CLOTH`` is nearest."""
    a, b, c = skin(x, y, z, s), eyeball(x, y, z), cloth(x, y, z, s)
    if b < a and b < c:
        return EYE
    return CLOTH if c < a else SKIN
