"""The part ``screen``: from light to picture, for a person with one camera.

A window shows the performer with a code that changes every few pictures. The camera looks at the window and drives the
program. Of each code two times are taken: when the camera's first picture with it has arrived, and when the program's
picture made of that one is handed to the window. What lies before is the screen's and the camera's, what lies between
the program's. The clock is one, as everything is one process.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import cv2
import numpy as np

from engines.errors import ReenactError, SourceMissing
from engines.install_hint import install
from engines.types import Image
from realtime.capture.source import Source
from realtime.config import Config
from realtime.core import pixelcode
from realtime.core.frames import Frame, PixelFormat
from tools.bench_costs import driving_frames, fitted
from tools.latency.device import blocks
from tools.latency.figures import Part, Round
from tools.latency.rounds import Say
from tools.latency.sight import Finder, Sight, advice

TITLE = "screen: from the light of a window through camera and program to the picture"
STAGES = ("screen and camera", "program")
_SIZE = (1280, 720)
_FACE = (640, 720)
_HOLD = 2.3
"""For how many of the camera's pictures a code stays: one of them at least is exposed while it does not change."""
_AIM_S = 60.0
_ENOUGH = 20
"""So many of the last 30 pictures with a code, and measuring begins."""


class Window(Protocol):
    """Shows a picture. ``show`` returns whether the person wants to go on."""

    def show(self, image: Image) -> bool: ...

    def close(self) -> None: ...


