"""The surfaces of the modelled head: the colours of skin, lips, eyes and cloth, and how they reflect light.

Colours are linear RGB. Skin is lit, its irradiance is blurred by colour (light spreads furthest in red), and only then
multiplied by its albedo: d'Eon et al., "Efficient Rendering of Human Skin" (2007).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from tools.assets.light import RGB, Camera, Floats
from tools.assets.shape import (
    CLOTH,
    EYE,
    EYE_RADIUS,
    EYE_X,
    SKIN,
    Shape,
    bell,
    ear,
    kernel,
    lid_lower,
    lid_upper,
    lower_height,
    mouth_line,
    parallel,
    smooth_step,
    upper_height,
)


class Paint(NamedTuple):
    """The colours of a modelled person (linear RGB) and some amounts between 0 and 1."""

    skin: RGB
    flush: RGB
    lip: RGB
    iris: RGB
    iris_inner: RGB
    hair: RGB
    cloth: RGB
    freckles: float
    stubble: float
    gloss: float
    brow: float


@kernel
def rgb(colours: Floats, i: int) -> RGB:
    """Return row ``i`` of an array of colours."""
    return colours[i, 0], colours[i, 1], colours[i, 2]


@kernel
def unpack(colours: Floats, amounts: Floats) -> Paint:
    """Return the ``Paint`` of the arrays of ``pack``, which numba's loops can share while nested tuples cannot."""
    return Paint(
        rgb(colours, 0), rgb(colours, 1), rgb(colours, 2), rgb(colours, 3), rgb(colours, 4), rgb(colours, 5),
        rgb(colours, 6), amounts[0], amounts[1], amounts[2], amounts[3],
    )  # fmt: skip


def pack(p: Paint) -> tuple[Floats, Floats]:
    """Return a ``Paint`` as two arrays, (7, 3) and (4,) float32."""
    return np.array(p[:7], np.float32), np.array(p[7:], np.float32)


@kernel
def chance(i: int, j: int, k: int) -> float:
    """Return a number in [0, 1) that depends on three integers alone."""
    h = (i * 374761393 + j * 668265263 + k * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1103515245) & 0xFFFFFFFF
    h = ((h ^ (h >> 16)) * 1911520717) & 0xFFFFFFFF
    return ((h ^ (h >> 15)) & 0xFFFFFF) / 16777216.0


@kernel
def noise(x: float, y: float, z: float) -> float:
    """Return smooth value noise in [0, 1] over a lattice of spacing 1."""
    fx, fy, fz = math.floor(x), math.floor(y), math.floor(z)
    i, j, k = int(fx), int(fy), int(fz)
    u, v, w = x - fx, y - fy, z - fz
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    total = 0.0
    for a in range(2):
        for b in range(2):
            for c in range(2):
                weight = (u if a else 1 - u) * (v if b else 1 - v) * (w if c else 1 - w)
                total += weight * chance(i + a, j + b, k + c)
    return total


@kernel
def hairline(x: float, y: float, z: float, line: Floats) -> float:
    """Return how far a point of the scalp lies above the hairline, in cm.

    ``line`` is (n, 2): azimuth in degrees, and height.
    """
    angle = math.degrees(math.atan2(abs(x), z + 3.0))
    low: float = line[0, 1]
    for i in range(line.shape[0] - 1):
        if angle >= line[i, 0]:
            t = min((angle - line[i, 0]) / (line[i + 1, 0] - line[i, 0]), 1.0)
            low = line[i, 1] + t * t * (3 - 2 * t) * (line[i + 1, 1] - line[i, 1])
    return y - low + 0.7 * (noise(x * 1.1 + 9.0, y * 1.1, z * 1.1) - 0.5)


@kernel
def brow_height(ax: float) -> float:
    """Return the height of the middle line of an eyebrow."""
    t = (ax - 1.2) / 4.0
    return 1.5 + 1.25 * t - 1.2 * t**3 * (1.0 if t > 0.0 else 0.0)


@kernel
def mix(a: RGB, b: RGB, t: float) -> RGB:
    """Return the linear interpolation between ``a`` (t = 0) and ``b`` (t = 1)."""
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t


@kernel
def scaled(a: RGB, k: float) -> RGB:
    """Return a colour times a number."""
    return a[0] * k, a[1] * k, a[2] * k


