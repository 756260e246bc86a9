"""How many browsers a machine is said to sustain."""

from __future__ import annotations

import pytest

from engines.types import Motion
from realtime.server.capacity import MOST, Capacity, measure
from tests.support.fakes import SIZE, FakeGenerator, FakeTracker


class Machine:
    """Generates at a pace of its own, on a clock of its own."""

    def __init__(self, frame_s: float) -> None:
        self.now = 0.0
        self._frame_s = frame_s
        self.generator = FakeGenerator(self._work)

    def _work(self, _: Motion) -> None:
        self.now += self._frame_s

    def sustains(self, busy: int = 0) -> Capacity:
        return measure(FakeTracker(), self.generator, SIZE, busy=busy, clock=lambda: self.now)


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)


@pytest.mark.parametrize(
    ("frame_s", "busy", "sessions"), [(0.06, 0, 1), (0.0134, 0, 3), (0.0134, 1, 2), (1e-6, 0, MOST)]
)
def test_as_many_as_fit_into_the_time_between_two_frames(frame_s: float, busy: int, sessions: int) -> None:
    capacity = Machine(frame_s).sustains(busy)
    assert capacity.sessions == sessions
    assert capacity.frame_ms == pytest.approx(1e3 * frame_s)


def test_it_says_how_the_number_came_about() -> None:
    text = str(Capacity(3, 8.25))
    assert text.startswith("3 at a time: a frame takes 8.2 ms of 2 processors")
    assert "--sessions" in text