class ScreenWindow:
    """A window on the desktop. Raises SourceMissing where there is none."""

    def __init__(self) -> None:
        self._name = "reenact: point the camera here (q ends it)"
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise SourceMissing("there is no screen to show a window on", cure="run this in a desktop session")
        try:
            cv2.namedWindow(self._name, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            cv2.resizeWindow(self._name, *_SIZE)
        except cv2.error as error:
            raise SourceMissing(f"no window can be opened: {error.err}", cure=install()) from None

    def show(self, image: Image) -> bool:
        """See ``Window``."""
        cv2.imshow(self._name, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)

    def close(self) -> None:
        """See ``Window``."""
        cv2.destroyAllWindows()


@dataclass(slots=True)
class Watch:
    """What was seen of which code, written by the capture thread and the sink's; read when they have ended."""

    arrived: dict[int, int] = field(default_factory=dict)
    """By counter: when the camera's first picture with this code had arrived (ns)."""
    by_frame: dict[int, int] = field(default_factory=dict)
    """By frame: the counter of the code that was first seen in it."""
    made: dict[int, int] = field(default_factory=dict)
    """By counter: when the program's picture of it was there (ns)."""
    sights: list[Sight] = field(default_factory=list)
    looking_ns: list[int] = field(default_factory=list)
    picture: Image | None = None
    """The program's latest picture."""


class WatchingSource:
    """The camera; looks for the code in each picture."""

    def __init__(self, source: Source, watch: Watch) -> None:
        self._source, self._watch, self._finder = source, watch, Finder()
        self.name, self.size, self.fps, self.live = source.name, source.size, source.fps, source.live
        self.frames, self.notes = source.frames, source.notes

    @property
    def skipped(self) -> int:
        return self._source.skipped

    def read(self) -> Frame:
        frame = self._source.read()
        now = time.monotonic_ns()
        sight = self._finder.look(frame.pixels)
        self._watch.sights = [*self._watch.sights[-29:], sight]
        if sight.code is not None and sight.code.counter not in self._watch.arrived:
            self._watch.arrived[sight.code.counter] = now
            self._watch.by_frame[frame.seq] = sight.code.counter
        self._watch.looking_ns.append(time.monotonic_ns() - now)
        return frame

    def close(self) -> None:
        self._source.close()


class WatchingSink:
    """Notes when a picture is there, and keeps it to be shown."""

    name = "the window"
    format = PixelFormat.RGB
    notes: tuple[str, ...] = ()

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def send(self, frame: Frame) -> None:
        counter = self._watch.by_frame.get(frame.seq)
        if counter is not None:
            self._watch.made.setdefault(counter, time.monotonic_ns())
        self._watch.picture = np.array(frame.pixels)

    def close(self) -> None:
        """Nothing to let go of."""


def measure(config: Config, seconds: float, say: Say) -> list[Part]:
    """Open the window and the camera and measure. Raises SourceMissing, ReenactError."""
    from realtime.capture.source import open_source

    window = ScreenWindow()
    try:
        source = open_source(config.camera, size=None, fps=config.fps, pace="live")
        if source.name.startswith("performer"):
            source.close()
            raise SourceMissing("no webcam found", cure="plug one in, or name it with --camera")
        return [run(config, source, window, seconds, say)]
    finally:
        window.close()


def run(config: Config, source: Source, window: Window, seconds: float, say: Say) -> Part:
    """Show, watch and measure with an open camera and window; closes the camera. Raises ReenactError."""
    watch = Watch()
    pipeline, stop_signal = _pipeline(config, WatchingSource(source, watch), WatchingSink(watch))
    stage = Stage(window, watch, _HOLD / (source.fps or 30.0))
    pipeline.start()
    try:
        _aim(stage, watch, stop_signal, say)
        say(f"measuring for {seconds:g} s; leave camera and window as they are")
        first = stage.counter + 1
        stage.play(time.monotonic() + seconds, stop_signal.over, lambda: None)
    finally:
        pipeline.close()
    if stop_signal.error is not None:
        raise stop_signal.error
    return _part(watch, stage, first, source.fps)


class Stage:
    """What the window shows: the performer with the code, and beside it what the program makes of it."""

    def __init__(self, window: Window, watch: Watch, hold_s: float) -> None:
        self._window, self._watch, self._hold_s = window, watch, hold_s
        self._pictures = [fitted(each, _FACE) for each in islice(driving_frames(None, (640, 480)), 90)]
        self._pictures += self._pictures[-2:0:-1]
        self._canvas = np.full((_SIZE[1], _SIZE[0], 3), 40, np.uint8)
        self._due = 0.0
        self._rng = np.random.default_rng(1)
        self.counter = 0
        self.shown: dict[int, int] = {}
        """By counter: when its code was handed to the window (ns)."""

    def play(self, until: float, over: threading.Event, each: Callable[[], Any]) -> None:
        """Show pictures until then; raises ReenactError when the person ends it."""
        while time.monotonic() < until and not over.is_set():
            now = time.monotonic()
            fresh = now >= self._due
            if fresh:
                # no fixed rhythm, which could keep step with the camera's
                self._due = now + self._hold_s * self._rng.uniform(1.0, 1.5)
                self.counter = (self.counter + 1) & 0xFFFF
                pixelcode_place = pixelcode.Place(16, 16, 28)
                self._canvas[:, : _FACE[0]] = self._pictures[self.counter % len(self._pictures)]
                stamp = time.monotonic_ns()
                pixelcode.draw(self._canvas, pixelcode.Code.at(self.counter, stamp), pixelcode_place)
                self.shown[self.counter] = stamp
            if self._watch.picture is not None:
                self._canvas[:, _FACE[0] :] = fitted(self._watch.picture, (_SIZE[0] - _FACE[0], _SIZE[1]))
            if not self._window.show(self._canvas):
                raise ReenactError("ended before there was anything to report")
            if each():
                return
            over.wait(max(0.0, min(self._due - time.monotonic(), 0.02)))


def _aim(stage: Stage, watch: Watch, stop_signal: Any, say: Say) -> None:
    """Wait until codes are read, with advice. Raises SourceMissing when they are not for a minute."""
    say("point the camera at the window: it has to see the black and white code and the face below it")
    told = time.monotonic()

    def ready() -> bool:
        nonlocal told
        sights = watch.sights
        good = sum(sight.code is not None for sight in sights)
        if time.monotonic() - told > 3:
            told = time.monotonic()
            say(f"{good} of the last {len(sights)} pictures could be read; {advice(sights)}")
        return good >= _ENOUGH

    stage.play(time.monotonic() + _AIM_S, stop_signal.over, ready)
    if stop_signal.error is not None:
        raise stop_signal.error
    if sum(sight.code is not None for sight in watch.sights) < _ENOUGH:
        raise SourceMissing("the camera did not see the code", cure=advice(watch.sights))


def _part(watch: Watch, stage: Stage, first: int, fps: float) -> Part:
    counters = [n for n in sorted(stage.shown) if n >= first and n in watch.arrived and n in watch.made]
    if not counters:
        raise ReenactError("no code came through", cure="measure for longer with --seconds")
    shown, arrived, made = (
        np.array([times[n] for n in counters], np.int64) for times in (stage.shown, watch.arrived, watch.made)
    )
    missed = sum(n >= first for n in stage.shown) - len(counters)
    whole = Round(
        {STAGES[0]: ((arrived - shown) / 1e6).tolist(), STAGES[1]: ((made - arrived) / 1e6).tolist()},
        ((shown - shown[0]) / 1e9).tolist(),
        frames=len(counters) + missed,
        missed=missed,
        cadence_ms=(np.diff(made) / 1e6).tolist(),
    )
    looking = float(np.median(watch.looking_ns)) / 1e6
    part = Part("screen", TITLE, blocks(whole), lacking="a picture of their code")
    part.figures["looking for the code, in the program's share, p50 ms"] = looking
    part.figures["the camera's pictures come every, ms"] = 1000 / fps if fps else 0.0
    part.notes.append(
        "A code waits for the camera's next exposure, half an interval on average, as everything that happens does. "
        "The time that the screen takes to show the program's picture is not in it; that of showing the code is."
    )
    return part


def _pipeline(config: Config, source: Source, sink: WatchingSink) -> tuple[Any, Any]:
    from realtime import assemble
    from realtime.core.stop_signal import StopSignal
    from realtime.pipeline.delivery_thread import OpenedSink
    from realtime.pipeline.pipeline import Pipeline
    from realtime.pipeline.settings import RunHooks, RunSettings

    stop_signal = StopSignal()
    parts = assemble.loader(config, stop_signal, lambda *_: None)
    parts.start()
    outgoing = [OpenedSink("window", sink)]
    settings = RunSettings(config.size, source.fps or 30.0)
    return Pipeline(parts, source, None, outgoing, settings, RunHooks(lambda _: None), stop_signal), stop_signal
