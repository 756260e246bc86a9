"""When a run that waits for browsers has done enough."""

from __future__ import annotations

from realtime.core.stop_signal import StopSignal
from realtime.pipeline.delivery_thread import OpenedSink
from realtime.pipeline.settings import Limits
from realtime.server.shared_sinks import SharedSinks
from tests.support.fakes import SIZE, FakeSink


def test_own_sinks_have_enough_after_so_long_though_nobody_comes() -> None:
    sink, stop_signal = FakeSink(), StopSignal()
    now = [1_000_000_000]
    shared_sinks = SharedSinks(
        [OpenedSink("fake", sink)],
        size=SIZE,
        limits=Limits(duration_ns=60_000_000_000),
        stop_signal=stop_signal,
        notice=lambda _: None,
        clock=lambda: now[0],
    )
    now[0] += 59_000_000_000
    shared_sinks.start()
    sink.wait_for(3)
    assert not stop_signal.over.is_set()
    now[0] += 1_000_000_000
    assert stop_signal.over.wait(5)
    assert stop_signal.complete
    assert shared_sinks.finished(3)
