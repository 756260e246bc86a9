"""Face tracking: camera frames in, FaceStates out. The interface, and the two trackers built on MediaPipe."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from engines.face.coefficients import canonical_shape, shipped
from engines.types import FaceState
from realtime.core.frames import Frame
from realtime.tracking import face_mesh
from realtime.tracking.face_mesh import FaceMesh
from realtime.tracking.landmark_model import LandmarkModel
from realtime.tracking.landmarker import MODEL_NAME, Landmarker, require_model_file
from realtime.tracking.model_files import model_path


class Tracker(Protocol):
    """Finds the driver's face in a sequence of frames. Used by one thread only."""

    name: str
    """Shown to the user."""

    def track(self, frame: Frame) -> FaceState | None:
        """Return the face in an RGB frame, or None. Blocks while the models run, without holding the GIL."""

    def reset(self) -> None:
        """Forget where the face was: the next frame does not continue the last one."""

    def close(self) -> None:
        """Release the models. Idempotent."""


class _ModelTracker:
    """Makes a Tracker of a LandmarkModel."""

    name: str
    steady = False
    """True if the model smooths its landmarks over time, see ``FaceState.steady``."""

    def __init__(self, model: LandmarkModel) -> None:
        self._model = model
        self._coefficients = shipped()

    def track(self, frame: Frame) -> FaceState | None:
        faces = self._model.detect(frame.pixels, frame.time_ns)
        height, width = frame.pixels.shape[:2]
        if not faces:
            return None
        face = faces[0]
        pixels = face.landmarks * np.array([width, height, width], np.float32)
        code = self._coefficients.read(canonical_shape(pixels))
        return FaceState(
            seq=frame.seq,
            time_ns=frame.time_ns,
            landmarks=face.landmarks,
            size=(width, height),
            head_matrix=face.head_matrix,
            expression=self._coefficients.coefficients(code) if face.expression is None else face.expression,
            code=code,
            confidence=face.presence,
            steady=self.steady,
        )

    def reset(self) -> None:
        self._model.reset()

    def close(self) -> None:
        self._model.close()


class FaceMeshTracker(_ModelTracker):
    """Tracks with Face Mesh, whose models are inside the mediapipe 0.10 wheel. Raises TrackerError."""

    name = "MediaPipe Face Mesh"

    def __init__(self) -> None:
        super().__init__(FaceMesh())


class LandmarkerTracker(_ModelTracker):
    """Tracks with the Tasks face landmarker. Its states have a head matrix. Raises TrackerError."""

    name = "MediaPipe Face Landmarker"
    steady = True

    def __init__(self, path: Path) -> None:
        super().__init__(Landmarker(path))


def open_tracker(model: Path | None = None) -> Tracker:
    """Return a tracker: the face landmarker if its file is given or downloaded, Face Mesh otherwise.

    Raises TrackerError if the file cannot be used, or if there is none and the installed mediapipe (1.x) has no Face
    Mesh.
    """
    path = model or model_path(MODEL_NAME)
    if path is None and face_mesh.available():
        return FaceMeshTracker()
    return LandmarkerTracker(path or require_model_file())
