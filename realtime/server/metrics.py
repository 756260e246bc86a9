"""``GET /metrics``: the figures of every run as Prometheus reads them. Nothing in them names a session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from realtime.core.latency import Durations
from realtime.server.state import stages

if TYPE_CHECKING:
    from realtime.pipeline.run import Run

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS_MS = (1, 2, 3, 5, 7.5, 10, 15, 20, 25, 33.3, 50, 75, 100, 150, 250, 500, 1000, 2500)
"""Upper bounds of the histograms' buckets."""


@dataclass(slots=True)
class Tally:
    """The figures of one run, or of several added up."""

    stages: dict[str, Durations] = field(default_factory=dict)
    age: Durations = field(default_factory=Durations)
    frames: int = 0
    faces: int = 0
    errors: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def add(self, run: Run) -> None:
        """Take in a run's figures as they are now."""
        for name, durations in stages(run).items():
            self.stages.setdefault(name, Durations()).add(durations)
        self.age.add(run.age)
        self.frames += run.ledger.frames
        self.faces += run.ledger.faces
        self.errors += run.stop_signal.error is not None
        self.errors += sum(each.error is not None for each in run.deliveries)
        for place, count in run.dropped.items():
            self.dropped[place] = self.dropped.get(place, 0) + count

    def copy(self) -> Tally:
        """The same, apart."""
        return deepcopy(self)


class MetricsSource(Protocol):
    """What the figures are of."""

    @property
    def limit(self) -> int:
        """How many sessions there may be."""

    def tallies(self) -> Mapping[str, Tally]:
        """The figures by kind of run, ``main`` and ``session``; those of runs that have ended are among them.

        Where browsers drive, ``main`` is what reaches the program's own sinks.
        """

    def open_sessions(self) -> int:
        """How many there are."""

    def counts(self) -> Mapping[str, int]:
        """Sessions since the start, by what became of them."""

    def network(self) -> Mapping[str, Any]:
        """What the media process says of itself."""


class Metrics:
    """Collects when it is asked."""

    def __init__(self, house: MetricsSource, version: str) -> None:
        self._house = house
        self._version = version
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """The exposition format."""
        return bytes(generate_latest(self._registry))

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        yield InfoMetricFamily("reenact", "the program", {"version": self._version})
        yield from _figures(self._house.tallies())
        outcomes = CounterMetricFamily("reenact_session_outcomes", "browsers that came", labels=["outcome"])
        for outcome, count in self._house.counts().items():
            outcomes.add_metric([outcome], count)
        yield outcomes
        network = self._house.network()
        for name, text, value in (
            ("reenact_sessions", "browsers that drive now", self._house.open_sessions()),
            ("reenact_sessions_limit", "how many may at a time", self._house.limit),
            ("reenact_viewers", "viewers connected", network.get("viewers", 0)),
            ("reenact_media_loop_lag_seconds", "how late the media process woke", network.get("loop_lag_ms", 0) / 1e3),
        ):
            gauge = GaugeMetricFamily(name, text)
            gauge.add_metric([], float(value))
            yield gauge


def _figures(tallies: Mapping[str, Tally]) -> Iterator[Metric]:
    stage = HistogramMetricFamily("reenact_stage_seconds", "how long a stage takes", labels=["run", "stage"])
    age = HistogramMetricFamily("reenact_frame_age_seconds", "age of a frame when it was sent", labels=["run"])
    frames = CounterMetricFamily("reenact_frames", "pictures published", labels=["run"])
    faces = CounterMetricFamily("reenact_faces", "those with a face in their driving picture", labels=["run"])
    errors = CounterMetricFamily("reenact_errors", "runs and sinks that failed", labels=["run"])
    dropped = CounterMetricFamily("reenact_dropped_frames", "frames dropped, by place", labels=["run", "place"])
    for kind, tally in tallies.items():
        for name, durations in tally.stages.items():
            stage.add_metric([kind, name], *_histogram(durations))
        age.add_metric([kind], *_histogram(tally.age))
        for family, count in ((frames, tally.frames), (faces, tally.faces), (errors, tally.errors)):
            family.add_metric([kind], count)
        for place, count in tally.dropped.items():
            dropped.add_metric([kind, place], count)
    yield from (stage, age, frames, faces, errors, dropped)


def _histogram(durations: Durations) -> tuple[list[tuple[str, float]], float]:
    """Cumulative buckets by their upper bound in seconds, and the sum of all."""
    counts = durations.within_ms(BOUNDS_MS)
    buckets = [(f"{bound / 1e3:g}", float(count)) for bound, count in zip(BOUNDS_MS, counts, strict=True)]
    return [*buckets, ("+Inf", float(durations.count))], durations.total_ns / 1e9
