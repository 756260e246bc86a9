"""Finds and measures faces in still images, with more care than there is time for in a live frame."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np

from engines.types import FaceState, Image, Mask, Points
from realtime.tracking import face_mesh
from realtime.tracking.face_mesh import FaceDetector, FaceMesh
from realtime.tracking.landmark_model import DetectedFace, FaceBox, LandmarkModel, bounding_box
from realtime.tracking.landmarker import Landmarker, require_model_file
from realtime.tracking.person_matte import PersonSegmenter

MAX_FACES = 8
"""How many faces are returned for one image."""
CROP_PIXELS = 512
"""Side of the square crop that a face is measured in. The model sees 192 pixels of it."""
CROP_SIDE = 2.2
"""Side of that crop in face sizes."""
SEARCH_PIXELS = 1600
"""Images are searched at no more than this many pixels a side. The detectors see 192 at most."""
TILE_SHARES = (1.0, 0.6, 0.35)
"""Sides of the tiles in which distant faces are searched for, as shares of the image's, in this order."""
NEAR_SHARE = 0.2
"""Distant faces are not searched for if a face has this share of the image's longer side."""
SMALL_TILE_SHARE = 0.5
"""Smaller tiles are searched only if nothing has been found."""
SETTLING_PASSES = 3
"""The model's crop follows the landmarks of the pass before. After this many passes they have settled."""
JITTERS = ((0.0, 1.0), (4.0, 1.03), (-4.0, 0.97), (2.0, 0.94), (-2.0, 1.06))
"""Rotations in degrees and scales of the copies of a crop whose landmarks are averaged."""
GOOD_SPREAD = 0.009
"""Landmarks that differ by less than this between copies of a crop, in face sizes, are of an upright face."""
MAX_SPREAD = 0.03
"""Landmarks that differ by more than this are of no face."""
TURNED_SHARE = 0.6
"""A face is upright in a turned image if its landmarks differ by less than this share of what they do as it is."""
SAME_FACE_OVERLAP = 0.3
"""Boxes that overlap by more than this are of the same face."""


