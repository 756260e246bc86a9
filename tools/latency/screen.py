"""The method ``screen``: from the light of a window to the generated picture, with one camera.

A window shows the performer with a code that changes every few pictures. The camera is pointed at the window and drives
the program. Two times are taken of each code: when the camera's first picture with it arrived, and when the picture
that the program made from it is handed to the window. What lies before the first is the delay of screen and camera,
what lies between the two is the program's. Everything is one process, so there is only one clock.
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
from engines.install_hint import install_command
from engines.types import Image
from realtime.capture.source import Source
from realtime.config import Config
from realtime.core import pixelcode
from realtime.core.frames import Frame, PixelFormat
from tools.bench_costs import driving_frames, fitted
from tools.latency.code_finder import CodeFinder, Detection, advice
from tools.latency.figures import Measurement, Round
from tools.latency.readings import split
from tools.latency.wrapped_source import WrappedSource
from tools.support.command import Notice

TITLE = "screen: from the light of a window through camera and program to the picture"
STAGES = ("screen and camera", "program")
_SIZE = (1280, 720)
_FACE_SIZE = (640, 720)
_CODE_PLACE = pixelcode.Place(16, 16, 28)
_CODE_FRAMES = 2.3
"""How many camera pictures a code lasts at least: at least one of them is exposed while the code does not change."""
_AIM_S = 60.0
_RECENT = 30
_READABLE = 20
"""How many of the last ``_RECENT`` pictures must have a readable code before the measurement begins."""


class Window(Protocol):
    """Shows pictures."""

    def show(self, image: Image) -> bool:
        """Show a picture. Return False when the user wants to end."""

    def close(self) -> None:
        """Close the window. Idempotent."""


class ScreenWindow:
    """A window on the desktop."""

    def __init__(self) -> None:
        """Open the window. Raises SourceMissing where there is no screen."""
        self._name = "reenact: point the camera here (q ends it)"
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            found = "there is no screen to open a window on"
            raise SourceMissing("window-no-screen", found, cure="run this in a desktop session")
        try:
            cv2.namedWindow(self._name, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            cv2.resizeWindow(self._name, *_SIZE)
        except cv2.error as error:
            raise SourceMissing(
                "window-failed", f"no window can be opened: {error.err}", cure=install_command()
            ) from None

    def show(self, image: Image) -> bool:
        """See ``Window``."""
        cv2.imshow(self._name, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)

    def close(self) -> None:
        """See ``Window``."""
        cv2.destroyAllWindows()


@dataclass(slots=True)
class Observations:
    """Where each code was observed. Written by the threads of source and sink, read when they have ended."""

    arrived: dict[int, int] = field(default_factory=dict)
    """By counter: when the camera's first picture with this code arrived (ns)."""
    by_frame: dict[int, int] = field(default_factory=dict)
    """By frame number: the counter of the code that first appeared in it."""
    generated: dict[int, int] = field(default_factory=dict)
    """By counter: when the picture generated from it was delivered (ns)."""
    detections: list[Detection] = field(default_factory=list)
    """Of the last camera pictures."""
    search_ns: list[int] = field(default_factory=list)
    """How long the search for the code took in each picture."""
    picture: Image | None = None
    """The latest generated picture."""

    @property
    def readable(self) -> int:
        """How many of the last camera pictures had a readable code."""
        return sum(each.code is not None for each in self.detections)


class ObservedSource(WrappedSource):
    """A camera whose pictures are searched for the code."""

    def __init__(self, source: Source, observations: Observations) -> None:
        super().__init__(source)
        self._observations, self._finder = observations, CodeFinder()

    def read(self) -> Frame:
        """See ``Source``."""
        frame = self._source.read()
        now = time.monotonic_ns()
        detection = self._finder.find(frame.pixels)
        self._observations.detections = [*self._observations.detections[1 - _RECENT :], detection]
        if detection.code is not None and detection.code.counter not in self._observations.arrived:
            self._observations.arrived[detection.code.counter] = now
            self._observations.by_frame[frame.seq] = detection.code.counter
        self._observations.search_ns.append(time.monotonic_ns() - now)
        return frame


