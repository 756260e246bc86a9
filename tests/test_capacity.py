"""How many browsers a machine is said to sustain."""

from __future__ import annotations

import time

import pytest

from engines.types import Motion
from realtime.capacity import MOST, Capacity, measure
from tests.fakes import SIZE, FakeGenerator, FakeTracker


def slow(seconds: float) -> FakeGenerator:
    """A generator that keeps a processor busy for so long."""

    def work(_: Motion) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass

    return FakeGenerator(work)


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)


def test_a_slow_machine_takes_one_all_the_same() -> None:
    capacity = measure(FakeTracker(), slow(0.06), SIZE)
    assert capacity.sessions == 1
    assert capacity.frame_ms >= 60


def test_what_runs_already_takes_its_share() -> None:
    alone = measure(FakeTracker(), slow(0.012), SIZE)
    beside = measure(FakeTracker(), slow(0.012), SIZE, busy=1)
    assert 2 <= alone.sessions <= 4
    assert beside.sessions < alone.sessions


def test_there_is_a_most() -> None:
    assert measure(FakeTracker(), FakeGenerator(), SIZE).sessions <= MOST


def test_it_says_how_the_number_came_about() -> None:
    text = str(Capacity(3, 8.25))
    assert text.startswith("3 at a time: a frame takes 8.2 ms of 2 processors")
    assert "--sessions" in text
