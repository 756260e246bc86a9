"""How many browsers this machine can drive at a time, measured rather than guessed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engines.generator import Generator
from engines.types import Image
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.motion.relative import MotionTransfer
from realtime.portraits.portrait import load_portrait
from realtime.tracking.tracker import Tracker

FPS = 30.0
SHARE = 0.8
"""How much of the processors sessions may take together."""
MOST = 16
_FRAMES, _WARM_UP = 12, 4


@dataclass(frozen=True, slots=True)
class Capacity:
    """What was found."""

    sessions: int
    """At least one."""
    frame_ms: float
    """Time of a frame: tracked, generated, and encoded for one viewer."""

    def __str__(self) -> str:
        return (
            f"{self.sessions} at a time: a frame takes {self.frame_ms:.1f} ms of {os.cpu_count()} processors "
            f"at {FPS:.0f} frames a second (--sessions N sets another limit)"
        )


def measure(
    tracker: Tracker,
    generator: Generator,
    size: tuple[int, int],
    *,
    busy: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> Capacity:
    """Time a session's work on a few frames; takes half a second. The quickest counts: others slow the rest down.

    ``busy`` runs of the same cost are there already. The caller owns and closes tracker and generator.
    """
    picture = load_portrait(None, size)
    motion = MotionTransfer()
    portrait = generator.prepare("measure", picture.image, picture.face)
    encoder = _Encoder(size)
    times = []
    for index in range(_WARM_UP + _FRAMES):
        time_ns = (index + 1) * 33_333_333
        started = clock()
        frame = Frame(picture.image, PixelFormat.RGB, index, Stamps(time_ns), time_ns)
        face = tracker.track(frame)
        made = generator.drive(portrait, motion.update(face, time_ns), picture.image)
        encoder.encode(made)
        times.append(clock() - started)
    cost = min(times[_WARM_UP:])
    room = SHARE * (os.cpu_count() or 1) / (FPS * cost)
    return Capacity(int(np.clip(room - busy, 1, MOST)), 1e3 * cost)


class _Encoder:
    """H.264 as a viewer gets it, one frame at a time; the bits are thrown away."""

    def __init__(self, size: tuple[int, int]) -> None:
        import av

        self._av = av
        context = av.CodecContext.create("libx264", "w")
        context.width, context.height = size
        context.pix_fmt = "yuv420p"
        context.framerate = int(FPS)  # type: ignore[assignment]
        context.options = {"preset": "ultrafast", "tune": "zerolatency"}
        context.thread_count = 1
        self._context = context

    def encode(self, image: Image) -> None:
        self._context.encode(self._av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p"))
