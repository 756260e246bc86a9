"""What ``tools.bench_engines`` found, for the terminal and for the README."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tools.network_bench.subjects import FRAME, HOST, PLAIN

Found = Mapping[str, Any]

_WIDTH = 104
"""Columns of text that the widest table takes."""
TIMES = ("network", "by", "median", "p99", "turns", "floor", "over floor", "over eager")
PARITY = ("network", "by", "which is", "mean error", "largest error", "not numbers")
REACH = ("figure (LivePortrait, a frame)", "reach", "here", "by")


def lines(found: Found) -> list[str]:
    """Machine, rates, weights and what the words mean, a line each."""
    machine, config, rates = found["machine"], found["config"], found["rates"]
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    gpu = machine["gpu"]
    where = f"{machine['cores']} cores, no GPU used"
    if gpu:
        where = f"{gpu}, compute capability {machine['compute_capability']}, driver {machine['driver']}"
    weights = ", ".join(f"{family} {label}" for family, label in config["weights"].items())
    said = [
        f"{where}; Python {machine['python']}, {packages}",
        f"Weights: {weights}. Times in milliseconds by {_clock(config)}; a frame from the host's memory to the host's.",
    ]
    if rates:
        product, copy = rates["operations_per_s"], rates["bytes_per_s"]
        said.append(
            f"Floor: max(operations / {product / 1e12:.3g} TFLOP/s, bytes / {copy / 1e12:.3g} TB/s), both measured in"
            f" this run. Eager: the published networks in plain PyTorch, {config['eager']}."
        )
    if any(row["turns"] == 1 for row in found["figures"]):
        said.append("Where there was one turn only, it found everything cold: compare nothing by it.")
    return said


def _clock(config: Found) -> str:
    return "CUDA events" if config["clock"] == "CUDA events" else "the wall's clock"


def times(found: Found) -> list[tuple[str, ...]]:
    """A row for each way to do each thing."""
    return [
        (
            f"{row['generator']} {row['network']}",
            row["way"],
            _number(row["median_ms"]),
            _number(row["p99_ms"]),
            str(row["turns"]),
            _number(row["floor_ms"]),
            _ratio(row["over_floor"]),
            _ratio(row["over_eager"]),
        )
        for row in found["figures"]
    ]


def parity(found: Found) -> list[tuple[str, ...]]:
    """A row for each way's picture."""
    return [
        (
            f"{row['generator']} {FRAME}",
            row["way"],
            row["as"],
            f"{row['mean']:.1e}",
            f"{row['max']:.1e}",
            str(row["not_numbers"]),
        )
        for row in found["parity"]
    ]


def reach(found: Found) -> list[tuple[str, ...]]:
    """What LivePortrait should reach on a GPU, by the way that is fastest there; none without a GPU."""
    rows = [row for row in found["figures"] if row["generator"] == "liveportrait"]
    frames = [row for row in rows if row["network"] == FRAME and row["way"] != PLAIN]
    if not found["machine"]["gpu"] or not frames:
        return []
    best = min(frames, key=lambda row: row["median_ms"])
    by = best["way"]
    met: list[tuple[str, ...]] = [
        ("over the floor", "≤ 2.5x", _ratio(best["over_floor"]), by),
        ("over eager float16 torch, faster", "≥ 4x", _ratio(best["over_eager"]), by),
    ]
    met += [
        ("host work: crop and upload", "≤ 1 ms", f"{_number(row['median_ms'])} ms", by)
        for row in rows
        if row["network"] == HOST and row["way"] == by
    ]
    met += [
        ("float16 against float32", "mean ≤ 2e-3, no NaN", f"mean {row['mean']:.1e}, {row['not_numbers']} NaN", by)
        for row in found["parity"]
        if row["generator"] == "liveportrait" and row["way"] == by
    ]
    return met


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x" if value < 100 else f"{value:.0f}x"


def tables(found: Found) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Those tables that have rows, each with its title."""
    every = [
        ("", TIMES, times(found)),
        ("The picture, in [0, 1], against PyTorch on the CPU in float32", PARITY, parity(found)),
        ("", REACH, reach(found)),
    ]
    return [table for table in every if table[2]]


def show(found: Found) -> None:
    """The tables on a terminal. The notes were said when they came up."""
    console = Console(highlight=False)
    console.width = max(console.width, _WIDTH)
    for line in lines(found):
        console.print(line, soft_wrap=True, markup=False)
    for title, head, rows in tables(found):
        table = Table(title=title or None, title_justify="left", box=box.SIMPLE)
        for index, name in enumerate(head):
            table.add_column(name, justify="right" if head is TIMES and index > 1 else "left", no_wrap=head is TIMES)
        for row, following in pairwise([*rows, rows[-1]]):
            table.add_row(*row, end_section=row[0] != following[0] and head is TIMES)
        console.print(table)


def markdown(found: Found) -> str:
    """The tables as the README has them."""
    parts = []
    for title, head, rows in tables(found):
        marks = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
        parts.append(
            "\n".join([*([title + ":", ""] if title else []), *marks, *("| " + " | ".join(row) + " |" for row in rows)])
        )
    parts.append("\n".join(lines(found)))
    if found["notes"]:
        parts.append("\n".join(f"- {note}" for note in found["notes"]))
    return "\n\n".join(parts)
