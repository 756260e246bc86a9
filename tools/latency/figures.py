"""What a latency measurement holds, and what may be said about it: percentiles, budgets, and what got worse.

A measurement consists of parts (``stages``, ``device`` ...), a part of rounds, each a run of its own, and a round of
samples, one for each frame and stage. Frames of one run resemble each other, so that their number says little about
how sure a figure is; the rounds do. What is compared are therefore the medians of rounds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import ConfigError, UsageError

VERSION = 1
QUANTILES = (50, 95, 99)
WHOLE = "end to end"
"""The sum of a part's stages."""
_LEAST_MS, _LEAST_SHARE = 0.25, 0.05
"""What is less than this, or than this share of the stage and 1 % of the whole, is not called worse."""
_CHANCE = 0.02
_NEAR_S = 0.2

Samples = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Round:
    """One run: a sample for each frame and stage, in milliseconds."""

    stages: dict[str, list[float]]
    """By stage in the order of the flow; the same number of samples in each."""
    at_s: list[float]
    """When each frame was captured, seconds since the first."""
    frames: int = 0
    """Frames that came through, those without a face included."""
    missed: int = 0
    """Frames without a face (or whose code could not be read), which have no samples."""
    dropped: dict[str, int] = field(default_factory=dict)
    """By place."""
    cadence_ms: list[float] = field(default_factory=list)
    """The intervals between deliveries."""
    bare_ms: list[float] = field(default_factory=list)
    """The ages of frames on which only the first and the last time were taken, to see what taking the others costs."""
    bare_at_s: list[float] = field(default_factory=list)
    """When those were captured."""

    @property
    def whole(self) -> Samples:
        """Each frame's age at the end."""
        total: Samples = np.array(list(self.stages.values()), np.float64).reshape(len(self.stages), -1).sum(axis=0)
        return total

    def samples(self, stage: str) -> Samples:
        """Of one stage or of the whole."""
        return self.whole if stage == WHOLE else np.asarray(self.stages[stage], np.float64)


@dataclass(frozen=True, slots=True)
class Part:
    """One way of measuring."""

    name: str
    title: str
    rounds: list[Round]
    figures: dict[str, float | str] = field(default_factory=dict)
    """What else was measured on the way, by name."""
    notes: list[str] = field(default_factory=list)
    old_rounds: list[Round] = field(default_factory=list)
    """Runs of an older version of the program, taken in turn with these."""
    lacking: str = "a face"
    """What the frames lack that are left out."""
    apart: bool = False
    """Whether each round is a start of the program of its own; otherwise they are spans of one run."""

    @property
    def stages(self) -> list[str]:
        """The stages in the order of the flow, the whole last; a part of one stage has the whole alone."""
        names = list(self.rounds[0].stages) if self.rounds else []
        return [*names, WHOLE] if len(names) > 1 else names

    def samples(self, stage: str) -> Samples:
        """Of all rounds."""
        return np.concatenate([each.samples(stage) for each in self.rounds]) if self.rounds else np.zeros(0)

    @property
    def age(self) -> str:
        """The stage that is the whole."""
        return self.stages[-1] if self.stages else WHOLE

    @property
    def dropped(self) -> dict[str, int]:
        """By place, over all rounds."""
        total: dict[str, int] = {}
        for place, count in itertools.chain.from_iterable(each.dropped.items() for each in self.rounds):
            total[place] = total.get(place, 0) + count
        return total

    @property
    def cadence(self) -> Samples:
        """The intervals between deliveries, in milliseconds."""
        return np.concatenate([np.asarray(each.cadence_ms, np.float64) for each in self.rounds])

    @property
    def frames(self) -> int:
        """Over all rounds."""
        return sum(each.frames for each in self.rounds)

    @property
    def missed(self) -> int:
        """Over all rounds."""
        return sum(each.missed for each in self.rounds)


