"""Writes the best weights of a training as the file that ships."""

from __future__ import annotations

from pathlib import Path

from engines.backends.torch_backend import import_torch
from engines.networks import refiner_weights


def write_weights(run: Path, nets: tuple[str, ...], out: Path) -> None:
    """Write the best weights of networks, as a training left them in ``run``, to the folder ``out``."""
    torch = import_torch()
    states = {name: torch.load(run / f"{name}-best.pt", map_location="cpu", weights_only=True) for name in nets}
    refiner_weights.write(states, out)
