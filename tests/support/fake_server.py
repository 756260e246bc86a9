"""A ServerApplication to test against: only the media process, the trackers and the generators are fakes."""

from __future__ import annotations

import itertools
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np

from engines.errors import ReenactError, SourceMissing
from engines.types import Image, Motion
from realtime.config import load
from realtime.core import problem
from realtime.core.frames import PixelFormat
from realtime.core.sound import SoundPacket
from realtime.core.stop_signal import StopSignal
from realtime.motion.motion_transfer import MotionTransfer
from realtime.pipeline.loader import PartFactories, PipelineLoader
from realtime.portraits.consent import Right
from realtime.server.capacity import Capacity
from realtime.server.server_application import ServerApplication
from realtime.server.shared_sinks import SharedSinks
from realtime.sinks.sink import Sink
from realtime.webrtc.callbacks import ApiReply, ApiRequest
from tests.support.fakes import PORTRAIT, FakeGenerator, FakeSink, FakeSource, FakeTracker, portrait
from tests.support.waiting import until

CONFIG = load({"camera": "webrtc", "size": "64x64", "sessions": 2})


class FakeLink:
    """A media process in memory. The test feeds the publishers' sources; the viewers' frames are kept."""

    address = "http://test/"

    def __init__(self) -> None:
        self.sources: dict[str, FakeSource] = defaultdict(FakeSource)
        self.sinks: dict[str, FakeSink] = defaultdict(lambda: FakeSink(pixel_format=PixelFormat.I420))
        self.pushed: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.muted: dict[str, bool] = {}
        self.heard: dict[str, Callable[[SoundPacket], None]] = {}
        self.ended: list[str] = []
        self.closed = False
        self.changed = threading.Condition()
        self.silent: set[str] = set()
        """Sessions whose publisher sends no video."""

    def start(self) -> str:
        return self.address

    def source(self, session: str, _fps: float, _timeout_s: float = 15.0) -> FakeSource:
        if session in self.silent:
            raise SourceMissing("publisher-silent", "no video from the publisher", cure="see that its camera is on")
        return self.sources[session]

    def sink(self, stream: str, _size: tuple[int, int]) -> Sink:
        return self.sinks[stream]

    def push(self, session: str, message: dict[str, Any]) -> None:
        json.dumps(message, allow_nan=False)
        with self.changed:
            self.pushed[session].append(message)
            self.changed.notify_all()

    def mute(self, session: str, muted: bool) -> None:
        self.muted[session] = muted

    def hear(self, session: str, heard: Callable[[SoundPacket], None]) -> None:
        self.heard[session] = heard

    def end(self, session: str) -> None:
        with self.changed:
            self.ended.append(session)
            self.changed.notify_all()

    def stats(self) -> dict[str, Any]:
        return {
            "viewers": 3,
            "sessions": {"a": {"viewers": 2, "dropped": 4, "control": True}},
            "streams": {"main": {"viewers": []}, "a": {"viewers": [{}, {}]}},
            "loop_lag_ms": 0.5,
        }

    def close(self, _timeout: float = 1.0) -> None:
        self.closed = True

    def wait_for(self, condition: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, 20)

    def wait_for_error(self, session: str) -> dict[str, str]:
        """Wait until a session has sent an error to its page, and return it."""
        self.wait_for(lambda: any("error" in message for message in self.pushed[session]))
        error: dict[str, str] = next(message["error"] for message in self.pushed[session] if "error" in message)
        return error


class FakeServer:
    """A ServerApplication over fakes, for browsers that drive unless there is another ``camera``."""

    def __init__(
        self,
        shared_sinks: SharedSinks | None = None,
        limit: int | None = 2,
        measured: int | Exception = 7,
        link: FakeLink | None = None,
        camera: str = "webrtc",
        consent: Right | None = "fictional",
    ) -> None:
        """``measured`` is the capacity that is measured, or the error of the measurement."""
        self.link = link or FakeLink()
        self.trackers: list[FakeTracker] = []
        self.generators: list[FakeGenerator] = []
        self.during: Callable[[Motion], None] | None = None
        self.notices: list[str] = []
        self.let_measure = threading.Event()
        """The measurement of the capacity waits for this."""
        config = CONFIG.model_copy(update={"sessions": limit, "camera": camera, "consent": consent})

        def measure(busy: int) -> Capacity:
            assert self.let_measure.wait(5)
            if isinstance(measured, Exception):
                raise measured
            return Capacity(measured - busy, 10.0)

        self.application = ServerApplication(
            config, lambda _: self.link, self.make_loader, measure, notice=self.notices.append
        )
        if shared_sinks is not None:
            self.application.attach_shared_sinks(shared_sinks)
        self.application.start()
        self.application.run_started(None)

    def make_loader(self, _: Any, stop_signal: StopSignal, notice: Callable[[str], None]) -> PipelineLoader:
        def tracker() -> FakeTracker:
            self.trackers.append(FakeTracker())
            return self.trackers[-1]

        def generator() -> FakeGenerator:
            self.generators.append(FakeGenerator(self.during))
            return self.generators[-1]

        loaders = [lambda: portrait("one"), lambda: portrait("two")]
        factories = PartFactories(tracker, generator, MotionTransfer, loaders)
        return PipelineLoader(factories, mirror=False, failed=stop_signal.fail, notice=notice)

    def open(self, key: str) -> None:
        # created here, as two threads that look them up at the same time would create two of each
        _ = self.link.sources[key], self.link.sinks[key]
        self.application.open(key, f"watch-{key}")

    def drive(self, key: str, count: int = 3) -> None:
        """Feed frames until one has come out as a generated picture."""
        source, sink = self.link.sources[key], self.link.sinks[key]
        assert source.reading.wait(20)
        numbers = itertools.count(len(sink.frames))

        def feed_one() -> bool:
            source.feed(1, next(numbers))
            return any(is_generated(frame.pixels) for frame in sink.frames)

        until(feed_one, f"no generated picture of {key}")
        source.feed(count, next(numbers))

    def disconnect(self, key: str) -> None:
        """Let a publisher leave, and wait until its session has ended."""
        self.application.closed(key)
        self.link.sources[key].end()
        until(lambda: self.application.sessions.get(key) is None, f"the session {key} has not ended")

    def request(self, method: str, path: str, session: str | None = None, body: bytes = b"", **query: str) -> ApiReply:
        """Return the answer to a request. An error is answered as the media process does."""
        try:
            return self.application.request(ApiRequest(method, path, query, body, "", session))
        except ReenactError as error:
            return ApiReply(error.status, problem.CONTENT_TYPE, problem.body(error), problem.headers(error))

    def get(self, path: str, session: str | None = None) -> Any:
        return json.loads(self.request("GET", path, session).body)

    def control(self, session: str | None, command: str, value: object = None) -> Any:
        message = {"v": 1, "command": command} | ({} if value is None else {"value": value})
        return json.loads(self.application.control(session, json.dumps(message).encode()))


def is_generated(pixels: Image) -> bool:
    """Return True if an I420 frame is a generated picture, with a label in its lower half and a watermark."""
    rgb = cv2.cvtColor(pixels, cv2.COLOR_YUV2RGB_I420)
    return bool(np.abs(rgb[: len(rgb) // 2].astype(int) - np.array(PORTRAIT)).max() < 20)


@contextmanager
def closing(server: FakeServer) -> Iterator[FakeServer]:
    """Close the server afterwards, with all its sessions."""
    try:
        yield server
    finally:
        for source in server.link.sources.values():
            source.end()
        server.application.close(3)
