"""MediaPipe's Face Mesh, run as a graph of our own: its models are inside the mediapipe 0.10 wheel.

The published solution makes Python objects of 478 landmarks, at a tenth of the cost of the whole; here the bytes of
the result become an array at once. It also looks for faces with the detector for near ones alone, which wants a face
of a fifth of the picture's height; here the one for distant faces has its turn as well. The models and the way from
one frame's landmarks to the next frame's crop are the same.

Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs", 2019; Grishchenko et al.,
"Attention Mesh: High-fidelity Face Mesh Prediction in Real-time", 2020; Bazarevsky et al., "BlazeFace: Sub-millisecond
Neural Face Detection on Mobile GPUs", 2019.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.errors import TrackerError
from engines.types import LANDMARKS, Image, Points
from realtime.core.quiet_libraries import quiet_libraries

MODEL = "modules/face_landmark/face_landmark_with_attention.tflite"
PRESENCE_STREAM = "mesh__face_presence_score"
CROP = 1.5
"""The side of the square that the model looks at, in face sizes: what it was trained on."""
DETECTED = 0.4
"""How sure a detector must be; the mesh then has its own say."""

SMALLEST = 16.0
"""A face of fewer pixels than this holds no expression."""

BLANK: Image = np.zeros((64, 64, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class Seen:
    """One face in one picture."""

    landmarks: Points
    """(478, 3) float32, normalised as in FaceState."""
    presence: float = 1.0
    """How sure the model is that it looks at a face, in [0, 1]; 1 where it does not say."""
    head: NDArray[np.float32] | None = None
    """As in FaceState, and so are the blendshapes."""
    blendshapes: NDArray[np.float32] | None = None

    def plausible(self, size: tuple[int, int]) -> bool:
        """Whether this can be used: landmarks all finite, most of them in the picture, not absurdly small.

        ``size`` is the picture's width and height in pixels.
        """
        if not np.isfinite(self.landmarks).all():
            return False
        points = self.landmarks[:, :2]
        inside = ((points >= 0) & (points <= 1)).all(axis=1)
        extent = np.ptp(points, axis=0) * size
        return bool(inside.mean() > 0.5 and extent.max() >= SMALLEST)


class Mesh(Protocol):
    """A landmark model run over one picture after the other. Not for more than one thread at a time."""

    def __call__(self, image: Image, time_ns: int = 0) -> list[Seen]:
        """Return the faces in an RGB picture; where they were in the last one is where the search starts.

        A face that is no longer there is looked for in the whole picture in the same call. All are plausible.
        """

    def forget(self) -> None:
        """Look for faces afresh in the next picture."""

    def close(self) -> None:
        """Let go of everything; may be called twice."""


def available() -> bool:
    """Whether the installed mediapipe still has the solutions and their models. Does not import it."""
    spec = importlib.util.find_spec("mediapipe")
    folders = (spec.submodule_search_locations if spec else None) or []
    return any((Path(folder) / MODEL).is_file() for folder in folders)


class Box(NamedTuple):
    """A square around a face, in pixels."""

    x: float
    y: float
    """The centre."""
    side: float
    roll: float = 0.0
    """How far the line between the eyes is turned clockwise, in radians."""


class Detector:
    """BlazeFace: where the faces are in a picture. ``distant`` takes the model for those over two metres away."""

    def __init__(self, *, distant: bool) -> None:
        with quiet_libraries():
            from mediapipe.python.solutions.face_detection import FaceDetection

            self._detector = FaceDetection(min_detection_confidence=DETECTED, model_selection=int(distant))
            self._detector.process(BLANK)

    def __call__(self, image: Image) -> list[Box]:
        """Return the faces in an RGB picture (H, W, 3) uint8, largest first."""
        height, width = image.shape[:2]
        boxes = []
        for detection in self._detector.process(np.ascontiguousarray(image)).detections or []:
            area = detection.location_data.relative_bounding_box
            eyes = detection.location_data.relative_keypoints[:2]
            roll = math.atan2((eyes[1].y - eyes[0].y) * height, (eyes[1].x - eyes[0].x) * width)
            x, y = (area.xmin + area.width / 2) * width, (area.ymin + area.height / 2) * height
            boxes.append(Box(x, y, max(area.width * width, area.height * height), roll))
        return sorted(boxes, key=lambda box: -box.side)

    def close(self) -> None:
        """Stop the detector; only once."""
        self._detector.close()


class FaceMesh:
    """Face Mesh with irises, for the largest face. Raises TrackerError when MediaPipe cannot start."""

    def __init__(self) -> None:
        self._time = 0
        self._landmarks: Any = None
        self._presence: Any = None
        self._box: Box | None = None
        self._graph: Any = None
        self._spoken = False
        try:
            with quiet_libraries():
                self._start()
                self._run(BLANK, Box(32, 32, 32))
            self._detectors = (Detector(distant=False), Detector(distant=True))
        except (ImportError, RuntimeError, ValueError) as error:
            raise TrackerError(
                f"MediaPipe's Face Mesh did not start: {error}",
                cure="python -m pip install --force-reinstall --no-deps mediapipe==0.10.21",
            ) from error

    def __call__(self, image: Image, time_ns: int = 0) -> list[Seen]:  # noqa: ARG002 - needs no time
        """Return the face in an RGB picture (H, W, 3) uint8, or none that can be used.

        A face that is not where it was, or has half left the picture, is looked for in the whole picture at once: a
        cut costs no frame, and somebody else who is there is followed.
        """
        if self._box is not None:
            seen = self._look(image, self._box)
            if seen is not None:
                return [seen]
        for detect in self._detectors:
            for box in detect(image):
                seen = self._look(image, box)
                if seen is not None:
                    return [seen]
        return []

    def forget(self) -> None:
        """Look for the face afresh in the next picture."""
        self._box = None

    def close(self) -> None:
        """Stop the graph; may be called twice."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None
            for detector in self._detectors:
                detector.close()

    def _look(self, image: Image, box: Box) -> Seen | None:
        """The face at that place, which is then where the next look begins; None where it is none to be used."""
        if self._spoken:
            seen = self._run(image, box)
        else:
            with quiet_libraries():  # the landmark model says its piece at the first face
                seen = self._run(image, box)
            self._spoken = seen is not None
        size = (image.shape[1], image.shape[0])
        if seen is None or not seen.plausible(size):
            self._box = None
            return None
        self._box = around(seen.landmarks, size)
        return seen

    def _start(self) -> None:
        import mediapipe
        from mediapipe.framework import calculator_pb2
        from mediapipe.framework.formats import rect_pb2
        from mediapipe.python import packet_creator, packet_getter, resource_util
        from mediapipe.python._framework_bindings import _packet_getter

        self._image_packet = packet_creator.create_image_frame
        self._rgb = mediapipe.ImageFormat.SRGB
        self._proto_packet = packet_creator.create_proto
        self._crop = rect_pb2.NormalizedRect
        self._get_float = packet_getter.get_float
        self._get_serialised = _packet_getter._get_serialized_proto
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

    def _run(self, image: Image, box: Box) -> Seen | None:
        height, width = image.shape[:2]
        pixels = np.ascontiguousarray(image).view()
        pixels.flags.writeable = False  # MediaPipe copies what could still change
        crop = self._crop(
            x_center=box.x / width,
            y_center=box.y / height,
            width=box.side * CROP / width,
            height=box.side * CROP / height,
            rotation=box.roll,
        )
        self._time += 1
        self._landmarks = self._presence = None
        picture = self._image_packet(pixels, image_format=self._rgb)
        self._graph.add_packet_to_input_stream("image", picture.at(self._time))
        self._graph.add_packet_to_input_stream("crop", self._proto_packet(crop).at(self._time))
        self._graph.wait_until_idle()
        if self._landmarks is None:
            return None
        landmarks = parse_landmarks(self._get_serialised(self._landmarks))
        return Seen(landmarks, self._get_float(self._presence))

    def _on_landmarks(self, _stream: str, packet: Any) -> None:
        self._landmarks = packet

    def _on_presence(self, _stream: str, packet: Any) -> None:
        self._presence = packet


