"""What is prepared of each eye of a portrait: the white, the iris as a whole disc, and the skin of a shut lid.

A photograph shows the part of an eyeball that its lids leave open. What they cover is filled in once, so that an eye
that opens wider, looks elsewhere or shuts samples a finished picture and stretches nothing:

- what the upper lid covers of the iris is copied from its visible parts and from the medians at the same radius;
- the white is extended behind the lids, without the shadow of the upper lid, which moves with the lid;
- the skin above the lid is prepared without lashes and without the detail that would be stretched, which is drawn
  over it as grain.

The arrays of a texture cover a window of the portrait around the eye, in portrait pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.eyes.eye_raster import SHADOW_REACH, SHADOW_SHARE
from engines.eyes.iris import EyeWindow, Iris, brightness, find_irises, lashes_above, lashes_within
from engines.face.opening import Opening
from engines.types import Floats, Image

Bools = NDArray[np.bool_]

SHADOW_LIMITS = (0.08, 0.45)
"""The weakest and the strongest shadow, as a share of the light; what is measured is kept within."""
RIM = 0.12
"""The soft edge of an iris, in radii, each side of its rim."""
COPY = 0.6
"""How much of a hidden part of an iris is copied from a visible one; the rest is the median at its radius."""
LID_LIGHT = 0.15
"""How much of the difference between the skin below the eye and that of the lid is made up for as it shuts."""
CARVED_LIGHT, CARVED_LINE = 0.6, 0.5
"""How far a shut lid without lashes is lit as the skin below it (1) and not as the eyeball (0), and the share of light
that the line takes along which it meets the lower lid."""
CARVED_MOST, CARVED_HUE = 1.1, 0.35
"""How light the eyeball of a carved eye is at the most, over the skin below it, and how far their red, green and blue
differ at the most, each over the mean of the three."""
MOST_GRAIN = 4.0
"""The strongest grain, in grey levels."""
_SMOOTHNESS = (32.0, 16.0, 8.0, 4.0, 2.0, 1.0)


@dataclass(frozen=True, slots=True)
class EyeTexture:
    """The pictures and measures that an eye is drawn from."""

    corner: Floats
    """(2,) float32: the place of the window's first pixel in the portrait."""
    white: Floats
    """(h, w, 3) float32: the eyeball without its iris and without the shadow of the upper lid."""
    disc: Floats
    """(h, w, 4) float32: the whole iris and its opacity, 0 everywhere where no iris was found."""
    lid: Image
    """(h, w, 3): the skin of the upper lid, without detail and lashes."""
    grain: Floats
    """(h, w) float32: the detail of skin, as random grain in grey levels."""
    margin: Floats
    """(CURVE,) how far lashes reach into the opening from its upper edge, pixels."""
    lash: Floats
    """(CURVE,) how far lashes reach up from the upper edge of the opening, pixels."""
    fold: Floats
    """(CURVE,) the fold above the upper lid, as an edge of the opening."""
    shadow: float
    """The share of the light that the upper lid takes at its edge."""
    line: float
    """The share of the light that the line takes along which shut lids meet; 0 where lashes are that line."""
    iris: Iris | None
    """None where none was found."""


def eye_textures(image: Image, eyes: list[tuple[Opening, Floats, Floats]]) -> list[EyeTexture]:
    """Prepare eyes: of each its opening, its fold and (3,) centre and radius of its iris in the landmarks, pixels."""
    windows = [EyeWindow.around(image, opening, iris) for opening, _, iris in eyes]
    margins = [
        lashes_within(window, np.maximum(opening.lower - opening.upper, 0))
        for window, (opening, _, _) in zip(windows, eyes, strict=True)
    ]
    inside = [window.inside(margin) for window, margin in zip(windows, margins, strict=True)]
    irises = find_irises(windows, inside)
    return [
        _texture(window, margin, mask, opening, fold, iris)
        for window, margin, mask, (opening, fold, _), iris in zip(windows, margins, inside, eyes, irises, strict=True)
    ]


