"""In-memory fakes of the parts of a run, which the test controls."""

from __future__ import annotations

import io
import queue
import threading
import time
from collections.abc import Callable, Iterable

import numpy as np

from engines.errors import SinkLost, SourceEnded, SourceLost
from engines.types import FaceState, Image, Mask, Motion, Portrait
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.portraits.portrait import PortraitPicture
from realtime.tracking.settings import Driver

CAMERA = (255, 0, 255)
"""The colour of every driving frame, which must never be published."""
PORTRAIT = (30, 160, 60)
"""The colour of every generated picture."""
SIZE = (64, 64)


def picture(colour: tuple[int, int, int], size: tuple[int, int] = SIZE) -> Image:
    return np.full((size[1], size[0], 3), colour, np.uint8)


def driving(seq: int = 0) -> Frame:
    now = time.monotonic_ns()
    return Frame(picture(CAMERA), PixelFormat.RGB, seq, Stamps(now), now)


def face(frame: Frame | None = None) -> FaceState:
    """Return a face with random landmarks."""
    points = np.random.default_rng(1).random((478, 3), np.float32)
    return FaceState(frame.seq if frame else 0, frame.time_ns if frame else 0, points, SIZE)


class FakeClock:
    """A clock that advances only when ``sleep`` is called."""

    def __init__(self) -> None:
        self.now = 5_000_000_000
        self.slept: list[float] = []

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += round(seconds * 1e9)


class FakeSource:
    """A Source that returns the frames, or raises the exceptions, that the test feeds it. ``read`` blocks meanwhile."""

    name = "fake source"
    size = SIZE
    fps = 30.0
    live = True
    notes: tuple[str, ...] = ()
    skipped = 0

    def __init__(self, script: Iterable[Frame | Exception] = (), frames: int | None = None) -> None:
        self.frames = frames
        self.fed: queue.Queue[Frame | Exception] = queue.Queue()
        self.closed = threading.Event()
        self.reading = threading.Event()
        for item in script:
            self.fed.put(item)

    def feed(self, count: int = 1, start: int = 0) -> None:
        for seq in range(start, start + count):
            self.fed.put(driving(seq))

    def lose(self) -> None:
        self.fed.put(SourceLost("camera-unplugged", "the fake camera was unplugged"))

    def end(self) -> None:
        self.fed.put(SourceEnded("video-ended", "the fake file has ended"))

    def read(self) -> Frame:
        self.reading.set()
        item = self.fed.get()
        if isinstance(item, Exception):
            raise item
        # a frame is captured when it is read, as with a camera
        now = time.monotonic_ns()
        return Frame(item.pixels, item.format, item.seq, Stamps(now), now)

    def close(self) -> None:
        self.closed.set()


class FakeTracker:
    """A Tracker that finds a face in every frame while ``present``, and calls ``during`` for each."""

    name = "fake tracker"
    driver: Driver = "auto"

    def __init__(self, during: Callable[[Frame], None] | None = None) -> None:
        self.present = True
        self.resets = 0
        self.closed = False
        self._during = during

    def track(self, frame: Frame) -> FaceState | None:
        if self._during is not None:
            self._during(frame)
        return face(frame) if self.present else None

    def reset(self) -> None:
        self.resets += 1

    def close(self) -> None:
        self.closed = True


class FakeListener:
    """A FaceListener that keeps the faces it is given. With ``lost``, closing it fails."""

    def __init__(self, lost: SinkLost | None = None) -> None:
        self.faces: list[FaceState] = []
        self.closed = False
        self._lost = lost

    def add(self, face: FaceState) -> None:
        self.faces.append(face)

    def close(self) -> None:
        self.closed = True
        if self._lost is not None:
            raise self._lost


