"""The words of expressions: what can be set, in which groups, and the vocabularies that are translated into it.

A control is a coefficient, a turn of the head, or one of a few that people want first. Action units are those of Ekman,
Friesen and Hager, "Facial Action Coding System", 2002; GANimation (Pumarola et al., 2018) is controlled by them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

from engines.errors import CommandError
from engines.face.coefficients import NAMES, READ
from engines.types import Floats

Group = Literal["mouth", "eyes", "brows", "cheeks", "head"]
Mix = Literal["driver", "added", "fixed"]

GROUPS: tuple[Group, ...] = ("mouth", "eyes", "brows", "cheeks", "head")
MIXES: tuple[Mix, ...] = ("driver", "added", "fixed")
"""What moves a group: the driver alone, the driver and what is set, or what is set alone."""

COEFFICIENTS = NAMES[:READ]
"""The coefficients that can be seen on a portrait: all but ``tongueOut``."""
HEAD = ("headPitch", "headYaw", "headRoll")
"""Turns of the head: up, to the picture's right, clockwise."""
HEAD_ANGLE = math.radians(30)
"""The turn at a value of 1."""
SIMPLE: dict[str, dict[str, float]] = {
    "smile": {
        "mouthSmileLeft": 0.8, "mouthSmileRight": 0.8, "cheekSquintLeft": 0.45, "cheekSquintRight": 0.45,
        "mouthDimpleLeft": 0.15, "mouthDimpleRight": 0.15, "eyeSquintLeft": 0.15, "eyeSquintRight": 0.15,
    },
    "eyesOpen": {"eyeWideLeft": 1.0, "eyeWideRight": 1.0},
    "lookAtCamera": {},
    "brows": {"browInnerUp": 0.9, "browOuterUpLeft": 0.7, "browOuterUpRight": 0.7},
}  # fmt: skip
"""The few that people want first, and the coefficients that each sets where it is positive."""
OPPOSITE: dict[str, dict[str, float]] = {
    "smile": {
        "mouthFrownLeft": 0.9, "mouthFrownRight": 0.9, "mouthShrugLower": 0.2,
    },
    "eyesOpen": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    "lookAtCamera": {},
    "brows": {"browDownLeft": 0.9, "browDownRight": 0.9},
}  # fmt: skip
"""The same where it is negative."""
CONTROLS = (*SIMPLE, *HEAD, *COEFFICIENTS)
INDEX = {name: index for index, name in enumerate(CONTROLS)}
ALIASES = {"headTilt": "headRoll"}

