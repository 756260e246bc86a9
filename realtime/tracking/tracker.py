"""Where the driver's face is: frames in, FaceState out. MediaPipe does it, in one of two ways."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from engines.errors import TrackerError
from engines.types import FaceState
from realtime.core.frames import Frame
from realtime.tracking import face_mesh, model_files
from realtime.tracking.face_mesh import FaceMesh, Mesh
from realtime.tracking.landmarker import FETCH, NAME, Landmarker
from realtime.tracking.still_faces import FaceFinder, find_faces

__all__ = ["FaceFinder", "FaceMeshTracker", "LandmarkerTracker", "Tracker", "find_faces", "open_tracker"]


class Tracker(Protocol):
    """Finds the driver's face. One thread owns it and calls everything on it."""

    name: str
    """For the person."""

    def track(self, frame: Frame) -> FaceState | None:
        """Return the face seen in an RGB frame, or None. Blocks for as long as it takes, without the GIL."""

    def reset(self) -> None:
        """Forget where the face was: the next frame has nothing to do with the last."""

    def close(self) -> None:
        """Let go of everything; may be called twice."""


class _MeshTracker:
    """What both trackers do around their model."""

    name: str
    steady = False
    """Whether the model smooths its landmarks over time."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    def track(self, frame: Frame) -> FaceState | None:
        seen = self._mesh(frame.pixels, frame.time_ns)
        height, width = frame.pixels.shape[:2]
        if not seen:
            return None
        face = seen[0]
        return FaceState(
            seq=frame.seq,
            time_ns=frame.time_ns,
            landmarks=face.landmarks,
            size=(width, height),
            head=face.head,
            blendshapes=face.blendshapes,
            confidence=face.presence,
            steady=self.steady,
        )

    def reset(self) -> None:
        self._mesh.forget()

    def close(self) -> None:
        self._mesh.close()


class FaceMeshTracker(_MeshTracker):
    """Face Mesh with irises; its models are inside the mediapipe 0.10 wheel. Raises TrackerError."""

    name = "MediaPipe Face Mesh"

    def __init__(self) -> None:
        super().__init__(FaceMesh())


class LandmarkerTracker(_MeshTracker):
    """The Tasks face landmarker: its states carry head matrix and blendshapes. Raises TrackerError."""

    name = "MediaPipe Face Landmarker"
    steady = True

    def __init__(self, path: Path) -> None:
        super().__init__(Landmarker(path))


def open_tracker(model: Path | None = None) -> Tracker:
    """Open the face landmarker when its file is given or cached, else Face Mesh.

    Raises TrackerError when the file is not the right one, and when there is none but the installed mediapipe
    (1.x) has no Face Mesh.
    """
    path = model or model_files.find(NAME)
    if path is not None:
        return LandmarkerTracker(path)
    if face_mesh.available():
        return FaceMeshTracker()
    raise TrackerError(
        "the installed mediapipe brings no models, and the face landmarker's file is not there: "
        f"{model_files.target(NAME)}",
        cure=FETCH,
    )
