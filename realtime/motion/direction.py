"""What the user adds to the driver's motion, or puts in its place: an expression stage before the generator.

Coefficients become displacements of landmarks by the rig of ``engines.face.rig``. Lids are moved by shares of their
gap, so that an eye that is shut is shut whatever its shape. Values ease to what was set as a critically damped spring
does, in closed form, so that the frame rate does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import CommandError, one_of
from engines.face.coefficients import canonical_shape
from engines.face.head import from_turn_angles, turn_angles
from engines.face.perspective import seen_turn
from engines.face.rig import Rig, shipped_rig
from engines.face.topology import (
    EYE_CORNERS,
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    IRISES,
    LOWER_LIDS,
    MOUTH_CORNERS,
    UPPER_LIDS,
)
from engines.types import LANDMARKS, FaceState, Floats, Motion, Points
from realtime.motion.controls import (
    COEFFICIENTS,
    CONTROLS,
    GROUP_OF_COEFFICIENT,
    GROUPS,
    HEAD,
    HEAD_ANGLE,
    INDEX,
    MIXES,
    coefficients_of,
    resolve,
)

EASE_HZ = 12.0
"""The spring's angular frequency, radians per second: 90 % of a change is there after 0.33 s."""
LONGEST_STEP_S = 0.25
"""A pause of more than this eases no further than this."""
SETTLED = 1e-4
"""A value this close to what was set, and as slow, has arrived."""
SHUT_SHARE = 0.76
"""The share of the gap between the lids that an eye loses at a blink of 1: what is left is what trackers see of closed
lids, see ``engines.mesh.expression``."""
EYE_RADIUS = 0.4
"""The radius of an eyeball over the width of an eye: how far an iris moves when the eye turns."""
MADE_UP = (0.015, 0.06)
"""The gap, over the mouth's width, from which a mouth that the user opens is less than the driver's, and not at all."""

_HEAD = np.array([INDEX[name] for name in HEAD], np.intp)
_LOOK = INDEX["lookAtCamera"]
BLINKS = [COEFFICIENTS.index(name) for name in ("eyeBlinkRight", "eyeBlinkLeft")]
_VALUES = len(CONTROLS)
_HEAD_GROUP, _EYES_GROUP, _MOUTH_GROUP = GROUPS.index("head"), GROUPS.index("eyes"), GROUPS.index("mouth")
_UPPER, _LOWER = np.stack(UPPER_LIDS), np.stack(LOWER_LIDS)
_CENTRES = np.array([iris[0] for iris in IRISES], np.intp)
_ALL_IRISES = np.concatenate(IRISES)
_LIPS = slice(3, 6)


