"""MediaPipe's Tasks face landmarker: landmarks, 52 blendshapes and the head's matrix, from a bundle of models.

Works with mediapipe 0.10 and 1.x. The bundle is fetched once, see ``realtime.tracking.model_files``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from engines.errors import TrackerError
from engines.types import Image
from realtime.core.quiet_libraries import quiet_libraries
from realtime.tracking.face_mesh import BLANK, Seen, around
from realtime.tracking.model_files import model

NAME = "face_landmarker"
FETCH = f"python -m tools.models fetch {NAME}"


class Landmarker:
    """The face landmarker in VIDEO mode, for up to ``faces`` faces.

    Raises TrackerError when the bundle cannot be read, is another file, or MediaPipe cannot start.
    """

    def __init__(self, path: Path, *, faces: int = 1) -> None:
        bundle = read_bundle(path)
        self._task: Any = None
        self._time_ms = -1
        self._had_face = False
        with quiet_libraries():
            try:
                self._start(bundle, faces)
                self._run(BLANK, 0)
            except (ImportError, RuntimeError, ValueError, OSError) as error:
                raise TrackerError(
                    f"MediaPipe's face landmarker did not start: {error}",
                    cure="python -m pip install --force-reinstall -c constraints.txt mediapipe",
                ) from error

    def __call__(self, image: Image, time_ns: int = 0) -> list[Seen]:
        """Return the faces in an RGB picture (H, W, 3) uint8 seen at ``time_ns``."""
        seen = self._run(image, time_ns // 1_000_000)
        if not seen and self._had_face:
            # Not where it was, which ended the tracking: a second look searches the whole picture.
            seen = self._run(image, time_ns // 1_000_000)
        size = (image.shape[1], image.shape[0])
        usable = [face for face in seen if face.plausible(size)]
        if seen and not usable:
            rest = _without(image, seen)
            seen = self._run(rest, 0) or self._run(rest, 0)  # the first look ends the tracking, the second searches
            usable = [face for face in seen if face.plausible(size)]
        self._had_face = bool(usable)
        return usable

    def forget(self) -> None:
        """Look for faces afresh in the next picture."""
        self._run(BLANK, 0)
        self._had_face = False

    def close(self) -> None:
        """Stop the task; may be called twice."""
        if self._task is not None:
            self._task.close()
            self._task = None

    def _start(self, bundle: bytes, faces: int) -> None:
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision

        self._image: Any = mediapipe.Image
        self._rgb = mediapipe.ImageFormat.SRGB
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=bundle),
            running_mode=vision.RunningMode.VIDEO,
            num_faces=faces,
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
        )
        self._task = vision.FaceLandmarker.create_from_options(options)

    def _run(self, image: Image, time_ms: int) -> list[Seen]:
        # The task refuses a time that does not rise, which a source that starts again or two frames in a
        # millisecond would bring.
        self._time_ms = max(self._time_ms + 1, time_ms)
        pixels = np.ascontiguousarray(image).view()
        pixels.flags.writeable = False
        picture = self._image(image_format=self._rgb, data=pixels)
        result = self._task.detect_for_video(picture, self._time_ms)
        return [
            Seen(
                landmarks=np.array([(point.x, point.y, point.z) for point in landmarks], np.float32),
                head=np.array(head, np.float32),
                blendshapes=np.array([shape.score for shape in shapes], np.float32),
            )
            for landmarks, head, shapes in zip(
                result.face_landmarks,
                result.facial_transformation_matrixes,
                result.face_blendshapes,
                strict=True,
            )
        ]


def _without(image: Image, faces: list[Seen]) -> Image:
    """A copy in which the task cannot find these again, as it would rather follow half a face than look for another."""
    height, width = image.shape[:2]
    rest = image.copy()
    for face in faces:
        box = around(face.landmarks, (width, height))
        left, top = max(0, int(box.x - box.side / 2)), max(0, int(box.y - box.side / 2))
        rest[top : max(0, int(box.y + box.side / 2)), left : max(0, int(box.x + box.side / 2))] = 0
    return rest


def read_bundle(path: Path) -> bytes:
    """Read the bundle and check its digest. Raises TrackerError where it is not the right file."""
    expected = model(NAME).sha256
    try:
        bundle = path.read_bytes()
    except OSError as error:
        raise TrackerError(f"the face landmarker's file {path} cannot be read: {error.strerror}", cure=FETCH) from error
    found = hashlib.sha256(bundle).hexdigest()
    if found != expected:
        raise TrackerError(
            f"{path} is not the face landmarker's file: sha256 {found[:16]}..., expected {expected[:16]}...",
            cure=FETCH,
        )
    return bundle
