"""Portraits as files: reading them, finding the face, cropping to the output's shape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as Pictures
from PIL import ImageOps

from engines.errors import PortraitError
from engines.types import FaceState, Image
from realtime.tracking import find_faces

DEFAULT_PORTRAIT = Path(__file__).parents[1] / "engines" / "assets" / "portrait.png"


@dataclass(frozen=True, slots=True)
class PortraitPicture:
    """A portrait cropped to the output's size, and the face in it."""

    name: str
    image: Image
    face: FaceState
    notes: tuple[str, ...] = ()


def load_portrait(path: Path | None, size: tuple[int, int]) -> PortraitPicture:
    """Read a portrait and crop it around the head to exactly ``size`` (width, height)."""
    source = path or DEFAULT_PORTRAIT
    with Pictures.open(source) as opened:
        picture = np.array(ImageOps.exif_transpose(opened).convert("RGB"))
    faces = find_faces(picture)
    if not faces:
        raise PortraitError(
            f"no face was found in {source}", cure="choose a picture of one face, seen from the front"
        )
    image = _crop(picture, faces[0], size)
    found = find_faces(image)
    return PortraitPicture(source.stem, image, found[0])


def _crop(picture: Image, face: FaceState, size: tuple[int, int]) -> Image:
    width, height = size
    points = face.pixels()[:, :2]
    top, bottom = float(points[:, 1].min()), float(points[:, 1].max())
    centre = float(points[:, 0].min() + points[:, 0].max()) / 2
    scale = 0.45 * height / (bottom - top)
    matrix = np.array(
        [[scale, 0, width / 2 - scale * centre], [0, scale, 0.53 * height - scale * (top + bottom) / 2]],
        np.float32,
    )
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(
        cv2.warpAffine(picture, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT), np.uint8
    )
