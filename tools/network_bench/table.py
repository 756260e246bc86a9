"""The results of ``tools.bench_engines`` as tables for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tools.network_bench.cases import EAGER, FRAME, HOST

Report = Mapping[str, Any]

_WIDTH = 104
"""The width of the widest table, in characters."""
TIMES = ("network", "by", "median", "p99", "turns", "floor", "over floor", "over eager")
PARITY = ("network", "by", "backend", "mean error", "largest error", "not finite")
TARGETS = ("figure (LivePortrait, a frame)", "target", "here", "by")


def lines(report: Report) -> list[str]:
    """Return lines of text about the machine, the rates, the weights and the terms of the tables."""
    machine, config, rates = report["machine"], report["config"], report["rates"]
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    gpu = machine["gpu"]
    where = f"{machine['cores']} cores, no GPU used"
    if gpu:
        where = f"{gpu}, compute capability {machine['compute_capability']}, driver {machine['driver']}"
    weights = ", ".join(f"{family} {label}" for family, label in config["weights"].items())
    texts = [
        f"{where}; Python {machine['python']}, {packages}",
        f"Weights: {weights}. Times in milliseconds by {_clock(config)}; a frame from the host's memory to the host's.",
    ]
    if rates:
        product, copy = rates["operations_per_s"], rates["bytes_per_s"]
        texts.append(
            f"Floor: max(operations / {product / 1e12:.3g} TFLOP/s, bytes / {copy / 1e12:.3g} TB/s), both measured in"
            f" this run. Eager: the published networks in plain PyTorch, {config['eager']}."
        )
    if any(row["turns"] == 1 for row in report["figures"]):
        texts.append("A case with one turn only was measured cold and cannot be compared.")
    return texts


def _clock(config: Report) -> str:
    return "CUDA events" if config["clock"] == "CUDA events" else "wall-clock time"


def times(report: Report) -> list[tuple[str, ...]]:
    """Return a row for each variant of each case."""
    return [
        (
            f"{row['generator']} {row['network']}",
            row["variant"],
            _number(row["median_ms"]),
            _number(row["p99_ms"]),
            str(row["turns"]),
            _number(row["floor_ms"]),
            _ratio(row["over_floor"]),
            _ratio(row["over_eager"]),
        )
        for row in report["figures"]
    ]


def parity(report: Report) -> list[tuple[str, ...]]:
    """Return a row for each variant's picture."""
    return [
        (
            f"{row['generator']} {FRAME}",
            row["variant"],
            row["as"],
            f"{row['mean']:.1e}",
            f"{row['max']:.1e}",
            str(row["not_finite"]),
        )
        for row in report["parity"]
    ]


def targets(report: Report) -> list[tuple[str, ...]]:
    """Return the targets of LivePortrait on a GPU, with its fastest variant; nothing without a GPU."""
    rows = [row for row in report["figures"] if row["generator"] == "liveportrait"]
    frames = [row for row in rows if row["network"] == FRAME and row["variant"] != EAGER]
    if not report["machine"]["gpu"] or not frames:
        return []
    best = min(frames, key=lambda row: row["median_ms"])
    by = best["variant"]
    lines: list[tuple[str, ...]] = [
        ("over the floor", "≤ 2.5x", _ratio(best["over_floor"]), by),
        ("over eager float16 torch, faster", "≥ 4x", _ratio(best["over_eager"]), by),
    ]
    lines += [
        ("host work: crop and upload", "≤ 1 ms", f"{_number(row['median_ms'])} ms", by)
        for row in rows
        if row["network"] == HOST and row["variant"] == by
    ]
    lines += [
        ("float16 against float32", "mean ≤ 2e-3, no NaN", f"mean {row['mean']:.1e}, {row['not_finite']} NaN", by)
        for row in report["parity"]
        if row["generator"] == "liveportrait" and row["variant"] == by
    ]
    return lines


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x" if value < 100 else f"{value:.0f}x"


def tables(report: Report) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Return title, heading and rows of each table that has rows."""
    candidates = [
        ("", TIMES, times(report)),
        ("The picture, in [0, 1], against PyTorch on the CPU in float32", PARITY, parity(report)),
        ("", TARGETS, targets(report)),
    ]
    return [table for table in candidates if table[2]]


def show(report: Report) -> None:
    """Print the tables. The notes were printed before."""
    console = Console(highlight=False)
    console.width = max(console.width, _WIDTH)
    for line in lines(report):
        console.print(line, soft_wrap=True, markup=False)
    for title, head, rows in tables(report):
        table = Table(title=title or None, title_justify="left", box=box.SIMPLE)
        for index, name in enumerate(head):
            table.add_column(name, justify="right" if head is TIMES and index > 1 else "left", no_wrap=head is TIMES)
        for row, following in pairwise([*rows, rows[-1]]):
            table.add_row(*row, end_section=row[0] != following[0] and head is TIMES)
        console.print(table)


def markdown(report: Report) -> str:
    """Return the tables as Markdown."""
    parts = []
    for title, head, rows in tables(report):
        marks = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
        parts.append(
            "\n".join([*([title + ":", ""] if title else []), *marks, *("| " + " | ".join(row) + " |" for row in rows)])
        )
    parts.append("\n".join(lines(report)))
    if report["notes"]:
        parts.append("\n".join(f"- {note}" for note in report["notes"]))
    return "\n\n".join(parts)
