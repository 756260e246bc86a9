"""MediaPipe's Face Mesh, run as a graph of our own. Its models are inside the mediapipe 0.10 wheel.

It differs from the solution that MediaPipe publishes in two ways. The serialised result is parsed into an array; the
solution builds a Python object for each of the 478 landmarks, which takes a tenth of its time. And the solution only
detects near faces, of at least a fifth of the image's height; this also runs the detector for distant ones. The models
and the way from the landmarks of one frame to the crop of the next are the same.

Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs", 2019; Grishchenko et al.,
"Attention Mesh: High-fidelity Face Mesh Prediction in Real-time", 2020; Bazarevsky et al., "BlazeFace: Sub-millisecond
Neural Face Detection on Mobile GPUs", 2019.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import TrackerError
from engines.install_hint import python
from engines.types import LANDMARKS, Image, Points
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

MODEL_FILE = "modules/face_landmark/face_landmark_with_attention.tflite"
"""Path of the model inside the mediapipe package."""
PRESENCE_STREAM = "mesh__face_presence_score"
"""The graph's internal stream with the face presence score."""
CROP_SIDE = 1.5
"""Side of the square crop that the model sees, in face sizes, as in its training."""
DETECTION_CONFIDENCE = 0.4
"""Detections below are ignored. It may be low because the mesh model then checks the face itself."""


def available() -> bool:
    """Return True if the installed mediapipe includes Face Mesh and its models. Does not import mediapipe."""
    spec = importlib.util.find_spec("mediapipe")
    folders = (spec.submodule_search_locations if spec else None) or []
    return any((Path(folder) / MODEL_FILE).is_file() for folder in folders)


class FaceDetector:
    """BlazeFace, which finds faces in an image. ``distant`` selects the model for faces over two metres away."""

    def __init__(self, *, distant: bool) -> None:
        with quiet_libraries():
            mediapipe_loader.load()
            from mediapipe.python.solutions.face_detection import FaceDetection

            self._detector: Any = FaceDetection(
                min_detection_confidence=DETECTION_CONFIDENCE, model_selection=int(distant)
            )
            self._detector.process(BLANK_IMAGE)

    def detect(self, image: Image) -> list[FaceBox]:
        """Return the faces in an RGB image (H, W, 3) uint8, largest first."""
        height, width = image.shape[:2]
        boxes = []
        for detection in self._detector.process(np.ascontiguousarray(image)).detections or []:
            area = detection.location_data.relative_bounding_box
            eyes = detection.location_data.relative_keypoints[:2]
            roll = math.atan2((eyes[1].y - eyes[0].y) * height, (eyes[1].x - eyes[0].x) * width)
            x, y = (area.xmin + area.width / 2) * width, (area.ymin + area.height / 2) * height
            boxes.append(FaceBox(x, y, max(area.width * width, area.height * height), roll))
        return sorted(boxes, key=lambda box: -box.side)

    def close(self) -> None:
        """Release the detector. Idempotent."""
        if self._detector is not None:
            self._detector.close()
            self._detector = None


class FaceDetectors:
    """Both models of BlazeFace, for near and for distant faces: a BoxDetector."""

    def __init__(self) -> None:
        self._detectors = (FaceDetector(distant=False), FaceDetector(distant=True))

    def detect(self, image: Image) -> list[FaceBox]:
        """Return the boxes that either model finds in an RGB image."""
        return [box for detector in self._detectors for box in detector.detect(image)]

    def close(self) -> None:
        """Release the models. Idempotent."""
        for detector in self._detectors:
            detector.close()


