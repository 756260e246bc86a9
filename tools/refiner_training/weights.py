"""Writes the best weights of a training as the file that ships."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.backends.torch_backend import import_torch
from engines.networks import refiner_weights


def write_weights(run: Path, nets: tuple[str, ...], out: Path, recipe: Mapping[str, Any]) -> None:
    """Write the best weights that a training left in ``run``, and the recipe, to the folder ``out``."""
    torch = import_torch()
    states = {name: torch.load(run / f"{name}-best.pt", map_location="cpu", weights_only=True) for name in nets}
    refiner_weights.write(states, out, recipe)
