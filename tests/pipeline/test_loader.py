from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from engines.errors import PortraitError
from realtime.core.latency import FrameCounts
from realtime.motion.motion_transfer import MotionTransfer
from realtime.pipeline.frame_publisher import FramePublisher
from realtime.pipeline.loader import COMPILING, STARTING, PartFactories, PipelineLoader
from realtime.portraits.portrait import PortraitPicture
from tests.support.fakes import SIZE, FakeGenerator, FakeSink, FakeSource, FakeTracker, is_generated
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
