"""The performer: a scripted face for machines without a camera, and ground truth for tests.

The mesh generator animates a rendered head (not a photograph) through a script of speech, blinks, smiles, raised
brows, nods and turns. The script is a pure function of time, so the values of every frame are known.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import engines
from engines.face.head import own_pose, rotation_matrix
from engines.face.topology import (
    BROWS,
    EYE_CORNERS,
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    IRISES,
    LOWER_LIDS,
    MOUTH_CORNERS,
    UPPER_LIDS,
    UPPER_LIP_ROWS,
)
from engines.mesh.generator import MeshGenerator
from engines.types import Motion, Points
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.portraits.portrait import load_portrait

PERFORMER = Path(engines.__file__).parent / "assets" / "performer.png"
SENTENCE_S, PAUSE_S = 4.2, 1.6
"""The performer alternates between speaking and listening."""
BLINK_S = 0.26
_BLINKS = (1.1, 3.9, 6.2, 9.6, 12.3, 12.9, 16.4, 19.0)
_CYCLE_S = 20.3
"""The period after which the irregular times of the blinks repeat."""


@dataclass(frozen=True, slots=True)
class Act:
    """The state of the performer's face at one moment."""

    jaw: float = 0.0
    """0 shut to 1 wide open."""
    smile: float = 0.0
    """0 to 1."""
    pucker: float = 0.0
    """0 to 1."""
    blink: float = 0.0
    """0 open to 1 shut."""
    brows: float = 0.0
    """0 at rest to 1 raised."""
    gaze: tuple[float, float] = (0.0, 0.0)
    """To the right in the picture and down, in eye widths."""
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Rotation vector in radians, image axes: the first lowers the nose, the second turns it to the left in the
    picture, the third tilts the head clockwise."""


def _pulse(x: float) -> float:
    """Return a smooth pulse: 0 outside (0, 1), 1 in the middle."""
    return 0.5 - 0.5 * math.cos(2 * math.pi * x) if 0 < x < 1 else 0.0


def _fade(x: float) -> float:
    """Return a smooth step from 0 at x = 0 to 1 at x = 1."""
    x = min(max(x, 0.0), 1.0)
    return x * x * (3 - 2 * x)


def script(seconds: float) -> Act:
    """Return the performer's state at a time. The face is neutral for the first second and a half."""
    if seconds < 0:
        return Act()
    awake = _fade((seconds - 1.5) / 0.8)
    turn_s = SENTENCE_S + PAUSE_S
    sentence, within = divmod(seconds, turn_s)
    speaking = _fade(within / 0.25) * _fade((SENTENCE_S - within) / 0.3)
    # syllables at some five a second, of uneven weight; every third vowel is a rounded one
    beat = within * 4.8
    syllable, phase = divmod(beat, 1.0)
    number = int(sentence) * 29 + int(syllable)
    weight = 0.35 + 0.65 * abs(math.sin(2.4 * number + 0.7))
    jaw = speaking * weight * _pulse(phase) * 0.75
    pucker = speaking * _pulse(phase) * weight * (0.45 if number % 3 == 1 else 0.0)
    listening = _fade((within - SENTENCE_S) / 0.4) * _fade((turn_s - within) / 0.4)
    smile = listening * (0.9 if int(sentence) % 2 == 0 else 0.35) + 0.12 * speaking
    blink = max(_pulse((seconds % _CYCLE_S - at) / BLINK_S) for at in _BLINKS) ** 0.6
    brows = speaking * 0.8 * _pulse(((within - 0.9) % 2.9) / 0.9) + 0.5 * listening * _pulse(
        (within - SENTENCE_S) / 1.2
    )
    yaw = 0.30 * math.sin(2 * math.pi * seconds / 9.7 + 0.4) * _fade((seconds - 2.5) / 2)
    pitch = 0.07 * math.sin(2 * math.pi * seconds / 6.1) + 0.12 * listening * _pulse((within - SENTENCE_S) * 1.6 % 1.0)
    pitch += 0.04 * speaking * math.sin(2 * math.pi * beat / 3)
    roll = 0.06 * math.sin(2 * math.pi * seconds / 7.3 + 1.0)
    glance = 0.13 * math.tanh(4 * math.sin(2 * math.pi * seconds / 5.3))
    return Act(
        jaw=jaw * awake,
        smile=smile * awake,
        pucker=pucker * awake,
        blink=blink * awake,
        brows=brows * awake,
        gaze=(glance * awake, 0.03 * math.sin(2 * math.pi * seconds / 4.1) * awake),
        turn=(pitch * awake, yaw * awake, roll * awake),
    )


