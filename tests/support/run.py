"""A run out of in-memory parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from engines.generator import Generator
from realtime.capture.source import Source
from realtime.core.stop_signal import StopSignal
from realtime.motion.motion_transfer import MotionTransfer
from realtime.motion.tracked import FaceListener
from realtime.pipeline.delivery_thread import OpenedSink
from realtime.pipeline.loader import PartFactories, PipelineLoader
from realtime.pipeline.pipeline import Pipeline
from realtime.pipeline.settings import Limits, RunHooks, RunSettings
from realtime.portraits.portrait import PortraitPicture
from realtime.sinks.sink import Sink
from realtime.tracking.tracker import Tracker
from tests.support.fakes import SIZE, FakeGenerator, FakeSource, FakeTracker, portrait


class FakeRun:
    """A started pipeline out of fakes, and the notices that it gave."""

    def __init__(
        self,
        source: FakeSource,
        sinks: Sequence[Sink],
        *,
        tracker: Tracker | None = None,
        generator: Generator | None = None,
        loaders: Sequence[Callable[[], PortraitPicture]] = (portrait,),
        reopen_source: Callable[[], Source] | None = None,
        reopen_sink: Callable[[], Sink] | None = None,
        recording: bool = False,
        lossless: bool = False,
        limits: Limits | None = None,
        size: tuple[int, int] = SIZE,
        generator_named: Callable[[str], Generator] | None = None,
        cures: Mapping[str, str] | None = None,
        motion: Callable[[], MotionTransfer] = MotionTransfer,
        listeners: Callable[[], Sequence[FaceListener]] = tuple,
    ) -> None:
        self.sources = [source]
        self.said: list[str] = []
        self.stop_signal = StopSignal()
        tracker = tracker or FakeTracker()
        generator = generator or FakeGenerator()
        factories = PartFactories(
            lambda: tracker, lambda: generator, motion, loaders, generator_named=generator_named, listeners=listeners
        )
        loader = PipelineLoader(factories, mirror=False, failed=self.stop_signal.fail, notice=self.said.append)
        self.pipeline = Pipeline(
            loader,
            source,
            reopen_source,
            [OpenedSink(sink.name, sink, reopen_sink, recording) for sink in sinks],
            RunSettings(size, 30, lossless=lossless, limits=limits or Limits()),
            RunHooks(self.said.append, cures=cures or {}),
            self.stop_signal,
        )
        loader.start()
        self.pipeline.start()

    def over(self, timeout: float = 5) -> None:
        """Wait up to ``timeout`` seconds for the end of the run; fail when it does not come."""
        assert self.stop_signal.over.wait(timeout), "the run did not end"


@contextmanager
def running(*args: object, **kwargs: object) -> Iterator[FakeRun]:
    """Start a FakeRun with these arguments; end its sources and close it when the block is left."""
    run = FakeRun(*args, **kwargs)  # type: ignore[arg-type]
    try:
        yield run
    finally:
        for source in run.sources:
            source.end()
        closed = run.pipeline.close()
    assert closed, "a thread did not end in time"
