"""MediaPipe's Tasks face landmarker: landmarks, expression coefficients and the head's matrix, from one file of models.

Works with mediapipe 0.10 and 1.x. The file is downloaded once, see ``realtime.tracking.model_files``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import TrackerError
from engines.face.coefficients import NAMES, READ
from engines.install_hint import command, python
from engines.types import Image
from realtime.core.quiet_libraries import quiet_libraries
from realtime.tracking import mediapipe_loader
from realtime.tracking.landmark_model import (
    BLANK_IMAGE,
    Choose,
    DetectedFace,
    FaceBox,
    bounding_box,
    largest_first,
)
from realtime.tracking.model_files import find_model, model_path, target_path

MODEL_NAME = "face_landmarker"
"""The model file's name in ``model_files.MODELS``."""
FETCH_COMMAND = f"{command('models')} fetch {MODEL_NAME}"


class Landmarker:
    """The face landmarker in VIDEO mode, for up to ``max_faces`` faces: a LandmarkModel.

    Raises TrackerError if the file cannot be read or is another one, or if MediaPipe cannot start.
    """

    def __init__(self, path: Path, *, max_faces: int = 1) -> None:
        models = read_models(path)
        self._task: Any = None
        self._timestamp_ms = -1
        self._had_face = False
        self._max_faces = max_faces
        self._next_box: FaceBox | None = None
        with quiet_libraries():
            try:
                self._start(models, max_faces)
                self._run(BLANK_IMAGE, 0)
            except (ImportError, RuntimeError, ValueError, OSError) as error:
                raise TrackerError(
                    "tracker-start-failed",
                    f"MediaPipe's face landmarker did not start: {error}",
                    "a working mediapipe",
                    f"{python()} -m pip install --force-reinstall -c constraints.txt mediapipe",
                ) from error

    def detect(self, image: Image, time_ns: int = 0, choose: Choose = largest_first) -> list[DetectedFace]:
        """Return the plausible faces in an RGB image (H, W, 3) uint8 taken at ``time_ns``."""
        size = (image.shape[1], image.shape[0])
        if self._next_box is not None:
            alone, self._next_box = _alone(image, self._next_box), None
            self._had_face = bool(self._run(alone, 0) or self._run(alone, 0))
        faces = self._run(image, time_ns // 1_000_000)
        continued = bool(faces) and self._had_face
        if not faces and self._had_face:
            # the face is not where it was, which has ended tracking: a second run searches the whole image
            faces = self._run(image, time_ns // 1_000_000)

        def allowed(face: DetectedFace) -> bool:
            chosen = continued or self._max_faces > 1 or choose([bounding_box(face.landmarks, size)])
            return bool(chosen) and face.is_plausible(size)

        plausible = [face for face in faces if allowed(face)]
        if faces and not plausible:
            others, continued = _blacked_out(image, faces), False
            faces = self._run(others, 0) or self._run(others, 0)  # the first run ends tracking, the second searches
            plausible = [face for face in faces if allowed(face)]
        self._had_face = bool(plausible)
        return plausible

    def follow(self, box: FaceBox) -> None:
        """Follow the face in ``box`` from the next image on."""
        self._next_box = box

    def reset(self) -> None:
        """Forget where faces were: the next image is searched as a whole."""
        self._run(BLANK_IMAGE, 0)
        self._had_face = False
        self._next_box = None

    def close(self) -> None:
        """Stop the task. Idempotent."""
        if self._task is not None:
            self._task.close()
            self._task = None

    def _start(self, models: bytes, max_faces: int) -> None:
        """Create the task from the content of the model file."""
        mediapipe_loader.load()
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision

        self._image_type: Any = mediapipe.Image
        self._rgb_format = mediapipe.ImageFormat.SRGB
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=models),
            running_mode=vision.RunningMode.VIDEO,
            num_faces=max_faces,
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
        )
        self._task = vision.FaceLandmarker.create_from_options(options)

    def _run(self, image: Image, time_ms: int) -> list[DetectedFace]:
        """Run the task on an image taken at ``time_ms``. Return all faces, plausible or not."""
        # the task rejects a time that does not rise: a source may start again, or send two frames in a millisecond
        self._timestamp_ms = max(self._timestamp_ms + 1, time_ms)
        pixels = np.ascontiguousarray(image).view()
        pixels.flags.writeable = False
        wrapped = self._image_type(image_format=self._rgb_format, data=pixels)
        result = self._task.detect_for_video(wrapped, self._timestamp_ms)
        return [
            DetectedFace(
                landmarks=np.array([(point.x, point.y, point.z) for point in landmarks], np.float32),
                head_matrix=np.array(head_matrix, np.float32),
                expression=_in_order(shapes),
            )
            for landmarks, head_matrix, shapes in zip(
                result.face_landmarks,
                result.facial_transformation_matrixes,
                result.face_blendshapes,
                strict=True,
            )
        ]