@kernel
def lip_amount(ax: float, y: float, s: Shape) -> float:
    """Return 1 on the red of the lips and 0 outside it, with a soft border."""
    if ax > s.mouth_width + 0.1:
        return 0.0
    line = mouth_line(ax, s)
    if y > line:
        return smooth_step(0.09, -0.13, y - line - upper_height(ax, s))
    return smooth_step(0.12, -0.22, line - y - lower_height(ax, s))


@kernel
def skin_colour(x: float, y: float, z: float, s: Shape, p: Paint, line: Floats) -> RGB:
    """Return the albedo of skin at a point."""
    ax = abs(x)
    front = smooth_step(0.0, 2.0, z)
    flush = 0.55 * bell(ax - 4.2, 2.0) * bell(y + 3.0, 1.7)
    flush += 0.5 * bell(ax, 1.5) * bell(y - s.nose_y + 0.2, 1.1) + 0.2 * bell(ax, 1.3) * bell(y - s.chin_y, 1.0)
    flush = front * flush + 0.5 * smooth_step(6.6, 7.6, ax) * smooth_step(-6.0, -4.0, y)
    blotch = noise(x * 0.8, y * 0.8, z * 0.8) - 0.5
    c = mix(p.skin, p.flush, min(max(flush + 0.25 * blotch, 0.0), 1.0))
    fine = noise(x * 9.0, y * 9.0, z * 9.0) - 0.5 + 0.7 * (noise(x * 21.0, y * 21.0, z * 21.0) - 0.5)
    c = scaled(c, 1.0 + 0.09 * fine + 0.1 * blotch)
    spot = noise(x * 4.3 + 5.0, y * 4.3, z * 4.3) * noise(x * 7.9, y * 7.9 + 3.0, z * 7.9)
    where = front * bell(y + 2.4, 2.4) * smooth_step(5.6, 3.5, ax)
    c = mix(c, (c[0] * 0.72, c[1] * 0.52, c[2] * 0.4), p.freckles * where * smooth_step(0.36, 0.6, spot))
    beard = smooth_step(-3.8, -5.4, y + 0.28 * (5.8 - ax)) * smooth_step(-13.0, -11.0, y)
    c = mix(c, scaled((c[0] * 0.8, c[1] * 0.9, c[2]), 0.75), p.stubble * beard * (0.75 + 0.5 * fine))
    if z > 0.0:
        c = eye_region(ax, y, c, s, p)
        lip = lip_amount(ax, y, s)
        c = mix(c, scaled(p.lip, 1.0 + 0.16 * (noise(x * 11.0, y * 1.5, 0.0) - 0.5)), 0.82 * lip)
        gap = bell(y - mouth_line(ax, s), 0.05) * smooth_step(1.03, 0.9, ax / s.mouth_width)
        c = mix(c, scaled(p.lip, 0.3), 0.8 * gap)
    grown = smooth_step(-0.25, 0.6, hairline(x, y, z, line)) * smooth_step(0.1, 0.4, ear(ax, y, z, s))
    return mix(c, scaled(p.hair, 0.7), 0.93 * grown)


@kernel
def eye_region(ax: float, y: float, c: RGB, s: Shape, p: Paint) -> RGB:
    """Tint the skin around an eye: lids, lash line, the shade below, the ground of the brow."""
    u = (ax - EYE_X) / s.eye_width
    near = smooth_step(1.6, 1.0, abs(u))
    top, bottom = lid_upper(u, s), lid_lower(u, s)
    lid = near * smooth_step(0.0, 0.12, y - top) * smooth_step(0.75, 0.2, y - top)
    c = mix(c, (c[0] * 0.8, c[1] * 0.64, c[2] * 0.6), 0.6 * lid)
    below = bell(ax - EYE_X + 0.5, 1.3) * bell(y + 1.25, 0.55)
    c = mix(c, (c[0] * 0.82, c[1] * 0.74, c[2] * 0.78), (0.3 + 0.5 * s.age) * below)
    inner = smooth_step(1.15, 1.0, abs(u))
    c = mix(c, (0.035, 0.02, 0.016), 0.95 * inner * bell(y - top - 0.03, 0.11) * smooth_step(-1.0, -0.6, u))
    c = mix(c, (0.1, 0.05, 0.04), 0.45 * inner * bell(y - bottom + 0.07, 0.06) * smooth_step(-0.7, 0.2, u))
    c = mix(c, (0.62, 0.27, 0.22), 0.55 * bell(u + 1.05, 0.13) * bell(y - top, 0.2))
    width = 0.42 * smooth_step(5.5, 2.5, ax) * smooth_step(0.8, 2.0, ax)
    if width > 0.0:
        c = mix(c, scaled(p.hair, 0.8), p.brow * bell(y - brow_height(ax), width + 0.05) * min(width * 3.0, 1.0))
    return c


