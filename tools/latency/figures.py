"""The data of a latency measurement, and its statistics: percentiles, budgets, and changes against an older one.

Each method (``stages``, ``device`` ...) gives a measurement, a measurement consists of rounds, and a round of samples,
one for each frame and stage. Frames of one round resemble each other, so their number says little about the confidence
of a figure, while the rounds do. Comparisons therefore use the medians of rounds.
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
"""The name of the sum of all stages."""
_LEAST_MS, _LEAST_SHARE = 0.25, 0.05
"""A change smaller than this, than this share of the stage, or than 1 % of the whole is never called worse."""
_MAX_P_VALUE = 0.02
_NEIGHBOUR_S = 0.2
"""Frames captured within this time of each other are neighbours."""

Samples = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Round:
    """The samples of one round: one for each frame and stage, in milliseconds."""

    stages: dict[str, list[float]]
    """The samples of each stage, in the order of the pipeline; each has the same number of samples."""
    at_s: list[float]
    """When each frame was captured, in seconds since the first."""
    frames: int = 0
    """Frames delivered, including those without a face."""
    missed: int = 0
    """Frames without a face (or whose code could not be read), which have no samples."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Frames dropped, by the place where they were."""
    cadence_ms: list[float] = field(default_factory=list)
    """The intervals between deliveries."""
    bare_ms: list[float] = field(default_factory=list)
    """The ages of frames with only the first and the last timestamp, which show what the other timestamps cost."""
    bare_at_s: list[float] = field(default_factory=list)
    """When those frames were captured, in seconds."""

    @property
    def whole(self) -> Samples:
        """The age of each frame at the end, (N,) float64 in milliseconds."""
        total: Samples = np.array(list(self.stages.values()), np.float64).reshape(len(self.stages), -1).sum(axis=0)
        return total

    def samples(self, stage: str) -> Samples:
        """Return the samples of one stage or of the whole, (N,) float64 in milliseconds."""
        return self.whole if stage == WHOLE else np.asarray(self.stages[stage], np.float64)


@dataclass(frozen=True, slots=True)
class Measurement:
    """The result of one method."""

    name: str
    title: str
    rounds: list[Round]
    figures: dict[str, float | str] = field(default_factory=dict)
    """Other figures that were measured meanwhile, by name."""
    notes: list[str] = field(default_factory=list)
    old_rounds: list[Round] = field(default_factory=list)
    """Rounds of an older version of the program, alternating with these."""
    lacking: str = "a face"
    """What the frames that are left out lack."""
    restarted: bool = False
    """True where each round is a new start of the program; otherwise the rounds are intervals of one run."""

    @property
    def stages(self) -> list[str]:
        """The stages in the order of the pipeline, then the whole where there is more than one stage."""
        names = list(self.rounds[0].stages) if self.rounds else []
        return [*names, WHOLE] if len(names) > 1 else names

    def samples(self, stage: str) -> Samples:
        """Return the samples of a stage over all rounds."""
        return np.concatenate([each.samples(stage) for each in self.rounds]) if self.rounds else np.zeros(0)

    @property
    def age(self) -> str:
        """The name of the stage that stands for the whole."""
        return self.stages[-1] if self.stages else WHOLE

    @property
    def dropped(self) -> dict[str, int]:
        """Frames dropped over all rounds, by place."""
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
        """Frames delivered over all rounds."""
        return sum(each.frames for each in self.rounds)

    @property
    def missed(self) -> int:
        """Frames left out over all rounds."""
        return sum(each.missed for each in self.rounds)


@dataclass(frozen=True, slots=True)
class Change:
    """How one stage compares with an older measurement."""

    method: str
    stage: str
    old_ms: float
    new_ms: float
    """The median of the rounds' medians."""
    old_p99_ms: float
    new_p99_ms: float
    noise_ms: float
    """The difference that a real change has to exceed."""
    p_value: float
    """The probability of such a difference when nothing has changed."""
    worse: bool
    better: bool

    @property
    def ratio(self) -> float:
        """New divided by old."""
        return self.new_ms / self.old_ms if self.old_ms > 0 else float("nan")


