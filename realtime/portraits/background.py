"""What is behind a portrait: its own background, or another that the user has chosen."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import ImageColor

from engines.errors import PortraitError, UsageError
from engines.layers.background import fill_background
from engines.layers.foreground import foreground
from engines.types import Image
from realtime.core import paths
from realtime.portraits.image_file import read_image
from realtime.portraits.mount import Mount
from realtime.portraits.portrait import PortraitPicture

WORDS = ("keep", "blur", "transparent")
"""The backgrounds with a name. All others are a colour or an image."""
KEY = (0, 255, 0)
"""The colour behind a transparent portrait where a sink has no alpha, RGB."""
BLUR = 0.035
"""Width of the blur, as a share of the shorter side."""
_COLOUR = re.compile(r"#.*|(rgb|hsl|hsv)\(.*|[A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Background:
    """A background that was chosen."""

    kind: Literal["keep", "blur", "transparent", "colour", "image"] = "keep"
    name: str = "keep"
    """As the user wrote it; an image's is that of its file."""
    colour: tuple[int, int, int] = KEY
    """Its colour, or the key colour of a transparent one, RGB."""
    image: Image | None = None
    """(h, w, 3) RGB of any size."""


KEEP = Background()


def colour_of(text: str) -> tuple[int, int, int] | None:
    """Return the colour of a CSS name or code such as ``#00ff00``, RGB; None for any other text."""
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        return None
    return red, green, blue


def is_named(text: str) -> bool:
    """Return True for a background that needs no image: a word, ``transparent:COLOUR``, or a colour."""
    word, _, key = text.partition(":")
    return text in WORDS or colour_of(key if key and word == "transparent" else text) is not None


def open_background(text: str) -> Background:
    """Return the background that a text names: ``keep``, ``blur``, ``transparent[:COLOUR]``, a colour or an image file.

    Raises UsageError for a colour or a file that cannot be used.
    """
    word, _, key = text.partition(":")
    if text == "keep":
        return KEEP
    if text == "blur":
        return Background("blur", text)
    if word == "transparent":
        colour = colour_of(key) if key else KEY
        if colour is None:
            raise _bad_colour(key)
        return Background("transparent", text, colour)
    colour = colour_of(text)
    if colour is not None:
        return Background("colour", text, colour)
    path = paths.expand(text)
    if _COLOUR.fullmatch(text) and not path.exists():
        raise _bad_colour(text)
    return Background("image", path.name, image=_read(path))


def _bad_colour(text: str) -> UsageError:
    expected = "keep, blur, transparent, a colour such as green or #00ff00, or an image file"
    return UsageError("background-bad-colour", f"the background {text[:60]!r}", expected, "choose one of them")


def _read(path: Path) -> Image:
    """Return the pixels of an image file. Raises UsageError."""
    if not path.exists():
        raise UsageError("background-missing", f"no image file {path}", cure="check --background")
    try:
        return read_image(path).image
    except PortraitError as error:
        raise UsageError("background-unreadable", error.found, error.expected, error.cure) from None


def before(picture: PortraitPicture, background: Background) -> tuple[PortraitPicture, Image | None]:
    """Return the portrait before a background, and that background alone, (H, W, 3), None where it is its own.

    The subject's edge keeps its own colours, without those of the old background. A portrait whose subject was not
    found stays as it is.
    """
    matte = picture.matte
    if matte is None or background.kind == "keep":
        return picture, None
    filled = fill_background(picture.image, matte)
    mount = picture.mount
    if background.kind == "blur":
        behind = _blurred(filled)
    elif mount is None:
        behind = _frame(background, picture.face.size)
    else:
        tall, wide = mount.frame.shape[:2]
        frame = _frame(background, (wide, tall))
        left, top, right, bottom, _ = mount.window
        behind = np.ascontiguousarray(frame[top:bottom, left:right])
        mount = Mount(frame, mount.window)
    own = foreground(picture.image, matte, filled).astype(np.float32)
    share = (matte.astype(np.float32) / 255)[..., None]
    image = np.asarray(behind + share * (own - behind) + 0.5, np.uint8)
    return replace(picture, image=image, mount=mount), behind


def _frame(background: Background, size: tuple[int, int]) -> Image:
    """Return a colour, or an image that covers a frame of ``size`` (width, height) from its middle, (H, W, 3)."""
    width, height = size
    if background.image is None:
        return np.full((height, width, 3), background.colour, np.uint8)
    tall, wide = background.image.shape[:2]
    scale = max(width / wide, height / tall)
    part_wide, part_tall = min(wide, round(width / scale)), min(tall, round(height / scale))
    left, top = (wide - part_wide) // 2, (tall - part_tall) // 2
    part = background.image[top : top + part_tall, left : left + part_wide]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.ascontiguousarray(cv2.resize(part, size, interpolation=how), np.uint8)


def _blurred(image: Image) -> Image:
    """Return an image under a wide blur, computed at a quarter of the size."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (max(1, width // 4), max(1, height // 4)), interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small.astype(np.float32), (0, 0), max(BLUR * min(height, width) / 4, 0.5))
    wide = np.asarray(cv2.resize(soft, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    # a smooth shade of eight bits shows bands without a little noise
    wide += np.random.default_rng(1).uniform(-0.5, 0.5, (height, width, 1)).astype(np.float32)
    return np.asarray(np.clip(wide + 0.5, 0, 255), np.uint8)
