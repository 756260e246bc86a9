"""Measure how far eyes and lips are open, and choose the inputs of LivePortrait's retargeting networks.

    Guo et al., "LivePortrait", arXiv 2407.03168, section 3.4: R_eyes(x_s; c_s, c_d) and R_lip(x_s; c_s, c_d) shift the
    source's keypoints x_s so that an opening c_s becomes c_d.

An opening is a ratio: the gap between the lids over the width of the eye, and the gap between the lips over the width
of the mouth. The published program measures its landmarks in the same places.

With relative motion the published program drops the driver's motion: x_d = x_s + R_eyes + R_lip, a still head that
blinks and chews (only with absolute motion it adds them to x_d). Here they are added to the full relative motion:

**Eyes.** The networks carry over how far the driver's lids travel, and on a portrait with larger eyes that is not far
enough to close them. So the driver's opening counts as a share of the driver's own neutral, 1 there and 0 when closed,
and R_eyes is asked for that share of the portrait's own opening: narrow eyes do not count as half closed, on either
side. It replaces the driver's own motion as the eyes close; while they are open, that motion contains the gaze and the
squint. Both eyes follow the one that is more open, since R_eyes has one target for both: a wink is left to the driver's
own motion.

**Lips.** An opening over a mouth's width means much the same on any face, and relative motion adds the driver's to the
portrait's: a portrait that shows its teeth never closes its mouth. R_lip is asked to remove what keeps the lips apart
when the driver's meet, so that the sum is the driver's opening; the motion itself, smiles included, stays. At a neutral
with parted lips the portrait has its own opening, and none when the driver's lips meet.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from engines.face.topology import (
    EYE_CORNERS,
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    LEFT_EYE,
    LOWER_LIDS,
    OUTER_MOUTH_CORNERS,
    RIGHT_EYE,
    UPPER_LIDS,
)
from engines.types import Points

Retarget = Literal["none", "eyes", "lips", "both"]
"""The values of ``--retarget``."""

SHUT = 0.15
"""The share of their neutral opening at which eyes are closed: blinks in real clips end at 0 to 0.12 of it."""
BLIND = 0.05
"""An eye that is less open than this in the neutral is ignored: it is closed or covered."""
PARTED = 0.08
"""The least opening of a neutral with parted lips; smaller ones are noise, and no divisor."""
TOUCHING = 0.03
"""A portrait's lips that are less open than this are not corrected (the published program's threshold)."""

_Four = tuple[int, int, int, int]
"""Upper, lower, left and right point, as seen in the picture."""


def _four(upper: Any, lower: Any, left: Any, right: Any) -> _Four:
    return int(upper), int(lower), int(left), int(right)


_EYES = (
    _four(UPPER_LIDS[RIGHT_EYE][3], LOWER_LIDS[RIGHT_EYE][3], *EYE_CORNERS[RIGHT_EYE]),
    _four(UPPER_LIDS[LEFT_EYE][3], LOWER_LIDS[LEFT_EYE][3], *EYE_CORNERS[LEFT_EYE][::-1]),
)
_LIPS = _four(INNER_UPPER_LIP[4], INNER_LOWER_LIP[4], *OUTER_MOUTH_CORNERS)


class Openings(NamedTuple):
    """How far a face's eyes and lips are open, as ratios; 0 is closed."""

    eyes: tuple[float, float]
    """The eye on the left in the image first."""
    lips: float


class Correction(NamedTuple):
    """The inputs of a retargeting network."""

    ratio: float
    """The opening that the portrait is to have."""
    weight: float
    """The share of the network's output that is added, 0 to 1."""


NO_CORRECTION = Correction(0.0, 0.0)


def openings(points: Points) -> Openings:
    """Return the openings of a face, (468 or more, 2 or 3) landmarks in pixels or another unit that is square.

    They do not change with position, size or roll. Lids that have crossed are closed.
    """
    return Openings((_ratio(points, _EYES[0]), _ratio(points, _EYES[1])), _ratio(points, _LIPS))


def _ratio(points: Points, four: _Four) -> float:
    """Return the gap across the line between the corners, over that line, without allocating arrays."""
    upper, lower, left, right = four
    item = points.item
    along_x, along_y = item(right, 0) - item(left, 0), item(right, 1) - item(left, 1)
    gap_x, gap_y = item(lower, 0) - item(upper, 0), item(lower, 1) - item(upper, 1)
    width = along_x * along_x + along_y * along_y
    return max((along_x * gap_y - along_y * gap_x) / width, 0.0) if width > 0 else 0.0


def eye_correction(own: Openings, neutral: Openings, now: Openings) -> Correction:
    """Return the inputs of R_eyes for the portrait's ``own`` openings and the driver's in ``neutral`` and ``now``.

    The same share of the driver's own motion of the eyes, ``weight``, is to be left out.
    """
    shares = [
        (seen / rest - SHUT) / (1 - SHUT) for rest, seen in zip(neutral.eyes, now.eyes, strict=True) if rest > BLIND
    ]
    openness = min(max(*shares, 0.0), 1.0) if shares else 1.0
    return Correction(openness * sum(own.eyes) / 2, 1 - openness)


def lip_correction(own: Openings, neutral: Openings, now: Openings) -> Correction:
    """Return the inputs of R_lip, as ``eye_correction`` does; the driver's own motion of the lips stays.

    That motion opens the portrait's lips by ``now - neutral``. With the corrected opening in place of ``own``, the sum
    is ``now`` for a neutral with closed lips, and goes from 0 through ``own`` for one with parted lips.
    """
    if own.lips < TOUCHING:
        return NO_CORRECTION
    share = min(neutral.lips, now.lips) / max(neutral.lips, PARTED)
    return Correction(min(neutral.lips + share * (own.lips - neutral.lips), own.lips), 1.0)
