"""A latency measurement in the terminal, and as the README has it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from tools.latency.figures import QUANTILES, Change, Part, jitter, named, summary

_COLUMNS = (*(f"p{q}" for q in QUANTILES), "max")


def show(console: Console, parts: Iterable[Part]) -> None:
    """Print every part."""
    for part in parts:
        table = Table(title=part.title, title_justify="left", title_style="bold", caption_justify="left")
        table.add_column("milliseconds")
        for name in (*_COLUMNS, "share"):
            table.add_column(name, justify="right")
        whole = summary(part.samples(part.age))["p50"]
        for stage in part.stages:
            found = summary(part.samples(stage))
            last = stage == part.age
            if last and len(part.stages) > 1:
                table.add_section()
            share = f"{100 * found['p50'] / whole:.0f} %" if whole else ""
            table.add_row(stage, *(f"{found[name]:.2f}" for name in _COLUMNS), share, style="bold" if last else None)
        if part.cadence.size:
            table.add_section()
            table.add_row("interval of frames", *(f"{summary(part.cadence)[name]:.2f}" for name in _COLUMNS), "")
            table.add_row("its jitter", *(f"{jitter(part.cadence)[name]:.2f}" for name in _COLUMNS), "")
        console.print(table)
        console.print(counts(part), highlight=False)
        for name, value in part.figures.items():
            console.print(f"{name}: {value if isinstance(value, str) else f'{value:.2f}'}", highlight=False)
        for note in part.notes:
            console.print(note, highlight=False, style="yellow")
        console.print()


def counts(part: Part) -> str:
    """How many frames, in how many rounds, and where some were dropped."""
    places = ", ".join(f"{place} {count}" for place, count in part.dropped.items() if count) or "none"
    rounds = f"{len(part.rounds)} {'round' if part.apart else 'span'}{'s' * (len(part.rounds) != 1)}"
    return f"{part.frames} frames in {rounds}; left out, without {part.lacking}: {part.missed}; dropped: {places}"


def show_changes(console: Console, changes: Sequence[Change], how: str) -> None:
    """Print the comparison and its verdict."""
    table = Table(title="against the older measurement", title_justify="left", title_style="bold")
    for name in ("part", "stage"):
        table.add_column(name)
    for name in ("old p50", "new p50", "ratio", "old p99", "new p99", "noise", "verdict"):
        table.add_column(name, justify="right")
    for change in changes:
        table.add_row(
            change.part,
            change.stage,
            f"{change.old_ms:.2f}",
            f"{change.new_ms:.2f}",
            f"{change.ratio:.2f}",
            f"{change.old_p99_ms:.2f}",
            f"{change.new_p99_ms:.2f}",
            f"±{change.noise_ms:.2f}",
            verdict(change),
            style="red" if change.worse else "green" if change.better else None,
        )
    console.print(table)
    console.print(how, highlight=False)
    worse = named(changes)
    for change in worse:
        console.print(
            f"WORSE {change.part}, {change.stage}: {change.old_ms:.2f} -> {change.new_ms:.2f} ms "
            f"({change.new_ms - change.old_ms:+.2f} ms, noise ±{change.noise_ms:.2f} ms)",
            style="red",
            highlight=False,
        )
    if not worse:
        console.print("Nothing got worse beyond noise.", highlight=False)


def verdict(change: Change) -> str:
    """In a word."""
    return "worse" if change.worse else "better" if change.better else "same"


def markdown(part: Part) -> str:
    """The table of the README."""
    lines = ["| stage | p50 | p95 | p99 |", "| --- | ---: | ---: | ---: |"]
    for stage in part.stages:
        found = summary(part.samples(stage))
        mark = "**" if stage == part.age else ""
        lines.append(
            f"| {mark}{stage}{mark} | " + " | ".join(f"{mark}{found[f'p{q}']:.1f} ms{mark}" for q in QUANTILES) + " |"
        )
    return "\n".join(lines)