class FakeGenerator:
    """A Generator of pictures of one colour, in a buffer that it reuses. It records what it was driven with."""

    name = label = "fake generator"
    random_weights = False
    regions: tuple[str, ...] = ("all", "expression", "pose")
    mouths: tuple[str, ...] = ()
    mouth: str | None = None
    refined: bool | None = None

    def __init__(self, during: Callable[[Motion], None] | None = None) -> None:
        self.portraits: list[str] = []
        self.driven: list[tuple[str, bool]] = []
        """For each call of ``drive``: the portrait's name, and whether there was a driving picture."""
        self.gains: list[float] = []
        self.closed = False
        self.during = during
        self._buffer = picture(PORTRAIT)

    def prepare(
        self,
        name: str,
        image: Image,
        face: FaceState,
        matte: Mask | None = None,  # noqa: ARG002
        behind: Image | None = None,  # noqa: ARG002
    ) -> Portrait:
        assert face.size == (image.shape[1], image.shape[0])
        self.portraits.append(name)
        return Portrait(name, (image.shape[1], image.shape[0]), None)

    def drive(self, portrait: Portrait, motion: Motion, driving: Image | None) -> Image:
        self.driven.append((portrait.name, driving is not None))
        if self.during is not None:
            self.during(motion)
        return self._buffer

    def alpha(self) -> Mask | None:
        return None

    def set_mouth(self, mouth: str) -> None:
        assert mouth in self.mouths
        self.mouth = mouth

    def set_refined(self, on: bool) -> None:
        self.refined = on

    def close(self) -> None:
        self.closed = True


class FakeSink:
    """A Sink that keeps a copy of every frame. ``during``, called for each, may block or raise."""

    def __init__(
        self,
        name: str = "fake sink",
        pixel_format: PixelFormat = PixelFormat.RGB,
        during: Callable[[Frame], None] | None = None,
    ) -> None:
        self.name = name
        self.format = pixel_format
        self.notes: tuple[str, ...] = ()
        self.frames: list[Frame] = []
        self.closed = threading.Event()
        self._during = during
        self._came = threading.Condition()

    def send(self, frame: Frame) -> None:
        if self._during is not None:
            self._during(frame)
        kept = Frame(frame.pixels.copy(), frame.format, frame.seq, frame.stamps, frame.time_ns)
        with self._came:
            self.frames.append(kept)
            self._came.notify_all()

    def close(self) -> None:
        self.closed.set()

    def wait_for(self, wanted: int | Callable[[Frame], bool], timeout: float = 5) -> Frame:
        """Wait for a frame and return it: that of a number from 1 on, or the first that meets a condition."""

        def index() -> int | None:
            if isinstance(wanted, int):
                return wanted - 1 if len(self.frames) >= wanted else None
            return next((i for i, frame in enumerate(self.frames) if wanted(frame)), None)

        with self._came:
            if not self._came.wait_for(lambda: index() is not None, timeout):
                raise AssertionError(f"{self.name} got {len(self.frames)} frames, but not the expected one")
            found = index()
            assert found is not None
            return self.frames[found]

    def shows(self, colour: tuple[int, int, int]) -> bool:
        """Return True if any pixel of any RGB frame has that colour."""
        return any(bool((frame.pixels == np.array(colour)).all(axis=-1).any()) for frame in self.frames)


def is_generated(frame: Frame) -> bool:
    """Return True if an RGB frame is a generated picture, perhaps with a label in its lower half and a watermark."""
    upper = frame.pixels[: len(frame.pixels) // 2].astype(int)
    return bool(np.abs(upper - np.array(PORTRAIT)).max() < 20)


def portrait(name: str = "one") -> PortraitPicture:
    return PortraitPicture(name, picture(PORTRAIT), face())


class FailingStream(io.StringIO):
    """A text stream whose ``write`` fails, as with a closed pipe, a full disk or a closed terminal."""

    def __init__(self, error: Exception, *, terminal: bool) -> None:
        super().__init__()
        self.error = error
        self.terminal = terminal
        self.writes = 0

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        del text
        self.writes += 1
        raise self.error