class LandmarkerDetector:
    """The landmarker as a BoxDetector, where mediapipe brings no other. Raises TrackerError."""

    def __init__(self, path: Path, max_faces: int) -> None:
        self._model = Landmarker(path, max_faces=max_faces)

    def detect(self, image: Image) -> list[FaceBox]:
        """Return the boxes of the faces in an RGB image."""
        self._model.reset()
        size = (image.shape[1], image.shape[0])
        return [bounding_box(face.landmarks, size) for face in self._model.detect(image)]

    def close(self) -> None:
        """Release the models. Idempotent."""
        self._model.close()


def _alone(image: Image, box: FaceBox) -> Image:
    """Return an image that is black but for a face, so that the task follows this one and no other."""
    height, width = image.shape[:2]
    left, right = max(0, int(box.x - box.side)), min(width, int(box.x + box.side))
    top, bottom = max(0, int(box.y - box.side)), min(height, int(box.y + box.side))
    alone = np.zeros_like(image)
    alone[top:bottom, left:right] = image[top:bottom, left:right]
    return alone


def _blacked_out(image: Image, faces: list[DetectedFace]) -> Image:
    """Return a copy of an image with these faces black.

    The task prefers to follow a face that has half left the image to searching for another.
    """
    height, width = image.shape[:2]
    others = image.copy()
    for face in faces:
        box = bounding_box(face.landmarks, (width, height))
        left, top = max(0, int(box.x - box.side / 2)), max(0, int(box.y - box.side / 2))
        others[top : max(0, int(box.y + box.side / 2)), left : max(0, int(box.x + box.side / 2))] = 0
    return others


def require_model_file() -> Path:
    """Return the path of the downloaded model file. Raises TrackerError if it is not there.

    Call it if the installed mediapipe has no Face Mesh: the message says so.
    """
    path = model_path(MODEL_NAME)
    if path is None:
        raise TrackerError(
            "tracker-model-missing",
            f"the installed mediapipe brings no models, and there is no file {target_path(MODEL_NAME)}",
            "the face landmarker's file",
            FETCH_COMMAND,
        )
    return path


def read_models(path: Path) -> bytes:
    """Return the content of the model file. Raises TrackerError if it cannot be read or its digest is wrong."""
    expected = find_model(MODEL_NAME).sha256
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TrackerError(
            "tracker-model-unreadable",
            f"the face landmarker's file {path} cannot be read: {error.strerror}",
            "a readable file",
            FETCH_COMMAND,
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise TrackerError(
            "tracker-model-wrong",
            f"{path} is not the face landmarker's file: sha256 {found[:16]}...",
            f"{expected[:16]}...",
            FETCH_COMMAND,
        )
    return content


def _in_order(shapes: Sequence[Any]) -> NDArray[np.float32]:
    """Return the bundle's coefficients in the order of ``engines.face.coefficients.NAMES``, (52,) float32.

    The bundle has a ``_neutral`` before them, and no ``tongueOut``.
    """
    expression = np.zeros(len(NAMES), np.float32)
    expression[:READ] = [shape.score for shape in shapes[1 : 1 + READ]]
    return expression
