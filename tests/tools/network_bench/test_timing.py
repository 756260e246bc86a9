"""What the networks' benchmark counts, and how it takes turns."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.backends.network_stage import TensorSpec
from engines.errors import BackendError
from engines.networks import fomm, liveportrait
from tests.support.neural import needs
from tools.network_bench.networks import CUTS, count, single, trace
from tools.network_bench.timing import Budget, Rates, Subject, Times, begin, go_on, wall

torch = needs("torch")


def subject(ways: dict[str, Callable[[], object]], needs: tuple[tuple[int, int], ...] = ((1, 1),)) -> Subject:
    told: list[str] = []

    def clock(call: Callable[[], object]) -> float:
        call()
        return 1.0

    return Subject("family", "net", needs, lambda: dict(ways), clock, told.append)


# ---- counting --------------------------------------------------------------------------------------------------------


def test_operations_and_bytes_are_those_of_what_is_used() -> None:
    class Net(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
            self.unused = torch.nn.Conv2d(300, 800, 3)

        def forward(self, x: Any) -> tuple[Any]:
            return (self.conv(x).mean(dim=(2, 3)),)

    operations, size = count(Net(), (TensorSpec("x", (1, 3, 16, 16)),), 2)
    assert operations == 2 * 16 * 16 * 8 * 3 * 9
    assert size == 2 * (8 * 3 * 9 + 8 + 3 * 16 * 16 + 8)


def test_the_floor_is_the_higher_of_two_and_a_frame_s_the_sum() -> None:
    rates = Rates(operations=1e12, bytes=1e9)
    assert rates.floor(2e9, 1e3) == 2e-3
    assert rates.floor(2, 5e6) == 5e-3
    assert subject({}, needs=((2_000_000_000, 1), (2, 5_000_000))).floor(rates) == pytest.approx(7e-3)
    assert subject({}, needs=()).floor(rates) is None
    assert rates.best(Rates(1, 2e9)) == Rates(1e12, 2e9)


def ghosts(family: ModuleType) -> dict[str, Any]:
    """A family's parts without numbers."""
    with torch.device("meta"):
        return {name: part().eval() for name, part in family.MODULES.items()}


@pytest.mark.parametrize(("name", "family"), [("liveportrait", liveportrait), ("fomm", fomm)])
def test_modules_can_be_called_by_themselves_and_are_the_whole_frame(name: str, family: ModuleType) -> None:
    stages = family.stages(ghosts(family))
    by_module = 0
    for cut in CUTS[name]:
        module = single(stages[cut.stage].module, cut)
        by_module += count(module, cut.inputs, 2)[0] if cut.framed else 0
        module = copy.deepcopy(module)
        module.part.half()
        assert trace(module, cut.inputs)[0].dtype == torch.float32
    by_stage = sum(count(stages[stage].module, stages[stage].inputs, 2)[0] for stage in ("motion", "frame"))
    assert by_module == pytest.approx(by_stage, rel=0.01)


# ---- taking turns ----------------------------------------------------------------------------------------------------


def test_turns_go_round_and_another_way_is_first_each_time() -> None:
    log: list[str] = []
    each = subject({name: (lambda name=name: log.append(name)) for name in "abc"})  # type: ignore[misc]
    assert not list(begin([each], Budget(60), lambda _: 0.0, warm_up=1))
    each.turn(2)
    assert log == [*"abc", *"bca", *"cab"]
    assert {way: len(times) for way, times in each.seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_what_does_not_fit_is_answered_and_not_begun() -> None:
    begun: list[str] = []
    short, long = subject({"a": lambda: begun.append("short")}), subject({"a": lambda: begun.append("long")})
    left_out = list(begin([long, short], Budget(5), lambda each: 60.0 if each is long else 0.1, warm_up=0))
    assert left_out == [long]
    assert begun == ["short"]
    go_on([long, short], Budget(0))
    assert begun == ["short"]


def test_a_way_that_fails_is_told_and_the_others_go_on() -> None:
    def fail() -> None:
        raise BackendError("the GPU is out of memory", cure="close what else uses it")

    told: list[str] = []
    each = subject({"good": lambda: 1.0, "bad": fail})
    each.refuse = told.append
    assert not list(begin([each], Budget(60), lambda _: 0.0, warm_up=0))
    assert told == ["bad: family net fails: the GPU is out of memory; close what else uses it"]
    assert list(each.ways) == list(each.seconds) == ["good"]


def test_time_that_is_paused_does_not_count() -> None:
    budget = Budget(100)
    with budget.paused(True):
        budget._end -= 40  # as if that had taken so long
    assert budget.left < 61
    before = budget.left
    with budget.paused(True):
        wall(lambda: sum(range(100_000)))
    assert before - budget.left < 1e-3


@given(st.lists(st.floats(1e-6, 10), min_size=1, max_size=50))
def test_the_first_turn_counts_only_where_it_is_the_only_one(seconds: list[float]) -> None:
    times = Times.of(seconds)
    counted = [each * 1e3 for each in seconds[1:] or seconds]
    assert times.turns == len(counted)
    assert min(counted) * 0.999 <= times.median_ms <= times.p99_ms * 1.001 <= max(counted) * 1.002
