"""Measures how many browsers this machine can drive at the same time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from engines.generator import Generator
from engines.types import Image
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.core.protocol import DEFAULT_FPS
from realtime.motion.motion_transfer import MotionTransfer
from realtime.portraits.portrait import load_portrait
from realtime.tracking.tracker import Tracker
from realtime.webrtc.settings import ServerSettings
from realtime.webrtc.video.codecs import open_encoder
from realtime.webrtc.video.decoder import TIME_BASE

CPU_SHARE = 0.8
"""The share of the processors that sessions may use together."""
MAX_SESSIONS = 16
_WARM_UP_FRAMES, _FRAMES = 4, 12


@dataclass(frozen=True, slots=True)
class Capacity:
    """The result of a measurement."""

    sessions: int
    """At least one."""
    frame_ms: float
    """Time to track, generate and encode a frame for one viewer, in milliseconds."""

    def __str__(self) -> str:
        return (
            f"{self.sessions} at a time: a frame takes {self.frame_ms:.1f} ms of {os.cpu_count()} processors "
            f"at {DEFAULT_FPS:.0f} frames a second (--sessions N sets another limit)"
        )


def measure(
    tracker: Tracker,
    generator: Generator,
    size: tuple[int, int],
    *,
    busy: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> Capacity:
    """Time a session's work on a few frames, in about half a second, and return how many sessions fit.

    The fastest frame counts, as other load slows the rest down. ``busy`` is the number of runs of the same cost that
    are going on. The caller owns and closes the tracker and the generator.
    """
    picture = load_portrait(None, size)
    motion = MotionTransfer()
    portrait = generator.prepare("measure", picture.image, picture.face, picture.matte)
    encoder = viewer_encoder(size)
    times = []
    for index in range(_WARM_UP_FRAMES + _FRAMES):
        time_ns = (index + 1) * 33_333_333
        started = clock()
        frame = Frame(picture.image, PixelFormat.RGB, index, Stamps(time_ns), time_ns)
        face = tracker.track(frame)
        generated = generator.drive(portrait, motion.update(face, time_ns), picture.image)
        _encode(encoder, generated, time_ns)
        times.append(clock() - started)
    frame_s = min(times[_WARM_UP_FRAMES:])
    sessions = CPU_SHARE * (os.cpu_count() or 1) / (DEFAULT_FPS * frame_s) - busy
    return Capacity(int(np.clip(sessions, 1, MAX_SESSIONS)), 1e3 * frame_s)


def viewer_encoder(size: tuple[int, int]) -> Any:
    """Return the H.264 encoder of a viewer, on one thread so that its time is processor time."""
    encoder = open_encoder("libx264", *size, ServerSettings().start_bitrate)
    encoder.thread_count = 1
    return encoder


def _encode(encoder: Any, image: Image, time_ns: int) -> None:
    import av

    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
    frame.time_base = TIME_BASE
    frame.pts = round(time_ns / 1e9 / TIME_BASE)
    encoder.encode(frame)
