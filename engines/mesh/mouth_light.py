"""The light on a face: how light what is white is in it, and of which colour.

The inside of a mouth is lit as the face around it. What is known to be white in a face is the sclera, and skin has the
same hue in all of us, more or less; teeth are as white as the light.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.face.topology import CHEEK_SKIN, EYE_CORNERS, IRISES, LIP_ROWS, OVAL
from engines.jit import compiled
from engines.types import Floats, Image, Points

SKIN_TINT = np.array([1.22, 0.96, 0.82], np.float32)
"""The colour of skin in white light, over its lightness; between that of pale and of dark skin."""
TOOTH = np.array([0.92, 0.89, 0.83], np.float32)
"""The colour of a tooth in white light, over white."""
FLESH, FLESH_REDNESS = np.array([1.38, 0.8, 0.82], np.float32), (0.24, 0.45)
"""The colour of tongue and gums in white light, over its lightness, and how red they are at least and at most: by how
much their red is above their lightness.
"""
LIKE_LIPS = 0.6
"""The share of the lips of a picture in the colour of its flesh."""
TINTED, LARGEST_TINT = 0.5, 0.2
"""The share of the colour of a picture's whites that its teeth take, and the largest saturation that they take."""
COLOURED_LIGHT = (0.6, 0.95)
"""The saturations of the light on a face between which teeth take on its colour more and more: white teeth look blue in
the light of a fire. Skin and varnish alone rarely read as more than the first.
"""
MONOCHROME = (3.0, 7.0)
"""Whites and lips that differ from the skin by less are of one colour with it, in Lab; not above the second."""
VIVID_LIPS = 24.0
"""The chroma of lips from which the inside of a mouth has its full colour, in Lab."""
DARKEST, LIGHTEST = 45.0, 226.0
"""The range of a picture's white: teeth neither vanish nor glow."""
LIT = 0.85
"""The lightness of the lightest skin of a face over that of white."""
LEARN_WHITE, LEARN_TOOTH = 0.03, 0.1
"""The share of a frame in what is remembered of the driver's light."""
TOOTH_LIGHT, TOOTH_SATURATION, TEETH_SHARE = 0.5, 0.32, 0.08
"""Teeth are lighter than this share of white and less saturated; they are seen where they are this share of a mouth."""
LIGHTER, RETINTED = (0.55, 1.6), 1.5
"""The range in which teeth correct the lightness, and each channel, that skin and sclera suggest."""
LIGHTER_BY_SKIN, TINTED_BY_SKIN = 0.3, 0.12
"""The most by which the skin of both faces changes the lightness, and each channel, that whites and teeth suggest;
natural logarithms.

If both are the same skin, their ratio is that of the lights, and more certain than whites are: the inside of a mouth in
warm light is warm, and neutral teeth look grey in it. But people's skins differ.
"""
GRAIN = 48
"""The size of the sample of a picture's grain, pixels."""
WET = 0.5
"""The share of the grain of skin that teeth and tongue have: they are smoother."""
_MIDDLE = slice(3, 8)
_LIPS = np.stack([lip[2][_MIDDLE] for lip in LIP_ROWS])
_CHEEKS = CHEEK_SKIN[None]


def skin_colour(image: Image, pixels: Points) -> Floats:
    """Return the mean colour of the cheeks, (3,) float32. ``pixels``: landmarks (478, 2 or more)."""
    colour: Floats = mean_colours(image, pixels, _CHEEKS)[0]
    return colour


def sclera_colour(image: Image, pixels: Points) -> Floats:
    """Return the mean colour of the two lightest of four places beside the irises, (3,) float32."""
    places = np.empty((4, 2), np.float32)
    for eye in range(2):
        iris = pixels[IRISES[eye], :2]
        radius = float(np.hypot(*(iris[1:] - iris[0]).T).mean())
        for end in range(2):
            way = pixels[EYE_CORNERS[eye][end], :2] - iris[0]
            length = max(float(np.hypot(*way)), 1e-3)
            places[2 * eye + end] = iris[0] + way * (min(1.35 * radius, 0.7 * length) / length)
    colours = colours_at(image, places)
    return np.asarray(colours[np.argsort(colours.sum(axis=1))[-2:]].mean(axis=0), np.float32)