class _Face:
    """Displacement fields of the performer's face, (478, 3) each, which turn an act into an expression."""

    def __init__(self, shape: Points) -> None:
        self.shape = shape
        x, y = shape[:, 0], shape[:, 1]
        corners = shape[MOUTH_CORNERS]
        middle = corners.mean(axis=0)
        half = float(corners[1, 0] - corners[0, 0]) / 2
        below = np.clip((y - middle[1]) / 0.06 + 0.5, 0, 1)
        below[INNER_LOWER_LIP] = 1
        for row in (INNER_UPPER_LIP, *UPPER_LIP_ROWS):
            below[row] = 0
        near = np.exp(-(((x - middle[0]) / 0.75) ** 2))
        bow = np.clip(1 - ((x - middle[0]) / half) ** 2, 0, 1) ** 0.6
        on_lips = np.exp(-(((x - middle[0]) / (1.3 * half)) ** 2) - ((y - middle[1]) / 0.28) ** 2)
        past_lips = np.clip((y - middle[1] - 0.12) / 0.15, 0, 1)
        self.jaw = np.zeros_like(shape)
        self.jaw[:, 1] = 0.38 * below * near * np.maximum(bow, past_lips)
        self.smile = np.zeros_like(shape)
        for corner, side in zip(corners, (-1, 1), strict=True):
            weight = np.exp(-(((shape[:, :2] - corner[:2]) ** 2).sum(axis=1)) / 0.32**2)
            self.smile += weight[:, None] * np.array([0.16 * side, -0.13, 0.04], np.float32)
        self.pucker = np.zeros_like(shape)
        self.pucker[:, 0] = -0.42 * (x - middle[0]) * on_lips
        self.pucker[:, 2] = -0.10 * on_lips
        brow = np.stack([((shape[:, :2] - shape[point, :2]) ** 2).sum(axis=1) for point in BROWS]).min(axis=0)
        self.brows = np.zeros_like(shape)
        self.brows[:, 1] = -0.13 * np.exp(-brow / 0.2**2)
        self.shut = np.zeros_like(shape)
        for upper, lower in zip(UPPER_LIDS, LOWER_LIDS, strict=True):
            # the generator closes lids that are as near to each other as this
            self.shut[upper] = 0.72 * (shape[lower] - shape[upper])
        self.eye_widths = [float(np.linalg.norm(shape[b] - shape[a])) for a, b in EYE_CORNERS]

    def expression(self, act: Act) -> Points:
        """Return the landmarks for an act, (478, 3) in the head frame."""
        shape = (
            self.shape
            + act.jaw * self.jaw
            + act.smile * self.smile
            + act.pucker * self.pucker
            + act.brows * self.brows
            + act.blink * self.shut
        )
        for iris, width in zip(IRISES, self.eye_widths, strict=True):
            shape[iris, :2] += np.array(act.gaze, np.float32) * width
        return np.asarray(shape, np.float32)


class Performer:
    """A renderer of the performer."""

    def __init__(self, size: tuple[int, int]) -> None:
        """Load the performer; ``size`` is the width and height of the pictures."""
        picture = load_portrait(PERFORMER, size)
        self._generator = MeshGenerator(mouth="painted")
        self._portrait = self._generator.prepare("performer", picture.image, picture.face, picture.matte)
        pixels = picture.face.pixels()
        self._face = _Face(own_pose(pixels).unproject(pixels))

    def picture(self, act: Act) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """Return the picture of an act as a new RGB array (H, W, 3) uint8."""
        motion = Motion(
            rotation=rotation_matrix(np.array(act.turn, np.float32)),
            translation=np.zeros(2, np.float32),
            scale=1.0,
            neutral=self._face.shape,
            expression=self._face.expression(act),
        )
        return self._generator.drive(self._portrait, motion, None).copy()

    def close(self) -> None:
        """Release the generator. close() is idempotent."""
        self._generator.close()


class PerformerSource:
    """A Source that renders the performer: frame i shows ``script(i / fps)`` and comes when a camera would send it."""

    live = True
    frames: int | None = None
    skipped = 0

    def __init__(
        self,
        size: tuple[int, int],
        fps: float,
        *,
        paced: bool = True,
        now_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Load the performer.

        With ``paced`` each frame comes at its time, as with a camera; otherwise as fast as it is read. ``now_ns`` and
        ``sleep`` are the clock, which tests replace.
        """
        self.size = size
        self.fps = fps
        self.live = paced
        self.name = f"performer, a scripted face, {size[0]}x{size[1]} {fps:g} fps"
        self.notes: tuple[str, ...] = ()
        self._performer = Performer(size)
        self._now_ns, self._sleep = now_ns, sleep
        self._start_ns = 0
        self._seq = 0

    def read(self) -> Frame:
        """Return the next frame. If paced, frames whose time has passed are left out."""
        period = 1e9 / self.fps
        if not self._start_ns:
            self._start_ns = self._now_ns()
        elif self.live:
            late = self._now_ns() - self._start_ns
            self._seq = max(self._seq, int(late / period))
            wait = self._seq * period - late
            if wait > 0:
                self._sleep(wait / 1e9)
        shown_ns = round(self._seq * period)
        pixels = self._performer.picture(script(shown_ns / 1e9))
        captured = self._now_ns()
        frame = Frame(pixels, PixelFormat.RGB, self._seq, Stamps(captured), captured if self.live else shown_ns)
        self._seq += 1
        return frame

    def close(self) -> None:
        """Release the generator. close() is idempotent."""
        self._performer.close()
