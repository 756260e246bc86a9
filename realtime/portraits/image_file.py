"""Picture files of all kinds, read as RGB the way a viewer would show them."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps, UnidentifiedImageError

from engines.errors import PortraitError
from engines.types import Image

COMMON = ("JPEG", "PNG", "GIF", "BMP", "PPM")
"""What Pillow opens without loading all of its plugins, which takes a tenth of a second."""
OTHERS = ("WEBP", "AVIF", "TIFF", "JPEG2000", "TGA")
"""What else it may open; formats that start other programs (EPS) are left out."""
READABLE = "JPEG, PNG, WebP, AVIF, TIFF, BMP or GIF"
CONVERT = f"save it as one of {READABLE}"
LARGEST = 150_000_000
"""Pixels: a larger picture is refused. Reading one of this size takes about a gigabyte for a moment."""
WORKING = 50_000_000
"""Pixels: a picture of more is halved (quartered, ...) while it is read, which still leaves a face its detail."""
BACKDROP = (128, 128, 128)
"""What shows behind transparent parts."""


class Picture(NamedTuple):
    """A picture as read."""

    image: Image
    """(H, W, 3) uint8 RGB, sRGB, upright."""
    notes: tuple[str, ...]
    """What the person should know of how it was read."""


def read_picture(path: Path) -> Picture:
    """Read a picture file, upright, as 8-bit sRGB.

    EXIF orientation and colour profiles are applied, transparency is put on grey, 16 bits are scaled, of an animation
    the first frame is taken. Raises PortraitError for whatever cannot be read.
    """
    _check_file(path)
    return _read(path, path, LARGEST)


def _read(path: Path, file: Path | io.BytesIO, largest: int) -> Picture:
    """Read what ``file`` holds; ``path`` is what it is called."""
    notes: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd files; what cannot be read raises
            with _open(path, file) as opened:
                _check_size(path, opened, largest)
                frames = int(getattr(opened, "n_frames", 1))
                if frames > 1 and opened.format != "MPO":  # a phone's MPO holds previews of the one picture
                    notes.append(f"{path.name} has {frames} frames: the first is used")
                image = _to_rgb(_upright(_load(opened)), notes)
    except PortraitError:
        raise
    except MemoryError as error:
        raise PortraitError(f"{path} does not fit into memory", cure="make the picture smaller") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged data
        raise PortraitError(
            f"{path} is damaged or cut short: {_first_line(error)}", cure="copy or save the picture anew"
        ) from error
    return Picture(image, tuple(notes))


def read_upload(data: bytes, name: str, largest: int) -> Picture:
    """The same for a picture that was sent: never on disk, of ``largest`` pixels at most."""
    path = Path(name)
    if not data:
        raise PortraitError(f"{name} is empty (0 bytes)", cure="send a picture file")
    return _read(path, io.BytesIO(data), min(largest, LARGEST))


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise PortraitError(f"{path} is a folder, not a picture", cure="name the picture file itself")
        if not path.exists():
            raise PortraitError(f"there is no picture {path}", cure="check the path given to --portrait")
        if not path.is_file():
            raise PortraitError(f"{path} is not a regular file", cure=f"give a picture file: {READABLE}")
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise PortraitError(
            f"{path} cannot be read: {error.strerror}", cure="check the path and its permissions"
        ) from error
    if not start:
        raise PortraitError(f"{path} is empty (0 bytes)", cure="copy or save the picture anew")
    if start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        raise PortraitError(f"{path} is a HEIC picture, which cannot be read here", cure=CONVERT)


def _open(path: Path, file: Path | io.BytesIO) -> Pillow.Image:
    try:
        try:
            return Pillow.open(file, formats=COMMON)
        except UnidentifiedImageError:
            Pillow.init()
            return Pillow.open(file, formats=[name for name in OTHERS if name in Pillow.OPEN])
    except UnidentifiedImageError as error:
        raise PortraitError(
            f"{path} is not a picture that can be read; readable are {READABLE}", cure=CONVERT
        ) from error
    except Pillow.DecompressionBombError as error:
        raise _too_large(path, "", LARGEST) from error


def _check_size(path: Path, opened: Pillow.Image, largest: int) -> None:
    width, height = opened.size
    if width * height > largest:
        raise _too_large(path, f" ({width}x{height})", largest)


def _too_large(path: Path, found: str, largest: int) -> PortraitError:
    return PortraitError(
        f"{path} is too large{found}: at most {largest // 1_000_000} megapixels are read",
        cure="make the picture smaller, or cut the head and shoulders out of it",
    )


def _load(opened: Pillow.Image) -> Pillow.Image:
    """Decode it, at a fraction of the size where it is very large. A JPEG is then never decoded in full."""
    factor = 1
    while opened.width * opened.height / factor**2 > WORKING:
        factor *= 2
    if factor > 1:
        full = opened.size
        opened.draft(None, (full[0] // factor, full[1] // factor))
        factor = max(1, round(factor * opened.width / full[0]))
    opened.load()
    if factor == 1 or opened.mode.startswith(("I", "F")):
        return opened
    if opened.mode in ("P", "1"):  # has no colours in between
        return opened.convert("RGBA" if opened.has_transparency_data else "RGB").reduce(factor)
    return opened.reduce(factor)


def _upright(picture: Pillow.Image) -> Pillow.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except (ValueError, SyntaxError, KeyError, TypeError):  # damaged EXIF says nothing
        return picture


def _to_rgb(picture: Pillow.Image, notes: list[str]) -> Image:
    profile = picture.info.get("icc_profile")
    if picture.mode.startswith("I") or picture.mode == "F":
        return _scaled(np.asarray(picture))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        if picture.getchannel("A").getextrema()[0] < 255:  # type: ignore[operator]
            notes.append("the picture's transparent parts are shown as grey")
            backdrop = Pillow.new("RGBA", picture.size, (*BACKDROP, 255))
            picture = Pillow.alpha_composite(backdrop, picture)
        picture = picture.convert("RGB")
    if profile and picture.mode in ("RGB", "CMYK", "L"):
        picture = _to_srgb(picture, profile)
    return np.ascontiguousarray(np.asarray(picture.convert("RGB")))


def _to_srgb(picture: Pillow.Image, profile: bytes) -> Pillow.Image:
    """Apply a colour profile; one that is damaged or belongs to other channels is as good as none."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture
    return converted or picture


def _scaled(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Image:
    """Grey values of more than 8 bits as 8-bit RGB: by the range of 16 bits, or their own where they exceed it."""
    grey = values.astype(np.float32)
    top = float(np.nanmax(grey, initial=0.0))
    full = next((full for full in (1.0, 255.0, 65535.0) if top <= full), top)
    if np.issubdtype(values.dtype, np.integer) and top <= 255:
        full = 65535.0 if values.dtype == np.uint16 else 255.0
    eight = np.clip(np.nan_to_num(grey) * (255.0 / full) + 0.5, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(eight[:, :, None], 3, axis=2))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
