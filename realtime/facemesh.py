"""MediaPipe's Face Mesh, run as a graph of our own: its models are inside the mediapipe 0.10 wheel.

The published solution makes Python objects of 478 landmarks, at more than a tenth of the cost of the whole;
here the bytes of the result become an array at once. Graph, models and results are the same.

Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs", 2019; Grishchenko
et al., "Attention Mesh: High-fidelity Face Mesh Prediction in Real-time", 2020.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.errors import TrackerError
from engines.types import LANDMARKS, Image, Points
from realtime.nativelog import quiet_libraries

GRAPH = "modules/face_landmark/face_landmark_front_cpu.binarypb"
LANDMARKS_STREAM = "multi_face_landmarks"
PRESENCE_STREAM = "facelandmarkcpu__face_presence_score"
PRESENT = 0.5
"""The graph hands on the faces whose presence score is over this."""

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
        """Return the faces in an RGB picture; where they were in the last one is where the search starts."""

    def forget(self) -> None:
        """Look for faces afresh in the next picture."""

    def close(self) -> None:
        """Let go of everything; may be called twice."""


def available() -> bool:
    """Whether the installed mediapipe still has the solutions and their models. Does not import it."""
    spec = importlib.util.find_spec("mediapipe")
    folders = (spec.submodule_search_locations if spec else None) or []
    return any((Path(folder) / GRAPH).is_file() for folder in folders)


class FaceMesh:
    """Face Mesh with irises, for up to ``faces`` faces. Raises TrackerError when MediaPipe cannot start."""

    def __init__(self, *, faces: int = 1) -> None:
        self._time = 0
        self._packet: Any = None
        self._presences: list[float] = []
        self._graph: Any = None
        self._spoken = False
        with quiet_libraries():
            try:
                self._start(faces)
                self._run(BLANK)
            except (ImportError, RuntimeError, ValueError) as error:
                raise TrackerError(
                    f"MediaPipe's Face Mesh did not start: {error}",
                    cure="python -m pip install --force-reinstall --no-deps mediapipe==0.10.21",
                ) from error

    def __call__(self, image: Image, time_ns: int = 0) -> list[Seen]:  # noqa: ARG002 - needs no time
        """Return the faces in an RGB picture (H, W, 3) uint8, in no particular order."""
        if self._spoken:
            return self._run(image)
        with quiet_libraries():  # the landmark model says its piece at the first face
            seen = self._run(image)
        self._spoken = bool(seen)
        return seen

    def forget(self) -> None:
        """Look for faces afresh in the next picture. A blank picture does it, faster than a restart."""
        self._run(BLANK)

    def close(self) -> None:
        """Stop the graph; may be called twice."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None

    def _start(self, faces: int) -> None:
        import mediapipe
        from mediapipe.python import packet_creator, packet_getter, resource_util
        from mediapipe.python._framework_bindings import _packet_getter

        self._image_packet = packet_creator.create_image_frame
        self._rgb = mediapipe.ImageFormat.SRGB
        self._get_float = packet_getter.get_float
        self._get_serialised = _packet_getter._get_serialized_proto_list
        root = Path(mediapipe.__file__).parent
        resource_util.set_resource_dir(str(root.parent))
        graph = mediapipe.CalculatorGraph(binary_graph_path=str(root / GRAPH))
        graph.observe_output_stream(LANDMARKS_STREAM, self._on_landmarks)
        graph.observe_output_stream(PRESENCE_STREAM, self._on_presence)
        graph.start_run(
            {
                "num_faces": packet_creator.create_int(faces),
                "with_attention": packet_creator.create_bool(True),
                "use_prev_landmarks": packet_creator.create_bool(True),
            }
        )
        self._graph = graph

    def _run(self, image: Image) -> list[Seen]:
        pixels = np.ascontiguousarray(image).view()
        pixels.flags.writeable = False  # MediaPipe copies what could still change
        self._time += 1
        self._packet = None
        self._presences.clear()
        packet = self._image_packet(pixels, image_format=self._rgb)
        self._graph.add_packet_to_input_stream("image", packet.at(self._time))
        self._graph.wait_until_idle()
        if self._packet is None:
            return []
        faces = [parse_landmarks(data) for data in self._get_serialised(self._packet)]
        presences = [score for score in self._presences if score > PRESENT]
        return [Seen(face, presence) for face, presence in zip(faces, presences, strict=True)]

    def _on_landmarks(self, _stream: str, packet: Any) -> None:
        self._packet = packet

    def _on_presence(self, _stream: str, packet: Any) -> None:
        self._presences.append(self._get_float(packet))


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
