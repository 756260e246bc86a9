"""Reads image files of many formats as upright 8-bit sRGB."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps, UnidentifiedImageError

from engines.errors import PortraitError
from engines.types import Image

COMMON_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM")
"""Formats that Pillow opens without loading all of its plugins, which takes a tenth of a second."""
OTHER_FORMATS = ("WEBP", "AVIF", "TIFF", "JPEG2000", "TGA")
"""Further accepted formats. Formats that start other programs, such as EPS, are left out."""
READABLE = "JPEG, PNG, WebP, AVIF, TIFF, BMP or GIF"
"""The formats named in messages."""
CONVERT = "save the picture in one of these formats"
MAX_PIXELS = 150_000_000
"""Larger images are refused. Reading one of this size takes about a gigabyte for a moment."""
WORKING_PIXELS = 50_000_000
"""Larger images are reduced by a factor of 2, 4, ... while they are read, which leaves enough detail of a face."""
BACKDROP = (128, 128, 128)
"""The RGB colour behind transparent parts."""


class DecodedImage(NamedTuple):
    """An image as read from a file or an upload."""

    image: Image
    """(H, W, 3) uint8 RGB, sRGB, upright."""
    notes: tuple[str, ...]
    """What the user should know about how it was read, a sentence each."""


def read_image(path: Path) -> DecodedImage:
    """Read an image file, upright, as 8-bit sRGB.

    EXIF orientation and colour profiles are applied, transparent parts become grey, 16 bits are scaled to 8, and of
    an animation the first frame is used. Raises PortraitError if the file cannot be read.
    """
    check_file(path)
    return _decode(path, path, MAX_PIXELS)


def read_upload(data: bytes, name: str, max_pixels: int) -> DecodedImage:
    """Read an uploaded image of at most ``max_pixels`` as ``read_image`` does, without writing it to disk.

    ``name`` is what messages call it. Raises PortraitError.
    """
    if not data:
        raise PortraitError("portrait-empty", f"{name} is empty (0 bytes)", "a picture file", "send a picture file")
    return _decode(Path(name), io.BytesIO(data), min(max_pixels, MAX_PIXELS))


def check_picture(path: Path) -> None:
    """Raise PortraitError unless ``path`` is an image of a known format and size, as far as its header says."""
    check_file(path)
    with _portrait_errors(path), _open(path, path) as opened:
        _check_size(path, opened, MAX_PIXELS)


def _decode(path: Path, file: Path | io.BytesIO, max_pixels: int) -> DecodedImage:
    """Decode ``file``, which messages call ``path``."""
    notes: list[str] = []
    with _portrait_errors(path), _open(path, file) as opened:
        _check_size(path, opened, max_pixels)
        frames = int(getattr(opened, "n_frames", 1))
        if frames > 1 and opened.format != "MPO":  # the further frames of a phone's MPO are previews
            notes.append(f"{path.name} has {frames} frames: the first is used")
        image = _to_rgb(_upright(_load(opened)), notes)
    return DecodedImage(image, tuple(notes))


@contextmanager
def _portrait_errors(path: Path) -> Iterator[None]:
    """Turn the exceptions of Pillow into PortraitError, and ignore its warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd but readable files
            yield
    except PortraitError:
        raise
    except MemoryError as error:
        raise PortraitError(
            "portrait-out-of-memory",
            f"{path} does not fit into memory",
            "a smaller picture",
            "make the picture smaller",
        ) from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged data
        raise PortraitError(
            "portrait-damaged",
            f"{path} is damaged or cut short: {_first_line(error)}",
            "a complete picture file",
            "copy or save the picture again",
        ) from error


def check_file(path: Path) -> None:
    """Raise PortraitError if ``path`` is no file, cannot be read, is empty, or is a HEIC image."""
    try:
        if path.is_dir():
            raise PortraitError("portrait-is-folder", f"{path} is a folder", "a picture file", "name the file itself")
        if not path.exists():
            raise PortraitError(
                "portrait-missing",
                f"no picture file {path}",
                cure="check --portrait",
            )
        if not path.is_file():
            raise PortraitError(
                "portrait-not-a-file", f"{path} is not a regular file", "a picture file", f"give {READABLE}"
            )
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise PortraitError(
            "portrait-unreadable",
            f"{path} cannot be read: {error.strerror}",
            "a readable file",
            "check the path and its permissions",
        ) from error
    if not start:
        raise PortraitError(
            "portrait-empty", f"{path} is empty (0 bytes)", "a picture file", "copy or save the picture again"
        )
    if start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        raise PortraitError("portrait-bad-format", f"{path} is a HEIC picture", READABLE, CONVERT)