def summary(samples: Samples) -> dict[str, float]:
    """Return p50, p95, p99 and max in milliseconds; zeros where there are no samples."""
    if not samples.size:
        return {**{f"p{q}": 0.0 for q in QUANTILES}, "max": 0.0}
    values = {f"p{q}": round(float(np.percentile(samples, q)), 4) for q in QUANTILES}
    return {**values, "max": round(float(samples.max()), 4)}


def jitter(cadence: Samples) -> dict[str, float]:
    """Return the summary of the intervals' distances from their median, in milliseconds."""
    deviations = np.abs(cadence - np.median(cadence)) if cadence.size else cadence
    return summary(deviations)


def overhead(rounds: Sequence[Round]) -> tuple[float, float] | None:
    """Return what taking all timestamps adds to a frame's age, in per cent, and its 95 % confidence interval (±).

    Frames with two timestamps are mixed randomly among the others, and each is compared with its neighbours, so that
    neither the clip nor the load of the machine matters. Return None where there are too few of them.
    """
    shares = []
    for each in rounds:
        at, whole = np.array(each.at_s), each.whole
        for when, age in zip(each.bare_at_s, each.bare_ms, strict=True):
            neighbours = whole[np.abs(at - when) < _NEIGHBOUR_S]
            if neighbours.size >= 3:
                shares.append(100 * (float(np.median(neighbours)) / age - 1))
    if len(shares) < 20:
        return None
    resampled = np.median(np.random.default_rng(0).choice(shares, (400, len(shares))), axis=1)
    return float(np.median(shares)), float(np.percentile(np.abs(resampled - np.median(shares)), 95))


def compare(method: str, new: Sequence[Round], old: Sequence[Round]) -> list[Change]:
    """Compare every stage that both have by the medians of the rounds.

    A stage got worse when three tests agree: the difference exceeds the variation between rounds of one version (three
    standard errors), it is large enough to matter, and a permutation test finds it significant. The permutation test
    is exact; with fewer than four rounds on each side it could never reject anything and is left out.
    """
    if not new or not old:
        return []
    names = [name for name in new[0].stages if name in old[0].stages]
    if len(new[0].stages) > 1:
        names.append(WHOLE)
    return [_change(method, name, new, old) for name in names]


def _change(method: str, stage: str, new: Sequence[Round], old: Sequence[Round]) -> Change:
    after, before = _medians(new, stage), _medians(old, stage)
    new_ms, old_ms = float(np.median(after)), float(np.median(before))
    whole = float(np.median(_medians(old, WHOLE)))
    error = 1.25 * float(np.hypot(_spread(after) / np.sqrt(len(after)), _spread(before) / np.sqrt(len(before))))
    noise = max(3 * error, _LEAST_MS, _LEAST_SHARE * old_ms, 0.01 * whole)
    fewest = min(len(after), len(before))
    p_value = _p_value(after, before) if fewest >= 4 else 0.0
    significant = p_value <= (_MAX_P_VALUE if fewest >= 5 else 2 * _MAX_P_VALUE)
    old_p99, new_p99 = (
        float(np.percentile(np.concatenate([each.samples(stage) for each in rounds]), 99)) for rounds in (old, new)
    )
    worse, better = significant and new_ms - old_ms > noise, significant and old_ms - new_ms > noise
    return Change(method, stage, old_ms, new_ms, old_p99, new_p99, noise, p_value, worse, better)


def regressions(changes: Sequence[Change]) -> list[Change]:
    """Return the changes for the worse, the stages before their sum, the largest first."""
    worse = [change for change in changes if change.worse]
    return sorted(worse, key=lambda change: (change.stage == WHOLE, change.old_ms - change.new_ms))


def _medians(rounds: Iterable[Round], stage: str) -> Samples:
    return np.array([float(np.median(each.samples(stage))) for each in rounds if each.whole.size])


def _spread(values: Samples) -> float:
    """Return a standard deviation that one outlier does not inflate and chance agreement does not make zero."""
    middle = np.median(values)
    robust = 1.4826 * float(np.median(np.abs(values - middle)))
    return max(robust, 0.5 * float(np.std(values, ddof=1)) if len(values) > 1 else 0.1 * float(middle))


