"""What the injection of faults counts, and that it sees a run that hangs."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tools.faults import run
from tools.faults.run import Injection, Judge, Outcome, inject, summary

NOTHING = Injection("track", "none", 1, False, False, lambda _, value, __: value)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


def test_leaks_marks_and_hangs_are_counted_apart() -> None:
    outcomes = [
        Outcome(NOTHING, 9, 5, leaked=2, unmarked=0),
        Outcome(NOTHING, 9, 5, leaked=0, unmarked=1),
        Outcome(NOTHING, 9, 5, leaked=1, unmarked=3),
        Outcome(NOTHING, 9, 5, leaked=0, unmarked=0, hung=True),
        Outcome(NOTHING, 9, 5, leaked=0, unmarked=0),
    ]
    assert [outcome.bad for outcome in outcomes] == [True, True, True, True, False]
    assert summary(outcomes) == {
        "faults": {"track": 5},
        "frames": 45,
        "marked": 25,
        "faults_with_unmarked": 2,
        "faults_with_camera": 2,
        "faults_with_hang": 1,
    }


def test_a_run_without_a_fault_passes(judge: Judge) -> None:
    outcome = inject(NOTHING, judge)
    assert not outcome.bad
    assert outcome.frames > 0


@pytest.mark.parametrize("place", ["capture", "send"])
def test_a_run_that_hangs_does_not_pass(place: str, judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "END_S", 0.3)
    monkeypatch.setattr(run, "CLOSE_S", 0.3)
    over = threading.Event()

    def hang(_: int, value: Any, __: Any) -> Any:
        over.wait()
        return value

    before = set(threading.enumerate())
    try:
        assert inject(Injection(place, "hangs", 2, False, False, hang), judge).hung
    finally:
        over.set()
        for thread in set(threading.enumerate()) - before:
            thread.join(30)


def test_the_command_exits_with_1_for_a_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "inject", lambda injection, _: Outcome(injection, 3, 3, 0, 0, hung=True))
    path = tmp_path / "faults.json"
    assert run.main(["--count", "2", "--json", str(path)]) == 1
    assert json.loads(path.read_text())["faults_with_hang"] == 2


def test_a_few_faults_of_every_place_pass() -> None:
    assert run.main(["--count", "8"]) == 0
