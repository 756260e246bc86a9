"""Codes that were read from pictures, as the samples of a measurement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tools.latency.figures import WHOLE, Round

INTERVALS = 6
"""The number of intervals that one run is divided into."""


class Reading(NamedTuple):
    """One code that was read."""

    counter: int
    age_ns: int
    read_ns: int
    """When it was read, monotonic."""


def readings_to_round(readings: Sequence[Reading], unread: int) -> Round:
    """Return the samples of readings in order, without repeated ones; ``unread`` pictures had no readable code."""
    new = [each for i, each in enumerate(readings) if i == 0 or each.counter != readings[i - 1].counter]
    if not new:
        return Round({WHOLE: []}, [], missed=unread)
    skipped = int((((np.diff([each.counter for each in new]) & 0xFFFF) - 1) & 0x7FFF).sum())
    sent = np.array([each.read_ns - each.age_ns for each in new], np.int64)
    return Round(
        {WHOLE: [each.age_ns / 1e6 for each in new]},
        ((sent - sent[0]) / 1e9).tolist(),
        frames=len(new) + unread,
        missed=unread,
        dropped={"on the way": skipped},
        cadence_ms=(np.diff([each.read_ns for each in new]) / 1e6).tolist(),
    )


def split(whole: Round) -> list[Round]:
    """Divide one run into intervals of time, whose variation shows how steady it was."""
    if not whole.at_s:
        return [whole]
    edges = np.linspace(whole.at_s[0], whole.at_s[-1] + 1e-6, INTERVALS + 1)
    interval_of = np.digitize(whole.at_s, edges) - 1
    rounds = []
    for number in range(INTERVALS):
        rows = np.flatnonzero(interval_of == number)
        stages = {name: [values[row] for row in rows] for name, values in whole.stages.items()}
        cadence = [whole.cadence_ms[row] for row in rows if row < len(whole.cadence_ms)]
        first = number == 0
        rounds.append(
            Round(
                stages,
                [whole.at_s[row] for row in rows],
                whole.frames - (len(whole.at_s) - len(rows)) if first else len(rows),
                whole.missed if first else 0,
                whole.dropped if first else {},
                cadence,
            )
        )
    return [each for each in rounds if each.at_s]