@kernel
def highlight(nh: float, nv: float, nl: float, vh: float, rough: float, f0: float) -> float:
    """Return the GGX lobe times the cosine towards the light."""
    if nl <= 0.0:
        return 0.0
    a2 = rough**4
    d = a2 / (math.pi * (nh * nh * (a2 - 1.0) + 1.0) ** 2)
    k = (rough + 1.0) ** 2 / 8.0
    g = 1.0 / ((nl * (1.0 - k) + k) * (max(nv, 0.05) * (1.0 - k) + k) * 4.0)
    return d * g * (f0 + (1.0 - f0) * (1.0 - vh) ** 5) * nl


@kernel
def iris_colour(r: float, angle: float, p: Paint) -> RGB:
    """Return the colour of the iris at radius ``r`` (0 at the middle of the pupil, 1 at the rim)."""
    fibre = 0.5 * noise(20.0 + 14.0 * math.cos(angle), 20.0 + 14.0 * math.sin(angle), r * 1.6)
    fibre += 0.5 * noise(50.0 + 30.0 * math.cos(angle), 50.0 + 30.0 * math.sin(angle), r * 2.5)
    c = mix(p.iris, p.iris_inner, smooth_step(0.78, 0.5, r + 0.3 * (fibre - 0.5)))
    c = scaled(c, 0.45 + 1.1 * fibre)
    c = scaled(c, 1.0 - 0.85 * smooth_step(0.74, 0.99, r))
    return mix(c, (0.004, 0.003, 0.003), smooth_step(0.53, 0.45, r))


@kernel
def eye_colour(
    lx: float, y: float, side: float, irr: RGB, vis: float, s: Shape, p: Paint,
    light: RGB, view: RGB,
) -> RGB:  # fmt: skip
    """Return the light from an eyeball at a point relative to its centre; ``light`` and ``view`` are unit vectors."""
    u = lx * side / s.eye_width
    top, bottom = lid_upper(u, s), lid_lower(u, s)
    iris_x = lx + 0.03 * side
    r = math.sqrt(iris_x * iris_x + (y - 0.01) ** 2) / 0.7
    corner = smooth_step(0.55, 1.0, abs(u)) * (1.0 if u < 0.0 else 0.6)
    vein = noise(lx * 3.0 + 7.0, y * 9.0, 1.0) * 0.16
    white = mix((0.66, 0.63, 0.60), (0.60, 0.36, 0.31), min(0.8 * corner + vein * smooth_step(0.9, 1.7, r), 1.0))
    white = mix(white, (0.45, 0.12, 0.1), 0.75 * smooth_step(-0.86, -1.0, u))
    lit = (irr[0] * 0.8 + 0.12, irr[1] * 0.8 + 0.12, irr[2] * 0.8 + 0.12)
    c = (white[0] * lit[0], white[1] * lit[1], white[2] * lit[2])
    if r < 1.15:
        inner = iris_colour(min(r, 1.0), math.atan2(y, iris_x), p)
        caustic = 0.55 + 0.9 * max(-(iris_x * light[0] + y * light[1]) / 0.7, -0.4)
        inner = (
            inner[0] * lit[0] * (0.7 + caustic),
            inner[1] * lit[1] * (0.7 + caustic),
            inner[2] * lit[2] * (0.7 + caustic),
        )
        c = mix(inner, c, smooth_step(0.93, 1.07, r))
    c = scaled(c, 0.35 + 0.65 * smooth_step(-0.02, 0.42, top - y))
    c = scaled(c, 0.6 + 0.4 * smooth_step(0.0, 0.2, y - bottom))
    bulge = 1.0 - smooth_step(0.95, 1.25, r)
    nx, ny = lx / EYE_RADIUS, y / EYE_RADIUS
    nx, ny = nx + bulge * (iris_x / 0.85 - nx), ny + bulge * (y / 0.85 - ny)
    nz = math.sqrt(max(1.0 - nx * nx - ny * ny, 0.05))
    nv = nx * view[0] + ny * view[1] + nz * view[2]
    rx, ry, rz = 2 * nv * nx - view[0], 2 * nv * ny - view[1], 2 * nv * nz - view[2]
    ax, ay = rx / max(rz, 0.1) - light[0] / light[2], ry / max(rz, 0.1) - light[1] / light[2]
    window = smooth_step(0.36, 0.29, abs(ax)) * smooth_step(0.36, 0.29, abs(ay)) * (1.0 if rz > 0.1 else 0.0)
    glint = 2.4 * window * smooth_step(-0.02, 0.12, top - y) * (0.4 + 0.6 * vis)
    wet = 0.5 * bell(y - bottom - 0.035, 0.035) * (0.25 + 0.5 * vis) * smooth_step(1.0, 0.8, abs(u))
    sheen = 0.03 + 0.05 * smooth_step(0.0, 0.8, ry)
    return (
        c[0] + glint + wet + sheen * 0.9,
        c[1] + glint + wet + sheen,
        c[2] + glint + wet + sheen * 1.1,
    )