class ObservedSink:
    """A sink that records when a picture arrives, and keeps it to be shown."""

    name = "the window"
    format = PixelFormat.RGB
    notes: tuple[str, ...] = ()

    def __init__(self, observations: Observations) -> None:
        self._observations = observations

    def send(self, frame: Frame) -> None:
        """See ``Sink``."""
        counter = self._observations.by_frame.get(frame.seq)
        if counter is not None:
            self._observations.generated.setdefault(counter, time.monotonic_ns())
        self._observations.picture = np.array(frame.pixels)

    def close(self) -> None:
        """Do nothing: the sink holds no resources."""


def measure(config: Config, seconds: float, notice: Notice) -> list[Measurement]:
    """Open the window and the camera and measure. Raises SourceMissing, ReenactError."""
    from realtime.capture.source import open_source

    window = ScreenWindow()
    try:
        source = open_source(config.camera, size=None, fps=config.fps, pace="live")
        if source.name.startswith("performer"):
            source.close()
            raise SourceMissing("bench-no-webcam", "no webcam was found", cure="plug one in, or name it with --camera")
        return [run(config, source, window, seconds, notice)]
    finally:
        window.close()


def run(config: Config, source: Source, window: Window, seconds: float, notice: Notice) -> Measurement:
    """Measure with an open camera and window, and close the camera. Raises ReenactError."""
    observations = Observations()
    source_with_codes = ObservedSource(source, observations)
    pipeline, stop_signal = _pipeline(config, source_with_codes, ObservedSink(observations))
    pattern = CodePattern(window, observations, _CODE_FRAMES / (source.fps or 30.0))
    pipeline.start()
    try:
        _wait_for_aim(pattern, observations, stop_signal, notice)
        notice(f"measuring for {seconds:g} s; do not move camera or window")
        first = pattern.counter + 1
        pattern.show(time.monotonic() + seconds, stop_signal.over, lambda: False)
    finally:
        pipeline.close()
    if stop_signal.error is not None:
        raise stop_signal.error
    return _measurement(observations, pattern.shown, first, source.fps)


class CodePattern:
    """What the window shows: the performer with the code, beside the picture that the program makes of it."""

    def __init__(self, window: Window, observations: Observations, code_s: float) -> None:
        """``code_s`` is how long a code lasts at least, in seconds."""
        self._window, self._observations, self._code_s = window, observations, code_s
        self._faces = [fitted(each, _FACE_SIZE) for each in islice(driving_frames(None, (640, 480)), 90)]
        self._faces += self._faces[-2:0:-1]
        self._canvas = np.full((_SIZE[1], _SIZE[0], 3), 40, np.uint8)
        self._due = 0.0
        self._rng = np.random.default_rng(1)
        self.counter = 0
        self.shown: dict[int, int] = {}
        """By counter: when its code was handed to the window (ns)."""

    def show(self, until: float, over: threading.Event, finished: Callable[[], bool]) -> None:
        """Show pictures until that time, until the run is over, or until ``finished`` returns True.

        Raises ReenactError when the user ends it.
        """
        while time.monotonic() < until and not over.is_set():
            now = time.monotonic()
            if now >= self._due:
                # a random interval, as a fixed one could synchronise with the camera
                self._due = now + self._code_s * self._rng.uniform(1.0, 1.5)
                self._draw_next()
            if self._observations.picture is not None:
                size = (_SIZE[0] - _FACE_SIZE[0], _SIZE[1])
                self._canvas[:, _FACE_SIZE[0] :] = fitted(self._observations.picture, size)
            if not self._window.show(self._canvas):
                raise ReenactError("measure-cancelled", "ended before anything was measured")
            if finished():
                return
            over.wait(max(0.0, min(self._due - time.monotonic(), 0.02)))

    def _draw_next(self) -> None:
        self.counter = (self.counter + 1) & 0xFFFF
        self._canvas[:, : _FACE_SIZE[0]] = self._faces[self.counter % len(self._faces)]
        now = time.monotonic_ns()
        pixelcode.draw(self._canvas, pixelcode.Code.at(self.counter, now), _CODE_PLACE)
        self.shown[self.counter] = now


