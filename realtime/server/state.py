"""What a run is doing, as the page and ``GET /api/state`` have it: plain values, ready for JSON."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from realtime.core.latency import Durations

if TYPE_CHECKING:
    from realtime.config import Config
    from realtime.pipeline.pipeline import Pipeline
    from realtime.pipeline.run import Run


def describe(
    pipeline: Pipeline | None, config: Config, *, watch: str, network: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The state of a run, or of one that has not begun (None). ``network`` is what the media process knows of it."""
    network = dict(network or {})
    values: dict[str, Any] = {
        "v": 1,
        "session": None,
        "watch": watch,
        "source": "",
        "fps": 0.0,
        "face": "starting",
        "portrait": {"index": 0, "name": ""},
        "portraits": 0,
        "region": config.region,
        "gain": config.gain,
        "mirror": config.mirror,
        "mouth": config.mouth,
        "frozen": False,
        "slate": False,
        "calibrating": False,
        "frames": 0,
        "faces": 0,
        "age_ms": {"p50": 0.0, "p99": 0.0},
        "stages_ms": {},
        "dropped": {"network": network.get("dropped", 0)},
        "viewers": network.get("viewers", 0),
        "size": list(config.size),
        "generator": config.generator,
        "network": network,
    }
    if pipeline is None:
        return values
    ledger = pipeline.ledger
    p50, p99 = pipeline.recent_age
    values |= {
        "source": pipeline.capture.source.name,
        "fps": round(ledger.fps_now(time.monotonic_ns()), 1),
        "frames": ledger.frames,
        "faces": ledger.faces,
        "age_ms": {"p50": round(p50, 2), "p99": round(p99, 2)},
        "stages_ms": _lately(pipeline),
        "dropped": {**pipeline.dropped, **values["dropped"]},
    }
    parts = pipeline.compute.parts
    if parts is None or not ledger.frames:
        return values
    animator, motion, library = parts.animator, parts.animator.motion, parts.library
    return values | {
        "face": "camera lost" if pipeline.capture.lost else "found" if animator.face_found else "lost",
        "portrait": {"index": animator.wanted, "name": animator.portrait},
        "portraits": len(library),
        "region": motion.region,
        "gain": motion.gain,
        "mirror": parts.observer.mirror,
        "mouth": animator.generator.mouth,
        "frozen": animator.frozen,
        "slate": animator.slated,
        "calibrating": motion.calibrating,
        "generator": animator.generator.name,
    }


def stages(pipeline: Run) -> dict[str, Durations]:
    """How long each stage takes, by name, over the whole run."""
    send = Durations()
    for delivery in pipeline.deliveries:
        send.add(delivery.sending)
    return {"track": pipeline.ledger.track, "generate": pipeline.ledger.generate, "send": send}


def _lately(pipeline: Run) -> dict[str, dict[str, float]]:
    """How long each stage took lately; sending where it took longest."""
    ledger = pipeline.ledger
    sending = [delivery.sending for delivery in pipeline.deliveries]
    return {"track": _worst(ledger.track), "generate": _worst(ledger.generate), "send": _worst(*sending)}


def _worst(*each: Durations) -> dict[str, float]:
    return {f"p{q}": round(max((one.recent_ms(q) for one in each), default=0.0), 2) for q in (50, 99)}