class FaceMesh:
    """Face Mesh with irises, for the largest face: a LandmarkModel. Raises TrackerError if MediaPipe cannot start."""

    def __init__(self) -> None:
        self._timestamp = 0
        self._landmarks: Any = None
        self._presence: Any = None
        self._box: FaceBox | None = None
        self._graph: Any = None
        self._has_found_face = False
        try:
            with quiet_libraries():
                self._start()
                self._run(BLANK_IMAGE, FaceBox(32, 32, 32))
            self._detectors = (FaceDetector(distant=False), FaceDetector(distant=True))
        except (ImportError, RuntimeError, ValueError) as error:
            raise TrackerError(
                "tracker-start-failed",
                f"MediaPipe's Face Mesh did not start: {error}",
                "a working mediapipe 0.10",
                f"{python()} -m pip install --force-reinstall --no-deps mediapipe==0.10.21",
            ) from error

    def detect(
        self,
        image: Image,
        time_ns: int = 0,  # noqa: ARG002 - uses no time
        choose: Choose = largest_first,
    ) -> list[DetectedFace]:
        """Return the face in an RGB image (H, W, 3) uint8 as a list of one, or an empty list.

        If the face is not where it was, or is more than half outside the image, the whole image is searched in the
        same call. So a cut costs no frame, and another face in the image is followed instead.
        """
        if self._box is not None:
            face = self._detect_in(image, self._box)
            if face is not None:
                return [face]
        for detector in self._detectors:
            for box in choose(detector.detect(image)):
                face = self._detect_in(image, box)
                if face is not None:
                    return [face]
        return []

    def follow(self, box: FaceBox) -> None:
        """Search the next image at ``box`` first."""
        self._box = box

    def reset(self) -> None:
        """Forget where the face was: the next image is searched as a whole."""
        self._box = None

    def close(self) -> None:
        """Stop the graph. Idempotent."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None
            for detector in self._detectors:
                detector.close()

    def _detect_in(self, image: Image, box: FaceBox) -> DetectedFace | None:
        """Return the face in ``box``, or None if there is no plausible one. The next search starts at that face."""
        if self._has_found_face:
            face = self._run(image, box)
        else:
            with quiet_libraries():  # the landmark model logs when it sees its first face
                face = self._run(image, box)
            self._has_found_face = face is not None
        size = (image.shape[1], image.shape[0])
        if face is None or not face.is_plausible(size):
            self._box = None
            return None
        self._box = bounding_box(face.landmarks, size)
        return face

    def _start(self) -> None:
        """Build and start the graph: image and crop in, landmarks and presence out."""
        mediapipe_loader.load()
        import mediapipe
        from mediapipe.framework import calculator_pb2
        from mediapipe.framework.formats import rect_pb2
        from mediapipe.python import packet_creator, packet_getter, resource_util
        from mediapipe.python._framework_bindings import _packet_getter

        self._image_packet = packet_creator.create_image_frame
        self._rgb_format = mediapipe.ImageFormat.SRGB
        self._proto_packet = packet_creator.create_proto
        self._crop_type = rect_pb2.NormalizedRect
        self._get_float = packet_getter.get_float
        self._get_serialized = _packet_getter._get_serialized_proto
        resource_util.set_resource_dir(str(Path(mediapipe.__file__).parent.parent))
        node = calculator_pb2.CalculatorGraphConfig.Node(
            name="mesh",
            calculator="FaceLandmarkCpu",
            input_stream=["IMAGE:image", "ROI:crop"],
            input_side_packet=["WITH_ATTENTION:with_attention"],
            output_stream=["LANDMARKS:landmarks"],
        )
        config = calculator_pb2.CalculatorGraphConfig(
            node=[node],
            input_stream=["image", "crop"],
            input_side_packet=["with_attention"],
            output_stream=["landmarks"],
        )
        graph = mediapipe.CalculatorGraph(graph_config=config)
        graph.observe_output_stream("landmarks", self._on_landmarks)
        graph.observe_output_stream(PRESENCE_STREAM, self._on_presence)
        graph.start_run({"with_attention": packet_creator.create_bool(True)})
        self._graph = graph

    def _run(self, image: Image, box: FaceBox) -> DetectedFace | None:
        """Run the graph on the square around ``box``. Return the face, or None if the model sees none."""
        height, width = image.shape[:2]
        pixels = np.ascontiguousarray(image).view()
        pixels.flags.writeable = False  # MediaPipe would copy writable pixels
        crop = self._crop_type(
            x_center=box.x / width,
            y_center=box.y / height,
            width=box.side * CROP_SIDE / width,
            height=box.side * CROP_SIDE / height,
            rotation=box.roll,
        )
        self._timestamp += 1  # the graph only needs it to rise
        self._landmarks = self._presence = None
        packet = self._image_packet(pixels, image_format=self._rgb_format)
        self._graph.add_packet_to_input_stream("image", packet.at(self._timestamp))
        self._graph.add_packet_to_input_stream("crop", self._proto_packet(crop).at(self._timestamp))
        self._graph.wait_until_idle()
        if self._landmarks is None:
            return None
        landmarks = parse_landmarks(self._get_serialized(self._landmarks))
        return DetectedFace(landmarks, self._get_float(self._presence))

    def _on_landmarks(self, _stream: str, packet: Any) -> None:
        self._landmarks = packet

    def _on_presence(self, _stream: str, packet: Any) -> None:
        self._presence = packet


_RECORD_BYTES = 17
"""Bytes of one landmark in a serialised NormalizedLandmarkList that has x, y and z and no other field."""
_KEYS = np.array([0x0A, 0x0F, 0x0D, 0x15, 0x1D], np.uint8)
"""The record's tag and length, and the tags of x, y and z."""
_KEY_OFFSETS = np.array([0, 1, 2, 7, 12])
_VALUE_OFFSETS = np.array([3, 4, 5, 6, 8, 9, 10, 11, 13, 14, 15, 16])


def parse_landmarks(data: bytes) -> Points:
    """Parse a serialised NormalizedLandmarkList of 478 landmarks. Return a new array (478, 3) float32.

    In protobuf's wire format each landmark is a length-delimited field 1 of three 32-bit floats, fields 1 to 3, so
    they lie at a fixed stride. A message of another layout is parsed by protobuf itself. Raises ValueError for another
    number of landmarks.
    """
    if len(data) == _RECORD_BYTES * LANDMARKS:
        records: NDArray[np.uint8] = np.frombuffer(data, np.uint8).reshape(LANDMARKS, _RECORD_BYTES)
        if (records[:, _KEY_OFFSETS] == _KEYS).all():
            return records.take(_VALUE_OFFSETS, axis=1).view("<f4").astype(np.float32, copy=False)
    from mediapipe.framework.formats import landmark_pb2

    landmarks = landmark_pb2.NormalizedLandmarkList.FromString(data).landmark
    if len(landmarks) != LANDMARKS:
        raise ValueError(f"the face mesh gave {len(landmarks)} landmarks instead of {LANDMARKS}")
    return np.array([(point.x, point.y, point.z) for point in landmarks], np.float32)
