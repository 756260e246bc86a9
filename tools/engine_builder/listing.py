"""What ``tools.build_engine --list`` shows: the engines of a folder, and which of them fit this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engines.backends.engine_cache import CachedEngine, Machine, list_engines, mismatch, sha256_of
from engines.backends.tensorrt_backend import this_machine


def show(folder: Path, *, as_json: bool) -> None:
    """Print the engines of a folder, each with what it is and whether it fits this machine, or why not."""
    machine = this_machine()
    found = list(list_engines(folder))
    if as_json:
        print(json.dumps([_listed(entry, machine) for entry in found], indent=2, allow_nan=False))
        return
    if not found:
        print(f"no engines in {folder}\n  python -m tools.build_engine liveportrait")
        return
    print(f"in {folder}:")
    for entry in found:
        wrong = _unfit(entry, machine)
        print(f"\n{entry.path.name}  {entry.size / 1e6:.0f} MB")
        if entry.sidecar is not None:
            side = entry.sidecar
            made = f"{side.model} {side.stage}, weights {side.weights}, {side.precision}"
            where = f"TensorRT {side.tensorrt} for {side.gpu or 'no GPU'}, {side.built_at[:16].replace('T', ' ')}"
            print(f"  {made}; {where}")
        print(f"  {'does not fit: ' + wrong if wrong else 'fits this machine'}")


def _unfit(entry: CachedEngine, machine: Machine) -> str:
    """Why an engine is of no use here, as far as can be told without loading it; empty where it is."""
    if entry.sidecar is None:
        return str(entry.error)
    try:
        digest = sha256_of(entry.path)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if digest != entry.sidecar.engine_sha256:
        return "it is truncated or changed: build it again"
    return mismatch(entry.sidecar, machine)


def _listed(entry: CachedEngine, machine: Machine) -> dict[str, Any]:
    wrong = _unfit(entry, machine)
    side = {} if entry.sidecar is None else entry.sidecar.model_dump(mode="json")
    return {"file": str(entry.path), "bytes": entry.size, "fits": not wrong, "why_not": wrong or None, **side}
