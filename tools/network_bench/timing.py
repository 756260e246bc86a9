"""Timing the variants of a case, turn by turn, and the floor that no variant can be faster than.

    floor of a network = max(operations / matrix rate, bytes / copy rate)

Both rates are measured in the same run: a large matrix product in the fastest precision of the device (half on a GPU,
float32 on the CPU), and a large copy, whose bytes count as read and as written. In a turn each variant runs once.
Importing this module does not need torch.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from engines.backends.backend import first_line
from engines.errors import ReenactError

Call = Callable[[], object]
Clock = Callable[[Call], float]
"""Runs a call and returns the seconds that it took."""

WARM_UP = 3
"""The number of turns that are not counted on a GPU, where the first ones select kernels and compile."""
MAX_TURNS = 2000
"""The largest number of turns; more do not change the result."""


def wall_clock(call: Call) -> float:
    """Measure wall-clock time."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def cuda_clock() -> Clock:
    """Return a clock between two events on the GPU: before the first copy is enqueued, and after the result."""
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def clock(call: Call) -> float:
        start.record()
        call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    return clock


@dataclass(frozen=True, slots=True)
class Rates:
    """The largest rates of the device."""

    operations: float
    """Floating-point operations per second."""
    bytes: float
    """Bytes read and written per second."""

    def floor(self, operations: float, size: float) -> float:
        """Return the shortest possible time of a network, in seconds."""
        return max(operations / self.operations, size / self.bytes)

    def best(self, other: Rates) -> Rates:
        """Return the larger of each rate: a busy machine may have measured less."""
        return Rates(max(self.operations, other.operations), max(self.bytes, other.bytes))


def measure_rates(device: str, clock: Clock, turns: int = 10, sizes: tuple[int, int] | None = None) -> Rates:
    """Measure both rates, the best of some turns.

    ``sizes`` are the side of the matrices and the bytes to copy; by default they are larger than any cache.
    """
    import torch

    precision = torch.float16 if device == "cuda" else torch.float32
    big, length = sizes or ((8192, 1 << 29) if device == "cuda" else (2048, 1 << 27))
    a, b = (torch.randn(big, big, device=device).to(precision) for _ in range(2))
    product = torch.empty_like(a)
    source = torch.zeros(length, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    multiply, move = (lambda: torch.mm(a, b, out=product)), (lambda: target.copy_(source))
    with torch.inference_mode():
        times = [(clock(multiply), clock(move)) for _ in range(WARM_UP + turns)][WARM_UP:]
    matrix, copy = (min(each) for each in zip(*times, strict=True))
    return Rates(2 * big**3 / matrix, 2 * length / copy)


@dataclass(slots=True)
class Case:
    """One piece of work, and the variants that can do it."""

    family: str
    name: str
    costs: tuple[tuple[int, int], ...]
    """Operations and bytes of each network that it runs; empty for the host's work."""
    open: Callable[[], dict[str, Call]]
    """Opens the variants and returns them by name; those that cannot be opened are left out."""
    clock: Clock
    on_failure: Callable[[str], None]
    """Called with a message for a variant that fails and is left out from then on."""
    variants: dict[str, Call] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """The measured times of each variant."""
    turn_seconds: float = 0.0
    """How long the last turn took."""

    @property
    def operations(self) -> int:
        """The floating-point operations of all networks."""
        return sum(operations for operations, _ in self.costs)

    def floor(self, rates: Rates) -> float | None:
        """Return the shortest possible time in seconds; None for the host's work."""
        return sum(rates.floor(*cost) for cost in self.costs) or None

    def turn(self, first: int) -> None:
        """Run each variant once, starting with the variant at index ``first``."""
        names = list(self.variants)
        first %= max(len(names), 1)
        start = time.perf_counter()
        for name in names[first:] + names[:first]:
            try:
                self.seconds.setdefault(name, []).append(self.clock(self.variants[name]))
            except (ReenactError, RuntimeError) as error:  # RuntimeError from plain PyTorch
                del self.variants[name], self.seconds[name]
                self.on_failure(f"{name}: {self.family} {self.name} fails: {one_line(error)}")
        self.turn_seconds = time.perf_counter() - start


def one_line(error: Exception) -> str:
    """Return the first line of an error's message and its cure."""
    cure = error.cure if isinstance(error, ReenactError) else ""
    return f"{first_line(error)}; {cure}" if cure else first_line(error)


@dataclass(frozen=True, slots=True)
class Times:
    """Median and 99th percentile of the times of a variant, in milliseconds."""

    median_ms: float
    p99_ms: float
    turns: int

    @classmethod
    def of(cls, seconds: list[float]) -> Times:
        """Return those of ``seconds``, without the first, which starts cold, unless it is the only one."""
        seconds = seconds[1:] or seconds
        return cls(float(np.median(seconds)) * 1e3, float(np.percentile(seconds, 99)) * 1e3, len(seconds))


class Budget:
    """The time that a run of the benchmark may take."""

    def __init__(self, seconds: float) -> None:
        self._end = time.perf_counter() + seconds

    @property
    def left(self) -> float:
        """The remaining seconds."""
        return self._end - time.perf_counter()

    @contextlib.contextmanager
    def paused(self, pause: bool) -> Iterator[None]:
        """Do not count the time of the block if ``pause`` is true."""
        start = time.perf_counter()
        yield
        if pause:
            self._end += time.perf_counter() - start


def start_timing(cases: list[Case], budget: Budget, expected: Callable[[Case], float], warm_up: int) -> Iterator[Case]:
    """Open each case and time its first turn, in order. Yield the cases that do not fit the budget.

    ``expected`` estimates the seconds of a case. ``warm_up`` is the number of turns before the first that counts; with
    a warm-up, opening is not counted in the budget.
    """
    for case in cases:
        if expected(case) > budget.left:
            yield case
            continue
        with budget.paused(warm_up > 0):
            case.variants = case.open()
            for turn in range(warm_up):
                case.turn(turn)
        case.seconds.clear()
        case.turn(warm_up)


def continue_timing(cases: list[Case], budget: Budget) -> None:
    """Time all open cases until the budget is used up.

    Turns alternate between the cases and between the variants of each, so that a change in the machine's speed affects
    all of them.
    """
    for turn in range(WARM_UP + 1, MAX_TURNS):
        due = [case for case in cases if case.variants and case.turn_seconds < budget.left]
        if not due:
            return
        for case in due:
            if case.turn_seconds < budget.left:
                case.turn(turn)
