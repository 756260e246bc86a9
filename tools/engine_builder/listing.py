"""The list of ``tools.build_engine --list``: the engines of a folder, and which of them fit this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engines.backends.engine_cache import CachedEngine, Machine, list_engines, mismatch, sha256_of
from engines.backends.tensorrt_backend import this_machine
from engines.install_hint import command


def show(folder: Path, *, as_json: bool) -> None:
    """Print the engines of a folder, and whether each fits this machine or why not."""
    machine = this_machine()
    engines = list(list_engines(folder))
    if as_json:
        print(json.dumps([_to_json(engine, machine) for engine in engines], indent=2, allow_nan=False))
        return
    if not engines:
        print(f"no engines in {folder}\n  {command('build-engine')} liveportrait")
        return
    print(f"in {folder}:")
    for engine in engines:
        problem = _problem(engine, machine)
        print(f"\n{engine.path.name}  {engine.size / 1e6:.0f} MB")
        if engine.sidecar is not None:
            sidecar = engine.sidecar
            network = f"{sidecar.model} {sidecar.stage}, weights {sidecar.weights}, {sidecar.precision}"
            built = f"TensorRT {sidecar.tensorrt} for {sidecar.gpu or 'no GPU'}"
            print(f"  {network}; {built}, {sidecar.built_at[:16].replace('T', ' ')}")
        print(f"  {'does not fit: ' + problem if problem else 'fits this machine'}")


def _problem(engine: CachedEngine, machine: Machine) -> str:
    """Return why an engine cannot be used here, as far as is known without loading it; empty where it can."""
    if engine.sidecar is None:
        return str(engine.error)
    try:
        digest = sha256_of(engine.path)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if digest != engine.sidecar.engine_sha256:
        return "it is truncated or changed: build it again"
    return mismatch(engine.sidecar, machine)


def _to_json(engine: CachedEngine, machine: Machine) -> dict[str, Any]:
    problem = _problem(engine, machine)
    state = {"file": str(engine.path), "bytes": engine.size, "fits": not problem, "why_not": problem or None}
    return state | ({} if engine.sidecar is None else engine.sidecar.model_dump(mode="json"))
