"""The bundled motions, written by formulas: none is traced from a human being.

python -m tools.animation.motions

Each begins and ends at rest, so that it loops without a seam.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import numpy as np

from engines.face.coefficients import NAMES
from realtime.motion.controls import resolve
from realtime.motion.motion_file import BUNDLED, COLUMNS, row_of

FPS = 25
SECONDS = 4.0
Act = Callable[[float], dict[str, float]]
"""What a face does at a second: controls without the simple ones, head turns as shares of 30 degrees."""


def _bump(t: float, start: float, end: float, ease: float = 0.35) -> float:
    """Return a smooth rise from 0 to 1 after ``start`` and a fall back before ``end``, seconds."""
    share = min(max(min(t - start, end - t) / ease, 0.0), 1.0)
    return share * share * (3 - 2 * share)


def _blink(t: float, *at: float) -> float:
    """Return how far the lids are shut: they shut in 80 ms and open in 200."""
    shut = 0.0
    for moment in at:
        since = t - moment
        shut = max(shut, min(1.0, 1 + since / 0.08) if since < 0 else max(0.0, 1 - since / 0.2))
    return shut


def _alive(t: float) -> dict[str, float]:
    """Return breath and sway, which are there in every motion, and are 0 at both ends."""
    fade = _bump(t, 0, SECONDS, 0.5)
    return {
        "headPitch": 0.025 * fade * math.sin(2 * math.pi * t / 2),
        "headYaw": 0.03 * fade * math.sin(2 * math.pi * t / SECONDS),
        "headRoll": 0.02 * fade * math.sin(2 * math.pi * t / SECONDS + 0.6),
    }


def _nod(t: float) -> dict[str, float]:
    beat = math.sin(2 * math.pi * (t - 0.6) / 0.9) * _bump(t, 0.6, 3.3, 0.5)
    return {
        "headPitch": -0.3 * max(beat, -0.4),
        "eyeBlink": _blink(t, 0.75, 2.6),
        "mouthSmile": 0.2 * _bump(t, 0.8, 3.6),
    }


def _smile(t: float) -> dict[str, float]:
    smile = _bump(t, 0.5, 3.8, 0.7)
    return {
        "mouthSmile": 0.7 * smile,
        "cheekSquint": 0.45 * smile,
        "eyeSquint": 0.2 * smile,
        "headRoll": 0.15 * smile,
        "eyeBlink": _blink(t, 0.6, 3.0),
        "browInnerUp": 0.15 * smile,
    }


def _look_around(t: float) -> dict[str, float]:
    left, right = _bump(t, 0.3, 1.9, 0.5), _bump(t, 1.9, 3.7, 0.55)
    eyes_left, eyes_right = _bump(t, 0.2, 1.8, 0.2), _bump(t, 1.8, 3.6, 0.2)
    return {
        "headYaw": 0.45 * (left - right),
        "headPitch": 0.12 * right,
        "eyeLookOutLeft": 0.7 * eyes_left,
        "eyeLookInRight": 0.7 * eyes_left,
        "eyeLookInLeft": 0.7 * eyes_right,
        "eyeLookOutRight": 0.7 * eyes_right,
        "browOuterUp": 0.25 * right,
        "eyeBlink": _blink(t, 0.3, 1.9, 3.5),
    }


def _breathe(t: float) -> dict[str, float]:
    breath = 0.5 - 0.5 * math.cos(2 * math.pi * t / SECONDS)
    return {"headPitch": 0.09 * breath, "eyeBlink": _blink(t, 1.1, 3.2), "mouthSmile": 0.08 * breath}


def _laugh(t: float) -> dict[str, float]:
    laugh = _bump(t, 0.4, 3.7, 0.5)
    shake = laugh * (0.5 + 0.5 * math.sin(2 * math.pi * 4.2 * t))
    return {
        "mouthSmile": 0.9 * laugh,
        "cheekSquint": 0.7 * laugh,
        "eyeSquint": 0.35 * laugh,
        "jawOpen": 0.16 * laugh + 0.1 * shake,
        "mouthUpperUp": 0.2 * laugh,
        "headPitch": 0.2 * laugh + 0.05 * shake,
        "eyeBlink": max(_blink(t, 0.5), 0.1 * laugh),
    }


def _surprise(t: float) -> dict[str, float]:
    start, rest = _bump(t, 0.6, 3.0, 0.22), _bump(t, 2.4, 3.8, 0.5)
    return {
        "browInnerUp": 0.9 * start,
        "browOuterUp": 0.8 * start,
        "eyeWide": 0.9 * start,
        "jawOpen": 0.35 * start,
        "headPitch": 0.15 * start,
        "mouthSmile": 0.4 * rest,
        "eyeBlink": _blink(t, 0.55, 2.7),
    }


def _wink(t: float) -> dict[str, float]:
    wink, smile = _bump(t, 1.3, 1.85, 0.14), _bump(t, 0.8, 3.6, 0.5)
    return {
        "eyeBlinkLeft": max(wink, _blink(t, 3.2)),
        "eyeBlinkRight": _blink(t, 3.2),
        "cheekSquintLeft": 0.8 * wink,
        "mouthSmileLeft": 0.6 * smile,
        "mouthSmileRight": 0.3 * smile,
        "headRoll": 0.3 * smile,
        "browDownLeft": 0.3 * wink,
    }


def _talk(t: float) -> dict[str, float]:
    speech = _bump(t, 0.3, 3.6, 0.25)
    open_ = max(0.0, math.sin(2 * math.pi * 2.6 * t) + 0.4 * math.sin(2 * math.pi * 4.3 * t + 1))
    round_ = max(0.0, math.sin(2 * math.pi * 1.1 * t + 2))
    return {
        "jawOpen": 0.24 * speech * open_,
        "mouthFunnel": 0.3 * speech * round_,
        "mouthStretch": 0.18 * speech * (1 - round_),
        "mouthLowerDown": 0.2 * speech * open_,
        "browInnerUp": 0.3 * _bump(t, 1.2, 2.0),
        "headPitch": 0.1 * speech * math.sin(4 * t),
        "headYaw": 0.15 * speech * math.sin(2 * t),
        "eyeBlink": _blink(t, 0.9, 2.5),
    }


def _turn_and_smile(t: float) -> dict[str, float]:
    away, smile = _bump(t, 0.2, 2.2, 0.8), _bump(t, 1.9, 3.9, 0.6)
    return {
        "headYaw": -0.6 * away,
        "headPitch": -0.1 * away,
        "eyeLookInLeft": 0.4 * away,
        "eyeLookOutRight": 0.4 * away,
        "mouthSmile": 0.75 * smile,
        "cheekSquint": 0.5 * smile,
        "eyeBlink": _blink(t, 0.5, 2.0),
        "browOuterUp": 0.2 * smile,
    }


def _sad(t: float) -> dict[str, float]:
    sad = _bump(t, 0.4, 3.7, 0.9)
    return {
        "mouthFrown": 0.8 * sad,
        "browInnerUp": 0.8 * sad,
        "mouthShrugLower": 0.3 * sad,
        "headPitch": -0.4 * sad,
        "eyeLookDown": 0.5 * sad,
        "eyeBlink": max(_blink(t, 1.2, 2.9), 0.15 * sad),
        "headRoll": -0.1 * sad,
    }


ACTS: dict[str, Act] = {
    "nod": _nod,
    "smile": _smile,
    "look-around": _look_around,
    "breathe": _breathe,
    "laugh": _laugh,
    "surprise": _surprise,
    "wink": _wink,
    "talk": _talk,
    "turn-and-smile": _turn_and_smile,
    "sad": _sad,
}


def rows_of(act: Act) -> str:
    """Return a motion as a file's text."""
    lines = [",".join(COLUMNS)]
    for frame in range(round(SECONDS * FPS)):
        t = frame / FPS
        values: dict[str, float] = {}
        for part in (act(t), _alive(t)):
            for name, value in resolve({name: min(max(value, -1.0), 1.0) for name, value in part.items()}).items():
                values[name] = values.get(name, 0.0) + value
        coefficients = np.array([min(max(values.get(name, 0.0), 0.0), 1.0) for name in NAMES], np.float32)
        angles = [math.radians(30) * values.get(name, 0.0) for name in ("headPitch", "headYaw", "headRoll")]
        turn = np.array([-angles[0], -angles[1], angles[2]], np.float32)
        code, count, *numbers = row_of(coefficients, turn, t).split(",")
        short = [f"{float(number):.3f}".rstrip("0").rstrip(".") for number in numbers]
        lines.append(",".join((code, count, *("0" if each == "-0" else each for each in short))))
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the motions."""
    BUNDLED.mkdir(exist_ok=True)
    for name, act in ACTS.items():
        (BUNDLED / f"{name}.csv").write_text(rows_of(act), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
