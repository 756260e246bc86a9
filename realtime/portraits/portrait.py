"""Portraits: a picture file read, its face found and judged, and the head cut out in the output's shape."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engines.errors import PortraitError
from engines.types import FaceState, Image
from realtime.portraits.decoder_process import Decoders
from realtime.portraits.head_crop import Window, choose_window, cut_window
from realtime.portraits.image_file import Picture, read_picture
from realtime.tracking.still_faces import FaceFinder

DEFAULT_PORTRAIT = Path(__file__).parents[2] / "engines" / "assets" / "portrait.png"

SMALLEST = 60
"""Pixels from the eyes to the chin: a face with fewer has too little detail to be brought to life."""
SMALL = 110
"""With fewer than this the result looks soft, which is worth saying."""
TURNED = 25.0
"""Degrees to the side from which on the far half of a face gets thin."""
PROFILE = 45.0
"""Degrees to the side at which half of the face is not in the picture, so that it cannot be moved."""
TILTED = 50.0
"""Degrees to which an upright picture's face tilts at most."""
CHOOSE = "choose a picture of one face, upright and seen from the front"


@dataclass(frozen=True, slots=True)
class PortraitPicture:
    """A portrait in the output's shape."""

    name: str
    """The file's name without its suffix."""
    image: Image
    """(height, width, 3) uint8 RGB, exactly the size asked for."""
    face: FaceState
    """The face as seen in ``image``."""
    notes: tuple[str, ...] = ()
    """What the person should know about it, a sentence each."""


def load_portrait(path: Path | None, size: tuple[int, int], *, finder: FaceFinder | None = None) -> PortraitPicture:
    """Read a portrait and cut it around the head to exactly ``size`` (width, height), never distorted.

    None is the portrait that comes with the program. A ``finder`` saves loading the models for each of several.
    Raises PortraitError for a picture that cannot be used, TrackerError when there is no model to find faces with.
    """
    source = path or DEFAULT_PORTRAIT
    return _cut(source, read_picture(source), size, finder)


def receive_portrait(
    data: bytes, name: str, size: tuple[int, int], largest: int, decoders: Decoders, within_s: float = 5.0
) -> PortraitPicture:
    """The same for a picture that was sent, of ``largest`` pixels at most; nothing is written to disk.

    Raises TimeoutError besides, for one that takes longer than ``within_s`` to decode.
    """
    return _cut(Path(name), decoders.decode(data, name, largest, within_s), size, None)


def _cut(source: Path, read: Picture, size: tuple[int, int], finder: FaceFinder | None) -> PortraitPicture:
    """Find and judge the face, and cut the picture around it."""
    picture, notes = read
    with ExitStack() as stack:
        finder = finder or stack.enter_context(FaceFinder())
        faces = finder.find(picture)
        if not faces:
            raise PortraitError(f"no face was found in {source}", cure=CHOOSE)
        if len(faces) > 1:
            notes += (f"{source.name} shows {len(faces)} faces: the largest is used",)
        face = faces[0]
        notes += _judge(source, face)
        if source != DEFAULT_PORTRAIT and finder.upside_down(picture, face):
            raise PortraitError(f"the face in {source} is upside down", cure="turn the picture so that it is upright")
        points = face.pixels()
        window = choose_window(points, face.size, size)
        image = cut_window(picture, window, size)
        placed = _placed(face, window, size)
        return PortraitPicture(source.stem, image, _seen_again(finder, image, placed), notes)


def _judge(source: Path, face: FaceState) -> tuple[str, ...]:
    """Refuse a face that cannot be used, and say what is not good about one that can."""
    points = face.pixels()
    eyes = points[[33, 133, 263, 362], :2].mean(axis=0)
    length = round(math.dist(eyes, points[152, :2]))
    if length < SMALLEST:
        raise PortraitError(
            f"the face in {source} is too small: {length} pixels from eyes to chin, at least {SMALLEST} needed",
            cure="choose a picture with more pixels, or a closer one",
        )
    tilt = abs(_roll(face))
    if tilt > TILTED:
        raise PortraitError(
            f"the face in {source} lies on its side: tilted {tilt:.0f} degrees, at most {TILTED:.0f} can be used",
            cure="turn the picture so that the face is upright",
        )
    angle = abs(yaw(face))
    if angle > PROFILE:
        raise PortraitError(
            f"the face in {source} is in profile: turned {angle:.0f} degrees, at most {PROFILE:.0f} can be used",
            cure=CHOOSE,
        )
    notes = []
    if length < SMALL:
        notes.append(f"the face is small ({length} pixels from eyes to chin): the result will look soft")
    if angle > TURNED:
        notes.append(f"the face is turned {angle:.0f} degrees: its far side will move less well than the near one")
    return tuple(notes)


def yaw(face: FaceState) -> float:
    """How far a face is turned to the side, in degrees; over 0 towards the picture's left edge.

    From the line between the cheeks in 3-D. The mesh rather underestimates large angles.
    """
    points = face.pixels()
    x, y, z = (points[454] - points[234]).tolist()
    return math.degrees(math.atan2(z, math.hypot(x, y)))


def _roll(face: FaceState) -> float:
    """How far the line between the eyes is turned clockwise, in degrees."""
    x, y, _ = (face.pixels()[263] - face.pixels()[33]).tolist()
    return math.degrees(math.atan2(y, x))


def _placed(face: FaceState, window: Window, size: tuple[int, int]) -> FaceState:
    """The face as it must lie in the frame that the window fills."""
    points = face.pixels()
    points -= np.array([window.left, window.top, 0], np.float32)
    points *= np.float32(window.scale)
    width, height = size
    return replace(face, landmarks=points / np.array([width, height, width], np.float32), size=size)


def _seen_again(finder: FaceFinder, image: Image, placed: FaceState) -> FaceState:
    """The face measured in the frame itself; where it was put, should it not be found there."""
    face = finder.look(image, placed)
    if face is None:
        return placed
    expected = placed.pixels()[:, :2]
    off = float(np.abs(face.pixels()[:, :2] - expected).mean())
    return face if off < 0.1 * float(np.ptp(expected, axis=0).max()) else placed
