"""A latency measurement as a trace for Perfetto (ui.perfetto.dev) and chrome://tracing.

The format is the Trace Event Format: threads are rows, stages slices, and arrows (flows) follow each frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tools.latency.figures import WHOLE, Measurement

_ROWS = ("capture", "compute", "sink")


def build(measurements: Sequence[Measurement], threads: Mapping[str, str]) -> dict[str, Any]:
    """Return the trace of the last round of each measurement.

    ``threads`` maps each stage that is work, not waiting, to its thread.
    """
    events: list[dict[str, Any]] = []
    measured = [each for each in measurements if each.rounds]
    for process, measurement in enumerate(measured, 1):
        events.append(_metadata("process_name", process, 0, f"reenact, {measurement.name}"))
        rows = [*_ROWS, "whole"] if len(measurement.stages) > 1 else ["whole"]
        events += [_metadata("thread_name", process, row, name) for row, name in enumerate(rows, 1)]
        events += _frames(measurement, process, {name: row for row, name in enumerate(rows, 1)}, threads)
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _frames(
    measurement: Measurement, process: int, rows: Mapping[str, int], threads: Mapping[str, str]
) -> list[dict[str, Any]]:
    last = measurement.rounds[-1]
    whole = last.whole
    events: list[dict[str, Any]] = []
    for index, at_s in enumerate(last.at_s):
        begin = at_s * 1e6
        age = f"frame {index}, {whole[index]:.2f} ms"
        # an asynchronous slice, as frames overlap
        frame = {"cat": "frame", "name": age, "id": index, "pid": process, "tid": rows["whole"]}
        events.append({**frame, "ph": "b", "ts": round(begin, 3)})
        events.append({**frame, "ph": "e", "ts": round(begin + whole[index] * 1e3, 3)})
        steps = []
        for stage, samples in last.stages.items():
            duration = samples[index] * 1e3
            thread = threads.get(stage)
            if thread is not None and stage != WHOLE:
                steps.append(_slice(stage, process, rows[thread], begin, duration, index))
            begin += duration
        events += steps
        events += [_flow(step, place, len(steps), process * 1_000_000 + index) for place, step in enumerate(steps)]
    return events


def _slice(name: str, process: int, row: int, begin_us: float, duration_us: float, frame: int) -> dict[str, Any]:
    return {
        "ph": "X", "cat": "stage", "name": name, "pid": process, "tid": row, "ts": round(begin_us, 3),
        "dur": round(duration_us, 3), "args": {"frame": frame},
    }  # fmt: skip


def _flow(step: Mapping[str, Any], place: int, steps: int, flow: int) -> dict[str, Any]:
    kind = "s" if place == 0 else "f" if place == steps - 1 else "t"
    event = {
        "ph": kind, "cat": "flow", "name": "frame", "id": flow, "pid": step["pid"], "tid": step["tid"],
        "ts": round(step["ts"] + step["dur"] / 2, 3),
    }  # fmt: skip
    return event | ({"bp": "e"} if kind == "f" else {})


def _metadata(name: str, process: int, thread: int, value: str) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": process, "tid": thread, "args": {"name": value}}