def _texture(
    window: EyeWindow, margin: Floats, inside: Bools, opening: Opening, fold: Floats, iris: Iris | None
) -> EyeTexture:
    """Return the texture of one eye."""
    ball = inside & (_opacity(iris, window) < 0.02) if iris else inside
    sclera = ball & (window.light > 0.6 * brightness(window))
    if sclera.sum() < 12:
        ball = sclera = inside
    shadow = _lid_shadow(window, sclera) if iris else SHADOW_LIMITS[0]
    lit = window.pixels / _light(window, shadow)[..., None]
    lash = lashes_above(window, opening.upper - fold)
    skin, grain = _lid_skin(window, lash)
    carved = iris is None and _is_carved(window, inside)
    lid = _bytes(_carved_lid(window, skin, opening.upper - fold) if carved else skin)
    white = _eyeball(window, lit, sclera, ball) + 0.6 * grain[..., None] * ~ball[..., None]
    disc = np.zeros((*window.light.shape, 4), np.float32)
    if iris:
        disc = _complete_iris(window, lit, white, inside, iris)
    return EyeTexture(
        corner=window.corner.astype(np.float32),
        white=np.ascontiguousarray(white, np.float32),
        disc=disc,
        lid=lid,
        grain=grain,
        margin=margin.astype(np.float32),
        lash=lash.astype(np.float32),
        fold=fold,
        shadow=shadow,
        line=CARVED_LINE if carved else 0.0,
        iris=iris,
    )


def _light(window: EyeWindow, shadow: float) -> Floats:
    """Return the light that the upper lid leaves on the eyeball, (h, w); as in ``eye_raster``."""
    return np.asarray(1 - shadow * (1 - _ramp(window.from_upper / _shadow_reach(window))), np.float32)


def _shadow_reach(window: EyeWindow) -> Floats:
    """Return how far down the shadow of the upper lid falls, (h, w) pixels."""
    gap = np.maximum(window.from_upper + window.from_lower, 1)
    return np.minimum(SHADOW_REACH * window.length, SHADOW_SHARE * gap).astype(np.float32)


def _ramp(values: Floats) -> Floats:
    """Return a smooth step from 0 at 0 to 1 at 1."""
    part = np.clip(values, 0, 1)
    return np.asarray(part * part * (3 - 2 * part), np.float32)


def _lid_shadow(window: EyeWindow, sclera: Bools) -> float:
    """Return how much darker the white is at the upper lid than clear of it, as a share."""
    depth = window.from_upper / _shadow_reach(window)
    close, clear = sclera & (depth < 0.5), sclera & (depth > 0.7)
    if close.sum() < 8 or clear.sum() < 8:
        return 0.2
    ratio = float(np.median(window.light[close]) / max(float(np.median(window.light[clear])), 1.0))
    # at a quarter of its reach the shadow has 0.84 of its strength
    return float(np.clip((1 - ratio) / 0.84, *SHADOW_LIMITS))


def _eyeball(window: EyeWindow, lit: Floats, sclera: Bools, ball: Bools) -> Floats:
    """Return the white of the eye, extended behind iris and lids, darker towards the corners, (h, w, 3)."""
    made = _extend(lit, np.where(sclera, 1, 0.15 * ball).astype(np.float32))
    aside = _ramp(np.minimum(window.along, 1 - window.along) / 0.22)
    made *= (0.85 + 0.15 * aside)[..., None]
    return np.where(ball[..., None], lit, made).astype(np.float32)


def _extend(pixels: Floats, weight: Floats) -> Floats:
    """Return smooth pixels (h, w, 3): the mean of those around, each with its ``weight`` (h, w)."""
    total = max(float(weight.sum()), 1e-6)
    weighted = pixels * weight[..., None]
    filled = np.broadcast_to(weighted.sum(axis=(0, 1)) / total, pixels.shape)
    for sigma in _SMOOTHNESS:
        near = cv2.GaussianBlur(weight, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)[..., None]
        value = cv2.GaussianBlur(weighted, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT) / np.maximum(near, 1e-6)
        filled = filled + np.clip(near / 0.15, 0, 1) * (value - filled)
    return np.asarray(filled, np.float32)


