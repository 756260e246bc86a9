"""The model files that are fetched rather than installed: where they come from, where they lie, how they are checked."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A published file, known by its digest."""

    name: str
    """What ``python -m tools.models fetch`` calls it."""
    filename: str
    url: str
    sha256: str
    size: int
    """Bytes."""

    @property
    def path(self) -> Path:
        """Where it is cached; whether it is there is another matter."""
        return cache_dir() / self.filename

    def matches(self, path: Path) -> bool:
        """Whether the file at ``path`` is this one, by its SHA-256. Raises OSError where it cannot be read."""
        if path.stat().st_size != self.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256


FACE_LANDMARKER = ModelFile(
    name="face_landmarker",
    filename="face_landmarker.task",
    url="https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
    sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    size=3_758_596,
)
"""MediaPipe's face landmarker bundle (Apache-2.0): landmarks with irises, 52 blendshapes, the head's matrix."""


def cache_dir() -> Path:
    """The person's cache folder for this program, per the XDG base directories; it may not exist yet."""
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(chosen):  # the specification says to ignore a relative one
        return Path(chosen) / "reenact"
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "reenact" / "cache"
    return Path.home() / ".cache" / "reenact"