def lip_colours(image: Image, pixels: Points) -> Floats:
    """Return the mean colour of the upper and of the lower lip, (2, 3) float32."""
    colours: Floats = mean_colours(image, pixels, _LIPS)
    return colours


@compiled()
def mean_colours(image: Any, pixels: Any, groups: Any) -> Any:
    """Return the mean colour of an image at each group of landmarks, (n, 3) float32. groups: (n, m) indices."""
    last_x, last_y = image.shape[1] - 1, image.shape[0] - 1
    colours = np.zeros((groups.shape[0], 3), np.float32)
    for i in range(groups.shape[0]):
        for j in range(groups.shape[1]):
            x = int(min(max(pixels[groups[i, j], 0], 0), last_x))
            y = int(min(max(pixels[groups[i, j], 1], 0), last_y))
            for c in range(3):
                colours[i, c] += image[y, x, c]
        for c in range(3):
            colours[i, c] /= np.float32(groups.shape[1])
    return colours


def colours_at(image: Image, points: Points) -> Floats:
    """Return the colours of an image (H, W, 3) at points (N, 2), (N, 3) float32."""
    height, width = image.shape[:2]
    columns = np.clip(points[:, 0], 0, width - 1).astype(np.intp)
    rows = np.clip(points[:, 1], 0, height - 1).astype(np.intp)
    return image[rows, columns].astype(np.float32)


def light_colour(skin: Floats, sclera: Floats) -> Floats:
    """Return the colour of the light on a face over its lightness, (3,) with a mean of 1, from skin and sclera."""
    by_skin = skin / SKIN_TINT
    both = np.sqrt(np.maximum(by_skin / max(float(by_skin.mean()), 1.0), 0.05) * _tint(sclera))
    return np.asarray(both / both.mean(), np.float32)


def _tint(colour: Floats) -> Floats:
    """Return a colour (3,) over its lightness, which has a mean of 1."""
    return np.maximum(colour / max(float(colour.mean()), 1.0), np.float32(0.05))


_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
"""From linear sRGB to CIE XYZ (ITU-R BT.709, D65)."""


def lab(colour: Floats) -> Floats:
    """Return an sRGB colour, (3,) 0 to 255, in CIE L*a*b*.

    As ``cv2.cvtColor`` does, whose tables for it take a tenth of a second to make.
    """
    share = np.asarray(colour, np.float64) / 255
    linear = np.where(share > 0.04045, ((share + 0.055) / 1.055) ** 2.4, share / 12.92)
    xyz = _XYZ @ linear / _XYZ.sum(axis=1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)], np.float32)


@dataclass(frozen=True, slots=True)
class MouthLight:
    """How a portrait shows the inside of a mouth."""

    white: float
    """The lightness of a white thing in the light of the face, 0 to 255."""
    skin: Floats
    """(3,) the colour of the cheeks."""
    tint: Floats
    """(3,) the colour of a grey thing over its lightness."""
    colour: float
    """The share of its own colour that a thing has in the picture: 0 in a picture of one colour."""
    flesh: Floats
    """(3,) the colour of tongue and gums in white light over its lightness, akin to the picture's lips."""
    blur: float
    """The standard deviation of the picture's blur, pixels."""
    grain: Floats
    """(48, 48) a sample of the picture's grain, around 0."""

    @staticmethod
    def of(image: Image, pixels: Points) -> MouthLight:
        """Estimate the light of a portrait. ``pixels``: landmarks (478, 2 or more)."""
        smooth = np.asarray(cv2.blur(image, (3, 3)), np.uint8)
        skin, sclera = skin_colour(smooth, pixels), sclera_colour(smooth, pixels)
        lips = np.asarray(lip_colours(smooth, pixels).mean(axis=0), np.float32)
        face = np.zeros(image.shape[:2], np.uint8)
        cv2.fillPoly(face, [np.rint(pixels[OVAL, :2]).astype(np.int32)], (255,))
        lightest = float(np.percentile(smooth[face > 0].mean(axis=1), 95)) if face.any() else float(skin.mean())
        white = min(max(float(sclera.mean()), LIT * lightest, DARKEST), LIGHTEST)
        colour = _own_colours(lab(skin)[1:], lab(sclera)[1:], lab(lips)[1:])
        tint = colour * _near_white(sclera, light_colour(skin, sclera)) + (1 - colour) * _tint(skin)
        return MouthLight(
            white, skin, np.asarray(tint, np.float32), colour, _flesh(lips, tint), blur_of(image, face),
            _grain(image, pixels),
        )  # fmt: skip


