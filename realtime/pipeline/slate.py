"""The slate: what is shown at start-up, on request and after a failure."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont, features

from engines.types import Image
from realtime.core.page_words import slate_text

# the page's dark colours
_MIDDLE, _EDGE = (44, 37, 29), (17, 14, 11)
_INK, _GOLD = (242, 235, 224), (229, 181, 101)

MARK = 0.19
"""Height of the program's mark, as all lengths here a share of the frame's shorter side."""
TEXT = 0.058
"""Size of the letters."""
LEAST_TEXT = 0.036
"""Text that is too long for its line is made smaller down to this size, then set in two lines."""
LINE = 1.3
"""Distance of two lines, in sizes of the letters."""
GAP = 0.105
"""From the mark to the middle of the text."""
_WIDTH = 0.84
"""The widest line, as a share of the frame's width."""
_WIDE_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansSC-Regular.otf",
    "wqy-zenhei.ttc",
    "wqy-microhei.ttc",
    "PingFang.ttc",
    "msyh.ttc",
)
"""Fonts with Chinese characters, as Linux, macOS and Windows have them."""
_LAST_LETTER = 0x2FFF
"""Chinese characters and their punctuation come after it."""
_FINE = 4
"""The mark is drawn this many times larger, as Pillow's shapes have hard edges."""
_UNITS = 32.0
"""Side of the square that the mark is designed in, that of the page's icon."""


def draw(size: tuple[int, int], text: str, language: str = "en") -> Image:
    """Return a slate of that width and height that says one thing, (H, W, 3) uint8 RGB.

    ``text`` is English. It is drawn in ``language`` where that has words for it, and this machine the letters.
    """
    said = slate_text(text, language)
    text = said if _wide_font() or not _is_wide(said) else text
    width, height = size
    unit = min(size)
    lines, font = _set(text[:1].upper() + text[1:], unit, _WIDTH * width)
    card = _ground(size).copy()
    letters = Pillow.fromarray(card)
    pen = ImageDraw.Draw(letters)
    step = LINE * _size(font, unit)
    middle = height / 2 + (0.5 * MARK + 0.5 * GAP) * unit
    for number, line in enumerate(lines):
        at = (width / 2, middle + (number - (len(lines) - 1) / 2) * step)
        pen.text(at, line, _INK, font, anchor="mm")
    return np.ascontiguousarray(np.asarray(letters, np.uint8))


def _set(text: str, unit: int, room: float) -> tuple[list[str], Any]:
    """Return the lines of a text and their font: as large as fits into ``room`` pixels, in two lines if need be."""
    file = _wide_font() if _is_wide(text) else ""
    font = _font(TEXT * unit, file)
    wide = font.getlength(text)
    if wide <= room:
        return [text], font
    if TEXT * room / wide >= LEAST_TEXT:
        return [text], _font(TEXT * unit * room / wide, file)
    words = text.split()
    breaks = [(" ".join(words[:at]), " ".join(words[at:])) for at in range(1, len(words))] or [(text, "")]
    lines = min(breaks, key=lambda pair: max(font.getlength(line) for line in pair))
    widest = max(font.getlength(line) for line in lines)
    return [line for line in lines if line], _font(TEXT * unit * min(1.0, room / widest), file)


def _font(size: float, file: str = "") -> Any:
    """Return a font of a file at that size in pixels; the one that Pillow brings along, near to the page's, without."""
    if file:
        return ImageFont.truetype(file, max(6.0, size))
    if features.check("freetype2"):
        return ImageFont.load_default(max(6.0, size))
    return ImageFont.load_default()


def _is_wide(text: str) -> bool:
    """Return whether a text has characters that the font that Pillow brings along lacks."""
    return any(ord(letter) > _LAST_LETTER for letter in text)