ACTION_UNITS: dict[int, tuple[str, dict[str, float]]] = {
    1: ("inner brow raiser", {"browInnerUp": 1.0}),
    2: ("outer brow raiser", {"browOuterUp": 1.0}),
    4: ("brow lowerer", {"browDown": 1.0}),
    5: ("upper lid raiser", {"eyeWide": 1.0}),
    6: ("cheek raiser", {"cheekSquint": 1.0}),
    7: ("lid tightener", {"eyeSquint": 1.0}),
    9: ("nose wrinkler", {"noseSneer": 1.0}),
    10: ("upper lip raiser", {"mouthUpperUp": 1.0}),
    12: ("lip corner puller", {"mouthSmile": 1.0}),
    14: ("dimpler", {"mouthDimple": 1.0}),
    15: ("lip corner depressor", {"mouthFrown": 1.0}),
    16: ("lower lip depressor", {"mouthLowerDown": 1.0}),
    17: ("chin raiser", {"mouthShrugLower": 1.0}),
    18: ("lip pucker", {"mouthPucker": 1.0}),
    20: ("lip stretcher", {"mouthStretch": 1.0}),
    22: ("lip funneler", {"mouthFunnel": 1.0}),
    24: ("lip pressor", {"mouthPress": 1.0}),
    25: ("lips part", {"mouthLowerDown": 0.4, "mouthUpperUp": 0.3}),
    26: ("jaw drop", {"jawOpen": 0.5}),
    27: ("mouth stretch", {"jawOpen": 1.0}),
    28: ("lip suck", {"mouthRollLower": 1.0, "mouthRollUpper": 1.0}),
    29: ("jaw thrust", {"jawForward": 1.0}),
    34: ("cheek puffer", {"cheekPuff": 1.0}),
    45: ("blink", {"eyeBlink": 1.0}),
    51: ("head turn left", {"headYaw": 1.0}),
    52: ("head turn right", {"headYaw": -1.0}),
    53: ("head up", {"headPitch": 1.0}),
    54: ("head down", {"headPitch": -1.0}),
    55: ("head tilt left", {"headRoll": 1.0}),
    56: ("head tilt right", {"headRoll": -1.0}),
    61: ("eyes turn left", {"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0}),
    62: ("eyes turn right", {"eyeLookInLeft": 1.0, "eyeLookOutRight": 1.0}),
    63: ("eyes up", {"eyeLookUp": 1.0}),
    64: ("eyes down", {"eyeLookDown": 1.0}),
}
"""Action units by number: their name, and the controls that each sets. A name without a side stands for both sides;
``AU12L`` sets that of the subject's left side. Left and right are the subject's, as everywhere in coefficients."""
_BY_NAME = {name: number for number, (name, _) in ACTION_UNITS.items()}


def group_of(control: str) -> Group:
    """Return the group that a control is mixed with."""
    if control in HEAD:
        return "head"
    if control.startswith(("eye", "look")):
        return "eyes"
    if control.startswith("brow"):
        return "brows"
    return "cheeks" if control.startswith(("cheek", "nose")) else "mouth"


GROUP_OF_COEFFICIENT = np.array([GROUPS.index(group_of(name)) for name in COEFFICIENTS], np.intp)
"""(51,): the index of each coefficient's group."""


def resolve(values: Mapping[str, float]) -> dict[str, float]:
    """Return what a setting in any vocabulary sets, as controls and their values. Raises CommandError.

    ``mouthSmile`` stands for both sides, ``AU12`` and ``lip corner puller`` for the action unit.
    """
    controls: dict[str, float] = {}
    for name, value in values.items():
        for control, weight in _controls(name).items():
            controls[control] = _checked(name, value) * weight
    return controls


def _checked(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1 <= value <= 1:
        found = f"{str(value)[:20]} for {name}"
        raise CommandError("expression-bad-value", found, "a number from -1 to 1", "choose such a number")
    return float(value)


def _controls(name: str) -> dict[str, float]:
    name = ALIASES.get(name, name)
    unit, side = _action_unit(name)
    if unit is not None:
        weights = {
            each: weight for part, by in ACTION_UNITS[unit][1].items() for each, weight in _sides(part, by).items()
        }
        other = {"L": "Right", "R": "Left"}.get(side, "*")
        return {each: weight for each, weight in weights.items() if not each.endswith(other)}
    found = _sides(name, 1.0)
    if not found:
        import difflib

        words = [*CONTROLS, *ALIASES, *_BY_NAME, *(name.removesuffix("Left") for name in COEFFICIENTS)]
        close = difflib.get_close_matches(name, words, 1)
        cure = f"did you mean {close[0]}?" if close else "docs/directing.md lists them"
        raise CommandError("expression-unknown", f"the control {name[:60]!r}", "a coefficient or an action unit", cure)
    return found


def _sides(name: str, weight: float) -> dict[str, float]:
    """Return the controls that a name with or without its side stands for, each with ``weight``."""
    return {each: weight for each in (name, f"{name}Left", f"{name}Right") if each in INDEX}


def _action_unit(name: str) -> tuple[int | None, str]:
    """Return the number of an action unit and its side (L, R or empty); None if the name is none."""
    if name.lower() in _BY_NAME:
        return _BY_NAME[name.lower()], ""
    side = name[-1:] if name[-1:] in ("L", "R") else ""
    digits = name.removesuffix(side).removeprefix("AU")
    if name.startswith("AU") and digits.isdecimal() and int(digits[:4]) in ACTION_UNITS:
        return int(digits[:4]), side
    return None, ""


def coefficients_of(values: Floats) -> Floats:
    """Return the coefficients (51,) of values for all ``CONTROLS``, those that people want first put in."""
    total = values @ _WEIGHTS[0] if (values[: len(SIMPLE)] == 0).all() else _with_simple(values)
    return np.asarray(np.clip(total, -1, 1), np.float32)


def _with_simple(values: Floats) -> Floats:
    up, down = np.maximum(values, 0), np.minimum(values, 0)
    return np.asarray(up @ _WEIGHTS[0] - down @ _WEIGHTS[1], np.float32)


def _weights() -> tuple[Floats, Floats]:
    """Return the coefficients of each control at 1 and at -1, (controls, 51) each."""
    both = np.zeros((2, len(CONTROLS), len(COEFFICIENTS)), np.float32)
    for side, sign, table in ((0, 1, SIMPLE), (1, -1, OPPOSITE)):
        for control, parts in table.items():
            for name, weight in parts.items():
                both[side, INDEX[control], COEFFICIENTS.index(name)] = weight
        for index, name in enumerate(COEFFICIENTS):
            both[side, INDEX[name], index] = sign
    return both[0], both[1]


_WEIGHTS = _weights()