def _complete_iris(window: EyeWindow, lit: Floats, white: Floats, inside: Bools, iris: Iris) -> Floats:
    """Return the iris with all that the lids cover filled in, and its opacity, (h, w, 4)."""
    x, y = window.x, window.y
    radius = iris.radius(x, y)
    seen = cv2.GaussianBlur(cv2.erode(inside.astype(np.float32), np.ones((3, 3))), (0, 0), 0.8)
    made, glint = _radial_profile(lit, inside, radius)
    plain = seen * (1 - glint)
    # the side opposite the upper lid looks most alike what that lid hides
    for flip_x, flip_y in ((-1, -1), (-1, 1), (1, -1)):
        from_x = (iris.x + flip_x * (x - iris.x)).astype(np.float32)
        from_y = (iris.y + flip_y * (y - iris.y)).astype(np.float32)
        copy = cv2.remap(lit, from_x, from_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        share = cv2.remap(plain, from_x, from_y, cv2.INTER_LINEAR)[..., None]
        made = made + np.float32(COPY) * share * (copy - made)
    opacity = _opacity(iris, window)[..., None]
    # with the white beneath its soft rim, what is visible has to look as it does
    visible = white + (lit - white) / np.maximum(opacity, 0.1)
    made = np.where(inside[..., None], np.clip(visible, lit - 60, lit + 60), made)
    return np.asarray(np.concatenate([made, opacity], axis=2), np.float32)


def _opacity(iris: Iris, window: EyeWindow) -> Floats:
    """Return the opacity of an iris, (h, w): 1 inside of its rim, 0 beyond."""
    edge = max(RIM, 0.75 / iris.across)
    return _ramp((1 + 1.5 * edge - iris.radius(window.x, window.y)) / (2 * edge))


def _radial_profile(lit: Floats, inside: Bools, radius: Floats) -> tuple[Floats, Floats]:
    """Return the iris from the medians at each radius, (h, w, 3), and where a catch-light is, (h, w) 0 or 1."""
    bins = np.linspace(0, 1.4, 15)
    middle = 0.5 * (bins[1:] + bins[:-1])
    light = lit.mean(axis=2)
    rings = [inside & (radius >= low) & (radius < high) for low, high in pairwise(bins)]
    known = [k for k, ring in enumerate(rings) if ring.sum() >= 3]
    if not known:
        visible = lit[inside] if inside.any() else lit.reshape(-1, 3)
        return np.broadcast_to(visible.mean(axis=0), lit.shape).astype(np.float32), np.zeros_like(light)
    # less than the median keeps a catch-light out of the colour of the pupil
    levels = np.array([np.percentile(lit[rings[k]], 50 if middle[k] > 0.4 else 30, axis=0) for k in known])
    profile = np.stack([np.interp(radius, middle[known], levels[:, c]) for c in range(3)], axis=-1)
    over = light - profile.mean(axis=2)
    glint = ((over > max(0.35 * float(np.ptp(levels.mean(axis=1))), 12.0)) & (radius < 0.95)).astype(np.uint8)
    glint = cv2.dilate(glint, np.ones((3, 3), np.uint8))
    return profile.astype(np.float32), glint.astype(np.float32)


def _below(window: EyeWindow) -> Bools:
    """Return where the skin below the eye is, (h, w)."""
    return np.asarray((window.from_lower < -0.15 * window.length) & (window.along > 0.2) & (window.along < 0.8))


def _is_carved(window: EyeWindow, inside: Bools) -> bool:
    """Return whether an eyeball is of the same matter as the skin below the eye: no lighter, and of its hue."""
    below = _below(window)
    if not below.any() or inside.sum() < 12:
        return False
    face, ball = (np.median(window.pixels[where], axis=0) for where in (below, inside))
    hues = [colour / max(float(colour.mean()), 1.0) for colour in (face, ball)]
    return bool(ball.mean() < CARVED_MOST * face.mean() and np.abs(hues[0] - hues[1]).max() < CARVED_HUE)


def _carved_lid(window: EyeWindow, skin: Floats, fold: Floats) -> Floats:
    """Return the lid of an eye without an iris, (h, w, 3), as light as its eyeball from the fold down.

    Stone above such an eye is in the shade of the brow, or a groove. A lid that shuts is a ball as the eye beneath is,
    of the same stone in the same light. ``fold``: the height of the lid, (CURVE,) pixels.
    """
    gap = np.maximum(window.from_upper + window.from_lower, 1.0)
    inside = ((window.from_upper > 0.15 * gap) & (window.from_lower > 0.1 * gap)).astype(np.float32)
    inside *= (window.along > 0.06) & (window.along < 0.94)
    soft = np.asarray(cv2.GaussianBlur(window.pixels, (0, 0), 0.06 * window.length), np.float32)
    ball = _extend(soft, inside.astype(np.float32))
    # where on the lid a place is, from its fold to its edge, is where on the ball it is looked up
    height = np.maximum(window.spread(fold), 1.0)
    part = np.clip(1 + window.from_upper / height, 0, 1)
    down = np.asarray(window.y - window.from_upper + (0.15 + 0.7 * part) * gap, np.float32)
    looked = cv2.remap(ball, window.x, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    face, socket = (np.median(window.pixels[where], axis=0) for where in (_below(window), inside > 0))
    light = np.clip((face / np.maximum(socket, 1)) ** CARVED_LIGHT, 1.0, 2.5)
    middle = _ramp(3 * window.along) * _ramp(3 - 3 * window.along)
    lit = 1 + (light - 1) * (_ramp(part) * middle)[..., None]
    share = _ramp(np.asarray(part / 0.5, np.float32))[..., None]
    return np.asarray(skin + share * (looked * lit - skin), np.float32)


def _lid_skin(window: EyeWindow, lash: Floats) -> tuple[Floats, Floats]:
    """Return the skin of the upper lid without detail, (h, w, 3), and grain as strong as its detail, (h, w)."""
    above = window.from_upper < -window.spread(lash) - 0.5
    lid = above & (window.from_upper > -0.35 * window.length) & (window.along > 0) & (window.along < 1)
    tone = float(np.median(window.light[lid])) if lid.any() else 0.0
    weight = (above & (window.light > 0.5 * tone)).astype(np.float32)
    across = 0.05 * window.length
    near = cv2.GaussianBlur(weight, (0, 0), across, sigmaY=1.2)[..., None]
    value = cv2.GaussianBlur(window.pixels * weight[..., None], (0, 0), across, sigmaY=1.2)
    # lashes beside the eye are no skin, and what is not near any is read nowhere
    skin = np.where(near > 0.02, value / np.maximum(near, 0.02), _extend(window.pixels, weight))
    near_eye = lid & (window.from_upper > -0.2 * window.length) & (np.abs(window.along - 0.5) < 0.35)
    skin *= _lid_light(window, near_eye)
    detail = window.light - cv2.GaussianBlur(window.light, (0, 0), 1.0)
    clear = lid & (window.light > 0.7 * tone)
    strength = 1.2 * float(np.median(np.abs(detail[clear]))) if clear.any() else 0.0
    noise = np.random.default_rng(0).normal(0, min(strength, MOST_GRAIN), window.light.shape)
    return skin.astype(np.float32), noise.astype(np.float32)


def _lid_light(window: EyeWindow, lid: Bools) -> Floats:
    """Return the factor of the skin of a lid once it is shut, (h, w, 3).

    Above an open eye it lies in the shade of brow and fold; shut, it is lit nearly as the skin below the eye.
    """
    below = _below(window)
    if not below.any() or not lid.any():
        return np.ones_like(window.pixels)
    tone, lit = (np.median(window.pixels[where], axis=0) for where in (lid, below))
    factor = np.clip((0.95 * lit / np.maximum(tone, 1)) ** LID_LIGHT, 1.0, 2.0)
    share = _ramp((window.from_upper + 0.2 * window.length) / (0.15 * window.length))
    middle = _ramp(3 * window.along) * _ramp(3 - 3 * window.along)
    return np.asarray(1 + (factor - 1) * (share * (0.3 + 0.7 * middle))[..., None], np.float32)


def _bytes(values: Floats) -> Image:
    """Return values as contiguous uint8."""
    return np.ascontiguousarray(np.clip(values + 0.5, 0, 255), np.uint8)
