"""MediaPipe's face mesh: pictures in, FaceState out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from engines.types import LANDMARKS, FaceState, Image
from realtime.frames import Frame


class Tracker(Protocol):
    """Finds the face of the driver. One thread owns it and calls everything on it."""

    name: str

    def track(self, frame: Frame) -> FaceState | None:
        """Return the face seen in an RGB frame, or None."""

    def reset(self) -> None:
        """Forget where the face was: the next frame has nothing to do with the last."""

    def close(self) -> None:
        """Let go of everything; may be called twice."""


class FaceMeshTracker:
    """MediaPipe Face Mesh with iris landmarks; its models are inside the mediapipe wheel."""

    name = "Face Mesh"

    def __init__(self) -> None:
        from mediapipe.python.solutions import face_mesh

        self._mesh = face_mesh.FaceMesh(max_num_faces=1, refine_landmarks=True)

    def track(self, frame: Frame) -> FaceState | None:
        faces = self._mesh.process(frame.pixels).multi_face_landmarks
        return _state(faces[0], frame.pixels, frame.seq, frame.time_ns) if faces else None

    def reset(self) -> None:
        self._mesh.reset()

    def close(self) -> None:
        if self._mesh is not None:
            self._mesh.close()
            self._mesh = None


def open_tracker(model: Path | None = None) -> Tracker:
    """Open the best tracker that is at hand."""
    return FaceMeshTracker()


def find_faces(image: Image) -> list[FaceState]:
    """Find the faces in a still picture, largest first."""
    from mediapipe.python.solutions import face_mesh

    with face_mesh.FaceMesh(static_image_mode=True, max_num_faces=8, refine_landmarks=True) as mesh:
        faces = mesh.process(image).multi_face_landmarks or []
    states = [_state(face, image, 0, 0) for face in faces]
    return sorted(states, key=lambda state: -float(np.prod(np.ptp(state.pixels()[:, :2], axis=0))))


def _state(face: Any, image: Image, seq: int, time_ns: int) -> FaceState:
    points = np.array([(p.x, p.y, p.z) for p in face.landmark], np.float32)
    assert points.shape == (LANDMARKS, 3)
    return FaceState(seq, time_ns, points, (image.shape[1], image.shape[0]))
