"""The sink for the viewers of the main run: before, while and after the media process starts."""

from __future__ import annotations

import threading

import pytest

from engines.errors import SinkMissing
from realtime.core.background_task import BackgroundTask
from realtime.server.main_sink import MainSink
from tests.support.fakes import FakeSink, driving
from tests.support.waiting import until


def test_frames_are_dropped_until_the_media_process_has_started() -> None:
    let_start = threading.Event()
    started = BackgroundTask("start", lambda: str(let_start.wait(5)))
    inner = FakeSink()
    sink = MainSink("main", started, lambda: inner)
    started.start()
    sink.send(driving())
    assert not sink.live
    let_start.set()

    def sent() -> bool:
        sink.send(driving())
        return bool(inner.frames)

    until(sent)
    assert sink.live
    sink.close()
    sink.close()
    assert inner.closed.is_set()


def test_sending_raises_when_the_media_process_does_not_start() -> None:
    def fail() -> str:
        raise SinkMissing("media-process-not-ready", "the media process is not ready after 30 s")

    started = BackgroundTask("start", fail)
    sink = MainSink("main", started, FakeSink)
    started.start()
    assert started.wait(5)
    with pytest.raises(SinkMissing) as caught:
        sink.send(driving())
    assert caught.value.code == "media-process-not-ready"
    sink.close()


def test_sending_raises_when_the_media_process_ended_before_the_sink_was_opened() -> None:
    def fail() -> FakeSink:
        raise SinkMissing("media-process-gone", "the media process has ended")

    started = BackgroundTask("start", lambda: "")
    sink = MainSink("main", started, fail)
    started.start()

    def failed() -> bool:
        try:
            sink.send(driving())
        except SinkMissing as error:
            return error.code == "media-process-gone"
        return False

    until(failed)


def test_a_sink_that_is_opened_while_closing_is_closed() -> None:
    opening, closed = threading.Event(), threading.Event()
    inner = FakeSink()

    def open_sink() -> FakeSink:
        opening.set()
        assert closed.wait(5)
        return inner

    started = BackgroundTask("start", lambda: "")
    sink = MainSink("main", started, open_sink)
    started.start()
    assert opening.wait(5)
    sink.close()
    closed.set()
    assert inner.closed.wait(5)
