"""The points and triangles of MediaPipe's face mesh, by name.

The numbering is MediaPipe's (Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile
GPUs", 2019; irises by Ablavatski et al., 2020). Left and right are the subject's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]


def _points(*numbers: int) -> Indices:
    indices = np.array(numbers, np.intp)
    indices.flags.writeable = False
    return indices


with np.load(Path(__file__).parents[1] / "assets" / "topology.npz", allow_pickle=False) as _tables:
    TRIANGLES: NDArray[np.int32] = _tables["triangles"].astype(np.int32)
    """(898, 3) int32: the face, the slit of the mouth and the eyes, all with the same winding."""
    MIRROR: Indices = _tables["mirror"].astype(np.intp)
    """(478,): the point that each one becomes when the image is flipped left to right."""

OVAL = _points(
    10, 109, 67, 103, 54, 21, 162, 127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148,
    152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 356, 389, 251, 284, 332, 297, 338,
)  # fmt: skip
"""(36,) the outline of the face, from the top of the forehead by the right cheek to the chin and back."""

RIGID = _points(
    4, 6, 10, 33, 54, 67, 117, 119, 121, 127, 129, 132, 133, 136, 143, 147, 198, 205,
    263, 284, 297, 346, 348, 350, 356, 358, 361, 362, 365, 372, 376, 420, 425,
)  # fmt: skip
"""(33,) the points that the head's pose is found from: mostly nose and corners of the eyes."""
RIGID_WEIGHTS: NDArray[np.float32] = np.array(
    [71, 32, 8, 59, 8, 9, 10, 15, 19, 5, 121, 6, 53, 67, 15, 14, 25, 47,
     59, 8, 9, 10, 15, 19, 5, 121, 6, 53, 67, 15, 14, 25, 47],
    np.float32,
)  # fmt: skip
"""(33,) float32: the weights of MediaPipe's own face geometry, so that poses agree with the landmarker's matrix."""

RIGID_CANONICAL: NDArray[np.float32] = np.array([
    (0.00, 0.46, -7.59), (0.00, -2.47, -5.79), (0.00, -8.26, -4.48), (-4.45, -2.66, -3.17),
    (-6.28, -6.62, -1.43), (-3.52, -8.01, -3.73), (-5.26, -0.95, -2.97), (-3.30, -0.86, -3.87),
    (-1.82, -1.47, -4.22), (-7.74, -2.36, 2.01), (-1.79, 0.98, -4.85), (-7.27, 2.89, 2.25),
    (-1.86, -2.59, -3.76), (-5.09, 7.18, -0.71), (-6.41, -2.24, -1.56), (-6.23, 1.94, -1.66),
    (-1.25, -0.23, -5.68), (-3.83, 1.54, -4.14), (4.45, -2.66, -3.17), (6.28, -6.62, -1.43),
    (3.52, -8.01, -3.73), (5.26, -0.95, -2.97), (3.30, -0.86, -3.87), (1.82, -1.47, -4.22),
    (7.74, -2.36, 2.01), (1.79, 0.98, -4.85), (7.27, 2.89, 2.25), (1.86, -2.59, -3.76),
    (5.09, 7.18, -0.71), (6.41, -2.24, -1.56), (6.23, 1.94, -1.66), (1.25, -0.23, -5.68),
    (3.83, 1.54, -4.14),
], np.float32)  # fmt: skip
"""(33, 3) float32: the rigid points of MediaPipe's canonical face in centimetres; x right, y down, z away."""

FOREHEAD_TOP, CHIN_TIP = 10, 152
"""The uppermost and the lowest point of the outline on the face's axis."""
NOSE_TIP, NOSE_BASE = 4, 2
"""The foremost point of the nose, and the point where it meets the upper lip."""
CHEEKS = _points(234, 454)
"""(2,) the points of the outline beside the right and the left ear."""
CHEEK_SKIN = _points(50, 280, 205, 425, 117, 346, 101, 330, 36, 266)
"""(10,) on the cheeks, right and left in turn, where the colour of skin is measured."""