@dataclass(frozen=True, slots=True)
class Change:
    """How one stage compares with an older measurement."""

    part: str
    stage: str
    old_ms: float
    new_ms: float
    """The median of the rounds' medians."""
    old_p99_ms: float
    new_p99_ms: float
    noise_ms: float
    """What the difference would have to exceed."""
    chance: float
    """How likely a difference like this is where nothing has changed."""
    worse: bool
    better: bool

    @property
    def ratio(self) -> float:
        """New over old."""
        return self.new_ms / self.old_ms if self.old_ms > 0 else float("nan")


def summary(samples: Samples) -> dict[str, float]:
    """p50, p95, p99 and max in milliseconds; zeros of nothing."""
    if not samples.size:
        return {**{f"p{q}": 0.0 for q in QUANTILES}, "max": 0.0}
    values = {f"p{q}": round(float(np.percentile(samples, q)), 4) for q in QUANTILES}
    return {**values, "max": round(float(samples.max()), 4)}


def jitter(cadence: Samples) -> dict[str, float]:
    """How far intervals lie from their median, in milliseconds."""
    away = np.abs(cadence - np.median(cadence)) if cadence.size else cadence
    return summary(away)


def disturbance(rounds: Sequence[Round]) -> tuple[float, float] | None:
    """What taking the times adds to a frame's age, in per cent, and how far that may be off (95 %).

    Frames with two times only are mixed among the others at random: each is compared with its neighbours, so that
    neither the clip nor the machine's moods count. None where there are too few.
    """
    shares = []
    for each in rounds:
        at, whole = np.array(each.at_s), each.whole
        for when, age in zip(each.bare_at_s, each.bare_ms, strict=True):
            near = whole[np.abs(at - when) < _NEAR_S]
            if near.size >= 3:
                shares.append(100 * (float(np.median(near)) / age - 1))
    if len(shares) < 20:
        return None
    drawn = np.median(np.random.default_rng(0).choice(shares, (400, len(shares))), axis=1)
    return float(np.median(shares)), float(np.percentile(np.abs(drawn - np.median(shares)), 95))


def compare(part: str, new: Sequence[Round], old: Sequence[Round]) -> list[Change]:
    """Every stage that both have, compared by the medians of the rounds.

    Worse is what passes three tests: the difference exceeds what the rounds of one version differ among themselves
    (three standard errors), it is large enough to matter, and shuffling the rounds between the versions seldom makes
    as large a one. The last is exact; with fewer than four rounds on each side it could never fail, and is left out.
    """
    if not new or not old:
        return []
    names = [name for name in new[0].stages if name in old[0].stages]
    if len(new[0].stages) > 1:
        names.append(WHOLE)
    return [_change(part, name, new, old) for name in names]


def _change(part: str, stage: str, new: Sequence[Round], old: Sequence[Round]) -> Change:
    after, before = _medians(new, stage), _medians(old, stage)
    a, b = float(np.median(after)), float(np.median(before))
    whole = float(np.median(_medians(old, WHOLE)))
    error = 1.25 * float(np.hypot(_spread(after) / np.sqrt(len(after)), _spread(before) / np.sqrt(len(before))))
    noise = max(3 * error, _LEAST_MS, _LEAST_SHARE * b, 0.01 * whole)
    chance = _chance(after, before) if min(len(after), len(before)) >= 4 else 0.0
    sure = chance <= (_CHANCE if min(len(after), len(before)) >= 5 else 2 * _CHANCE)
    old_p99, new_p99 = (
        float(np.percentile(np.concatenate([each.samples(stage) for each in rounds]), 99)) for rounds in (old, new)
    )
    return Change(part, stage, b, a, old_p99, new_p99, noise, chance, sure and a - b > noise, sure and b - a > noise)


def named(changes: Sequence[Change]) -> list[Change]:
    """Those that got worse, the stages before their sum, the largest first."""
    worse = [change for change in changes if change.worse]
    return sorted(worse, key=lambda change: (change.stage == WHOLE, change.old_ms - change.new_ms))


def _medians(rounds: Iterable[Round], stage: str) -> Samples:
    return np.array([float(np.median(each.samples(stage))) for each in rounds if each.whole.size])


