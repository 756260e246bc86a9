"""When a run that waits for browsers has done enough."""

from __future__ import annotations

from realtime.core.stop_signal import Ending
from realtime.pipeline.pipeline import Outgoing
from realtime.pipeline.threads import Limits
from realtime.server.shared_sinks import Lobby
from tests.support.fakes import SIZE, FakeSink


def test_own_sinks_have_enough_after_so_long_though_nobody_comes() -> None:
    sink, ending = FakeSink(), Ending()
    now = [1_000_000_000]
    lobby = Lobby(
        [Outgoing("fake", sink, None, False)],
        size=SIZE,
        limits=Limits(duration_ns=60_000_000_000),
        ending=ending,
        notice=lambda _: None,
        clock=lambda: now[0],
    )
    now[0] += 59_000_000_000
    lobby.start()
    sink.wait_for(3)
    assert not ending.over.is_set()
    now[0] += 1_000_000_000
    assert ending.over.wait(5)
    assert ending.complete
    assert lobby.finished(3)
