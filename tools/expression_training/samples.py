"""What both trackers see in a folder of faces, and the bundle's coefficients as labels."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from engines.cache_dirs import cache_home
from engines.face.coefficients import NAMES, READ, canonical_shape
from engines.types import Image
from realtime.core.quiet_libraries import quiet_libraries
from realtime.tracking.face_mesh import FaceMesh

MOST = 150
"""Frames taken of a clip, evenly spread."""
LARGEST = 1280
"""Pixels of the longer side that is looked at."""
APART = 0.06
"""Two trackers look at one face if their centres are no further apart than this share of the picture."""
CACHE_VERSION = 1
_SUFFIXES = {".mp4", ".mpg", ".avi", ".webm", ".mov", ".mkv", ".jpg", ".jpeg", ".png", ".webp"}


@dataclass(frozen=True, slots=True)
class Samples:
    """Frames with a face, as both trackers see it. All arrays have the frames first."""

    source: NDArray[np.str_]
    """The file a frame is of, relative to the folder."""
    identity: NDArray[np.str_]
    licence: NDArray[np.str_]
    mesh: NDArray[np.float32]
    """(N, 478, 3): Face Mesh's landmarks, in the canonical head frame."""
    task: NDArray[np.float32]
    """(N, 478, 3): the bundle's landmarks, likewise."""
    labels: NDArray[np.float32]
    """(N, ``READ``): the bundle's coefficients, in the order of ``coefficients.NAMES``."""

    @property
    def clips(self) -> NDArray[np.bool_]:
        """Which frames are of a clip rather than of a still portrait."""
        return np.char.startswith(self.source, "clips/")


def collect(faces: Path, task: Path, console: Console) -> Samples:
    """Run both trackers over a folder of faces, or read what they saw from the cache."""
    rows = list(_rows(faces))
    key = hashlib.sha256(repr((CACHE_VERSION, MOST, LARGEST, rows)).encode() + task.read_bytes()).hexdigest()[:16]
    cached = cache_home() / "training" / f"expression-{key}.npz"
    if not cached.is_file():
        columns = _look(faces, rows, task, console)
        cached.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(cached, **columns)
    with np.load(cached, allow_pickle=False) as file:
        return Samples(**{name: file[name] for name in Samples.__dataclass_fields__})


def held_out_identities(samples: Samples, clips: Iterable[str]) -> frozenset[str]:
    """Return the people in the clips of these names (without folder and ending)."""
    names = set(clips)
    found = {str(i) for f, i in zip(samples.source, samples.identity, strict=True) if Path(str(f)).stem in names}
    return frozenset(found)


def _rows(faces: Path) -> Iterator[tuple[str, str, str]]:
    """Yield file, identity and licence of every clip and portrait."""
    manifest = faces / "manifest.csv"
    known: dict[str, tuple[str, str]] = {}
    if manifest.is_file():
        with manifest.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                known[row["file"]] = (row["identity"], f"{row['repo']} ({row['licence']})")
    for folder in ("clips", "portraits"):
        for path in sorted((faces / folder).glob("*")):
            if path.suffix.lower() in _SUFFIXES:
                name = path.relative_to(faces).as_posix()
                identity, licence = known.get(name, (path.stem, "unknown"))
                yield name, identity, licence


def _look(faces: Path, rows: list[tuple[str, str, str]], task: Path, console: Console) -> dict[str, NDArray[Any]]:
    landmarker, order = open_landmarker(task)
    mesh = FaceMesh()
    seen: dict[str, list[Any]] = {name: [] for name in Samples.__dataclass_fields__}
    for name, identity, licence in track(rows, "looking at faces", console=console):
        mesh.reset()
        for image in _frames(faces / name):
            both = _both(mesh, landmarker, order, image)
            if both is None:
                continue
            for column, value in zip(seen, (name, identity, licence, *both), strict=True):
                seen[column].append(value)
    mesh.close()
    return {name: np.array(values) for name, values in seen.items()}


def open_landmarker(task: Path) -> tuple[Any, list[int]]:
    """Return the bundle's landmarker for stills, and where each of ``NAMES`` is among its coefficients."""
    with quiet_libraries():
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(task)),
            running_mode=vision.RunningMode.IMAGE,
            output_face_blendshapes=True,
        )
        landmarker = vision.FaceLandmarker.create_from_options(options)
    # the bundle's own order: ``_neutral``, then NAMES without tongueOut
    return landmarker, [1 + index for index in range(READ)]


def _both(
    mesh: FaceMesh, landmarker: Any, order: list[int], image: Image
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]] | None:
    import mediapipe

    height, width = image.shape[:2]
    scale = np.array([width, height, width], np.float32)
    seen = mesh.detect(image)
    result = landmarker.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image))
    if not seen or not result.face_landmarks:
        return None
    one = seen[0].landmarks
    two = np.array([(point.x, point.y, point.z) for point in result.face_landmarks[0]], np.float32)
    if np.abs(one[:, :2].mean(axis=0) - two[:, :2].mean(axis=0)).max() > APART:
        return None
    shapes = result.face_blendshapes[0]
    assert [shapes[index].category_name for index in order] == list(NAMES[:READ])
    labels = np.array([shapes[index].score for index in order], np.float32)
    return canonical_shape(one * scale), canonical_shape(two * scale), labels


def _frames(path: Path) -> Iterator[Image]:
    """Yield ``MOST`` frames of a clip, evenly spread, or the one of a still, RGB."""
    capture = cv2.VideoCapture(str(path))
    count = max(1, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    wanted = set(np.unique(np.linspace(0, count - 1, min(count, MOST)).astype(int)).tolist())
    index = 0
    while True:
        good, frame = capture.read()
        if not good:
            break
        if index in wanted:
            yield _fitted(frame)
        index += 1
    capture.release()


def _fitted(frame: NDArray[Any]) -> Image:
    scale = LARGEST / max(frame.shape[:2])
    if scale < 1:
        frame = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(frame[..., ::-1], np.uint8)
