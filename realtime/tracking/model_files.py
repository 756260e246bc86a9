"""Model files that are fetched rather than installed: what each is, and where it lies on this machine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from engines.cache_dirs import cache_home, models_home
from engines.errors import UsageError

__all__ = ["MODELS", "ModelFile", "cache_home", "find", "model", "target"]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file that its publisher offers for download."""

    name: str
    file: str
    url: str
    sha256: str
    size: int
    """Bytes."""
    purpose: str
    licence: str

    def matches(self, path: Path) -> bool:
        """Whether the file at ``path`` is this one, by size and digest. Raises OSError."""
        if path.stat().st_size != self.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256


MODELS = {
    model.name: model
    for model in (
        ModelFile(
            name="face_landmarker",
            file="face_landmarker.task",
            url="https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
            sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
            size=3_758_596,
            purpose="face tracking with blendshapes and head matrix; the judge of tools.fidelity",
            licence="Apache-2.0",
        ),
    )
}


def model(name: str) -> ModelFile:
    """The model of that name. Raises UsageError when there is none."""
    if name not in MODELS:
        raise UsageError(f"no model is called {name!r}", cure=f"choose one of: {', '.join(MODELS)}")
    return MODELS[name]


def target(name: str) -> Path:
    """Where that model is kept once it is fetched."""
    return models_home() / model(name).file


def find(name: str) -> Path | None:
    """Where that model lies on this machine, or None. Raises UsageError for a name not in the table."""
    path = target(name)
    return path if path.is_file() else None
