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
from engines.layers.background import fill_background, push_pull
from engines.layers.foreground import foreground
from engines.types import Image, Mask
from realtime.core import paths
from realtime.portraits.image_file import check_picture, read_image
from realtime.portraits.mount import Mount
from realtime.portraits.portrait import PortraitPicture

WORDS = ("keep", "blur", "transparent")
"""The backgrounds with a name. All others are a colour or an image."""
KEY = (0, 255, 0)
"""The colour behind a transparent portrait where a sink has no alpha, RGB."""
BLUR = 0.035
"""Width of the blur, as a share of the shorter side."""
RIM = 0.014
"""Width of the edge in which the old background may shine through, likewise."""
NOT_SUBJECT, SUBJECT = 0.05, 0.8
"""Shares of the subject's colour in a pixel up to which, and from which on, it is none of the subject or all."""
ALIKE = 35.0
"""Colours that differ by less, in levels, are alike; by twice as much, they are not."""
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


def check_background(text: str) -> None:
    """Raise UsageError for a background that cannot be used, as far as an image's header says."""
    if text == "keep" or is_named(text):
        return
    path = paths.expand(text)
    if not path.exists():
        open_background(text)
        return
    try:
        check_picture(path)
    except PortraitError as error:
        raise _unreadable(error) from None


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
        raise _unreadable(error) from None


def _unreadable(error: PortraitError) -> UsageError:
    return UsageError("background-unreadable", error.found, error.expected, error.cure)


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
    matte = _tightened(picture.image, matte, filled)
    own = foreground(picture.image, matte, filled).astype(np.float32)
    share = (matte.astype(np.float32) / 255)[..., None]
    image = np.asarray(behind + share * (own - behind) + 0.5, np.uint8)
    return replace(picture, image=image, matte=matte, mount=mount), behind


def _tightened(image: Image, matte: Mask, filled: Image) -> Mask:
    """Return the matte (H, W) without the rim that has the colours of the old background ``filled``.

    Along the edge, the share of the subject in a pixel is measured between two colours: that of the background there,
    and that of what lies further in. Where these two are alike, the matte stays.
    """
    reach = max(2, round(RIM * min(matte.shape)))
    inner = cv2.erode(matte, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))
    rim = (matte > 0) & (inner < 250)
    if not rim.any() or not (inner >= 250).any():
        return matte
    subject = push_pull(image, (inner >= 250).astype(np.float32))
    behind = filled.astype(np.float32)
    apart = subject - behind
    square = (apart * apart).sum(axis=2)
    share = ((image - behind) * apart).sum(axis=2) / np.maximum(square, 1)
    most = np.clip((share - NOT_SUBJECT) / (SUBJECT - NOT_SUBJECT), 0, 1)
    trust = np.clip((np.sqrt(square) - ALIKE) / ALIKE, 0, 1)
    limit = np.where(rim, 1 - trust * (1 - most), 1).astype(np.float32)
    return np.asarray(np.minimum(matte, cv2.GaussianBlur(limit, (0, 0), 0.7) * 255) + 0.5, np.uint8)


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