RIGHT_EYE, LEFT_EYE = 0, 1
EYE_CORNERS = (_points(33, 133), _points(263, 362))
"""Outer and inner corner of each eye."""
ALL_EYE_CORNERS = _points(33, 133, 263, 362)
"""(4,) the corners of both eyes."""
OUTER_EYE_CORNERS = _points(33, 263)
"""(2,) outer corner of the right and the left eye."""
UPPER_LIDS = (_points(246, 161, 160, 159, 158, 157, 173), _points(466, 388, 387, 386, 385, 384, 398))
"""(7,) the edge of each upper lid from the outer corner inwards, without the corners."""
LOWER_LIDS = (_points(7, 163, 144, 145, 153, 154, 155), _points(249, 390, 373, 374, 380, 381, 382))
"""(7,) the edge of each lower lid, opposite the points of the upper one."""
UPPER_LID_FOLDS = (_points(247, 30, 29, 27, 28, 56, 190), _points(467, 260, 259, 257, 258, 286, 414))
"""(7,) the ring of skin above each upper lid."""
LOWER_LID_FOLDS = (_points(25, 110, 24, 23, 22, 26, 112), _points(255, 339, 254, 253, 252, 256, 341))
"""(7,) the ring of skin below each lower lid."""
IRISES = (_points(468, 469, 470, 471, 472), _points(473, 474, 475, 476, 477))
"""(5,) centre and four points of the rim of each iris."""

BROWS = _points(107, 66, 105, 63, 336, 296, 334, 293)
"""(8,) along both brows, right one first, from the nose outwards."""
BROW_UPPER_ROWS = (_points(107, 66, 105, 63, 70), _points(336, 296, 334, 293, 300))
BROW_LOWER_ROWS = (_points(55, 65, 52, 53, 46), _points(285, 295, 282, 283, 276))
"""(5,) the upper and the lower edge of each brow, from the nose outwards."""

MOUTH_CORNERS = _points(78, 308)
"""(2,) right and left inner corner of the mouth."""
OUTER_MOUTH_CORNERS = _points(61, 291)
"""(2,) right and left outer corner of the mouth."""
INNER_UPPER_LIP = _points(191, 80, 81, 82, 13, 312, 311, 310, 415)
"""(9,) the lower edge of the upper lip, from right to left, without the corners."""
INNER_LOWER_LIP = _points(95, 88, 178, 87, 14, 317, 402, 318, 324)
"""(9,) the upper edge of the lower lip, opposite the points of the upper one."""
AROUND_MOUTH = _points(165, 167, 164, 393, 391, 18, 182, 406, 194, 200, 418)
"""(11,) on the skin around the lips: five above, six below."""
UPPER_LIP_MIDDLE, LOWER_LIP_MIDDLE = 13, 14
"""The middle of each lip's inner edge."""
UPPER_LIP_ROWS = (
    _points(183, 42, 41, 38, 12, 268, 271, 272, 407),
    _points(184, 74, 73, 72, 11, 302, 303, 304, 408),
    _points(185, 40, 39, 37, 0, 267, 269, 270, 409),
)
"""The rows of the upper lip outwards, opposite the inner edge."""
LOWER_LIP_ROWS = (
    _points(96, 89, 179, 86, 15, 316, 403, 319, 325),
    _points(77, 90, 180, 85, 16, 315, 404, 320, 307),
    _points(146, 91, 181, 84, 17, 314, 405, 321, 375),
)
"""The rows of the lower lip outwards, opposite the inner edge."""
LIP_ROWS = tuple(
    tuple(
        _points(first, *row, last)
        for first, row, last in zip((78, 62, 76, 61), (inner, *rows), (308, 292, 306, 291), strict=True)
    )
    for inner, rows in ((INNER_UPPER_LIP, UPPER_LIP_ROWS), (INNER_LOWER_LIP, LOWER_LIP_ROWS))
)
"""The four rows of the upper and of the lower lip from the inner edge outwards, (11,) each with its two corners."""
CHIN = _points(
    18, 83, 313, 182, 406, 200, 201, 421, 194, 418, 199, 208, 428, 175, 171, 396, 152, 148, 377, 176, 400, 149, 378,
    140, 369, 32, 262, 211, 431, 204, 424, 106, 335, 43, 273,
)  # fmt: skip
"""(35,) the points below the lips that move with the jaw."""
