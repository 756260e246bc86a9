"""What the page and ``GET /api/state`` are told of a run."""

from __future__ import annotations

from realtime.config import Config
from realtime.server.state import describe
from tests.support.fakes import FakeSink, FakeSource
from tests.support.run import running

MS = 1_000_000


def test_sending_is_shown_as_it_is_lately_where_it_takes_longest() -> None:
    sinks = [FakeSink("quick"), FakeSink("slow")]
    with running(FakeSource(), sinks) as run:
        pass  # its threads have ended: what they have sent is old
    quick, slow = (delivery.sending for delivery in run.pipeline.deliveries)
    for number in range(300):
        quick.record(900 * MS, number)
    for delivery, milliseconds in ((quick, 1), (slow, 3)):
        for number in range(300):
            delivery.record(milliseconds * MS, number)
    shown = describe(run.pipeline, Config(), watch="")["stages_ms"]
    assert set(shown) == {"track", "generate", "send"}
    assert shown["send"] == {"p50": 3.0, "p99": 3.0}
    assert shown["track"] == {"p50": 0.0, "p99": 0.0}