@kernel
def cloth_colour(x: float, y: float, z: float, p: Paint) -> RGB:
    """Return the albedo of knitted cloth at a point."""
    around = math.atan2(x, z + 5.0) * 15.0
    column = around * 2.6
    side = abs(column - math.floor(column) - 0.5) * 2.0
    row = y * 2.9 + side * 0.8
    stitch = math.sin(math.pi * side) ** 0.5 * (0.55 + 0.45 * math.sin(2.0 * math.pi * row))
    grain = noise(x * 12.0, y * 12.0, z * 12.0)
    return scaled(p.cloth, 0.72 + 0.22 * stitch + 0.3 * (grain - 0.3))


@kernel
def skin_glint(at: RGB, normal: RGB, view: RGB, nv: float, visible: Floats, lights: Floats, s: Shape) -> RGB:
    """Return the light that skin reflects specularly: two GGX lobes over pores that tilt the normal a little."""
    x, y, z = at
    rough, gloss, f0 = skin_gloss(x, y, z, s)
    jitter = 0.16 * (1.0 - 0.6 * (gloss - 1.0))
    nx = normal[0] + jitter * (noise(x * 14.0, y * 14.0, z * 14.0) - 0.5)
    ny = normal[1] + jitter * (noise(x * 14.0 + 31.0, y * 14.0, z * 14.0) - 0.5)
    m = 1.0 / math.sqrt(nx * nx + ny * ny + normal[2] * normal[2])
    nx, ny, nz = nx * m, ny * m, normal[2] * m
    r, g, b = 0.0, 0.0, 0.0
    for n in range(lights.shape[0]):
        lx, ly, lz = lights[n, 0] - x, lights[n, 1] - y, lights[n, 2] - z
        m = 1.0 / math.sqrt(lx * lx + ly * ly + lz * lz)
        lx, ly, lz = lx * m, ly * m, lz * m
        hx, hy, hz = lx + view[0], ly + view[1], lz + view[2]
        m = 1.0 / math.sqrt(hx * hx + hy * hy + hz * hz)
        nh, vh = (nx * hx + ny * hy + nz * hz) * m, (view[0] * hx + view[1] * hy + view[2] * hz) * m
        nl = nx * lx + ny * ly + nz * lz
        lobe = 0.7 * highlight(nh, nv, nl, vh, rough, f0) + 0.3 * highlight(nh, nv, nl, vh, rough * 0.62, f0)
        lobe *= math.pi * gloss * visible[n]
        r, g, b = r + lobe * lights[n, 4], g + lobe * lights[n, 5], b + lobe * lights[n, 6]
    return r, g, b


