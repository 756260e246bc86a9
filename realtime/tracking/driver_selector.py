"""Chooses the face that drives among those that are in the driving video."""

from __future__ import annotations

import math
from collections.abc import Sequence

from realtime.tracking.face_watch import Look, WatchedFace, same_face
from realtime.tracking.landmark_model import FaceBox
from realtime.tracking.settings import Driver, Place

BETTER = {"auto": 1.5, "largest": 1.25}
"""Hysteresis: another face must score this many times the driver's to replace it."""
BETTER_LOOKS = 3
"""In this many consecutive looks."""
ORDER_LOOKS = 2
"""The same where the order of the faces from left to right decides."""
ORDER_MARGIN = 0.5
"""Faces that are nearer to each other than this, across and in sides of a face, keep their order."""
SAME_PLACE = 1.5
"""A face further away from the last one, in sides, is another one, unless there was none in between."""
RETURN_NS = 200_000_000
"""A face that is found anywhere after this time without one counts as the driver who comes back."""


class DriverSelector:
    """Keeps to one face, and knows when another one is to drive. Used by one thread.

    ``driver`` may be set from any thread. It takes effect with the next look.
    """

    def __init__(self, driver: Driver = "auto") -> None:
        self.driver_id = 0
        """Changes when another face drives."""
        self.box: FaceBox | None = None
        """Where the driver's face was in the last frame, in its pixels; None if it was not found."""
        self._driver: Driver = driver
        self._chosen_anew = False
        self._has_lived = False
        self._pictures: tuple[FaceBox, ...] = ()
        self._last_box: FaceBox | None = None
        self._last_ns = 0
        self._certain = False
        self._better: tuple[int, int] = (-1, 0)
        self._picked: FaceBox | None = None  # where the face was last that was chosen by its place
        self.is_picture = False
        """True if the driver's face has been watched for a while, and has never moved."""

    @property
    def driver(self) -> Driver:
        """Which face drives."""
        return self._driver

    @driver.setter
    def driver(self, driver: Driver) -> None:
        self._driver, self._chosen_anew, self._picked = driver, True, None

    @property
    def certain(self) -> bool:
        """False while the driver is lost, or may be a picture of a face."""
        return self._certain and self.box is not None

    @property
    def waiting(self) -> bool:
        """True if ``driver`` was set since the last look."""
        return self._chosen_anew

    def reset(self) -> None:
        """Forget where faces were: the next frame does not continue the last one."""
        self.box = self._last_box = None
        self._pictures, self._has_lived, self._better = (), False, (-1, 0)
        self._picked, self.is_picture = None, False

    def order(self, boxes: Sequence[FaceBox], size: tuple[int, int]) -> list[FaceBox]:
        """Return which of the faces of a frame may drive, the best first. ``size`` is the frame's."""
        allowed = [box for box in boxes if not self._is_picture(box)]
        if isinstance(self._driver, Place):
            x, y = self._pixels(self._driver, size) if self._picked is None else self._picked[:2]
            return sorted(allowed, key=lambda box: math.hypot(box.x - x, box.y - y))
        if isinstance(self._driver, int):
            allowed.sort(key=lambda box: box.x)
            chosen = allowed[min(self._driver, len(allowed)) - 1 :][:1]
            return chosen + [box for box in allowed if box not in chosen]
        return sorted(allowed, key=lambda box: -_score(box, size, self._driver))

    def found(self, box: FaceBox, time_ns: int) -> None:
        """Note where the landmark model has found a face."""
        if self._last_box is not None and 0 <= time_ns - self._last_ns <= RETURN_NS:
            self.driver_id += _far(box, self._last_box)
        if self.box is None:
            self._certain = False
        if self._picked is not None and not _far(box, self._picked):
            self._picked = box
        self.box = self._last_box = box
        self._last_ns = time_ns

    def lost(self) -> None:
        """Note that the landmark model has found no face."""
        self.box = None

    def consider(self, look: Look) -> FaceBox | None:
        """Take in a look. Return the box of another face that is to drive from now on, or None.

        If the face that is followed is a picture, and a living face has driven before, ``box`` is None afterwards: it
        is to be dropped.
        """
        current = next((face for face in look.faces if face.key == look.followed), None)
        if current is not None and self.box is not None and not same_face(current.box, self.box):
            current = None  # the look is of the face before
        if current is not None and current.moving:
            self._has_lived = self._certain = True
        elif current is not None and current.still and not self._has_lived:
            self._certain = True
        alive = self._has_lived or any(face.moving for face in look.faces)
        self._pictures = tuple(face.box for face in look.faces if face.still) if alive else ()
        self.is_picture = current is not None and current.still and not current.moving
        chosen = self._choose(look, current)
        if self.box is not None or not isinstance(self._driver, Place):
            self._chosen_anew = False
        if chosen is not None and self.box is not None:
            self.driver_id += 1
            self._better, self.is_picture = (-1, 0), False
            self.box = self._last_box = chosen.box
            return chosen.box
        if self._is_current_picture(current):
            self.box = None
        return None

    def _is_current_picture(self, current: WatchedFace | None) -> bool:
        return current is not None and current.still and not current.moving and self._has_lived

    def _is_picture(self, box: FaceBox) -> bool:
        return any(same_face(box, picture) for picture in self._pictures)

    def _choose(self, look: Look, current: WatchedFace | None) -> WatchedFace | None:
        """Return the face that replaces the one that is followed, or None."""
        moving = any(face.moving for face in look.faces)
        faces = [
            face
            for face in look.faces
            if (face.visible and not (face.still and moving)) or (current is not None and face.key == current.key)
        ]
        others = [face for face in faces if current is None or face.key != current.key]
        if not others or self.box is None:
            self._better = (-1, 0)
            return None
        if current is not None and current.still and not current.moving:
            living = [face for face in others if face.moving]
            return self._best(living, look) if living else None
        wanted = self._wanted(faces, others, current, look)
        if wanted is None:
            self._better = (-1, 0)
            return None
        key, count = self._better
        self._better = (wanted.key, count + 1 if key == wanted.key else 1)
        needed = BETTER_LOOKS if self._driver in BETTER else ORDER_LOOKS
        return wanted if self._chosen_anew or self._better[1] >= needed else None

    def _wanted(
        self, faces: list[WatchedFace], others: list[WatchedFace], current: WatchedFace | None, look: Look
    ) -> WatchedFace | None:
        """Return the face that should drive, if it is another one."""
        if isinstance(self._driver, Place):
            return self._picked_face(faces, current, look.size)
        if self._driver in BETTER:
            best = self._best([face for face in others if face.moving or self._chosen_anew], look)
            if best is None:
                return None
            box = self.box if current is None else current.box
            assert box is not None
            factor = 1.0 if self._chosen_anew else BETTER[str(self._driver)]
            mine, theirs = _score(box, look.size, self._driver), _score(best.box, look.size, self._driver)
            return best if theirs > factor * mine else None
        if current is None:
            return None
        ordered = sorted(faces, key=lambda face: face.box.x)
        place = {"left": 0, "right": len(ordered) - 1}.get(str(self._driver))
        if place is None:
            place = min(int(self._driver), len(ordered)) - 1
        wanted = ordered[place]
        apart = abs(wanted.box.x - current.box.x) > ORDER_MARGIN * current.box.side
        return wanted if wanted.key != current.key and (apart or self._chosen_anew) else None

    def _picked_face(
        self, faces: list[WatchedFace], current: WatchedFace | None, size: tuple[int, int]
    ) -> WatchedFace | None:
        """Return the face that was chosen by its place, if another one drives."""
        assert isinstance(self._driver, Place)
        if self._picked is None or self._chosen_anew:
            x, y = self._pixels(self._driver, size)
            nearest = min(faces, key=lambda face: math.hypot(face.box.x - x, face.box.y - y))
            if math.hypot(nearest.box.x - x, nearest.box.y - y) > nearest.box.side:
                return None
            self._picked = nearest.box
        else:
            picked = self._picked
            nearest = min(faces, key=lambda face: math.hypot(face.box.x - picked.x, face.box.y - picked.y))
            if not same_face(nearest.box, picked):
                return None
        return None if current is not None and nearest.key == current.key else nearest

    @staticmethod
    def _pixels(place: Place, size: tuple[int, int]) -> tuple[float, float]:
        return place.x * size[0], place.y * size[1]

    def _best(self, faces: Sequence[WatchedFace], look: Look) -> WatchedFace | None:
        return max(faces, key=lambda face: _score(face.box, look.size, self._driver), default=None)


def _far(box: FaceBox, other: FaceBox) -> bool:
    """Return whether two boxes are too far apart for one face in two frames that follow each other."""
    return math.hypot(box.x - other.x, box.y - other.y) > SAME_PLACE * max(box.side, other.side)


def _score(box: FaceBox, size: tuple[int, int], driver: Driver) -> float:
    """Return how well a face qualifies: by its size and, for ``auto``, by how central it is."""
    width, height = size
    if driver == "left":
        return -box.x
    if driver == "right":
        return box.x
    if driver == "largest":
        return box.side
    aside = math.hypot(box.x - width / 2, box.y - height / 2) / (math.hypot(width, height) / 2)
    return box.side * (1 - 0.5 * min(aside, 1.0))
