"""Turns an image file into a portrait: finds and checks its face, and fits it to the output's size."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engines.errors import PortraitError
from engines.face.coefficients import canonical_shape
from engines.face.topology import (
    ALL_EYE_CORNERS,
    CHEEKS,
    CHIN_TIP,
    EYE_CORNERS,
    LOWER_LIDS,
    OUTER_EYE_CORNERS,
    UPPER_LIDS,
)
from engines.types import FaceState, Image, Mask, Points
from realtime.portraits.bundled import FOLDER, bundled_portraits
from realtime.portraits.fit import fit_picture
from realtime.portraits.image_file import DecodedImage, read_image
from realtime.portraits.mount import Mount
from realtime.portraits.settings import Fit
from realtime.tracking.still_faces import FaceFinder

DEFAULT_PORTRAIT = bundled_portraits()[0].path

MIN_FACE_PIXELS = 60
"""Pixels from the eyes to the chin. A face with fewer is refused: it has too little detail to be animated."""
SMALL_FACE_PIXELS = 110
"""A face with fewer is noted: the result looks soft."""
TURNED_DEGREES = 20.0
"""Yaw above which the far half of the face has too few pixels, which is noted."""
PROFILE_DEGREES = 45.0
"""Yaw above which half of the face is hidden and cannot be animated, so that the portrait is refused."""
MAX_ROLL_DEGREES = 50.0
"""Roll above which the image is taken to lie on its side, and is refused."""
SHUT_EYE = 0.13
"""The gap between the lids over the eye's width below which an eye is shut: nearly nothing of the iris is seen."""
CHOOSE = "choose a picture of one face, upright and seen from the front"


@dataclass(frozen=True, slots=True)
class PortraitPicture:
    """A portrait that fills the output's frame, or the window of its mount."""

    name: str
    """The name of a bundled portrait, otherwise the file's name without its suffix."""
    image: Image
    """(height, width, 3) uint8 RGB, exactly of the requested size, or of the mount's window."""
    face: FaceState
    """The face, measured in ``image``."""
    notes: tuple[str, ...] = ()
    """What the user should know about the portrait, a sentence each."""
    matte: Mask | None = None
    """(height, width) uint8: how much of each pixel belongs to the head and body; None if that could not be found."""
    mount: Mount | None = None
    """The frame that it is shown in, if it does not fill it."""


def load_portrait(
    path: Path | None, size: tuple[int, int], *, fit: Fit = "extend", finder: FaceFinder | None = None
) -> PortraitPicture:
    """Read an image file and fit it around the head to exactly ``size`` (width, height), without distortion.

    A ``path`` of None is the portrait that comes with the program. Without a ``finder`` the face models are loaded for
    this call. Raises PortraitError if the image cannot be used, and TrackerError if there are no face models.
    """
    source = path or DEFAULT_PORTRAIT
    decoded = read_image(source)
    with ExitStack() as stack:
        return make_portrait(decoded, source, size, finder or stack.enter_context(FaceFinder()), fit)


def make_portrait(
    decoded: DecodedImage, source: Path, size: tuple[int, int], finder: FaceFinder, fit: Fit = "extend"
) -> PortraitPicture:
    """Find and check the face of a decoded image, and fit the image around the head to ``size`` (width, height).

    ``source`` names the image in messages. Raises PortraitError if the image cannot be used.
    """
    image, notes = decoded
    faces = finder.find(image)
    if not faces:
        raise PortraitError("portrait-no-face", f"no face was found in {source}", "a picture of one face", CHOOSE)
    if len(faces) > 1:
        notes += (f"{source.name} shows {len(faces)} faces: the largest is used",)
    face = faces[0]
    notes += _check_face(source, face)
    if source.parent != FOLDER and finder.is_upside_down(image, face):
        raise PortraitError(
            "portrait-upside-down",
            f"the face in {source} is upside down",
            "an upright face",
            "turn the picture so that it is upright",
        )
    fitted = fit_picture(image, face, size, fit, finder.matte)
    if fitted.matte is None:
        notes += ("the outline of head and body was not found: the background will move with the head",)
    measured = _measure_again(finder, fitted.image, fitted.face)
    return PortraitPicture(_name(source), fitted.image, measured, notes, fitted.matte, fitted.mount)