@functools.cache
def _wide_font() -> str:
    """Return the file of a font of this machine with Chinese characters; empty where there is none."""
    for name in _WIDE_FONTS if features.check("freetype2") else ():
        with contextlib.suppress(OSError):
            ImageFont.truetype(name, 12)
            return name
    return ""


def _size(font: Any, unit: int) -> float:
    """Return the size of a font in pixels."""
    return float(getattr(font, "size", TEXT * unit))


@functools.lru_cache(maxsize=4)
def _ground(size: tuple[int, int]) -> Image:
    """Return what all slates of a size have in common: a warm dark ground with the mark, (H, W, 3)."""
    width, height = size
    unit = min(size)
    centre = (width / 2, height / 2 - 0.5 * GAP * unit)
    across = (np.arange(width, dtype=np.float32) - centre[0]) / max(width, 0.8 * height)
    down = (np.arange(height, dtype=np.float32) - centre[1]) / max(height, 0.8 * width)
    away = np.clip(np.hypot(across[None, :], down[:, None]) / 0.62, 0, 1)[..., None]
    share = away * away * (3 - 2 * away)
    ground = np.array(_MIDDLE, np.float32) * (1 - share) + np.array(_EDGE, np.float32) * share
    # a dark shade of eight bits shows bands without a little noise
    ground += np.random.default_rng(1).uniform(-0.7, 0.7, (height, width, 1)).astype(np.float32)
    frame, figure = _mark(round(MARK * unit))
    tall, wide = frame.shape
    top, left = round(centre[1] - tall / 2), round((width - wide) / 2)
    place = ground[top : top + tall, left : left + wide]
    for alpha, colour in ((frame, _GOLD), (figure, _INK)):
        place += alpha[..., None] * (np.array(colour, np.float32) - place)
    return np.asarray(np.clip(ground + 0.5, 0, 255), np.uint8)


def _mark(height: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the page's icon at a height in pixels: where its frame and where its figure is, (H, W) in [0, 1]."""
    scale = height * _FINE / 25.0  # the frame is 25 units high with its line
    side = round(_UNITS * scale)
    frame, figure = Pillow.new("L", (side, side)), Pillow.new("L", (side, side))
    pen = ImageDraw.Draw(frame)
    line = 2.2 * scale
    outer = (4.4 * scale, 3.4 * scale, 27.6 * scale, 28.6 * scale)
    inner = (outer[0] + line, outer[1] + line, outer[2] - line, outer[3] - line)
    pen.rounded_rectangle(outer, 4.1 * scale, fill=255)
    pen.rounded_rectangle(inner, 1.9 * scale, fill=0)
    pen = ImageDraw.Draw(figure)
    pen.ellipse([each * scale for each in (11.7, 9.3, 20.3, 17.9)], fill=255)
    left = _curve((8.2, 26.4), (8.7, 21.4), (11.7, 18.8), (16.0, 18.8))
    right = _curve((16.0, 18.8), (20.3, 18.8), (23.3, 21.4), (23.8, 26.4))
    pen.polygon([(x * scale, y * scale) for x, y in left + right], fill=255)
    box = (round(outer[0]), round(outer[1]), round(outer[2]), round(outer[3]))
    wide = round(height * (outer[2] - outer[0]) / (outer[3] - outer[1]))
    reduced = (
        cv2.resize(np.asarray(part.crop(box), np.uint8), (wide, height), interpolation=cv2.INTER_AREA)
        for part in (frame, figure)
    )
    first, second = (np.asarray(part, np.float32) / 255 for part in reduced)
    return first, second


def _curve(*points: tuple[float, float]) -> list[tuple[float, float]]:
    """Return points of a cubic Bezier curve."""
    at = np.linspace(0, 1, 24)[:, None]
    start, first, second, end = (np.array(point) for point in points)
    curve = (1 - at) ** 3 * start + 3 * at * (1 - at) ** 2 * first + 3 * at**2 * (1 - at) * second + at**3 * end
    return [(float(x), float(y)) for x, y in curve]