class Direction:
    """The user's expression over the driver's. Used by one thread only.

    ``values`` and ``mix`` are what was set; what is shown eases there.
    """

    def __init__(self, values: Mapping[str, float] | None = None, mix: Mapping[str, str] | None = None) -> None:
        """Begin with what was set, without easing. Raises CommandError."""
        self.values: dict[str, float] = {}
        self.mix: dict[str, str] = dict.fromkeys(GROUPS, "added")
        self._rig: Rig | None = None
        self._areas: Floats = np.zeros((LANDMARKS, len(GROUPS)), np.float32)
        self._portrait: Points | None = None
        self._turn = np.zeros(3, np.float32)
        self._time_ns: int | None = None
        self.set_mix(mix or {})
        self.set(values or {})
        self._now = self._aim.copy()
        self._speed = np.zeros_like(self._now)
        self._still = True

    @property
    def is_set(self) -> bool:
        """Whether the portrait moves in any other way than the driver."""
        return bool(self.values) or any(how != "added" for how in self.mix.values())

    def set(self, values: Mapping[str, float]) -> None:
        """Set controls, coefficients or action units; the others stay as they are. Raises CommandError."""
        changed = self.values | resolve(values)
        self.values = {name: changed[name] for name in CONTROLS if changed.get(name)}
        self._aim_anew()

    def reset(self) -> None:
        """Leave the portrait to the driver again. How groups are mixed stays as it is."""
        self.values = {}
        self._aim_anew()

    def set_mix(self, mix: Mapping[str, str]) -> None:
        """Choose what moves each group, one of ``MIXES``; the others stay as they are. Raises CommandError."""
        for group, how in mix.items():
            if group not in GROUPS or how not in MIXES:
                found, expected = f"{how} for {group}"[:60], f"{one_of(MIXES)} for {one_of(GROUPS)}"
                raise CommandError("expression-bad-mix", found, expected, "choose one of them")
        self.mix = self.mix | dict(mix)
        self._aim_anew()

    def set_portrait(self, face: FaceState | None) -> None:
        """Take the face of another portrait: what moves where no driver has been seen, and where it looks."""
        pixels = None if face is None else face.pixels()
        self._portrait = None if pixels is None else np.asarray(canonical_shape(pixels), np.float32)
        self._turn = np.zeros(3, np.float32) if face is None or pixels is None else seen_turn(pixels, face.size)

    @property
    def face(self) -> Points:
        """The portrait's own face, (478, 3) in the head frame; a mean one where there is none."""
        return self._portrait if self._portrait is not None else self._shipped().face

    def apply(self, motion: Motion, time_ns: int) -> Motion:
        """Return the motion with what was set, for the frame of ``time_ns``; the same object where nothing is."""
        self._ease(time_ns)
        values, kept = self._now[:_VALUES], self._now[_VALUES + len(GROUPS) :]
        if self._still and not values.any() and (kept == 1).all():
            return motion
        if not motion.neutral.any():
            # no driver has been seen: the portrait's own face is all there is
            motion = replace(motion, neutral=self.face, expression=self.face)
        motion = self._with_head(motion, values, kept)
        shape = self._face(motion, values, kept)
        return replace(motion, expression=shape, made_mouth=self._made_mouth(motion, shape, kept))

    def _aim_anew(self) -> None:
        aim = np.zeros(_VALUES + 2 * len(GROUPS), np.float32)
        for name, value in self.values.items():
            aim[INDEX[name]] = value
        for index, group in enumerate(GROUPS):
            aim[_VALUES + index] = self.mix[group] != "driver"
            aim[_VALUES + len(GROUPS) + index] = self.mix[group] != "fixed"
        self._aim = aim
        self._still = False

    def _ease(self, time_ns: int) -> None:
        passed = 0.0 if self._time_ns is None else min(max(time_ns - self._time_ns, 0) / 1e9, LONGEST_STEP_S)
        self._time_ns = time_ns
        if self._still or not passed:
            return
        away = self._now - self._aim
        push = self._speed + np.float32(EASE_HZ) * away
        fade = np.float32(math.exp(-EASE_HZ * passed))
        self._now = self._aim + (away + push * np.float32(passed)) * fade
        self._speed = (self._speed - push * np.float32(EASE_HZ * passed)) * fade
        if np.abs(self._now - self._aim).max() < SETTLED and np.abs(self._speed).max() < SETTLED:
            self._now, self._speed, self._still = self._aim.copy(), np.zeros_like(self._speed), True

    def _shipped(self) -> Rig:
        """Return the rig, read when it is first needed."""
        if self._rig is None:
            self._rig = shipped_rig()
            squares = np.square(self._rig.basis).reshape(len(COEFFICIENTS), LANDMARKS, 3).sum(axis=2)
            shares = np.stack([squares[group == GROUP_OF_COEFFICIENT].max(axis=0, initial=0) for group in range(5)], 1)
            shares += np.float32(1e-6) * (1 - np.eye(5, dtype=np.float32)[_HEAD_GROUP])
            self._areas = shares / shares.sum(axis=1, keepdims=True)
        return self._rig

    def _with_head(self, motion: Motion, values: Floats, kept: Floats) -> Motion:
        """Turn the head by what was set, and leave out of the driver's what is not kept."""
        keep, added = float(kept[_HEAD_GROUP]), self._now[_VALUES + _HEAD_GROUP]
        # up, to the right and clockwise in the picture; the first two of the angles are the other way round
        own = values[_HEAD] * added * np.float32(HEAD_ANGLE) * np.array([-1, -1, 1], np.float32)
        if keep == 1 and not own.any():
            return motion
        return replace(
            motion,
            rotation=from_turn_angles(np.asarray(turn_angles(motion.rotation) * np.float32(keep) + own, np.float32)),
            translation=np.asarray(motion.translation * np.float32(keep), np.float32),
            scale=float(motion.scale**keep),
        )

    def _face(self, motion: Motion, values: Floats, kept: Floats) -> Points:
        rig = self._shipped()
        change = motion.expression - motion.neutral
        if (kept != 1).any():
            change *= (self._areas @ kept)[:, None]
        coefficients = coefficients_of(values)
        coefficients *= self._now[_VALUES : _VALUES + len(GROUPS)][GROUP_OF_COEFFICIENT]
        blinks = coefficients[BLINKS]
        coefficients[BLINKS] = 0
        shape = motion.neutral + change
        if coefficients.any():
            shape += rig.displacement(coefficients)
        if blinks.any():
            close_lids(shape, blinks)
        look = float(values[_LOOK] * self._now[_VALUES + _EYES_GROUP])
        if look > 0:
            self._look_at_camera(shape, motion, look)
        return np.asarray(shape, np.float32)

    def _look_at_camera(self, shape: Points, motion: Motion, share: float) -> None:
        """Turn the irises in ``shape`` towards the camera, by a share of the way."""
        pitch, yaw = turn_angles(motion.rotation)[:2].tolist()
        yaw += float(self._turn[1])
        own, now, rest = _gaze(self.face), _gaze(shape), _gaze(motion.neutral)
        # a face that looks ahead has its irises in the middle; how high they are there depends on the eyes
        wanted = np.array([rest[0] - own[0] + EYE_RADIUS * math.sin(yaw), rest[1] - EYE_RADIUS * math.sin(pitch)])
        for ends, iris in zip(EYE_CORNERS, IRISES, strict=True):
            width = math.dist(shape[ends[0]].tolist(), shape[ends[1]].tolist())
            shape[iris, :2] += (share * width * (wanted - now)).astype(np.float32)

    def _made_mouth(self, motion: Motion, shape: Points, kept: Floats) -> float:
        """Return how much of an open mouth is not the driver's, whose picture would not fit."""
        if kept[_MOUTH_GROUP] < 1:
            return 1.0
        opened = _lip_gap(shape) - _lip_gap(motion.expression)
        share = min(max((opened - MADE_UP[0]) / (MADE_UP[1] - MADE_UP[0]), 0.0), 1.0)
        return share * share * (3 - 2 * share)


