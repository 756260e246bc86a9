from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from engines.errors import PortraitError, SinkLost
from realtime.core.latency import FrameCounts
from realtime.motion.motion_transfer import MotionTransfer
from realtime.pipeline.frame_publisher import FramePublisher
from realtime.pipeline.loader import COMPILING, STARTING, PartFactories, PipelineLoader
from realtime.portraits.portrait import PortraitPicture
from tests.support.fakes import SIZE, FakeGenerator, FakeListener, FakeSink, FakeSource, FakeTracker, is_generated
from tests.support.run import running
from tests.support.waiting import until


def test_a_bad_portrait_does_not_wait_for_the_tracker() -> None:
    proceed = threading.Event()

    def open_tracker() -> FakeTracker:
        assert proceed.wait(10)
        return FakeTracker()

    def load() -> PortraitPicture:
        raise PortraitError("portrait-no-face", "no face in the picture")

    loader = PipelineLoader(
        PartFactories(open_tracker, FakeGenerator, MotionTransfer, [load]),
        mirror=False,
        failed=lambda _: None,
        notice=lambda _: None,
    )
    loader.start()
    try:
        with pytest.raises(PortraitError) as caught:
            until(lambda: loader.assemble(0.01, FramePublisher(SIZE), FrameCounts(), lambda: None))
        assert caught.value.code == "portrait-no-face"
    finally:
        proceed.set()
        loader.discard()


def test_compiling_is_announced_once_and_its_progress_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a first run, the slate, the status line and a notice say what takes so long."""
    proceed = threading.Event()

    @contextmanager
    def watch(progress: Callable[[int, int], None]) -> Iterator[object]:
        progress(1, 18)
        progress(2, 18)
        yield type("Compilation", (), {"count": 2})()

    def compile_slowly(_: object) -> None:
        assert proceed.wait(10)

    slates: list[str] = []
    show = FramePublisher.slate

    def slate(publisher: FramePublisher, text: str, time_ns: int, *, notice: bool = False) -> None:
        slates.append(text)
        show(publisher, text, time_ns, notice=notice)

    monkeypatch.setattr(FramePublisher, "slate", slate)
    monkeypatch.setattr("engines.jit.watch", watch)
    source, sink, generator = FakeSource(), FakeSink(), FakeGenerator(compile_slowly)
    with running(source, [sink], generator=generator) as run:
        until(lambda: any("2 of 18" in text for text in slates))
        assert run.pipeline.waiting == f"{COMPILING}: 2 of 18"
        proceed.set()
        source.feed()
        sink.wait_for(is_generated)
        assert run.pipeline.waiting == STARTING
    assert run.said.count(COMPILING) == 1


@pytest.mark.parametrize("lossless", [False, True])
def test_what_a_listener_cannot_finish_fails_the_run_and_everything_is_closed(lossless: bool) -> None:
    lost = SinkLost("motion-not-written", "the disk is full")
    listeners = (FakeListener(lost), FakeListener())
    source, sink, tracker, generator = FakeSource(), FakeSink(), FakeTracker(), FakeGenerator()
    with running(
        source, [sink], tracker=tracker, generator=generator, listeners=lambda: listeners, lossless=lossless
    ) as run:
        source.feed(1)
        sink.wait_for(is_generated)
        source.end()
        run.over()
        assert run.pipeline.finished(10)
    assert run.stop_signal.error is lost
    assert run.stop_signal.complete
    assert [listener.closed for listener in listeners] == [True, True]
    assert tracker.closed
    assert generator.closed


def test_listeners_are_closed_if_another_part_cannot_be_made() -> None:
    motions = iter((MotionTransfer(),))  # for preparing the portrait

    def motion() -> MotionTransfer:
        for each in motions:
            return each
        raise ValueError("no other motion")

    listener, tracker, generator = FakeListener(), FakeTracker(), FakeGenerator()
    with running(
        FakeSource(),
        [FakeSink()],
        tracker=tracker,
        generator=generator,
        motion=motion,
        listeners=lambda: (listener,),
    ) as run:
        run.over()
        assert run.pipeline.finished(10)
    assert isinstance(run.stop_signal.error, ValueError)
    assert listener.closed
    assert tracker.closed
    assert generator.closed
