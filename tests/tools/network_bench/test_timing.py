"""What the benchmark of the networks counts, and the order of its turns."""

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
from tests.support.engines.neural import needs
from tools.network_bench.networks import SUBMODULES, count_cost, infer_shapes, isolate
from tools.network_bench.timing import Budget, Case, Rates, Times, continue_timing, start_timing, wall_clock

torch = needs("torch")


def case(variants: dict[str, Callable[[], object]], costs: tuple[tuple[int, int], ...] = ((1, 1),)) -> Case:
    notices: list[str] = []

    def clock(call: Callable[[], object]) -> float:
        call()
        return 1.0

    return Case("family", "net", costs, lambda: dict(variants), clock, notices.append)


# ---- counting --------------------------------------------------------------------------------------------------------


def test_operations_and_bytes_are_those_of_the_used_modules() -> None:
    class Net(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
            self.unused = torch.nn.Conv2d(300, 800, 3)

        def forward(self, x: Any) -> tuple[Any]:
            return (self.conv(x).mean(dim=(2, 3)),)

    operations, size = count_cost(Net(), (TensorSpec("x", (1, 3, 16, 16)),), 2)
    assert operations == 2 * 16 * 16 * 8 * 3 * 9
    assert size == 2 * (8 * 3 * 9 + 8 + 3 * 16 * 16 + 8)


def test_the_floor_is_the_higher_of_two_and_that_of_a_frame_is_the_sum() -> None:
    rates = Rates(operations=1e12, bytes=1e9)
    assert rates.floor(2e9, 1e3) == 2e-3
    assert rates.floor(2, 5e6) == 5e-3
    assert case({}, costs=((2_000_000_000, 1), (2, 5_000_000))).floor(rates) == pytest.approx(7e-3)
    assert case({}, costs=()).floor(rates) is None
    assert rates.best(Rates(1, 2e9)) == Rates(1e12, 2e9)


def without_weights(family: ModuleType) -> dict[str, Any]:
    """Return the modules of a family without weights."""
    with torch.device("meta"):
        return {name: part().eval() for name, part in family.MODULES.items()}


@pytest.mark.parametrize(("name", "family"), [("liveportrait", liveportrait), ("fomm", fomm)])
def test_isolated_modules_can_be_called_and_add_up_to_the_frame(name: str, family: ModuleType) -> None:
    stages = family.stages(without_weights(family))
    by_module = 0
    for submodule in SUBMODULES[name]:
        module = isolate(stages[submodule.stage].module, submodule)
        by_module += count_cost(module, submodule.inputs, 2)[0] if submodule.per_frame else 0
        module = copy.deepcopy(module)
        module.part.half()
        assert infer_shapes(module, submodule.inputs)[0].dtype == torch.float32
    by_stage = sum(count_cost(stages[stage].module, stages[stage].inputs, 2)[0] for stage in ("motion", "frame"))
    assert by_module == pytest.approx(by_stage, rel=0.01)


# ---- turns -----------------------------------------------------------------------------------------------------------


def test_another_variant_is_first_in_each_turn() -> None:
    log: list[str] = []
    each = case({name: (lambda name=name: log.append(name)) for name in "abc"})  # type: ignore[misc]
    assert not list(start_timing([each], Budget(60), lambda _: 0.0, warm_up=1))
    each.turn(2)
    assert log == [*"abc", *"bca", *"cab"]
    assert {variant: len(times) for variant, times in each.seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_a_case_that_does_not_fit_is_yielded_and_not_started() -> None:
    started: list[str] = []
    short, long = case({"a": lambda: started.append("short")}), case({"a": lambda: started.append("long")})
    left_out = list(start_timing([long, short], Budget(5), lambda each: 60.0 if each is long else 0.1, warm_up=0))
    assert left_out == [long]
    assert started == ["short"]
    continue_timing([long, short], Budget(0))
    assert started == ["short"]


def test_a_variant_that_fails_is_reported_and_the_others_continue() -> None:
    def fail() -> None:
        raise BackendError("gpu-out-of-memory", "the GPU is out of memory", cure="close other programs")

    notices: list[str] = []
    each = case({"good": lambda: 1.0, "bad": fail})
    each.on_failure = notices.append
    assert not list(start_timing([each], Budget(60), lambda _: 0.0, warm_up=0))
    assert notices == ["bad: family net fails: the GPU is out of memory; close other programs"]
    assert list(each.variants) == list(each.seconds) == ["good"]


def test_paused_time_is_not_counted() -> None:
    budget = Budget(100)
    with budget.paused(True):
        budget._end -= 40  # as if 40 s had passed
    assert budget.left < 61
    before = budget.left
    with budget.paused(True):
        wall_clock(lambda: sum(range(100_000)))
    assert before - budget.left < 1e-3


@given(st.lists(st.floats(1e-6, 10), min_size=1, max_size=50))
def test_the_first_turn_counts_only_if_it_is_the_only_one(seconds: list[float]) -> None:
    times = Times.of(seconds)
    counted = [each * 1e3 for each in seconds[1:] or seconds]
    assert times.turns == len(counted)
    assert min(counted) * 0.999 <= times.median_ms <= times.p99_ms * 1.001 <= max(counted) * 1.002