def _flesh(lips: Floats, tint: Floats) -> Floats:
    """Return ``MouthLight.flesh`` from the colour of a picture's lips and the tint of its greys, (3,) each."""
    mixed = FLESH + np.float32(LIKE_LIPS) * (_tint(lips / tint) - FLESH)
    apart = mixed / mixed.mean() - 1
    redness = float(apart[0])
    if redness < 0.5 * FLESH_REDNESS[0]:
        # lips that were painted blue say nothing of what is behind them
        apart, redness = FLESH / FLESH.mean() - 1, float(FLESH[0] / FLESH.mean() - 1)
    return np.asarray(1 + apart * (min(max(redness, FLESH_REDNESS[0]), FLESH_REDNESS[1]) / redness), np.float32)


def _own_colours(skin: Floats, sclera: Floats, lips: Floats) -> float:
    """Return ``MouthLight.colour`` from the chroma (2,) of skin, sclera and lips in Lab."""
    chroma = max(float(np.hypot(*skin)), 1e-3)
    # lips that are darker than skin of the same colour have less chroma, but the same hue
    hue = abs(float(lips[0] * skin[1] - lips[1] * skin[0])) / chroma if chroma > 4 else float(np.hypot(*(lips - skin)))
    apart = max(hue, 0.6 * float(np.hypot(*(sclera - skin))))
    vivid = min(max(float(np.hypot(*lips)) / VIVID_LIPS, 0.35), 1.0)
    return vivid * min(max((apart - MONOCHROME[0]) / (MONOCHROME[1] - MONOCHROME[0]), 0.0), 1.0)


def _near_white(colour: Floats, light: Floats) -> Floats:
    """Return the tint of whites like ``colour``, (3,), with little of its saturation unless ``light`` has a colour."""
    tint = _tint(colour)
    share = min(TINTED, LARGEST_TINT / max(_saturation(tint), 1e-3))
    low, high = COLOURED_LIGHT
    lit = min(max((_saturation(light) - low) / (high - low), 0.0), 1.0)
    return np.asarray((1 - lit) * (1 + share * (tint - 1)) + lit * light, np.float32)


def _saturation(colour: Floats) -> float:
    """Return the saturation of a colour (3,), 0 to 1."""
    return 1 - float(colour.min() / colour.max())


def blur_of(image: Image, mask: NDArray[np.uint8]) -> float:
    """Return the standard deviation of an image's blur, pixels, from its sharpest edges inside a mask (H, W).

    An edge that was blurred by s has a gradient that is larger by sqrt(1 + 1 / s^2) than after another blur by 1 (Zhuo
    and Sim, "Defocus map estimation from a single image", 2011).
    """
    grey = cv2.GaussianBlur(image, (0, 0), 0.6).astype(np.float32).mean(axis=2)
    again = cv2.GaussianBlur(grey, (0, 0), 1.0)
    first, second = (np.hypot(*np.gradient(picture)) for picture in (grey, again))
    inside = mask > 0
    if not inside.any():
        return 1.0
    edges = inside & (first >= np.percentile(first[inside], 97)) & (first > 2)
    if edges.sum() < 20:
        return 1.5
    ratio = float(np.percentile(first[edges] / np.maximum(second[edges], 1e-3), 60))
    return float(np.clip(1 / np.sqrt(max(ratio * ratio - 1, 1e-2)), 0.3, 4.0))


