"""The losses of the refiner's training: see ``engines.networks.refiner``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engines.backends.torch_backend import import_torch

if TYPE_CHECKING:
    from torch import Tensor

GRADIENT, LOW, STEADY, DETAIL = 0.5, 1.0, 1.0, 1.5
"""Weights of the terms beside the weighted L1."""
LOW_SIZES = (4, 8)
"""Sides of the windows whose averages are compared, samples."""
KEPT = 0.65
"""How much less a single pixel counts where the warp's own detail is kept."""
DETAIL_SIZE = 7
"""Side of the windows whose average is no detail, samples."""


def reconstruction(made: Tensor, true: Tensor, weights: Tensor, keep: Tensor) -> Tensor:
    """Return weighted L1 + gradients + averages. made, true: (B, 3, S, S) in [0, 1]; weights, keep: (B, 1, S, S).

    ``keep``: where the averages count and single pixels hardly do, 0 to 1.
    """
    pooled = import_torch().nn.functional.avg_pool2d
    away = made - true
    low = sum((pooled(away * weights, size).abs().mean() for size in LOW_SIZES), start=0.0)
    weights = weights * (1 - KEPT * keep)
    across = (away[..., 1:] - away[..., :-1]) * weights[..., 1:]
    down = (away[..., 1:, :] - away[..., :-1, :]) * weights[..., 1:, :]
    return (weights * away).abs().mean() + GRADIENT * (across.abs().mean() + down.abs().mean()) + LOW * low


def detail(change: Tensor, keep: Tensor) -> Tensor:
    """Return how much of the change is detail where the warp's own is to be kept. change: (B, 3, S, S)."""
    low = import_torch().nn.functional.avg_pool2d(change, DETAIL_SIZE, 1, DETAIL_SIZE // 2, count_include_pad=False)
    return ((change - low) * keep).abs().mean()


def kept(planes: Tensor, reach: int) -> Tensor:
    """Return where the warp's own detail is kept: in the opening, ``reach`` samples from its edge, (B, 1, S, S)."""
    return -import_torch().nn.functional.max_pool2d(-planes[:, 6:7], 2 * reach + 1, 1, reach)
