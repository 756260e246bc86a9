"""A media server to test against: all of it real but the media process, the trackers and the generators."""

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

from engines.errors import SourceMissing
from engines.types import Image, Motion
from realtime.config import load
from realtime.core.frames import PixelFormat
from realtime.core.stop_signal import StopSignal
from realtime.motion.relative import MotionTransfer
from realtime.pipeline.loader import PartFactories, PipelineLoader
from realtime.server.capacity import Capacity
from realtime.server.service import MediaService
from realtime.server.shared_sinks import SharedSinks
from realtime.sinks.sink import Sink
from realtime.webrtc.callbacks import ApiReply, ApiRequest
from tests.support.fakes import PORTRAIT, FakeGenerator, FakeSink, FakeSource, FakeTracker, portrait
from tests.support.waiting import until

CONFIG = load({"camera": "webrtc", "size": "64x64", "sessions": 2})


class FakeLink:
    """A media process in memory: publishers' sources are fed by the test, viewers' pictures are kept."""

    address = "http://test/"

    def __init__(self) -> None:
        self.sources: dict[str, FakeSource] = defaultdict(FakeSource)
        self.sinks: dict[str, FakeSink] = defaultdict(lambda: FakeSink(pixel_format=PixelFormat.I420))
        self.pushed: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.ended: list[str] = []
        self.closed = False
        self.heard = threading.Condition()
        self.missing: set[str] = set()

    def start(self) -> str:
        return self.address

    def source(self, session: str, _fps: float, _timeout_s: float = 15.0) -> FakeSource:
        if session in self.missing:
            raise SourceMissing("the publisher has sent no picture for 15 s", cure="see that its camera is on")
        return self.sources[session]

    def sink(self, stream: str, _size: tuple[int, int], _fps: float) -> Sink:
        return self.sinks[stream]

    def push(self, session: str, message: dict[str, Any]) -> None:
        json.dumps(message, allow_nan=False)
        with self.heard:
            self.pushed[session].append(message)
            self.heard.notify_all()

    def end(self, session: str) -> None:
        with self.heard:
            self.ended.append(session)
            self.heard.notify_all()

    def stats(self) -> dict[str, Any]:
        return {"viewers": 3, "sessions": {"a": {"viewers": 1, "dropped": 4}}, "loop_lag_ms": 0.5}

    def close(self, _timeout: float = 1.0) -> None:
        self.closed = True

    def wait_for(self, condition: Callable[[], object]) -> None:
        with self.heard:
            assert self.heard.wait_for(condition, 5)


class FakeServer:
    """A media server over fakes."""

    def __init__(
        self,
        shared_sinks: SharedSinks | None = None,
        limit: int | None = 2,
        measured: int = 7,
        link: FakeLink | None = None,
    ) -> None:
        self.link = link or FakeLink()
        self.trackers: list[FakeTracker] = []
        self.generators: list[FakeGenerator] = []
        self.during: Callable[[Motion], None] | None = None
        self.said: list[str] = []
        self.let_measure = threading.Event()
        """The capacity is measured once this is set."""
        config = CONFIG if limit == 2 else CONFIG.model_copy(update={"sessions": limit})

        def measure(busy: int) -> Capacity:
            assert self.let_measure.wait(5)
            return Capacity(measured - busy, 10.0)

        self.media = MediaService(config, lambda _: self.link, self.prepare, measure, notice=self.said.append)
        if shared_sinks is not None:
            self.media.attach_shared_sinks(shared_sinks)
        self.media.start()
        self.media.begin(None)

    def prepare(self, _: Any, stop_signal: StopSignal, tell: Callable[[str], None]) -> PipelineLoader:
        def tracker() -> FakeTracker:
            self.trackers.append(FakeTracker())
            return self.trackers[-1]

        def generator() -> FakeGenerator:
            self.generators.append(FakeGenerator(self.during))
            return self.generators[-1]

        loaders = [lambda: portrait("one"), lambda: portrait("two")]
        factories = PartFactories(tracker, generator, MotionTransfer, loaders)
        return PipelineLoader(factories, mirror=False, failed=stop_signal.fail, notice=tell)

    def open(self, key: str) -> None:
        # made here: two threads that look for them first would get two
        _ = self.link.sources[key], self.link.sinks[key]
        self.media.open(key, f"watch-{key}")

    def drive(self, key: str, count: int = 3) -> None:
        """Feed frames until one has come out as a generated picture."""
        source, sink = self.link.sources[key], self.link.sinks[key]
        assert source.reading.wait(5)
        numbers = itertools.count(len(sink.frames))

        def feed_one() -> bool:
            source.feed(1, next(numbers))
            return any(is_generated(frame.pixels) for frame in sink.frames)

        until(feed_one, f"no generated picture of {key}")
        source.feed(count, next(numbers))

    def send_away(self, key: str) -> None:
        """Have a publisher leave, and wait until its session is gone."""
        self.media.closed(key)
        self.link.sources[key].end()
        until(lambda: self.media.sessions.get(key) is None, f"{key} is still here")

    def ask(self, method: str, path: str, session: str | None = None, body: bytes = b"", **query: str) -> ApiReply:
        return self.media.request(ApiRequest(method, path, query, body, "", session))

    def get(self, path: str, session: str | None = None) -> Any:
        return json.loads(self.ask("GET", path, session).body)

    def control(self, session: str | None, command: str, value: object = None) -> Any:
        message = {"v": 1, "command": command} | ({} if value is None else {"value": value})
        return json.loads(self.media.control(session, json.dumps(message).encode()))


def is_generated(pixels: Image) -> bool:
    """Whether an I420 picture is a generated one."""
    rgb = cv2.cvtColor(pixels, cv2.COLOR_YUV2RGB_I420)
    return bool(np.abs(rgb.astype(int) - np.array(PORTRAIT)).max() < 12)


@contextmanager
def living(server: FakeServer) -> Iterator[FakeServer]:
    """Close it afterwards, with all who are in it."""
    try:
        yield server
    finally:
        for source in server.link.sources.values():
            source.end()
        server.media.close(3)
