"""The visible label of a synthetic frame: a few words on a dark plate, drawn once for a size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont, features

from engines.errors import ReenactError
from engines.types import Image

WORDS = {
    "en": "AI-generated",
    "zh": "AI 生成",
    "de": "KI-generiert",
    "fr": "Généré par IA",
    "es": "Generado por IA",
}
"""What the label says, by language."""
TEXT = 0.042
"""Size of the letters, as all lengths here a share of the frame's shorter side."""
LEAST_TEXT = 8.0
"""The smallest size of the letters in pixels."""
MARGIN = 0.03
"""From the label to the frame's right and lower edge."""
_FINE = 4
"""The label is drawn this many times larger, then reduced."""
_PLATE, _INK = (17, 14, 11), (242, 235, 224)
_PLATE_ALPHA, _INK_ALPHA = 0.6, 0.96
_STROKE = 0.085
"""Width of a stroke of the characters drawn here, in sizes of the letters."""
_CHARACTERS: dict[str, tuple[tuple[tuple[float, float], ...], ...]] = {
    "生": (
        ((0.27, 0.08), (0.21, 0.23), (0.11, 0.38)),
        ((0.22, 0.29), (0.88, 0.29)),
        ((0.20, 0.58), (0.84, 0.58)),
        ((0.52, 0.06), (0.52, 0.90)),
        ((0.06, 0.90), (0.94, 0.90)),
    ),
    "成": (
        ((0.16, 0.27), (0.92, 0.27)),
        ((0.17, 0.27), (0.17, 0.55), (0.14, 0.74), (0.05, 0.92)),
        ((0.17, 0.49), (0.42, 0.49), (0.41, 0.70), (0.37, 0.78), (0.27, 0.77)),
        ((0.54, 0.06), (0.56, 0.33), (0.62, 0.57), (0.72, 0.77), (0.83, 0.90), (0.91, 0.88), (0.93, 0.72)),
        ((0.83, 0.42), (0.74, 0.60), (0.61, 0.77), (0.44, 0.92)),
        ((0.69, 0.08), (0.80, 0.19)),
    ),
}
"""Characters that the font lacks, as lines in a square of side 1: x, y from the top left."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label and where it lies in frames of one size."""

    colours: Image
    """(h, w, 3) uint8, RGB."""
    alpha: NDArray[np.uint8]
    """(h, w) uint8."""
    left: int
    top: int


def draw_label(size: tuple[int, int], language: str) -> Label:
    """Return the label for frames of that width and height, in one of the languages of ``WORDS``."""
    width, height = size
    unit = min(size)
    letters = max(LEAST_TEXT, TEXT * unit)
    text = _draw_text(WORDS[language], letters * _FINE)
    wide, tall = round((text.width / _FINE) + 1.15 * letters), round(1.75 * letters)
    plate, ink = (Pillow.new("L", (wide * _FINE, tall * _FINE)) for _ in range(2))
    ImageDraw.Draw(plate).rounded_rectangle(
        (0, 0, *(side - 1 for side in plate.size)), 0.42 * letters * _FINE, fill=255
    )
    ink.paste(text, ((ink.width - text.width) // 2, (ink.height - text.height) // 2))
    limits = width - 2, height - 2
    reduced = [
        each.resize((min(wide, limits[0]), min(tall, limits[1])), Pillow.Resampling.BOX) for each in (plate, ink)
    ]
    below, above = (np.asarray(each, np.float32)[..., None] / 255 for each in reduced)
    below, above = _PLATE_ALPHA * below, _INK_ALPHA * above
    alpha = above + below * (1 - above)
    colours = np.array(_INK, np.float32) * above + np.array(_PLATE, np.float32) * below * (1 - above)
    colours = np.rint(colours / np.maximum(alpha, 1 / 255)).clip(0, 255).astype(np.uint8)
    margin = round(MARGIN * unit)
    left, top = (max(0, side - margin - own) for side, own in zip(size, reduced[0].size, strict=True))
    return Label(np.ascontiguousarray(colours), np.rint(alpha[..., 0] * 255).astype(np.uint8), left, top)


def _draw_text(text: str, letters: float) -> Any:
    """Return a text of letters of that size in pixels, white on black, a Pillow image."""
    if not features.check("freetype2"):
        # Pillow's other font has one size, a few pixels, at which a label cannot be read
        found, expected = "Pillow without FreeType", "Pillow as its wheels are, for the label"
        raise ReenactError("label-no-font", found, expected, "reinstall Pillow, or give --label off")
    font: Any = ImageFont.load_default(letters)
    widths = [letters * 1.06 if each in _CHARACTERS else font.getlength(each) for each in text]
    latin = not any(each in _CHARACTERS for each in text)
    room = font.getlength(text.replace("é", "e")) if latin else sum(widths)
    # letters of middle height are in the middle
    picture = Pillow.new("L", (round(room), round(letters * 1.3)))
    pen = ImageDraw.Draw(picture)
    middle = picture.height / 2 + 0.36 * letters
    if latin:
        pen.text((0, middle), text.replace("é", "e"), 255, font, anchor="ls")
        for at in (at for at, each in enumerate(text) if each == "é"):
            _draw_acute(pen, font.getlength(text[:at].replace("é", "e")) + 0.5 * font.getlength("e"), middle, letters)
        return picture
    left = 0.0
    for each, wide in zip(text, widths, strict=True):
        if each in _CHARACTERS:
            _draw_character(pen, each, left + 0.03 * letters, picture.height / 2 - 0.49 * letters, letters)
        else:
            pen.text((left, middle), each, 255, font, anchor="ls")
        left += wide
    return picture


def _draw_acute(pen: Any, x: float, y: float, letters: float) -> None:
    """Draw the accent that the font lacks over a small letter with its middle at x and its foot at y."""
    pen.line(
        [(x - 0.03 * letters, y - 0.6 * letters), (x + 0.1 * letters, y - 0.76 * letters)], 255, round(0.075 * letters)
    )


def _draw_character(pen: Any, character: str, left: float, top: float, letters: float) -> None:
    """Draw a character that the font lacks into a square of that side."""
    width = _STROKE * letters
    for stroke in _CHARACTERS[character]:
        points = [(left + x * letters, top + y * letters) for x, y in stroke]
        pen.line(points, 255, round(width), joint="curve")
        for x, y in points:
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
