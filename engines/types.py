"""The values that cross from tracking to generators. NumPy only.

Image axes throughout: x right, y down, z away from the viewer; lengths in pixels unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""(H, W, 3) uint8, RGB, C-contiguous."""

Points = NDArray[np.float32]
"""(N, 2) or (N, 3) float32."""

LANDMARKS = 478
"""MediaPipe's face mesh: 468 points of the face, then five for each iris."""


@dataclass(frozen=True, slots=True)
class FaceState:
    """A face as the tracker saw it in one frame. Its arrays are read-only by agreement."""

    seq: int
    """The frame it was seen in."""
    time_ns: int
    """The moment shown, as in the frame: what filters take as time."""
    landmarks: Points
    """(478, 3) float32, normalised: x by the image's width, y by its height, z by its width."""
    size: tuple[int, int]
    """Width and height of the image in pixels."""
    head_matrix: NDArray[np.float32] | None = None
    """(4, 4) float32, from head to camera coordinates in centimetres (face landmarker only)."""
    blendshapes: NDArray[np.float32] | None = None
    """(52,) float32 in [0, 1], in MediaPipe's order (face landmarker only)."""
    confidence: float = 1.0
    """How certain the tracker is that it sees a face, in [0, 1]."""
    steady: bool = False
    """True if the tracker has smoothed the landmarks over time. Smoothing them again would only add delay."""

    def pixels(self) -> Points:
        """The landmarks in pixels, (478, 3) float32, a new array."""
        width, height = self.size
        return self.landmarks * np.array([width, height, width], np.float32)


@dataclass(frozen=True, slots=True)
class Motion:
    """What a portrait is asked to do: the driver relative to the driver's own neutral face.

    The head frame is that of the driver's neutral: origin between the eyes, x right, y down, z away from the viewer,
    and one unit is the neutral's face scale (see ``engines.face.head``), so that nothing depends on how far away
    the driver sits.
    """

    rotation: NDArray[np.float32]
    """(3, 3) float32: head rotation relative to the neutral."""
    translation: NDArray[np.float32]
    """(2,) float32: how far the head moved in the picture, in face scales."""
    scale: float
    """How much larger the head became: over 1 when the driver leans in."""
    neutral: Points
    """(478, 3) float32: the driver's neutral face in the head frame."""
    expression: Points
    """(478, 3) float32: the driver's face now, in the head frame, head pose taken out."""
    gain: float = 1.0
    """How often the expression is taken; it is in ``expression`` already."""
    region: str = "all"
    """What shall move; rotation and expression heed it already."""
    rest_share: float = 0.0
    """How much of the driver's neutral this very frame becomes, for whoever keeps a neutral of their own.

    1 replaces the old one, 1/n is the n-th of several that are averaged, 0 leaves it as it is.
    """
    presence: float = 1.0
    """How much of the driver is there: 1 while the face is seen or held, 0 at rest.

    Rotation, translation, scale and expression heed it already.
    """
    flipped: bool = False
    """Whether the driving picture is the flip, left to right, of what it was at first.

    Whoever keeps anything of earlier pictures flips it when this changes.
    """
    face: FaceState | None = None
    """Where the driver's face is in the driving picture; None while it is lost: then the picture must not be used."""


@dataclass(frozen=True, slots=True)
class Portrait:
    """A portrait made ready by one generator; ``features`` belongs to that generator alone."""

    name: str
    size: tuple[int, int]
    features: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a network: what a backend allocates for it."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    """A NumPy name: what crosses the backend's boundary, whatever precision it computes in."""