class FaceFinder:
    """Finds faces in still images. Holds the models; used by one thread at a time.

    Raises TrackerError if there are no models: mediapipe 1.x includes none, so that the face landmarker's file must
    have been downloaded.
    """

    def __init__(self) -> None:
        self._model: LandmarkModel
        self._segmenter = PersonSegmenter()
        self._multi_face_model: LandmarkModel | None = None
        self._near_detector: FaceDetector | None = None
        self._distant_detector: FaceDetector | None = None
        if face_mesh.available():
            self._model = FaceMesh()
            self._near_detector, self._distant_detector = FaceDetector(distant=False), FaceDetector(distant=True)
        else:
            path = require_model_file()
            self._model, self._multi_face_model = Landmarker(path), Landmarker(path, max_faces=MAX_FACES)

    def find(self, image: Image) -> list[FaceState]:
        """Return the faces in an RGB image, largest first, ``MAX_FACES`` at most. Their seq and time_ns are 0."""
        found: list[tuple[FaceBox, FaceState]] = []
        for candidate in self._candidates(image):
            if _overlaps_any(candidate, found):
                continue
            face = self._measure_in(image, candidate)
            if face is None:
                continue
            box = bounding_box(face.landmarks, face.size)
            if not _overlaps_any(box, found):
                found.append((box, face))
        found.sort(key=lambda item: -item[0].side)
        return [face for _, face in found[:MAX_FACES]]

    def measure(self, image: Image, expected: FaceState) -> FaceState | None:
        """Return the face at the place of ``expected``, the face of an image of the same size, or None."""
        return self._measure_in(image, bounding_box(expected.landmarks, expected.size))

    def matte(self, image: Image, face: FaceState) -> Mask | None:
        """Return how much of each pixel belongs to the head and body of a face in an RGB image, (H, W), or None.

        None if there is no model for it, or it does not find the face.
        """
        return self._segmenter.matte(image, face)

    def is_upside_down(self, image: Image, face: FaceState) -> bool:
        """Return True if a face returned by ``find`` is upside down. The mesh fits an upright face to either.

        Landmarks that fit hardly move when the image is rotated and scaled a little. Landmarks of a face that is upside
        down move at least twice as far, up to thirty times, on portraits of all kinds.
        """
        crop = _crop(image, bounding_box(face.landmarks, face.size))[0]
        rotated = np.ascontiguousarray(crop[::-1, ::-1])
        return self._landmark_spread(rotated) < self._landmark_spread(crop)

    def upright_turn(self, image: Image) -> int | None:
        """Return by how many degrees clockwise an RGB image has to be turned for its largest face to be upright.

        0, 90, 180 or 270; None if no face is found, or none fits clearly better in one way than as it is.
        """
        as_it_is = self._upright_spread(image)
        if as_it_is < GOOD_SPREAD:
            return 0
        spreads = {turn: self._upright_spread(turned(image, turn)) for turn in (180, 90, 270)}
        best = min(spreads, key=lambda turn: spreads[turn])
        if spreads[best] < min(MAX_SPREAD, TURNED_SHARE * as_it_is):
            return best
        return 0 if as_it_is < MAX_SPREAD else None

    def close(self) -> None:
        """Release the models. Idempotent."""
        for model in (self._model, self._multi_face_model, self._near_detector, self._distant_detector):
            if model is not None:
                model.close()
        self._segmenter.close()
        self._multi_face_model = self._near_detector = self._distant_detector = None

    def __enter__(self) -> FaceFinder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _upright_spread(self, image: Image) -> float:
        """Return how far the landmarks of the largest face differ between jittered copies, in face sizes.

        Infinite if there is no face, or if it is turned by more than 45 degrees.
        """
        boxes = [
            box
            for detector in (self._near_detector, self._distant_detector)
            if detector is not None
            for box in detector.detect(image)
        ]
        if self._multi_face_model is not None:
            self._multi_face_model.reset()
            size = (image.shape[1], image.shape[0])
            boxes += [bounding_box(face.landmarks, size) for face in self._multi_face_model.detect(image)]
        if not boxes:
            return math.inf
        crop = _crop(image, max(boxes, key=lambda box: box.side))[0]
        detected = self._detect_settled(crop)
        if detected is None or abs(bounding_box(detected.landmarks, (CROP_PIXELS, CROP_PIXELS)).roll) > math.pi / 4:
            return math.inf
        return self._landmark_spread(crop)

    def _candidates(self, image: Image) -> Iterator[FaceBox]:
        """Yield where faces may be: first from the near detector, then from the one for small and distant faces."""
        overview, scale = _shrunk(image, SEARCH_PIXELS)
        size = (overview.shape[1], overview.shape[0])
        boxes: list[FaceBox] = []
        if self._multi_face_model is not None:
            self._multi_face_model.reset()
            boxes += [bounding_box(face.landmarks, size) for face in self._multi_face_model.detect(overview)]
        if self._near_detector is not None:
            boxes += self._near_detector.detect(overview)
        for share in TILE_SHARES:
            largest = max((box.side for box in boxes), default=0.0) / max(size)
            if self._distant_detector is None or largest > NEAR_SHARE or (boxes and share < SMALL_TILE_SHARE):
                break
            for left, top, right, bottom in _tiles(*size, share):
                in_tile = self._distant_detector.detect(overview[top:bottom, left:right])
                boxes += [box._replace(x=box.x + left, y=box.y + top) for box in in_tile]
        for box in boxes:
            yield FaceBox(box.x / scale, box.y / scale, box.side / scale)

    def _measure_in(self, image: Image, box: FaceBox) -> FaceState | None:
        """Return the face in ``box``, its landmarks averaged over several copies of the crop, or None."""
        crop, left, top, side = _crop(image, box)
        detected = self._detect_settled(crop)
        if detected is None:
            return None
        samples = self._jittered_landmarks(crop, detected) or [detected.landmarks * np.float32(CROP_PIXELS)]
        points = np.mean(samples, axis=0, dtype=np.float32)
        height, width = image.shape[:2]
        points = points * np.float32(side / CROP_PIXELS) + np.array([left, top, 0], np.float32)
        face = DetectedFace(points / np.array([width, height, width], np.float32), detected.presence)
        if not face.is_plausible((width, height)):
            return None
        return FaceState(0, 0, face.landmarks, (width, height), confidence=face.presence)

    def _detect_settled(self, crop: Image) -> DetectedFace | None:
        """Return the face in a crop after ``SETTLING_PASSES`` passes, or None."""
        self._model.reset()
        faces: list[DetectedFace] = []
        for _ in range(SETTLING_PASSES):
            faces = self._model.detect(crop)
            if not faces:
                return None
        return faces[0]

    def _landmark_spread(self, crop: Image) -> float:
        """Return how far a face's landmarks differ between jittered copies of the crop, in face sizes.

        Infinite if a copy shows no face.
        """
        detected = self._detect_settled(crop)
        samples = [] if detected is None else self._jittered_landmarks(crop, detected)
        if len(samples) < len(JITTERS):
            return math.inf
        points = np.stack(samples)[:, :, :2]
        variance = ((points - points.mean(axis=0)) ** 2).sum(axis=-1).mean()
        return math.sqrt(float(variance)) / float(np.ptp(points[0], axis=0).max())

    def _jittered_landmarks(self, crop: Image, face: DetectedFace) -> list[Points]:
        """Return a face's landmarks in rotated and scaled copies of a crop, each (478, 3) in pixels of the crop.

        A copy in which no face is found is left out.
        """
        points = face.landmarks * np.float32(CROP_PIXELS)
        centre = points[:, :2].mean(axis=0)
        samples = []
        for degrees, scale in JITTERS:
            to_copy = cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), degrees, scale)
            copy = np.asarray(
                cv2.warpAffine(crop, to_copy, (CROP_PIXELS, CROP_PIXELS), borderMode=cv2.BORDER_REPLICATE), np.uint8
            )
            faces = self._model.detect(copy)
            if not faces:
                continue
            sample = faces[0].landmarks * np.float32(CROP_PIXELS)
            to_crop = cv2.invertAffineTransform(to_copy).astype(np.float32)
            sample[:, :2] = sample[:, :2] @ to_crop[:, :2].T + to_crop[:, 2]
            sample[:, 2] /= np.float32(scale)
            samples.append(sample)
        return samples


