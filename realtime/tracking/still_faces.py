"""Faces in still pictures: found and measured with more care than there is time for in a frame."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np

from engines.errors import TrackerError
from engines.types import FaceState, Image, Points
from realtime.tracking import face_mesh, model_files
from realtime.tracking.face_mesh import Box, Detector, FaceMesh, Mesh, Seen, around
from realtime.tracking.landmarker import FETCH, NAME, Landmarker

MOST = 8
"""How many faces are looked for in one picture."""
CROP = 512
"""The side of the square that each face is measured in: the model looks at 192 pixels of it."""
MARGIN = 2.2
"""That square's side, in face sizes."""
OVERVIEW = 1600
"""Pictures are searched at no more than this many pixels a side: the detectors look at 192 at most."""
TILES = (1.0, 0.6, 0.35)
"""The shares of the picture's sides that are searched at once for distant faces."""
NEAR = 0.2
"""With a face of this share of the picture's larger side, distant ones do not matter."""
FINE = 0.5
"""Smaller shares are searched only where nothing has been found."""
PASSES = 3
"""The model's crop follows the landmarks of the pass before; after three passes they have settled."""
JITTERS = ((0.0, 1.0), (4.0, 1.03), (-4.0, 0.97), (2.0, 0.94), (-2.0, 1.06))
"""Turns in degrees and scales of the looks that are averaged."""


class FaceFinder:
    """Finds faces in still pictures. Holds the models; not for more than one thread at a time.

    Raises TrackerError when there is no model: mediapipe 1.x brings none, and the face landmarker's file is
    then needed.
    """

    def __init__(self) -> None:
        self._one: Mesh
        self._several: Mesh | None = None
        self._near: Detector | None = None
        self._distant: Detector | None = None
        if face_mesh.available():
            self._one = FaceMesh()
            self._near, self._distant = Detector(distant=False), Detector(distant=True)
        elif (path := model_files.find(NAME)) is not None:
            self._one, self._several = Landmarker(path), Landmarker(path, faces=MOST)
        else:
            raise TrackerError(
                "the installed mediapipe brings no models, and the face landmarker's file is not there: "
                f"{model_files.target(NAME)}",
                cure=FETCH,
            )

    def find(self, image: Image) -> list[FaceState]:
        """Return the faces in an RGB picture, largest first, at most eight; their seq and time_ns are 0."""
        found: list[tuple[Box, FaceState]] = []
        for box in self._candidates(image):
            if any(_overlap(box, other) > 0.3 for other, _ in found):
                continue
            face = self._measure(image, box)
            if face is None:
                continue
            place = around(face.landmarks, face.size)
            if not any(_overlap(place, other) > 0.3 for other, _ in found):
                found.append((place, face))
        found.sort(key=lambda item: -item[0].side)
        return [face for _, face in found[:MOST]]

    def measure(self, image: Image, expected: FaceState) -> FaceState | None:
        """Measure the one face that is where ``expected`` is in a picture of the same size, or return None."""
        return self._measure(image, around(expected.landmarks, expected.size))

    def is_upside_down(self, image: Image, face: FaceState) -> bool:
        """Whether the face that ``find`` found is there the other way up: a mesh is fitted upright to either.

        Landmarks that fit stay where they are when the picture is turned and scaled a little; others wander from look
        to look, for portraits of all kinds twice as far at least, and up to thirty times.
        """
        crop = _cut(image, around(face.landmarks, face.size))[0]
        turned = np.ascontiguousarray(crop[::-1, ::-1])
        return self._unrest(turned) < self._unrest(crop)

    def close(self) -> None:
        """Let go of the models; may be called twice."""
        for model in (self._one, self._several, self._near, self._distant):
            if model is not None:
                model.close()
        self._several = self._near = self._distant = None

    def __enter__(self) -> FaceFinder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _candidates(self, image: Image) -> Iterator[Box]:
        """Where faces may be: the mesh's own detector first, then one for small and distant faces."""
        overview, scale = _shrunk(image, OVERVIEW)
        size = (overview.shape[1], overview.shape[0])
        boxes: list[Box] = []
        if self._several is not None:
            self._several.forget()
            boxes += [around(seen.landmarks, size) for seen in self._several(overview)]
        if self._near is not None:
            boxes += self._near(overview)
        for share in TILES:
            largest = max((box.side for box in boxes), default=0.0) / max(size)
            if self._distant is None or largest > NEAR or (boxes and share < FINE):
                break
            for left, top, right, bottom in _tiles(*size, share):
                found = self._distant(overview[top:bottom, left:right])
                boxes += [box._replace(x=box.x + left, y=box.y + top) for box in found]
        for box in boxes:
            yield Box(box.x / scale, box.y / scale, box.side / scale)

    def _measure(self, image: Image, box: Box) -> FaceState | None:
        """The face in ``box``, or None."""
        crop, left, top, side = _cut(image, box)
        seen = self._settled(crop)
        if seen is None:
            return None
        looks = self._looks(crop, seen) or [seen.landmarks * np.float32(CROP)]
        points = np.mean(looks, axis=0, dtype=np.float32)
        height, width = image.shape[:2]
        points = points * np.float32(side / CROP) + np.array([left, top, 0], np.float32)
        face = Seen(points / np.array([width, height, width], np.float32), seen.presence)
        if not face.plausible((width, height)):
            return None
        return FaceState(0, 0, face.landmarks, (width, height), confidence=face.presence)

    def _settled(self, crop: Image) -> Seen | None:
        """The face in a crop, or None."""
        self._one.forget()
        seen: list[Seen] = []
        for _ in range(PASSES):
            seen = self._one(crop)
            if not seen:
                return None
        return seen[0]

    def _unrest(self, crop: Image) -> float:
        """How far the landmarks of the face in a crop lie apart from look to look, in face sizes.

        Infinitely where a look finds none.
        """
        seen = self._settled(crop)
        found = [] if seen is None else self._looks(crop, seen)
        if len(found) < len(JITTERS):
            return math.inf
        looks = np.stack(found)[:, :, :2]
        apart = ((looks - looks.mean(axis=0)) ** 2).sum(axis=-1).mean()
        return math.sqrt(float(apart)) / float(np.ptp(looks[0], axis=0).max())

    def _looks(self, crop: Image, seen: Seen) -> list[Points]:
        """The face in slightly turned and scaled copies of a crop, where it is found, in pixels of the crop."""
        points = seen.landmarks * np.float32(CROP)
        centre = points[:, :2].mean(axis=0)
        looks = []
        for degrees, scale in JITTERS:
            there = cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), degrees, scale)
            copy = np.asarray(cv2.warpAffine(crop, there, (CROP, CROP), borderMode=cv2.BORDER_REPLICATE), np.uint8)
            found = self._one(copy)
            if not found:
                continue
            look = found[0].landmarks * np.float32(CROP)
            back = cv2.invertAffineTransform(there).astype(np.float32)
            look[:, :2] = look[:, :2] @ back[:, :2].T + back[:, 2]
            look[:, 2] /= np.float32(scale)
            looks.append(look)
        return looks


