"""Model files that are downloaded rather than installed: what each is, and where it is kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from engines.cache_dirs import models_home
from engines.errors import UsageError, one_of


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file offered for download by its publisher."""

    name: str
    file: str
    url: str
    sha256: str
    size: int
    """Size in bytes."""
    purpose: str
    licence: str

    def matches(self, path: Path) -> bool:
        """Return True if the file at ``path`` has this size and digest. Raises OSError."""
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
            purpose="face tracking with blendshapes and head matrix; the reference tracker of tools.fidelity",
            licence="Apache-2.0",
        ),
    )
}


def find_model(name: str) -> ModelFile:
    """Return the model called ``name``. Raises UsageError if there is none."""
    if name not in MODELS:
        raise UsageError("model-unknown", f"no model is called {name!r}", one_of(MODELS))
    return MODELS[name]


def target_path(name: str) -> Path:
    """Return the path that the model called ``name`` is downloaded to. Raises UsageError if there is none."""
    return models_home() / find_model(name).file


def model_path(name: str) -> Path | None:
    """Return the path of the downloaded model called ``name``, or None if it is not there. Raises UsageError."""
    path = target_path(name)
    return path if path.is_file() else None