def turned(image: Image, degrees: int) -> Image:
    """Return an image turned clockwise by 0, 90, 180 or 270 degrees; the same one for 0."""
    code = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}.get(degrees)
    return image if code is None else np.asarray(cv2.rotate(image, code), np.uint8)


def find_faces(image: Image) -> list[FaceState]:
    """Return the faces in an RGB image, largest first, ``MAX_FACES`` at most.

    Loads the models for each call: use a FaceFinder for several images. Raises TrackerError as that does.
    """
    with FaceFinder() as finder:
        return finder.find(image)


def _tiles(width: int, height: int, share: float) -> Iterator[tuple[int, int, int, int]]:
    """Yield overlapping tiles of ``share`` of each side, as (left, top, right, bottom) in pixels."""
    across, down = math.ceil(width * share), math.ceil(height * share)
    steps = math.ceil((1 - share) / (share * 0.7))
    for row in range(steps + 1):
        for column in range(steps + 1):
            left, top = (width - across) * column // max(steps, 1), (height - down) * row // max(steps, 1)
            yield left, top, left + across, top + down


def _crop(image: Image, box: FaceBox) -> tuple[Image, float, float, float]:
    """Return the crop around a box, and its left, top and side in the image.

    The crop is a (CROP_PIXELS, CROP_PIXELS, 3) copy. Pixels outside the image repeat its edge.
    """
    side = max(8, round(box.side * CROP_SIDE))
    left, top = round(box.x - side / 2), round(box.y - side / 2)
    height, width = image.shape[:2]
    inner = image[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    padded = cv2.copyMakeBorder(
        inner,
        max(-top, 0),
        max(top + side - height, 0),
        max(-left, 0),
        max(left + side - width, 0),
        cv2.BORDER_REPLICATE,
    )
    interpolation = cv2.INTER_AREA if side > CROP_PIXELS else cv2.INTER_CUBIC
    resized = cv2.resize(padded, (CROP_PIXELS, CROP_PIXELS), interpolation=interpolation)
    return np.asarray(resized, np.uint8), left, top, side


def _shrunk(image: Image, max_side: int) -> tuple[Image, float]:
    """Return the image at no more than ``max_side`` pixels a side, and its scale."""
    scale = min(1.0, max_side / max(image.shape[:2]))
    if scale == 1.0:
        return image, 1.0
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def _overlaps_any(box: FaceBox, found: list[tuple[FaceBox, FaceState]]) -> bool:
    return any(_overlap(box, other) > SAME_FACE_OVERLAP for other, _ in found)


def _overlap(one: FaceBox, other: FaceBox) -> float:
    """Return the intersection of two squares over the area of the smaller one."""
    reach = (one.side + other.side) / 2
    across, down = reach - abs(one.x - other.x), reach - abs(one.y - other.y)
    smaller = min(one.side, other.side)
    if across <= 0 or down <= 0:
        return 0.0
    return min(across, smaller) * min(down, smaller) / smaller**2
