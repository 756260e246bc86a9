"""A latency measurement as tables for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from tools.latency.figures import QUANTILES, Change, Measurement, jitter, regressions, summary

_COLUMNS = (*(f"p{q}" for q in QUANTILES), "max")


def show(console: Console, measurements: Iterable[Measurement]) -> None:
    """Print every measurement."""
    for measurement in measurements:
        table = Table(title=measurement.title, title_justify="left", title_style="bold", caption_justify="left")
        table.add_column("milliseconds")
        for name in (*_COLUMNS, "share"):
            table.add_column(name, justify="right")
        whole = summary(measurement.samples(measurement.age))["p50"]
        for stage in measurement.stages:
            percentiles = summary(measurement.samples(stage))
            last = stage == measurement.age
            if last and len(measurement.stages) > 1:
                table.add_section()
            share = f"{100 * percentiles['p50'] / whole:.0f} %" if whole else ""
            table.add_row(
                stage, *(f"{percentiles[name]:.2f}" for name in _COLUMNS), share, style="bold" if last else None
            )
        if measurement.cadence.size:
            table.add_section()
            table.add_row("interval of frames", *(f"{summary(measurement.cadence)[name]:.2f}" for name in _COLUMNS), "")
            table.add_row("its jitter", *(f"{jitter(measurement.cadence)[name]:.2f}" for name in _COLUMNS), "")
        console.print(table)
        console.print(counts(measurement), highlight=False)
        for name, value in measurement.figures.items():
            console.print(f"{name}: {value if isinstance(value, str) else f'{value:.2f}'}", highlight=False)
        for note in measurement.notes:
            console.print(note, highlight=False, style="yellow")
        console.print()


def counts(measurement: Measurement) -> str:
    """Return how many frames were measured, in how many rounds, and where frames were dropped."""
    places = ", ".join(f"{place} {count}" for place, count in measurement.dropped.items() if count) or "none"
    count = len(measurement.rounds)
    rounds = f"{count} {'round' if measurement.restarted else 'interval'}{'s' * (count != 1)}"
    left_out = f"left out, without {measurement.lacking}: {measurement.missed}"
    return f"{measurement.frames} frames in {rounds}; {left_out}; dropped: {places}"


def show_changes(console: Console, changes: Sequence[Change], how: str) -> None:
    """Print the comparison. ``how`` says in words how it was made."""
    table = Table(title="against the older measurement", title_justify="left", title_style="bold")
    for name in ("method", "stage"):
        table.add_column(name)
    for name in ("old p50", "new p50", "ratio", "old p99", "new p99", "noise", "result"):
        table.add_column(name, justify="right")
    for change in changes:
        table.add_row(
            change.method,
            change.stage,
            f"{change.old_ms:.2f}",
            f"{change.new_ms:.2f}",
            f"{change.ratio:.2f}",
            f"{change.old_p99_ms:.2f}",
            f"{change.new_p99_ms:.2f}",
            f"±{change.noise_ms:.2f}",
            outcome(change),
            style="red" if change.worse else "green" if change.better else None,
        )
    console.print(table)
    console.print(how, highlight=False)
    worse = regressions(changes)
    for change in worse:
        console.print(
            f"WORSE {change.method}, {change.stage}: {change.old_ms:.2f} -> {change.new_ms:.2f} ms "
            f"({change.new_ms - change.old_ms:+.2f} ms, noise ±{change.noise_ms:.2f} ms)",
            style="red",
            highlight=False,
        )
    if not worse:
        console.print("Nothing got worse beyond noise.", highlight=False)


def outcome(change: Change) -> str:
    """Return the change in one word."""
    return "worse" if change.worse else "better" if change.better else "same"


def markdown(measurement: Measurement) -> str:
    """Return the table of stages as Markdown."""
    lines = ["| stage | p50 | p95 | p99 |", "| --- | ---: | ---: | ---: |"]
    for stage in measurement.stages:
        percentiles = summary(measurement.samples(stage))
        mark = "**" if stage == measurement.age else ""
        lines.append(
            f"| {mark}{stage}{mark} | "
            + " | ".join(f"{mark}{percentiles[f'p{q}']:.1f} ms{mark}" for q in QUANTILES)
            + " |"
        )
    return "\n".join(lines)