def find_faces(image: Image) -> list[FaceState]:
    """Return the faces in an RGB still picture, largest first, at most eight.

    Loads the models each time: use a FaceFinder for several pictures. Raises TrackerError as that does.
    """
    with FaceFinder() as finder:
        return finder.find(image)


def _tiles(width: int, height: int, share: float) -> Iterator[tuple[int, int, int, int]]:
    """Overlapping tiles of ``share`` of each side, as (left, top, right, bottom)."""
    across, down = math.ceil(width * share), math.ceil(height * share)
    steps = math.ceil((1 - share) / (share * 0.7))
    for row in range(steps + 1):
        for column in range(steps + 1):
            left, top = (width - across) * column // max(steps, 1), (height - down) * row // max(steps, 1)
            yield left, top, left + across, top + down


def _cut(image: Image, box: Box) -> tuple[Image, float, float, float]:
    """A CROP x CROP copy of the square around the box, and the square's left, top and side in the picture."""
    side = max(8, round(box.side * MARGIN))
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
    how = cv2.INTER_AREA if side > CROP else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(padded, (CROP, CROP), interpolation=how), np.uint8), left, top, side


def _shrunk(image: Image, most: int) -> tuple[Image, float]:
    """The picture at no more than ``most`` pixels a side, and its scale."""
    scale = min(1.0, most / max(image.shape[:2]))
    if scale == 1.0:
        return image, 1.0
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def _overlap(one: Box, other: Box) -> float:
    """Intersection over the smaller of two squares."""
    reach = (one.side + other.side) / 2
    across, down = reach - abs(one.x - other.x), reach - abs(one.y - other.y)
    smaller = min(one.side, other.side)
    if across <= 0 or down <= 0:
        return 0.0
    return min(across, smaller) * min(down, smaller) / smaller**2