def around(landmarks: Points, size: tuple[int, int]) -> Box:
    """The square around a face's normalised landmarks in a picture of ``size``, (width, height) in pixels."""
    points = landmarks[:, :2] * np.array(size, np.float32)
    low, high = points.min(axis=0), points.max(axis=0)
    x, y = ((low + high) / 2).tolist()
    across, down = (points[263] - points[33]).tolist()
    return Box(x, y, float((high - low).max()), math.atan2(down, across))


RECORD = 17
"""Bytes of one landmark in a serialised NormalizedLandmarkList that has x, y and z and nothing else."""
KEYS = np.array([0x0A, 0x0F, 0x0D, 0x15, 0x1D], np.uint8)
KEY_PLACES = np.array([0, 1, 2, 7, 12])
VALUE_PLACES = np.array([3, 4, 5, 6, 8, 9, 10, 11, 13, 14, 15, 16])


def parse_landmarks(data: bytes) -> Points:
    """Read a serialised NormalizedLandmarkList of 478 landmarks as (478, 3) float32, a new array.

    Each landmark is a length-delimited field 1 of three 32-bit floats, fields 1 to 3 (protobuf's wire
    format), so they lie at a fixed stride; a message that is laid out otherwise is read by protobuf itself.
    Raises ValueError for another number of landmarks.
    """
    if len(data) == RECORD * LANDMARKS:
        records: NDArray[np.uint8] = np.frombuffer(data, np.uint8).reshape(LANDMARKS, RECORD)
        if (records[:, KEY_PLACES] == KEYS).all():
            return records.take(VALUE_PLACES, axis=1).view("<f4").astype(np.float32, copy=False)
    from mediapipe.framework.formats import landmark_pb2

    landmarks = landmark_pb2.NormalizedLandmarkList.FromString(data).landmark
    if len(landmarks) != LANDMARKS:
        raise ValueError(f"the face mesh gave {len(landmarks)} landmarks instead of {LANDMARKS}")
    return np.array([(point.x, point.y, point.z) for point in landmarks], np.float32)
