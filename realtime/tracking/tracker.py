"""Face tracking: camera frames in, FaceStates out. The interface, and the two trackers built on MediaPipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from engines.face.coefficients import canonical_shape, shipped
from engines.types import FaceState
from realtime.core.frames import Frame
from realtime.tracking import face_mesh
from realtime.tracking.driver_selector import DriverSelector
from realtime.tracking.face_mesh import FaceDetectors, FaceMesh
from realtime.tracking.face_watch import INLINE_LOOK_NS, LOOK_NS, BoxDetector, FaceWatch
from realtime.tracking.landmark_model import DetectedFace, FaceBox, LandmarkModel, bounding_box
from realtime.tracking.landmarker import MODEL_NAME, Landmarker, LandmarkerDetector, require_model_file
from realtime.tracking.model_files import model_path
from realtime.tracking.settings import MAX_FACES, Driver


class Tracker(Protocol):
    """Finds the driver's face in a sequence of frames. Used by one thread only.

    ``driver`` may be set from any thread, and soon takes effect.
    """

    name: str
    """Shown to the user."""
    driver: Driver
    """The face that drives."""

    def track(self, frame: Frame) -> FaceState | None:
        """Return the face in an RGB frame, or None. Blocks while the models run, without holding the GIL."""

    def reset(self) -> None:
        """Forget where the face was: the next frame does not continue the last one."""

    def close(self) -> None:
        """Release the models. Idempotent."""


class _ModelTracker:
    """Makes a Tracker of a LandmarkModel, which follows one face, and a FaceWatch, which sees all of them."""

    name: str
    steady = False
    """True if the model smooths its landmarks over time, see ``FaceState.steady``."""

    def __init__(self, model: LandmarkModel, watch: FaceWatch, driver: Driver) -> None:
        self._model = model
        self._watch = watch
        self._selector = DriverSelector(driver)
        self._coefficients = shipped()

    @property
    def driver(self) -> Driver:
        return self._selector.driver

    @driver.setter
    def driver(self, driver: Driver) -> None:
        self._selector.driver = driver

    def track(self, frame: Frame) -> FaceState | None:
        height, width = frame.pixels.shape[:2]
        face = self._select(frame)
        if face is None:
            return None
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
            driver_id=self._selector.driver_id,
            is_picture=self._selector.is_picture,
        )

    def reset(self) -> None:
        self._model.reset()
        self._watch.reset()
        self._selector.reset()

    def close(self) -> None:
        self._watch.close()
        self._model.close()

    def _select(self, frame: Frame) -> DetectedFace | None:
        """Return the driver's face in a frame, or None."""
        selector, watch = self._selector, self._watch
        size = (frame.pixels.shape[1], frame.pixels.shape[0])
        if selector.waiting:
            watch.hurry()
        watch.offer(frame.pixels, frame.time_ns, selector.box, quick=not selector.certain)
        if (look := watch.take()) is not None and look.size == size:
            had_face = selector.box is not None
            other = selector.consider(look)
            if other is not None:
                self._model.follow(other)
            elif had_face and selector.box is None:
                self._model.reset()

        def choose(boxes: Sequence[FaceBox]) -> Sequence[FaceBox]:
            return selector.order(boxes, size)

        faces = self._model.detect(frame.pixels, frame.time_ns, choose)
        if not faces:
            selector.lost()
            return None
        selector.found(bounding_box(faces[0].landmarks, size), frame.time_ns)
        return faces[0]


def _watch(detector: BoxDetector, *, threaded: bool) -> FaceWatch:
    """Return a watch that looks twice a second, or more seldom where frames have to wait for it."""
    return FaceWatch(detector, threaded=threaded, look_ns=LOOK_NS if threaded else INLINE_LOOK_NS)


class FaceMeshTracker(_ModelTracker):
    """Tracks with Face Mesh, whose models are inside the mediapipe 0.10 wheel. Raises TrackerError.

    With ``threaded`` other faces are looked for on a thread of its own; else within ``track``, so that the result
    depends on the frames alone.
    """

    name = "MediaPipe Face Mesh"

    def __init__(self, driver: Driver = "auto", *, threaded: bool = False) -> None:
        super().__init__(FaceMesh(), _watch(FaceDetectors(), threaded=threaded), driver)


class LandmarkerTracker(_ModelTracker):
    """Tracks with the Tasks face landmarker. Its states have a head matrix. Raises TrackerError.

    ``threaded`` is that of the FaceMeshTracker.
    """

    name = "MediaPipe Face Landmarker"
    steady = True

    def __init__(self, path: Path, driver: Driver = "auto", *, threaded: bool = False) -> None:
        model = Landmarker(path)
        detector: BoxDetector = FaceDetectors() if face_mesh.available() else LandmarkerDetector(path, MAX_FACES)
        super().__init__(model, _watch(detector, threaded=threaded), driver)


def open_tracker(model: Path | None = None, driver: Driver = "auto", *, threaded: bool = False) -> Tracker:
    """Return a tracker: the face landmarker if its file is given or downloaded, Face Mesh otherwise.

    Raises TrackerError if the file cannot be used, or if there is none and the installed mediapipe (1.x) has no Face
    Mesh.
    """
    path = model or model_path(MODEL_NAME)
    if path is None and face_mesh.available():
        return FaceMeshTracker(driver, threaded=threaded)
    return LandmarkerTracker(path or require_model_file(), driver, threaded=threaded)
