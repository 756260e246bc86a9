"""Timing several ways to do one thing, turn by turn, and the floor below all of them.

    floor of a network = max(operations / matrix rate, bytes / copy rate)

Both rates are measured in the same run: a large matrix product in the precision that the device is best at (half on a
GPU, float32 on the CPU), and a large copy, whose bytes count as read and as written. Importing this needs no torch.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from engines.errors import ReenactError

Call = Callable[[], object]
Clock = Callable[[Call], float]
"""Runs something and answers the seconds that it took."""

WARM_UP = 3
"""Turns before the first that counts, on a GPU: there the first ones choose and compile."""
MOST = 2000
"""Turns after which more say nothing new."""


def wall(call: Call) -> float:
    """Seconds on the wall."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def cuda_clock() -> Clock:
    """Seconds between two events on the GPU, one before all that is copied and enqueued, one after the answer."""
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
    """What the device can do at most."""

    operations: float
    """Floating-point operations a second."""
    bytes: float
    """Bytes a second, those read and those written."""

    def floor(self, operations: float, size: float) -> float:
        """Seconds that a network takes at least."""
        return max(operations / self.operations, size / self.bytes)

    def best(self, other: Rates) -> Rates:
        """The higher of each: what a busy machine could not do once, it can."""
        return Rates(max(self.operations, other.operations), max(self.bytes, other.bytes))


def rates(device: str, clock: Clock, turns: int = 10, sizes: tuple[int, int] | None = None) -> Rates:
    """Measure both, the best of some turns, as befits a floor.

    ``sizes`` are the side of the matrices and the bytes to copy: larger than any cache if left out.
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
class Subject:
    """One thing to do, and the ways to do it."""

    family: str
    name: str
    needs: tuple[tuple[int, int], ...]
    """Operations and bytes of each network in it, one after the other; none for the host's work."""
    open: Callable[[], dict[str, Call]]
    """Makes the ways ready, by name; those that cannot be had are left out and told elsewhere."""
    clock: Clock
    refuse: Callable[[str], None]
    """Told of a way that fails; it is then left out."""
    ways: dict[str, Call] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    cost: float = 0.0
    """Seconds that a turn takes."""

    @property
    def operations(self) -> int:
        """Of all its networks."""
        return sum(operations for operations, _ in self.needs)

    def floor(self, rates: Rates) -> float | None:
        """Seconds that it takes at least."""
        return sum(rates.floor(*need) for need in self.needs) or None

    def turn(self, first: int) -> None:
        """Do it each way once, beginning with another one each time."""
        names = list(self.ways)
        first %= max(len(names), 1)
        begun = time.perf_counter()
        for name in names[first:] + names[:first]:
            try:
                self.seconds.setdefault(name, []).append(self.clock(self.ways[name]))
            except (ReenactError, RuntimeError) as error:  # the second is PyTorch's, called plainly
                del self.ways[name], self.seconds[name]
                self.refuse(f"{name}: {self.family} {self.name} fails: {one_line(error)}")
        self.cost = time.perf_counter() - begun


def one_line(error: Exception) -> str:
    """What an error says, and its cure."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    cure = getattr(error, "cure", "")
    return f"{said}; {cure}" if cure else said


@dataclass(frozen=True, slots=True)
class Times:
    """The middle and the slow end of some times, in milliseconds."""

    median_ms: float
    p99_ms: float
    turns: int

    @classmethod
    def of(cls, seconds: list[float]) -> Times:
        """Of one way's turns; without the first where that is one of many, since it finds everything cold."""
        seconds = seconds[1:] or seconds
        return cls(float(np.median(seconds)) * 1e3, float(np.percentile(seconds, 99)) * 1e3, len(seconds))


class Budget:
    """How long everything may take."""

    def __init__(self, seconds: float) -> None:
        self._end = time.perf_counter() + seconds

    @property
    def left(self) -> float:
        """Seconds."""
        return self._end - time.perf_counter()

    @contextlib.contextmanager
    def paused(self, pause: bool) -> Iterator[None]:
        """What happens within counts not."""
        begun = time.perf_counter()
        yield
        if pause:
            self._end += time.perf_counter() - begun


def begin(
    subjects: list[Subject], budget: Budget, expected: Callable[[Subject], float], warm_up: int
) -> Iterator[Subject]:
    """Make subjects ready and time each once, in their order; answers those that the budget does not suffice for.

    ``expected`` guesses the seconds that it takes; with a warm-up, which is some turns on a GPU, it is not counted.
    """
    for subject in subjects:
        if expected(subject) > budget.left:
            yield subject
            continue
        with budget.paused(warm_up > 0):
            subject.ways = subject.open()
            for turn in range(warm_up):
                subject.turn(turn)
        subject.seconds.clear()
        subject.turn(warm_up)


def go_on(subjects: list[Subject], budget: Budget) -> None:
    """Time all that are ready until the time is up.

    Turns go round the subjects, and round the ways of each, so that a machine that has its moods has them with all.
    """
    for turn in range(WARM_UP + 1, MOST):
        due = [subject for subject in subjects if subject.ways and subject.cost < budget.left]
        if not due:
            return
        for subject in due:
            if subject.cost < budget.left:
                subject.turn(turn)
