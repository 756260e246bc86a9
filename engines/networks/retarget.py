"""How far eyes and lips are open, and what LivePortrait's retargeting networks are asked for.

    Guo et al., "LivePortrait", arXiv 2407.03168, section 3.4: R_eyes(x_s; c_s, c_d) and R_lip(x_s; c_s, c_d) shift the
    source's keypoints x_s so that an opening c_s becomes c_d.

An opening is a ratio: the gap between the lids over the width of the eye, and the gap between the lips over the width
of the mouth. The published program measures its landmarks in the same places.

With relative motion the published program lets go of the driver's motion: x_d = x_s + R_eyes + R_lip, a still head
that blinks and chews (only with absolute motion it adds them to x_d). Here they are added to the full relative motion:

**Eyes.** What the networks carry over is how far the driver's lids travel, and on a portrait with larger eyes that is
not far enough: they never shut. So the driver's opening counts as a share of the driver's own neutral, 1 there and 0
when shut, and R_eyes is asked for that share of the portrait's own opening: narrow eyes are not wide ones half shut, on
either side. It takes over from the driver's own motion as the eyes close, for with open eyes that motion has the gaze
and the squint in it. Both eyes go by the one that is more open, since R_eyes knows one wish for both: a wink stays what
the driver's motion makes of it.

**Lips.** An opening over a mouth's width means much the same on anybody, and relative motion adds the driver's to what
the portrait has already: one that shows its teeth never shuts its mouth. R_lip is asked to take away as much as keeps
the lips apart when the driver's meet, so the sum is how far the driver's are open; the motion itself, smiles and all,
stays. At a neutral with parted lips the portrait has its own opening, and still none when the driver's lips meet.
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
"""What ``--retarget`` takes."""

SHUT = 0.15
"""The share of their neutral opening at which eyes are shut: blinks in real clips end at 0 to 0.12 of it."""
BLIND = 0.05
"""An eye that is less open than this in the neutral has no say: it is shut or covered."""
PARTED = 0.08
"""From here on the lips of a neutral are parted; there is nothing between noise and that to divide by."""
TOUCHING = 0.03
"""A portrait's lips that are less open than this are left alone (the published program's threshold)."""

_Four = tuple[int, int, int, int]
"""Upper, lower, left and right point, as seen in the picture."""


def _four(upper: Any, lower: Any, left: Any, right: Any) -> _Four:
    return int(upper), int(lower), int(left), int(right)


_EYES = (
    _four(UPPER_LIDS[RIGHT_EYE][3], LOWER_LIDS[RIGHT_EYE][3], *EYE_CORNERS[RIGHT_EYE]),
    _four(UPPER_LIDS[LEFT_EYE][3], LOWER_LIDS[LEFT_EYE][3], *EYE_CORNERS[LEFT_EYE][::-1]),
)
_LIPS = _four(INNER_UPPER_LIP[4], INNER_LOWER_LIP[4], *OUTER_MOUTH_CORNERS)


class Ratios(NamedTuple):
    """How far a face's eyes and lips are open, 0 where they are shut."""

    eyes: tuple[float, float]
    """The one on the left in the picture first."""
    lips: float


class Wish(NamedTuple):
    """What a retargeting network is asked for."""

    ratio: float
    """The opening that the portrait shall have."""
    weight: float
    """How much of the network's answer is taken, 0 to 1."""


NOTHING = Wish(0.0, 0.0)


def ratios(points: Points) -> Ratios:
    """The openings of a face, (468 or more, 2 or 3) landmarks in pixels or any unit that is the same in x and y.

    They do not change with place, size or roll. Lids that have crossed are shut.
    """
    return Ratios((_ratio(points, _EYES[0]), _ratio(points, _EYES[1])), _ratio(points, _LIPS))


def _ratio(points: Points, four: _Four) -> float:
    """The gap across the line between the corners, over that line; no arrays are made."""
    upper, lower, left, right = four
    item = points.item
    along_x, along_y = item(right, 0) - item(left, 0), item(right, 1) - item(left, 1)
    gap_x, gap_y = item(lower, 0) - item(upper, 0), item(lower, 1) - item(upper, 1)
    width = along_x * along_x + along_y * along_y
    return max((along_x * gap_y - along_y * gap_x) / width, 0.0) if width > 0 else 0.0


def eyes(own: Ratios, neutral: Ratios, now: Ratios) -> Wish:
    """What R_eyes is asked for: ``own`` openings of the portrait, the driver's in the ``neutral`` and ``now``.

    The same part of the driver's own motion of the eyes, ``weight``, is to be left out.
    """
    shares = [
        (seen / rest - SHUT) / (1 - SHUT) for rest, seen in zip(neutral.eyes, now.eyes, strict=True) if rest > BLIND
    ]
    openness = min(max(*shares, 0.0), 1.0) if shares else 1.0
    return Wish(openness * sum(own.eyes) / 2, 1 - openness)


def lips(own: Ratios, neutral: Ratios, now: Ratios) -> Wish:
    """What R_lip is asked for, as ``eyes``; the driver's own motion of the lips is to be kept.

    That motion opens the portrait's by ``now - neutral``: with what is asked for instead of ``own``, the sum is ``now``
    where the neutral's lips are shut, and goes from 0 through ``own`` where they are parted.
    """
    if own.lips < TOUCHING:
        return NOTHING
    share = min(neutral.lips, now.lips) / max(neutral.lips, PARTED)
    return Wish(min(neutral.lips + share * (own.lips - neutral.lips), own.lips), 1.0)