def _grain(image: Image, pixels: Points) -> Floats:
    """Return a sample of the grain of a portrait's cheek, (48, 48) float32."""
    width = float(np.ptp(pixels[OVAL, 0]))
    side = int(np.clip(0.14 * width, 6, GRAIN))
    x, y = (int(v) for v in pixels[CHEEK_SKIN[::2], :2].mean(axis=0))
    left, top = (min(max(at - side // 2, 0), most - side) for at, most in ((x, image.shape[1]), (y, image.shape[0])))
    part = image[max(top, 0) : top + side, max(left, 0) : left + side].astype(np.float32).mean(axis=2)
    fine = part - cv2.GaussianBlur(part, (0, 0), max(0.006 * width, 1.0), borderType=cv2.BORDER_REFLECT)
    fine -= fine.mean(axis=0, keepdims=True) + fine.mean(axis=1, keepdims=True) - fine.mean()
    limit = 3 * float(np.median(np.abs(fine)))
    fine = np.float32(WET) * np.clip(fine, -limit, limit)
    # mirrored, it repeats without a seam
    return np.asarray(np.pad(fine, [(0, GRAIN - n) for n in fine.shape], mode="symmetric"), np.float32)


class DriverLight:
    """The light on the driver's face, as far as it is known by now."""

    def __init__(self) -> None:
        self._white: Floats | None = None
        self._tooth: Floats | None = None
        self._skin: Floats = np.ones(3, np.float32)
        self._gains: tuple[MouthLight, tuple[Floats, Floats]] | None = None
        """The last result of ``gains``, and for which picture; None after a change."""

    def reset(self) -> None:
        """Forget the face."""
        self._white = self._tooth = self._gains = None

    def update(self, skin: Floats, sclera: Floats, inside: Floats) -> None:
        """Take in the colours of a frame: skin and sclera (3,), and samples from between the lips, (N, 3)."""
        self._gains = None
        lightness = max(float(sclera.mean()), LIT * float(skin.mean()), 10.0)
        white = np.asarray(lightness * light_colour(skin, sclera), np.float32)
        if self._white is None:
            self._white, self._skin = white, skin
        self._white = self._white + np.float32(LEARN_WHITE) * (white - self._white)
        self._skin = self._skin + np.float32(LEARN_WHITE) * (skin - self._skin)
        seen = inside / self._white
        light = seen.mean(axis=1)
        tooth = (light > TOOTH_LIGHT) & (seen.min(axis=1) > (1 - TOOTH_SATURATION) * seen.max(axis=1))
        if tooth.mean() > TEETH_SHARE:
            # the lightest half: the rest lies in the shadow of the lips
            lightest = inside[tooth & (light >= np.median(light[tooth]))].mean(axis=0)
            self._tooth = (
                lightest if self._tooth is None else self._tooth + np.float32(LEARN_TOOTH) * (lightest - self._tooth)
            )  # fmt: skip

    def gains(self, light: MouthLight) -> tuple[Floats, Floats]:
        """Return two factors of the driver's colours, (3,) each, with which ``light.tint`` makes them the picture's.

        The first turns them to those in white light, the second is by the skin of both faces.
        """
        if self._gains is None or self._gains[0] is not light:
            self._gains = light, self._gains_now(light)
        return self._gains[1]

    def _gains_now(self, light: MouthLight) -> tuple[Floats, Floats]:
        if self._white is None:
            return np.ones(3, np.float32), np.ones(3, np.float32)
        gains = self._by_whites(self._white, light.white)
        by_skin = np.maximum(light.skin, 8) / np.maximum(self._skin, 8)
        apart = np.log(by_skin / np.maximum(gains * light.tint, 1e-3))
        lighter = apart.mean()
        change = LIGHTER_BY_SKIN * np.tanh(lighter / LIGHTER_BY_SKIN)
        change = change + TINTED_BY_SKIN * np.tanh((apart - lighter) / TINTED_BY_SKIN)
        return gains, np.asarray(np.exp(change), np.float32)

    def _by_whites(self, driver: Floats, white: float) -> Floats:
        """Return factors (3,) that turn the driver's colours to those in white light of the lightness ``white``.

        ``driver``: the colour of white in the driver's light, (3,).
        """
        gains = white / driver
        if self._tooth is not None:
            # teeth are the best known: they become white ones, and as light as white things are
            by_teeth = TOOTH * np.float32(white) / np.maximum(self._tooth, 1)
            lighter = min(max(float(by_teeth.mean() / gains.mean()), LIGHTER[0]), LIGHTER[1])
            tint = np.clip((by_teeth / gains) / (by_teeth / gains).mean(), 1 / RETINTED, RETINTED)
            gains = gains * np.float32(lighter) * tint
        return np.asarray(gains, np.float32)


def compile_all() -> None:
    """Compile the loop here, or load it from numba's cache, for read-only images too."""
    image, pixels = np.zeros((1, 1, 3), np.uint8), np.zeros((478, 3), np.float32)
    for _ in range(2):
        skin_colour(image, pixels)
        image.flags.writeable = False