def _open(path: Path, file: Path | io.BytesIO) -> Pillow.Image:
    """Open an image in one of the accepted formats, without decoding its pixels. Raises PortraitError."""
    try:
        # open() would load the plugin of the file's suffix alone, and all of them for the other formats
        Pillow.preinit()
        try:
            return Pillow.open(file, formats=COMMON_FORMATS)
        except UnidentifiedImageError:
            Pillow.init()
            return Pillow.open(file, formats=[name for name in OTHER_FORMATS if name in Pillow.OPEN])
    except UnidentifiedImageError as error:
        raise PortraitError(
            "portrait-bad-format", f"{path} is not a picture that can be read", READABLE, CONVERT
        ) from error
    except Pillow.DecompressionBombError as error:
        raise _too_large(path, "", MAX_PIXELS) from error


def _check_size(path: Path, opened: Pillow.Image, max_pixels: int) -> None:
    """Raise PortraitError if the image has more than ``max_pixels``."""
    width, height = opened.size
    if width * height > max_pixels:
        raise _too_large(path, f" ({width}x{height})", max_pixels)


def _too_large(path: Path, size: str, max_pixels: int) -> PortraitError:
    """Return the error for an image of too many pixels; ``size`` is its size in parentheses, or empty."""
    return PortraitError(
        "portrait-too-large",
        f"{path} is too large{size}",
        f"at most {max_pixels // 1_000_000} megapixels",
        "make the picture smaller, or crop it to the head and shoulders",
    )


def _load(opened: Pillow.Image) -> Pillow.Image:
    """Decode the pixels, at a fraction of the size if the image is very large. A JPEG is then never decoded in full."""
    factor = 1
    while opened.width * opened.height / factor**2 > WORKING_PIXELS:
        factor *= 2
    if factor > 1:
        full = opened.size
        opened.draft(None, (full[0] // factor, full[1] // factor))
        factor = max(1, round(factor * opened.width / full[0]))
    opened.load()
    if factor == 1 or opened.mode.startswith(("I", "F")):
        return opened
    if opened.mode in ("P", "1"):  # palettes cannot be averaged
        return opened.convert("RGBA" if opened.has_transparency_data else "RGB").reduce(factor)
    return opened.reduce(factor)


def _upright(image: Pillow.Image) -> Pillow.Image:
    """Apply the EXIF orientation. Damaged EXIF data is ignored."""
    try:
        return ImageOps.exif_transpose(image)
    except (ValueError, SyntaxError, KeyError, TypeError):
        return image


def _to_rgb(image: Pillow.Image, notes: list[str]) -> Image:
    """Convert an image of any mode to (H, W, 3) uint8 sRGB. Adds a note if parts of it are transparent."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        return _scaled(np.asarray(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:  # type: ignore[operator]
            notes.append("the picture's transparent parts are shown as grey")
            backdrop = Pillow.new("RGBA", image.size, (*BACKDROP, 255))
            image = Pillow.alpha_composite(backdrop, image)
        image = image.convert("RGB")
    if profile and image.mode in ("RGB", "CMYK", "L"):
        image = _to_srgb(image, profile)
    return np.ascontiguousarray(np.asarray(image.convert("RGB")))


def _to_srgb(image: Pillow.Image, profile: bytes) -> Pillow.Image:
    """Apply an ICC profile. One that is damaged or made for other channels is ignored."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return converted or image


def _scaled(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Image:
    """Scale grey values (H, W) of more than 8 bits to 8-bit RGB, from the range of their type or else their own."""
    grey = values.astype(np.float32)
    top = float(np.nanmax(grey, initial=0.0))
    full = next((full for full in (1.0, 255.0, 65535.0) if top <= full), top)
    if np.issubdtype(values.dtype, np.integer) and top <= 255:
        full = 65535.0 if values.dtype == np.uint16 else 255.0
    eight = np.clip(np.nan_to_num(grey) * (255.0 / full) + 0.5, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(eight[:, :, None], 3, axis=2))


def _first_line(error: Exception) -> str:
    """Return the first line of an exception's text, or its type's name if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
