"""The reference tracker: MediaPipe's official face landmarker on the frames of a video.

It is independent of the tracker that drives the portrait: the Tasks bundle, run on the pictures alone.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from engines.atomic_write import atomic_write
from engines.cache_dirs import cache_home
from engines.errors import SourceMissing, TrackerError
from engines.install_hint import command
from engines.types import LANDMARKS, Floats, Image
from realtime.core.quiet_libraries import quiet_libraries
from realtime.tracking.model_files import model_path, target_path
from tools.support.files import read_frames

BLENDSHAPES: dict[str, dict[str, float]] = {
    "jawOpen": {"jawOpen": 1},
    "blink": {"eyeBlinkLeft": 0.5, "eyeBlinkRight": 0.5},
    "smile": {"mouthSmileLeft": 0.5, "mouthSmileRight": 0.5},
    "browUp": {"browInnerUp": 1},
    "pucker": {"mouthPucker": 1},
    # Both eyes looking to the same side add up; each looks "in" where the other looks "out".
    "gazeX": {"eyeLookOutLeft": 0.5, "eyeLookInLeft": -0.5, "eyeLookInRight": 0.5, "eyeLookOutRight": -0.5},
    "gazeY": {"eyeLookUpLeft": 0.5, "eyeLookUpRight": 0.5, "eyeLookDownLeft": -0.5, "eyeLookDownRight": -0.5},
}
"""Each channel as weights of the bundle's blendshapes."""

ANGLES = ("yaw", "pitch", "roll")
CHANNELS = (*BLENDSHAPES, *ANGLES)
"""The columns of ``Track.values``: blendshape scores, then angles of the head in degrees."""

_CACHE_LIMIT = 64
"""How many tracks the cache keeps."""
_CACHE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Track:
    """The face of a video, frame by frame. NaN where no face was found."""

    values: Floats
    """(N, len(CHANNELS)) float32."""
    landmarks: Floats
    """(N, 478, 2) float32, pixels."""
    size: tuple[int, int]
    """Width and height of the frames."""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def found(self) -> NDArray[np.bool_]:
        """(N,) bool: True where a face was found."""
        found: NDArray[np.bool_] = np.isfinite(self.values[:, 0])
        return found

    def channel(self, name: str) -> Floats:
        """Return one channel, (N,) float32."""
        return self.values[:, CHANNELS.index(name)]

    def first(self, count: int | None) -> Track:
        """Return the first ``count`` frames, or all of them for None."""
        return Track(self.values[:count], self.landmarks[:count], self.size)


class ReferenceTracker:
    """The official landmarker in VIDEO mode on one sequence of frames. A context manager."""

    def __init__(self, model: Path) -> None:
        """Load the bundle. Raises TrackerError when it is missing or cannot be loaded."""
        if not model.is_file():
            raise TrackerError(
                "tracker-model-missing",
                f"the face landmarker bundle is not at {model}",
                cure=f"{command('models')} fetch face_landmarker",
            )
        import mediapipe
        from mediapipe.tasks.python import vision
        from mediapipe.tasks.python.core.base_options import BaseOptions

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model)),
            running_mode=vision.RunningMode.VIDEO,
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
        )
        try:
            with quiet_libraries():
                self._landmarker = vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            raise TrackerError(
                "tracker-model-unreadable",
                f"{model} is not a face landmarker bundle that MediaPipe can load",
                cure=f"{command('models')} fetch face_landmarker",
            ) from error
        self._mediapipe: Any = mediapipe
        self._values: list[Floats] = []
        self._landmarks: list[Floats] = []
        self._size = (0, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._landmarker.close()

    def read(self, image: Image) -> tuple[Floats, Floats]:
        """Track the next frame. Return its channels and its landmarks (478, 2) in pixels, NaN without a face."""
        height, width = image.shape[:2]
        self._size = (width, height)
        picture = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=image)
        # The landmarker only needs rising times; its own smoothing then acts alike on driver and output.
        with nullcontext() if self._values else quiet_libraries():
            result = self._landmarker.detect_for_video(picture, len(self._values) * 33)
        values = np.full(len(CHANNELS), np.nan, np.float32)
        landmarks = np.full((LANDMARKS, 2), np.nan, np.float32)
        if result.face_landmarks:
            scores = {shape.category_name: shape.score for shape in result.face_blendshapes[0]}
            values[: len(BLENDSHAPES)] = [
                sum(weight * scores[name] for name, weight in mix.items()) for mix in BLENDSHAPES.values()
            ]
            values[len(BLENDSHAPES) :] = head_angles(result.facial_transformation_matrixes[0])
            points = result.face_landmarks[0]
            landmarks[:] = [(point.x * width, point.y * height) for point in points]
        self._values.append(values)
        self._landmarks.append(landmarks)
        return values, landmarks

    def track(self) -> Track:
        """Return the track of all frames read so far."""
        values = np.array(self._values, np.float32).reshape(-1, len(CHANNELS))
        return Track(values, np.array(self._landmarks, np.float32).reshape(-1, LANDMARKS, 2), self._size)


