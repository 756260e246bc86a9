"""The values that pass from the tracker to the generators. NumPy only.

Image axes throughout: x right, y down, z away from the viewer; lengths in pixels unless stated otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""(H, W, 3) uint8, RGB, C-contiguous."""

Points = NDArray[np.float32]
"""(N, 2) or (N, 3) float32."""

Mask = NDArray[np.uint8]
"""(H, W) uint8. Coverage: 0 is fully transparent, 255 fully opaque."""

Floats = NDArray[np.float32]
"""float32, of the shape that is said beside it."""

Bytes = NDArray[np.uint8]
"""uint8, of the shape that is said beside it."""

LANDMARKS = 478
"""Points in MediaPipe's face mesh: 468 of the face, then five for each iris."""
NEUTRAL_EASE_S = 0.35
"""Time constant with which a new neutral of the driver replaces the last one."""


@dataclass(frozen=True, slots=True)
class FaceState:
    """A face as the tracker found it in one frame. Its arrays must not be written to."""

    seq: int
    """The number of the frame."""
    time_ns: int
    """The time of the frame: what filters use as time."""
    landmarks: Points
    """(478, 3) float32, normalised: x by the image's width, y by its height, z by its width."""
    size: tuple[int, int]
    """Width and height of the image in pixels."""
    head_matrix: NDArray[np.float32] | None = None
    """(4, 4) float32, from head to camera coordinates in centimetres (face landmarker only)."""
    expression: NDArray[np.float32] | None = None
    """(52,) float32 in [0, 1]: the ARKit coefficients, in the order of ``engines.face.coefficients.NAMES``."""
    code: NDArray[np.float32] | None = None
    """The face's code, float32, as ``engines.face.coefficients`` reads it; None where it was not read yet."""
    confidence: float = 1.0
    """How certain the tracker is that it sees a face, in [0, 1]."""
    steady: bool = False
    """True if the tracker has smoothed the landmarks over time. Smoothing them again would only add delay."""
    driver_id: int = 0
    """Changes when another face drives; the number means nothing else."""
    turn: NDArray[np.float32] | None = None
    """(3,) radians: how far the head is turned, as ``seen_turn`` measures it, where another program tracked the face.

    Its coefficients and this are then all that is known of it, and the landmarks mean nothing.
    """
    is_picture: bool = False
    """True if the face has been watched for a while and has never moved: it may be a picture of one."""

    def pixels(self) -> Points:
        """Return the landmarks in pixels, (478, 3) float32, in a new array."""
        width, height = self.size
        return self.landmarks * np.array([width, height, width], np.float32)


@dataclass(frozen=True, slots=True)
class Motion:
    """What a portrait is to do: the driver's motion relative to the driver's own neutral face.

    The head frame is that of the driver's neutral: origin between the eyes, x right, y down, z away from the viewer.
    One unit is the neutral's face scale (see ``engines.face.head``), so that the driver's distance does not matter.
    """

    rotation: NDArray[np.float32]
    """(3, 3) float32: head rotation relative to the neutral."""
    translation: NDArray[np.float32]
    """(2,) float32: how far the head moved in the image, in face scales."""
    scale: float
    """The change of the head's size: over 1 when the driver leans in."""
    neutral: Points
    """(478, 3) float32: the driver's neutral face in the head frame."""
    expression: Points
    """(478, 3) float32: the driver's face now, in the head frame, without the head's pose."""
    own: Points | None = None
    """(478, 3) float32: the driver's face without any expression, in the head frame; None where it is not known."""
    gain: float = 1.0
    """The factor of the expression; ``expression`` contains it."""
    region: str = "all"
    """What moves, one of ``engines.generator.REGIONS``; rotation and expression contain it."""
    rest_share: float = 0.0
    """The share of this frame in the driver's neutral, for generators that keep a neutral of their own.

    1 replaces the old neutral, 1/n is the n-th of several that are averaged, 0 leaves the neutral as it is.
    """
    presence: float = 1.0
    """How much of the motion is the driver's: 1 while the face is seen or held, 0 at rest.

    Rotation, translation, scale and expression contain it.
    """
    flipped: bool = False
    """Whether the driving image is flipped, left to right, compared with the first one.

    A generator that keeps anything of earlier images flips it when this changes.
    """
    face: FaceState | None = None
    """The driver's face in the driving image; None while it is lost: the image must not be used then."""
    made_mouth: float = 0.0
    """How much of an open mouth is not the driver's, in [0, 1]: a picture of the driver's does not fit it."""


class Window(NamedTuple):
    """A rectangle with round corners in which the picture of a frame is seen, in pixels."""

    left: int
    top: int
    right: int
    """Exclusive, as ``bottom``."""
    bottom: int
    radius: int
    """Radius of the corners."""

    def grown(self, by: int) -> Window:
        """Return the window that is larger by that many pixels at each side."""
        return Window(self.left - by, self.top - by, self.right + by, self.bottom + by, self.radius + by)

    def alpha(self, size: tuple[int, int]) -> Mask:
        """Return how much of each pixel of a frame of ``size`` (width, height) lies inside, (H, W)."""
        columns = np.arange(size[0], dtype=np.float32) + 0.5
        rows = np.arange(size[1], dtype=np.float32) + 0.5
        # signed distance to a rectangle with round corners: that to a smaller one, less the radius
        across = np.maximum(self.left + self.radius - columns, columns - self.right + self.radius)
        down = np.maximum(self.top + self.radius - rows, rows - self.bottom + self.radius)
        outside = np.hypot(np.maximum(across, 0)[None, :], np.maximum(down, 0)[:, None])
        outside += np.minimum(np.maximum(across[None, :], down[:, None]), 0)
        return np.asarray(np.clip(self.radius + 0.5 - outside, 0, 1) * 255 + 0.5, np.uint8)


@dataclass(frozen=True, slots=True)
class Portrait:
    """A portrait prepared by one generator; ``features`` is private to that generator."""

    name: str
    size: tuple[int, int]
    """Width and height in pixels."""
    features: Any = field(repr=False)