def _wait_for_aim(pattern: CodePattern, observations: Observations, stop_signal: Any, notice: Notice) -> None:
    """Wait until codes are read, and give advice meanwhile. Raises SourceMissing after a minute without."""
    notice("point the camera at the window: it has to see the black and white code and the face below it")
    last_notice = time.monotonic()

    def aimed() -> bool:
        nonlocal last_notice
        if time.monotonic() - last_notice > 3:
            last_notice = time.monotonic()
            recent = observations.detections
            notice(f"the code was read in {observations.readable} of the last {len(recent)} pictures; {advice(recent)}")
        return observations.readable >= _READABLE

    pattern.show(time.monotonic() + _AIM_S, stop_signal.over, aimed)
    if stop_signal.error is not None:
        raise stop_signal.error
    if observations.readable < _READABLE:
        raise SourceMissing(
            "screen-code-not-seen", "the camera did not see the code", cure=advice(observations.detections)
        )


def _measurement(observations: Observations, shown: dict[int, int], first: int, fps: float) -> Measurement:
    """Return the samples of the codes from counter ``first`` on. Raises ReenactError where there are none."""
    measured = [counter for counter in sorted(shown) if counter >= first]
    counters = [each for each in measured if each in observations.arrived and each in observations.generated]
    if not counters:
        raise ReenactError("measure-no-code", "no code came through", cure="measure for longer with --seconds")
    shown_ns, arrived_ns, generated_ns = (
        np.array([times[counter] for counter in counters], np.int64)
        for times in (shown, observations.arrived, observations.generated)
    )
    samples = ((arrived_ns - shown_ns) / 1e6, (generated_ns - arrived_ns) / 1e6)
    whole = Round(
        {name: values.tolist() for name, values in zip(STAGES, samples, strict=True)},
        ((shown_ns - shown_ns[0]) / 1e9).tolist(),
        frames=len(measured),
        missed=len(measured) - len(counters),
        cadence_ms=(np.diff(generated_ns) / 1e6).tolist(),
    )
    measurement = Measurement("screen", TITLE, split(whole), lacking="a picture of their code")
    search_ms = float(np.median(observations.search_ns)) / 1e6
    measurement.figures["searching for the code, part of the program's share, p50 ms"] = search_ms
    measurement.figures["interval of the camera's pictures, ms"] = 1000 / fps if fps else 0.0
    measurement.notes.append(
        "A code waits for the camera's next exposure, half an interval on average, as everything in front of it does. "
        "The delay of showing the code on the screen is included, that of showing the program's picture is not."
    )
    return measurement


def _pipeline(config: Config, source: Source, sink: ObservedSink) -> tuple[Any, Any]:
    from realtime import assemble
    from realtime.core.stop_signal import StopSignal
    from realtime.marking import new_marking
    from realtime.pipeline.delivery_thread import OpenedSink
    from realtime.pipeline.pipeline import Pipeline
    from realtime.pipeline.settings import RunHooks, RunSettings

    stop_signal = StopSignal()
    parts = assemble.make_loader(config, stop_signal, lambda *_: None)
    parts.start()
    outgoing = [OpenedSink("window", sink)]
    settings = RunSettings(config.size, source.fps or 30.0, marking=new_marking(config.label))
    return Pipeline(parts, source, None, outgoing, settings, RunHooks(lambda _: None), stop_signal), stop_signal