def _p_value(after: Samples, before: Samples) -> float:
    """Return the p-value of an exact two-sided permutation test of the difference of the means."""
    pool = np.concatenate([after, before])
    observed = abs(after.mean() - before.mean())
    total = pool.sum()
    sums = np.array([sum(some) for some in itertools.combinations(pool, len(after))])
    differences = np.abs(sums / len(after) - (total - sums) / len(before))
    return float(np.mean(differences >= observed - 1e-12))


@dataclass(frozen=True, slots=True)
class Budget:
    """The largest allowed value of a percentile of a stage."""

    quantile: str
    limit_ms: float
    stage: str | None = None
    """None for the whole of every measurement."""

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Parse a text such as ``p99=80`` or ``track.p95=12``. Raises UsageError."""
        left, _, right = text.partition("=")
        stage, _, quantile = left.strip().rpartition(".")
        try:
            limit = float(right)
        except ValueError:
            limit = float("nan")
        if quantile not in (*(f"p{q}" for q in QUANTILES), "max") or not 0 < limit < 1e9:
            cure = "give a percentile of p50, p95, p99 or max and milliseconds, such as p99=80 or track.p95=12"
            raise UsageError("bench-bad-budget", f"--budget {text!r}", "a percentile and milliseconds", cure)
        return cls(quantile, limit, stage or None)

    def violations(self, measurements: Sequence[Measurement]) -> list[str]:
        """Return a line for each measurement that exceeds it. Raises UsageError for an unknown stage."""
        stages = sorted({stage for each in measurements for stage in (*each.stages, WHOLE)})
        if self.stage is not None and self.stage not in stages:
            found = f"--budget: there is no stage {self.stage!r}"
            raise UsageError("bench-unknown-stage", found, cure=f"choose one of: {', '.join(stages)}")
        lines = []
        for each in measurements:
            stage = each.age if self.stage in (None, WHOLE) else self.stage
            if stage not in each.stages:
                continue
            value = summary(each.samples(stage))[self.quantile]
            if value > self.limit_ms or not each.samples(stage).size:
                lines.append(f"{each.name}, {stage}: {self.quantile} {value:.2f} ms, budget {self.limit_ms:g} ms")
        return lines


def to_json(measurements: Sequence[Measurement], header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report: ``header`` and everything measured, with samples rounded to microseconds."""
    return {
        "version": VERSION,
        **header,
        "parts": {
            each.name: {
                "title": each.title,
                "stages_ms": {stage: summary(each.samples(stage)) for stage in each.stages},
                "cadence_ms": summary(each.cadence),
                "jitter_ms": jitter(each.cadence),
                "frames": each.frames,
                "missed": each.missed,
                "dropped": each.dropped,
                "figures": each.figures,
                "notes": each.notes,
                "rounds": [_rounded(samples) for samples in each.rounds],
            }
            for each in measurements
        },
    }


def rounds_of(report: Any, method: str) -> list[Round]:
    """Return the rounds of a method in an older report; none where it was not measured. Raises ConfigError."""
    try:
        if report["version"] != VERSION:
            raise ConfigError(
                "against-version",
                f"--against: the report has version {report['version']}",
                f"version {VERSION}",
                "measure the old program again with this tool",
            )
        return [Round(**each) for each in report["parts"].get(method, {"rounds": []})["rounds"]]
    except (KeyError, TypeError, AttributeError):
        raise ConfigError(
            "against-not-a-report", "--against: the file is not a report of this tool", cure="give a file from --json"
        ) from None


def _rounded(samples: Round) -> dict[str, Any]:
    values = asdict(samples)
    values["stages"] = {name: [round(value, 3) for value in times] for name, times in samples.stages.items()}
    values["at_s"] = [round(value, 4) for value in samples.at_s]
    for name in ("cadence_ms", "bare_ms", "bare_at_s"):
        values[name] = [round(value, 3) for value in values[name]]
    return values