def head_angles(head: NDArray[np.floating[Any]]) -> tuple[float, float, float]:
    """Return yaw, pitch and roll in degrees of a (4, 4) head matrix with x right, y up, z towards the viewer.

    The rotation is read as roll about z after yaw about y after pitch about x: positive turns the nose to the
    right of the picture, the nose down, and the top of the head to the left.
    """
    yaw = math.atan2(-head[2, 0], math.hypot(head[0, 0], head[1, 0]))
    pitch = math.atan2(head[2, 1], head[2, 2])
    roll = math.atan2(head[1, 0], head[0, 0])
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def track_frames(
    frames: Iterable[Image], model: Path, callback: Callable[[Image, Floats, Floats], None] | None = None
) -> Track:
    """Track frames. ``callback`` is called with every frame, its channels and its landmarks."""
    with ReferenceTracker(model) as tracker:
        for frame in frames:
            values, landmarks = tracker.read(frame)
            if callback is not None:
                callback(frame, values, landmarks)
        return tracker.track()


def track_clip(clip: Path, model: Path) -> Track:
    """Track a video file, or return the cached track of the same file.

    Raises SourceMissing for a video that cannot be read, TrackerError for a bundle that cannot be loaded.
    """
    if not clip.is_file():
        raise SourceMissing("video-missing", f"there is no video at {clip}", cure="give the path of a video file")
    entry = cache_dir() / f"{_digest(clip)[:32]}-{_digest(model)[:8] if model.is_file() else ''}.npz"
    cached = _load(entry)
    if cached is not None:
        return cached
    track = track_frames(read_frames(clip), model)
    _store(entry, track)
    return track


def cache_dir() -> Path:
    """Return the folder of the cached tracks."""
    return cache_home() / f"reference-tracks-{_CACHE_VERSION}"


def default_model() -> Path:
    """Return where the bundle is in the cache, or where it would be fetched to."""
    return model_path("face_landmarker") or target_path("face_landmarker")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load(entry: Path) -> Track | None:
    try:
        with np.load(entry, allow_pickle=False) as data:
            width, height = (int(side) for side in data["size"])
            track = Track(data["values"], data["landmarks"].astype(np.float32), (width, height))
    except (OSError, ValueError, KeyError, EOFError):
        return None
    if track.values.shape[1:] != (len(CHANNELS),) or track.landmarks.shape[1:] != (LANDMARKS, 2):
        return None
    os.utime(entry)
    return track


def _store(entry: Path, track: Track) -> None:
    """Store a track and delete the least recently used ones. A failure is ignored: the next run tracks again."""
    try:
        with atomic_write(entry) as partial, partial.open("wb") as file:
            np.savez(file, values=track.values, landmarks=track.landmarks, size=np.array(track.size))
        kept = sorted(entry.parent.glob("*.npz"), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in kept[_CACHE_LIMIT:]:
            old.unlink(missing_ok=True)
    except OSError:
        return