def close_lids(shape: Points, shares: Floats) -> None:
    """Close the lids of the right and the left eye in ``shape`` by shares, (2,), of their gaps; below 0 they open."""
    gaps = shape[_LOWER] - shape[_UPPER]
    moved = gaps * (np.float32(SHUT_SHARE) * shares)[:, None, None]
    shape[_UPPER] += np.float32(0.9) * moved
    shape[_LOWER] -= np.float32(0.1) * moved


def _gaze(shape: Points) -> NDArray[Any]:
    """Return where the irises are between the corners of their eyes, the mean of both, in eye widths, (2,)."""
    middle = np.stack([shape[ends, :2].mean(axis=0) for ends in EYE_CORNERS])
    widths = [math.dist(shape[ends[0]].tolist(), shape[ends[1]].tolist()) for ends in EYE_CORNERS]
    return np.asarray(((shape[_CENTRES, :2] - middle) / np.array(widths)[:, None]).mean(axis=0))


def _lip_gap(shape: Points) -> float:
    """Return the gap between the lips over the width of the mouth."""
    gap = (shape[INNER_LOWER_LIP[_LIPS], 1] - shape[INNER_UPPER_LIP[_LIPS], 1]).mean()
    return float(gap) / max(math.dist(shape[MOUTH_CORNERS[0]].tolist(), shape[MOUTH_CORNERS[1]].tolist()), 1e-6)
