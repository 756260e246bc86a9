"""The state of a run, as the page and ``GET /api/state`` show it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.generator import DIRECTED
from realtime.core.latency import Durations
from realtime.portraits.background import is_named
from realtime.server.models import NetworkState, Percentiles, SelectedPortrait, State
from realtime.tracking.settings import Place

if TYPE_CHECKING:
    from realtime.config import Config
    from realtime.pipeline.pipeline import Pipeline
    from realtime.pipeline.run import Run


def run_state(
    pipeline: Pipeline | None,
    config: Config,
    *,
    session: str | None,
    watch: str,
    viewers: int,
    network: Mapping[str, Any],
    muted: bool = False,
) -> State:
    """Return the state of a run, or of one that has not started (None).

    ``network`` is what the media process reports of its connection, see ``MediaLink.stats``.
    """
    values: dict[str, Any] = {
        "session": session,
        "watch": watch,
        "viewers": viewers,
        "network": NetworkState.model_construct(**network),
        "size": list(config.size),
        "muted": muted,
    }
    values |= _settings(config)
    if pipeline is not None:
        values |= _figures(pipeline)
        if pipeline.compute.parts is not None and pipeline.counts.frames:
            values |= _current_settings(pipeline)
    values["dropped"] |= {"network": network.get("dropped", 0)}
    return State(**values)


def stage_durations(run: Run) -> dict[str, Durations]:
    """Return the durations of each stage by its name, over the whole run and all its sinks."""
    send = Durations()
    for delivery in run.deliveries:
        send.add(delivery.sending)
    return {"track": run.counts.track, "generate": run.counts.generate, "send": send}


def _settings(config: Config) -> dict[str, Any]:
    """Return what a run starts with."""
    return {
        "source": "",
        "face": "starting",
        "portrait": SelectedPortrait(index=0, name=""),
        "portraits": 0,
        "generator": config.generator,
        "generator_name": config.generator,
        "region": config.region,
        "gain": config.gain,
        "mouth": config.mouth,
        "mouths": [],
        "refined": None,
        "background": config.background if is_named(config.background) else Path(config.background).name,
        "driver": config.driver,
        "expression": {},
        "mix": None,
        "presets": [],
        "mirror": config.mirror,
        "frozen": False,
        "slate": False,
        "calibrating": False,
        "fps": 0.0,
        "frames": 0,
        "faces": 0,
        "age_ms": Percentiles(p50=0.0, p99=0.0),
        "stages_ms": {},
        "dropped": {},
    }


def _figures(pipeline: Pipeline) -> dict[str, Any]:
    counts = pipeline.counts
    p50, p99 = pipeline.recent_age
    return {
        "source": pipeline.capture.source.name,
        "fps": round(counts.fps_now(time.monotonic_ns()), 1),
        "frames": counts.frames,
        "faces": counts.faces,
        "age_ms": Percentiles(p50=round(p50, 2), p99=round(p99, 2)),
        "stages_ms": {
            "track": _slowest(counts.track),
            "generate": _slowest(counts.generate),
            "send": _slowest(*(delivery.sending for delivery in pipeline.deliveries)),
        },
        "dropped": dict(pipeline.dropped),
    }


def _current_settings(pipeline: Pipeline) -> dict[str, Any]:
    parts = pipeline.compute.parts
    assert parts is not None
    animator, motion = parts.animator, parts.animator.motion
    driver = parts.observer.driver
    return {
        "face": "camera lost" if pipeline.capture.lost else "found" if animator.face_found else "lost",
        "portrait": SelectedPortrait(index=animator.wanted, name=animator.portrait),
        "portraits": len(parts.library),
        "generator": animator.generator.name,
        "generator_name": animator.generator.label,
        "region": motion.region,
        "gain": motion.gain,
        "mouth": animator.generator.mouth,
        "mouths": list(animator.generator.mouths),
        "refined": animator.generator.refined,
        "background": parts.library.background.name,
        "driver": str(driver) if isinstance(driver, Place) else driver,
        "expression": {name: round(value, 4) for name, value in motion.direction.values.items()},
        "mix": motion.direction.mix if animator.generator.name in DIRECTED else None,
        "presets": list(parts.command_handler.expression.presets),
        "mirror": parts.observer.mirror,
        "frozen": animator.frozen,
        "slate": animator.slated,
        "calibrating": motion.calibrating,
    }


def _slowest(*each: Durations) -> Percentiles:
    """Return the largest recent percentiles among several durations."""
    p50, p99 = (round(max((durations.recent_ms(q) for durations in each), default=0.0), 2) for q in (50, 99))
    return Percentiles(p50=p50, p99=p99)