def _spread(values: Samples) -> float:
    """A standard deviation that one odd round does not blow up, nor a lucky agreement of all shrink to nothing."""
    middle = np.median(values)
    robust = 1.4826 * float(np.median(np.abs(values - middle)))
    return max(robust, 0.5 * float(np.std(values, ddof=1)) if len(values) > 1 else 0.1 * float(middle))


def _chance(after: Samples, before: Samples) -> float:
    """Exact two-sided permutation test of the difference of the means."""
    pool = np.concatenate([after, before])
    seen = abs(after.mean() - before.mean())
    total = pool.sum()
    sums = np.array([sum(some) for some in itertools.combinations(pool, len(after))])
    differences = np.abs(sums / len(after) - (total - sums) / len(before))
    return float(np.mean(differences >= seen - 1e-12))


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that a percentile of a stage may be."""

    quantile: str
    limit_ms: float
    stage: str | None = None
    """None for every part's whole."""

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read ``p99=80`` or ``track.p95=12``. Raises UsageError."""
        left, _, right = text.partition("=")
        stage, _, quantile = left.strip().rpartition(".")
        try:
            limit = float(right)
        except ValueError:
            limit = float("nan")
        if quantile not in (*(f"p{q}" for q in QUANTILES), "max") or not 0 < limit < 1e9:
            cure = "give a percentile of p50, p95, p99 or max and milliseconds, such as p99=80 or track.p95=12"
            raise UsageError(f"--budget {text!r} is no budget", cure=cure)
        return cls(quantile, limit, stage or None)

    def broken(self, parts: Sequence[Part]) -> list[str]:
        """In words, where it is exceeded. Raises UsageError for a stage that nothing has."""
        stages = {stage for part in parts for stage in (*part.stages, WHOLE)}
        if self.stage is not None and self.stage not in stages:
            raise UsageError(f"--budget: there is no stage {self.stage!r}", cure=f"the stages are {', '.join(stages)}")
        found = []
        for part in parts:
            stage = part.age if self.stage in (None, WHOLE) else self.stage
            if stage not in part.stages:
                continue
            value = summary(part.samples(stage))[self.quantile]
            if value > self.limit_ms or not part.samples(stage).size:
                found.append(f"{part.name}, {stage}: {self.quantile} {value:.2f} ms, budget {self.limit_ms:g} ms")
        return found


def to_json(parts: Sequence[Part], head: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, down to the samples, to microseconds."""
    return {
        "version": VERSION,
        **head,
        "parts": {
            part.name: {
                "title": part.title,
                "stages_ms": {stage: summary(part.samples(stage)) for stage in part.stages},
                "cadence_ms": summary(part.cadence),
                "jitter_ms": jitter(part.cadence),
                "frames": part.frames,
                "missed": part.missed,
                "dropped": part.dropped,
                "figures": part.figures,
                "notes": part.notes,
                "rounds": [_rounded(each) for each in part.rounds],
            }
            for part in parts
        },
    }


def rounds_of(found: Any, part: str) -> list[Round]:
    """The rounds of a part of an older file; none where it has no such part. Raises ConfigError."""
    try:
        if found["version"] != VERSION:
            raise ConfigError(
                f"--against: the file is of version {found['version']}, expected {VERSION}",
                cure="measure the old program again with this tool",
            )
        return [Round(**each) for each in found["parts"].get(part, {"rounds": []})["rounds"]]
    except (KeyError, TypeError, AttributeError):
        raise ConfigError(
            "--against: the file is not a report of this tool", cure="give a file that --json wrote"
        ) from None


def _rounded(each: Round) -> dict[str, Any]:
    found = asdict(each)
    found["stages"] = {name: [round(value, 3) for value in values] for name, values in each.stages.items()}
    found["at_s"] = [round(value, 4) for value in each.at_s]
    for name in ("cadence_ms", "bare_ms", "bare_at_s"):
        found[name] = [round(value, 3) for value in found[name]]
    return found
