"""``GET /metrics``: the figures of all runs in the Prometheus text format. They do not name a session."""

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
from realtime.server.state import stage_durations

if TYPE_CHECKING:
    from realtime.pipeline.run import Run

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS_MS = (1, 2, 3, 5, 7.5, 10, 15, 20, 25, 33.3, 50, 75, 100, 150, 250, 500, 1000, 2500)
"""Upper bounds of the histograms' buckets, in milliseconds."""


@dataclass(slots=True)
class RunFigures:
    """The figures of one run, or of several added up."""

    stages: dict[str, Durations] = field(default_factory=dict)
    age: Durations = field(default_factory=Durations)
    frames: int = 0
    faces: int = 0
    errors: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def add(self, run: Run) -> None:
        """Add a run's current figures."""
        for name, durations in stage_durations(run).items():
            self.stages.setdefault(name, Durations()).add(durations)
        self.age.add(run.age)
        self.frames += run.counts.frames
        self.faces += run.counts.faces
        self.errors += run.stop_signal.error is not None
        self.errors += sum(each.error is not None for each in run.deliveries)
        for place, count in run.dropped.items():
            self.dropped[place] = self.dropped.get(place, 0) + count

    def copy(self) -> RunFigures:
        """Return a deep copy."""
        return deepcopy(self)


class MetricsSource(Protocol):
    """What the metrics are made of."""

    @property
    def limit(self) -> int:
        """How many sessions may be open at the same time."""

    def run_figures(self) -> Mapping[str, RunFigures]:
        """Return the figures by kind of run, ``main`` and ``session``, those of ended sessions included.

        Where browsers drive, ``main`` stands for the shared sinks.
        """

    def open_sessions(self) -> int:
        """Return the number of open sessions."""

    def counts(self) -> Mapping[str, int]:
        """Return the numbers of sessions since the start by outcome."""

    def network(self) -> Mapping[str, Any]:
        """Return the figures of the media process, see ``MediaLink.stats``."""


class Metrics:
    """A Prometheus collector."""

    def __init__(self, source: MetricsSource, version: str) -> None:
        self._source = source
        self._version = version
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """Return the metrics in the text format."""
        return bytes(generate_latest(self._registry))

    def collect(self) -> Iterator[Metric]:
        """Yield every metric. Called by the registry."""
        yield InfoMetricFamily("reenact", "the program", {"version": self._version})
        yield from _run_metrics(self._source.run_figures())
        outcomes = CounterMetricFamily("reenact_session_outcomes", "sessions by outcome", labels=["outcome"])
        for outcome, count in self._source.counts().items():
            outcomes.add_metric([outcome], count)
        yield outcomes
        network = self._source.network()
        for name, text, value in (
            ("reenact_sessions", "open sessions", self._source.open_sessions()),
            ("reenact_sessions_limit", "most sessions at the same time", self._source.limit),
            ("reenact_viewers", "connected viewers, own views included", network.get("viewers", 0)),
            (
                "reenact_media_loop_lag_seconds",
                "delay of the media process's event loop",
                network.get("loop_lag_ms", 0) / 1e3,
            ),
        ):
            gauge = GaugeMetricFamily(name, text)
            gauge.add_metric([], float(value))
            yield gauge


def _run_metrics(run_figures: Mapping[str, RunFigures]) -> Iterator[Metric]:
    stage = HistogramMetricFamily("reenact_stage_seconds", "duration of a stage", labels=["run", "stage"])
    age = HistogramMetricFamily("reenact_frame_age_seconds", "time from capture to sent", labels=["run"])
    frames = CounterMetricFamily("reenact_frames", "frames published", labels=["run"])
    faces = CounterMetricFamily("reenact_faces", "published frames whose driving frame had a face", labels=["run"])
    errors = CounterMetricFamily("reenact_errors", "runs and sinks that failed", labels=["run"])
    dropped = CounterMetricFamily("reenact_dropped_frames", "frames dropped, by place", labels=["run", "place"])
    for kind, figures in run_figures.items():
        for name, durations in figures.stages.items():
            stage.add_metric([kind, name], *_histogram(durations))
        age.add_metric([kind], *_histogram(figures.age))
        for family, count in ((frames, figures.frames), (faces, figures.faces), (errors, figures.errors)):
            family.add_metric([kind], count)
        for place, count in figures.dropped.items():
            dropped.add_metric([kind, place], count)
    yield from (stage, age, frames, faces, errors, dropped)


def _histogram(durations: Durations) -> tuple[list[tuple[str, float]], float]:
    """Return the cumulative buckets by their upper bounds in seconds, and the sum in seconds."""
    counts = durations.within_ms(BOUNDS_MS)
    buckets = [(f"{bound / 1e3:g}", float(count)) for bound, count in zip(BOUNDS_MS, counts, strict=True)]
    return [*buckets, ("+Inf", float(durations.count))], durations.total_ns / 1e9
