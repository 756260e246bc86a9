"""What the performer does: ARKit coefficients and the head's turn as a function of time, in a loop.

She rests, says a sentence, smiles and tilts her head, says another one to the other side, raises her brows, nods, and
rests again as she was at the start.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.face.coefficients import NAMES
from engines.face.head import rotation_vector
from engines.types import Image
from tools.assets.hair import Haircut
from tools.assets.person import Garment, Person, Quality, Sitter, backdrop, over, reduced, tone_map
from tools.assets.raster import Camera
from tools.assets.scene import HeadMesh, rotation
from tools.assets.shade import Eyes
from tools.assets.skin import Skin
from tools.support.files import write_mp4

LOOP_S, FPS = 12.0, 30
SIZE = (480, 640)
"""Height and width of the clip."""

PERFORMER = Person(
    identity={0: 1.0, 1: -0.5, 4: -0.9, 7: -0.8, 5: 0.5},
    skin=Skin(
        (0.50, 0.30, 0.205),
        (0.54, 0.20, 0.14),
        (0.47, 0.135, 0.115),
        (0.05, 0.028, 0.018),
        freckles=0.12,
        shadow=0.2,
        seed=4,
    ),
    hair=Haircut(
        "long",
        (0.085, 0.038, 0.018),
        length=17.5,
        parting=-1.6,
        wave=0.25,
        volume=0.45,
        strands=10000,
        width=0.036,
        seed=2,
    ),
    garment=Garment("crew", (0.42, 0.15, 0.07), 0.2, 0.15, 0.93),
    eyes=Eyes((0.085, 0.075, 0.035), (0.20, 0.13, 0.045)),
    camera=Camera(y=0.0, span=41.0),
)

_BLINKS = (0.75, 3.1, 5.35, 8.3, 10.6)
BLINK_S = 0.3

# syllables: vowels by how far they open the jaw, and how the lips shape them
_VOWELS: dict[str, dict[str, float]] = {
    "a": {
        "jawOpen": 0.42,
        "mouthLowerDownLeft": 0.25,
        "mouthLowerDownRight": 0.25,
        "mouthUpperUpLeft": 0.18,
        "mouthUpperUpRight": 0.18,
    },
    "e": {
        "jawOpen": 0.24,
        "mouthStretchLeft": 0.3,
        "mouthStretchRight": 0.3,
        "mouthUpperUpLeft": 0.22,
        "mouthUpperUpRight": 0.22,
        "mouthLowerDownLeft": 0.3,
        "mouthLowerDownRight": 0.3,
    },
    "i": {
        "jawOpen": 0.13,
        "mouthSmileLeft": 0.25,
        "mouthSmileRight": 0.25,
        "mouthUpperUpLeft": 0.25,
        "mouthUpperUpRight": 0.25,
        "mouthLowerDownLeft": 0.25,
        "mouthLowerDownRight": 0.25,
    },
    "o": {"jawOpen": 0.3, "mouthFunnel": 0.55, "mouthPucker": 0.15},
    "u": {"jawOpen": 0.13, "mouthPucker": 0.7, "mouthFunnel": 0.15},
    "m": {"mouthPressLeft": 0.3, "mouthPressRight": 0.3, "mouthRollLower": 0.2},
}
_SENTENCES = ((1.15, "ami tolena masuo itea mia"), (7.1, "eo nami tusa omea tali ae"))
_SYLLABLE_S = 0.2


def _bump(x: float) -> float:
    """Return a smooth pulse: 0 outside (-1, 1), 1 at 0."""
    return 0.5 + 0.5 * math.cos(math.pi * x) if -1 < x < 1 else 0.0


def _fade(x: float) -> float:
    """Return a smooth step from 0 at x = 0 to 1 at x = 1."""
    x = min(max(x, 0.0), 1.0)
    return x * x * x * (x * (6 * x - 15) + 10)


def _between(t: float, start: float, end: float, ease: float) -> float:
    """Return 1 from ``start`` to ``end``, with smooth slopes that take ``ease`` seconds outside."""
    return _fade((t - start + ease) / ease) * _fade((end + ease - t) / ease)


def _speech(t: float) -> dict[str, float]:
    face: dict[str, float] = {}
    for start, text in _SENTENCES:
        at = start
        for number, letter in enumerate(text):
            if letter == " ":
                at += 0.09
                continue
            shape = _VOWELS.get(letter)
            if shape is None:
                at += 0.05
                continue
            weight = _bump((t - at) / (0.17 if letter != "m" else 0.13)) * (0.75 + 0.35 * math.sin(2.4 * number + 0.7))
            at += _SYLLABLE_S if letter != "m" else 0.12
            for name, amount in shape.items():
                face[name] = face.get(name, 0.0) + weight * amount
    return face


def act(seconds: float) -> tuple[dict[str, float], tuple[float, float, float]]:
    """Return the ARKit coefficients, and the turn as in ``scene.rotation``, at a time of the loop."""
    t = seconds % LOOP_S
    face = _speech(t)

    def add(amount: float, *names: str) -> None:
        for name in names:
            face[name] = face.get(name, 0.0) + amount

    smile = 0.16 + 0.62 * _between(t, 5.3, 6.3, 0.6) + 0.3 * _between(t, 10.7, 11.0, 0.5)
    add(smile, "mouthSmileLeft", "mouthSmileRight")
    add(0.55 * (smile - 0.16), "cheekSquintLeft", "cheekSquintRight")
    add(0.12 + 0.45 * (smile - 0.16), "eyeSquintLeft", "eyeSquintRight")
    laugh = _between(t, 5.5, 6.2, 0.5)
    add(0.12 * laugh, "jawOpen")
    add(0.32 * laugh, "mouthUpperUpLeft", "mouthUpperUpRight")
    raised = 0.55 * _between(t, 1.6, 1.8, 0.3) + 0.4 * _between(t, 3.5, 3.7, 0.3) + 0.9 * _between(t, 9.8, 10.3, 0.4)
    raised += 0.5 * _between(t, 7.6, 7.9, 0.3)
    add(raised, "browInnerUp", "browOuterUpLeft", "browOuterUpRight")
    add(0.3 * raised, "eyeWideLeft", "eyeWideRight")
    add(0.5 * _between(t, 4.3, 4.6, 0.3) + 0.35 * _between(t, 8.7, 8.9, 0.3), "browDownLeft", "browDownRight")
    blink = max(_bump((t - at) / (BLINK_S / 2)) for at in _BLINKS) ** 0.7
    add(0.04 + 0.96 * blink, "eyeBlinkLeft", "eyeBlinkRight")
    aside = 0.26 * _between(t, 2.2, 3.6, 0.9) - 0.29 * _between(t, 7.4, 9.0, 1.0) - 0.05 * _between(t, 5.0, 6.2, 0.6)
    nod = 0.10 * _between(t, 4.5, 4.8, 0.5) - 0.10 * _between(t, 5.6, 6.3, 0.7) + 0.15 * _bump((t - 9.95) / 0.5)
    nod += 0.13 * _bump((t - 10.85) / 0.45) + 0.025 * math.sin(2 * math.pi * t / 1.5) * _between(t, 1.5, 4.0, 0.6)
    nod -= 0.07 * _between(t, 8.1, 8.8, 0.6)
    tilt = 0.13 * _between(t, 5.6, 6.5, 0.8) - 0.10 * _between(t, 8.2, 9.0, 0.7) - 0.05 * _between(t, 2.8, 3.4, 0.6)
    face = {name: min(max(amount, 0.0), 1.0) for name, amount in face.items()}
    return face, (nod, aside, tilt)


def draw_frames(mesh: HeadMesh, numbers: Iterable[int], size: tuple[int, int] = SIZE) -> Iterator[Image]:
    """Yield frames of the loop by their numbers, (H, W, 3) uint8 RGB."""
    quality = Quality(directions=32, samples=2)
    sitter = Sitter(mesh, PERFORMER, size, quality)
    wall = backdrop(sitter.size, (0.30, 0.36, 0.36), (0.10, 0.14, 0.16))
    for number in numbers:
        layers = sitter.draw(*act(number / FPS))
        yield tone_map(reduced(over(layers, wall), quality.samples), dither=0.6)


def truth() -> dict[str, NDArray[np.generic]]:
    """Return what ``realtime.capture.performer.read_truth`` reads: names, coefficients and turns of every frame."""
    moments = [act(number / FPS) for number in range(round(LOOP_S * FPS))]
    coefficients = np.array([[face.get(name, 0.0) for name in NAMES] for face, _ in moments], np.float32)
    flip = np.diag([1.0, -1.0, -1.0]).astype(np.float32)
    turns = np.array([rotation_vector(flip @ rotation(turn) @ flip) for _, turn in moments], np.float32)
    return {"names": np.array(NAMES), "coefficients": coefficients, "turns": turns}


def write_clip(frames: Iterable[Image], path: Path) -> None:
    """Write frames as H.264 in MP4, BT.601, with a key frame every second. Raises OSError."""
    write_mp4(frames, path, FPS, {"preset": "veryslow", "crf": "20", "tune": "film"}, key_frames=FPS)