@parallel
def paint(
    position: Floats, normal: Floats, kind: NDArray[np.uint8], irradiance: Floats, visible: Floats,
    lights: Floats, line: Floats, camera: Camera, s: Shape,
    colours: Floats, amounts: Floats,
) -> Floats:  # fmt: skip
    """Return the linear light (H, W, 3) of every pixel that is not backdrop. The last two arguments are of ``pack``."""
    height, width = kind.shape
    out = np.zeros((height, width, 3), np.float32)
    for i in numba.prange(height):
        for j in range(width):
            what = kind[i, j]
            if what == 0:
                continue
            p = unpack(colours, amounts)
            x, y, z = position[i, j, 0], position[i, j, 1], position[i, j, 2]
            nx, ny, nz = normal[i, j, 0], normal[i, j, 1], normal[i, j, 2]
            vx, vy, vz = -x, camera.y - y, camera.z - z
            m = 1.0 / math.sqrt(vx * vx + vy * vy + vz * vz)
            vx, vy, vz = vx * m, vy * m, vz * m
            irr = (irradiance[i, j, 0], irradiance[i, j, 1], irradiance[i, j, 2])
            if what == EYE:
                side = 1.0 if x > 0.0 else -1.0
                lx, ly, lz = lights[0, 0] - x, lights[0, 1] - y, lights[0, 2] - z
                m = 1.0 / math.sqrt(lx * lx + ly * ly + lz * lz)
                c = eye_colour(
                    x - side * EYE_X, y, side, irr, visible[i, j, 0], s, p,
                    (lx * m, ly * m, lz * m), (vx, vy, vz),
                )  # fmt: skip
                out[i, j, 0], out[i, j, 1], out[i, j, 2] = c
                continue
            nv = max(nx * vx + ny * vy + nz * vz, 0.0)
            if what == CLOTH:
                c = cloth_colour(x, y, z, p)
                fuzz = 1.0 + 0.9 * (1.0 - nv) ** 3
                for n in range(3):
                    out[i, j, n] = c[n] * irr[n] * fuzz
                continue
            c = skin_colour(x, y, z, s, p, line)
            for n in range(3):
                out[i, j, n] = c[n] * irr[n]
            glint = skin_glint((x, y, z), (nx, ny, nz), (vx, vy, vz), nv, visible[i, j], lights, s)
            for n in range(3):
                out[i, j, n] += p.gloss * glint[n]
    return out


@kernel
def skin_gloss(x: float, y: float, z: float, s: Shape) -> RGB:
    """Return roughness, strength and reflectance at normal incidence of the skin's highlight at a point."""
    ax = abs(x)
    lip = lip_amount(ax, y, s) if z > 0.0 else 0.0
    shiny = bell(ax, 2.6) * (bell(y - 4.5, 2.2) + bell(y - s.nose_y, 1.8)) + bell(ax, 0.7) * bell(y + 1.5, 2.0)
    rough = 0.6 - 0.08 * min(shiny, 1.0) - 0.16 * lip
    corner = bell(ax - EYE_X + s.eye_width, 0.25) * bell(y + 0.1, 0.25)
    dry = 1.0 - 0.85 * bell(ax, 1.5) * bell(y - s.nose_y + 1.35, 0.55)
    return rough - 0.15 * corner, dry * (1.0 + 0.5 * lip + 0.3 * min(shiny, 1.0) + corner), 0.028


@parallel
def spread(values: Floats, position: Floats, kind: NDArray[np.uint8], sigma: float, along: int) -> Floats:
    """Blur skin along one axis (0 down, 1 across) by ``sigma`` pixels, but not across edges of the surface."""
    height, width = kind.shape
    out = values.copy()
    reach = math.ceil(2.5 * sigma)
    for i in numba.prange(height):
        for j in range(width):
            if kind[i, j] != SKIN:
                continue
            a, b, c, total = 0.0, 0.0, 0.0, 0.0
            for k in range(-reach, reach + 1):
                ii, jj = np.int64(i) + (k if along == 0 else 0), j + (0 if along == 0 else k)
                if ii < 0 or jj < 0 or ii >= height or jj >= width or kind[ii, jj] != SKIN:
                    continue
                step = position[ii, jj, 2] - position[i, j, 2]
                weight = math.exp(-0.5 * (k / sigma) ** 2 - 2.0 * step * step)
                a += weight * values[ii, jj, 0]
                b += weight * values[ii, jj, 1]
                c += weight * values[ii, jj, 2]
                total += weight
            out[i, j, 0], out[i, j, 1], out[i, j, 2] = a / total, b / total, c / total
    return out


def scatter(irradiance: Floats, position: Floats, kind: NDArray[np.uint8], pixels_per_cm: float) -> Floats:
    """Spread light under the skin: a narrow blur of all colours, and a wide one mostly of red."""
    near = max(0.045 * pixels_per_cm, 0.3)
    narrow: Floats = spread(spread(irradiance, position, kind, near, 0), position, kind, near, 1)
    far = max(0.3 * pixels_per_cm, 0.5)
    wide: Floats = spread(spread(irradiance, position, kind, far, 0), position, kind, far, 1)
    share = np.array([0.66, 0.3, 0.2], np.float32)
    mixed = narrow + (wide - narrow) * share
    return np.where((kind == SKIN)[..., None], mixed, irradiance).astype(np.float32)
