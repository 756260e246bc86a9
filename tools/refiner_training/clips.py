"""Frames of a clip, cut square around the head as a portrait is, with the landmarks of the face."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.face.topology import EYE_CORNERS, INNER_LOWER_LIP, INNER_UPPER_LIP, LOWER_LIDS, MOUTH_CORNERS, UPPER_LIDS
from engines.types import FaceState, Image, Points

if TYPE_CHECKING:
    from realtime.tracking.face_mesh import FaceMesh

SIDE = 512
"""Pixels of a cut frame's sides."""
FACE_SHARE = 0.42
"""Height of the face as a share of the frame's, as in a portrait that the program cuts."""
LARGEST_ENLARGED = 2.0
"""A face is enlarged by no more than this to reach that share."""
SUFFIXES = {".mp4", ".mpg", ".avi", ".webm", ".mov", ".mkv"}


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame of a clip, cut square."""

    number: int
    """Its place in the clip."""
    image: Image
    """(``SIDE``, ``SIDE``, 3)."""
    pixels: Points
    """(478, 3): the landmarks in it."""
    lips: float
    """The gap between the lips over the mouth's width."""
    lids: float
    """The mean gap between the lids over the eyes' width."""

    def face(self) -> FaceState:
        """Return the face as a tracker would."""
        return FaceState(self.number, self.number * 40_000_000, self.pixels / np.float32(SIDE), (SIDE, SIDE))


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip's name, its identity and where its data are from."""

    path: Path
    identity: str
    licence: str

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem


def clips_in(folder: Path) -> list[Clip]:
    """Return the clips of a folder or of its subfolder ``clips``, sorted; identities are of a ``manifest.csv``."""
    inside = folder / "clips" if (folder / "clips").is_dir() else folder
    known: dict[str, tuple[str, str]] = {}
    for manifest in (folder / "manifest.csv", inside.parent / "manifest.csv"):
        if manifest.is_file():
            with manifest.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    known[Path(row["file"]).name] = (row["identity"], f"{row['repo']} ({row['licence']})")
            break
    paths = sorted(path for path in inside.glob("*") if path.suffix.lower() in SUFFIXES)
    return [Clip(path, *known.get(path.name, (path.stem, "unknown"))) for path in paths]


def read_shots(clip: Path, most: int, mesh: FaceMesh, first: int = 1000) -> tuple[list[Shot], float]:
    """Return up to ``most`` frames, evenly spread over the ``first`` ones of a clip, and its frame rate."""
    capture = cv2.VideoCapture(str(clip))
    rate = float(capture.get(cv2.CAP_PROP_FPS)) or 25.0
    count = min(first, max(1, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))))
    wanted = set(np.linspace(0, count - 1, min(count, most)).astype(int).tolist())
    found: list[tuple[int, Image, Points]] = []
    mesh.reset()
    for number in range(count):
        if not capture.grab():
            break
        if number not in wanted:
            continue
        good, frame = capture.retrieve()
        if not good:
            break
        image = _limited(np.ascontiguousarray(frame[..., ::-1], np.uint8))
        faces = mesh.detect(image)
        if faces:
            height, width = image.shape[:2]
            found.append((number, image, faces[0].landmarks * np.array([width, height, width], np.float32)))
    capture.release()
    return _cut(found), rate


def _limited(image: Image) -> Image:
    scale = 1280 / max(image.shape[:2])
    return (
        image if scale >= 1 else np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    )


def _cut(found: list[tuple[int, Image, Points]]) -> list[Shot]:
    """Cut all frames of a clip with one square around the head."""
    if not found:
        return []
    lows, highs = (np.stack([f(p[:, :2], axis=0) for _, _, p in found]) for f in (np.min, np.max))
    face = float(np.median((highs - lows)[:, 1]))
    centre = np.median((highs + lows) / 2, axis=0)
    scale = min(SIDE * FACE_SHARE / face, LARGEST_ENLARGED)
    move = np.array([[scale, 0, SIDE / 2 - scale * centre[0]], [0, scale, 0.54 * SIDE - scale * centre[1]]], np.float32)
    shots = []
    for number, image, points in found:
        picture = image if scale >= 0.6 else np.asarray(cv2.GaussianBlur(image, (0, 0), 0.45 / scale), np.uint8)
        kind = cv2.INTER_LINEAR if scale < 1 else cv2.INTER_CUBIC
        square = cv2.warpAffine(picture, move, (SIDE, SIDE), flags=kind, borderMode=cv2.BORDER_REPLICATE)
        pixels = np.asarray(points * np.float32(scale), np.float32)
        pixels[:, :2] += move[:, 2]
        if pixels[:, :2].min() < 4 or pixels[:, :2].max() > SIDE - 5:
            continue
        shots.append(Shot(number, np.asarray(square, np.uint8), pixels, lip_gap(pixels), lid_gap(pixels)))
    return shots


def lip_gap(pixels: NDArray[np.float32]) -> float:
    """Return the mean gap between the lips over the mouth's width."""
    gap = np.linalg.norm(pixels[INNER_LOWER_LIP] - pixels[INNER_UPPER_LIP], axis=1).mean()
    return float(gap / max(np.linalg.norm(pixels[MOUTH_CORNERS[1]] - pixels[MOUTH_CORNERS[0]]), 1e-6))


def lid_gap(pixels: NDArray[np.float32]) -> float:
    """Return the mean gap between the lids of both eyes over their width."""
    gaps = []
    for corners, upper, lower in zip(EYE_CORNERS, UPPER_LIDS, LOWER_LIDS, strict=True):
        gap = np.linalg.norm(pixels[lower[2:5]] - pixels[upper[2:5]], axis=1).mean()
        gaps.append(gap / max(np.linalg.norm(pixels[corners[1]] - pixels[corners[0]]), 1e-6))
    return float(np.mean(gaps))