def _name(source: Path) -> str:
    """Return what a portrait is called: the name of a bundled one, otherwise its file's name without the suffix."""
    return next((portrait.name for portrait in bundled_portraits() if portrait.path == source), source.stem)


def yaw(face: FaceState) -> float:
    """Return how far a face is turned to the side, in degrees; positive towards the picture's left edge.

    It is the angle of the line between the cheeks in 3-D. The mesh tends to underestimate large angles.
    """
    points = face.pixels()
    right, left = CHEEKS
    x, y, z = (points[left] - points[right]).tolist()
    return math.degrees(math.atan2(z, math.hypot(x, y)))


def _roll(face: FaceState) -> float:
    """Return how far the line between the eyes is turned clockwise, in degrees."""
    points = face.pixels()
    right, left = OUTER_EYE_CORNERS
    x, y, _ = (points[left] - points[right]).tolist()
    return math.degrees(math.atan2(y, x))


def _check_face(source: Path, face: FaceState) -> tuple[str, ...]:
    """Return notes on a face that can be used. Raises PortraitError for one that is too small or turned too far."""
    points = face.pixels()
    eyes = points[ALL_EYE_CORNERS, :2].mean(axis=0)
    length = round(math.dist(eyes, points[CHIN_TIP, :2]))
    if length < MIN_FACE_PIXELS:
        raise PortraitError(
            "portrait-face-too-small",
            f"the face in {source} is too small: {length} pixels from eyes to chin",
            f"at least {MIN_FACE_PIXELS}",
            "choose a picture with more pixels, or a closer one",
        )
    roll = abs(_roll(face))
    if roll > MAX_ROLL_DEGREES:
        raise PortraitError(
            "portrait-on-its-side",
            f"the face in {source} lies on its side: tilted {roll:.0f} degrees",
            f"at most {MAX_ROLL_DEGREES:.0f}",
            "turn the picture so that the face is upright",
        )
    angle = abs(yaw(face))
    if angle > PROFILE_DEGREES:
        raise PortraitError(
            "portrait-in-profile",
            f"the face in {source} is in profile: turned {angle:.0f} degrees",
            f"at most {PROFILE_DEGREES:.0f}",
            CHOOSE,
        )
    notes = []
    if shut := _shut_eyes(points):
        eyes_are = "one eye is" if shut == 1 else "the eyes are"
        notes.append(f"{eyes_are} shut in the picture and cannot open: it does not show what is behind the lids")
    if length < SMALL_FACE_PIXELS:
        notes.append(f"the face is small ({length} pixels from eyes to chin): the result will look soft")
    if angle > TURNED_DEGREES:
        notes.append(f"the face is turned {angle:.0f} degrees: its far side will move less well than the near one")
    return tuple(notes)


def _shut_eyes(points: Points) -> int:
    """Return how many eyes of a face are shut. ``points``: (478, 3) pixels."""
    shape = canonical_shape(points)
    count = 0
    for ends, upper, lower in zip(EYE_CORNERS, UPPER_LIDS, LOWER_LIDS, strict=True):
        gap = float((shape[lower, 1] - shape[upper, 1])[2:5].mean())
        count += gap < SHUT_EYE * math.dist(*shape[ends].tolist())
    return count


def _measure_again(finder: FaceFinder, image: Image, expected: FaceState) -> FaceState:
    """Return the face as measured in the cropped image, or ``expected`` if it is not found near there."""
    face = finder.measure(image, expected)
    if face is None:
        return expected
    points = expected.pixels()[:, :2]
    off = float(np.abs(face.pixels()[:, :2] - points).mean())
    return face if off < 0.1 * float(np.ptp(points, axis=0).max()) else expected
