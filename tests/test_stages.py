"""How long the compute stage waits for a frame before the portrait idles, how fast it idles, and when it is done."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from realtime.commands import Commands
from realtime.ending import Ending
from realtime.frames import Frame
from realtime.latency import Ledger
from realtime.stages import Compute, Limits
from tests.fakes import FakeSource, driving

NS = 1_000_000_000


class SlowInbox:
    """A mailbox that is given one frame and then none; notes how long each ``get`` would have waited."""

    def __init__(self, empty: int) -> None:
        self.closed = False
        self.waited: list[float] = []
        self.now = 0
        self._empty = empty

    def get(self, timeout: float) -> Frame | None:
        if not self.waited:
            self.waited.append(0.0)
            return driving()
        self.waited.append(timeout)
        self.now += round(timeout * NS)
        self.closed = len(self.waited) > self._empty
        return None

    def close(self) -> None:
        self.closed = True


def waits(source_fps: float, fps: float) -> list[float]:
    """How long it waits in seconds: for the first frame that stays away, and for those after it."""
    inbox, source = SlowInbox(5), FakeSource()
    source.fps = source_fps
    capture = SimpleNamespace(source=source, inbox=inbox, go=SimpleNamespace(set=lambda: None))
    parts: Any = SimpleNamespace(
        desk=None,
        observer=SimpleNamespace(observe=lambda frame: frame),
        animator=SimpleNamespace(show=lambda _: None, idle=lambda: None),
        close=lambda: None,
    )
    compute = Compute(
        lambda _: parts,
        cast(Any, capture),
        cast(Any, SimpleNamespace(slate=lambda *_, **__: None, close=lambda: None)),
        Ledger(),
        Commands(),
        ending := Ending(),
        lambda _: None,
        fps=fps,
        limits=Limits(),
        lossless=False,
        clock=lambda: inbox.now,
    )
    compute.run()
    assert ending.error is None
    return inbox.waited[1:]


@pytest.mark.parametrize(
    ("source_fps", "fps", "patience", "period"),
    [
        (30, 30, 0.25, 1 / 30),
        (3, 30, 1.0, 1 / 30),
        (30, 5, 0.6, 1 / 5),
        (1000, 1000, 0.25, 1 / 60),
        (0, 30, 0.25, 1 / 30),
    ],
)
def test_idling(source_fps: float, fps: float, patience: float, period: float) -> None:
    first, *rest = waits(source_fps, fps)
    assert first == pytest.approx(patience)
    assert rest == pytest.approx([period] * len(rest), rel=1e-3)


def test_how_many_frames_there_will_be() -> None:
    assert Limits().of(None, 30) is None
    assert Limits().of(75, 30) == 75
    assert Limits(frames=30).of(75, 30) == 30
    assert Limits(frames=30).of(None, 30) == 30
    assert Limits(frames=90).of(75, 30) == 75
    assert Limits(duration_ns=NS // 2).of(75, 25) == 13
