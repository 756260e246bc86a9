"""The losses of the refiner's training, and the discriminator of its last part: see ``engines.networks.refiner``."""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    import torch
    import torch.nn.functional as F  # noqa: N812 - its usual name
    from torch import nn
except ModuleNotFoundError:  # then the classes can be named, but not built
    from types import SimpleNamespace

    nn = SimpleNamespace(Module=object)

if TYPE_CHECKING:
    from torch import Tensor

GRADIENT, LOW, STEADY, ADVERSARIAL, FEATURES = 0.5, 1.0, 0.3, 0.03, 0.15
"""Weights of the terms beside the weighted L1."""
LOW_SIZE = 8
"""Side of the windows whose averages are compared, samples."""
_SLOPE = 0.2


def reconstruction(made: Tensor, true: Tensor, weights: Tensor) -> Tensor:
    """Return weighted L1 + gradients + averages. made, true: (B, 3, S, S) in [0, 1]; weights: (B, 1, S, S)."""
    away = made - true
    across = (away[..., 1:] - away[..., :-1]) * weights[..., 1:]
    down = (away[..., 1:, :] - away[..., :-1, :]) * weights[..., 1:, :]
    low = F.avg_pool2d(away * weights, LOW_SIZE)
    return (weights * away).abs().mean() + GRADIENT * (across.abs().mean() + down.abs().mean()) + LOW * low.abs().mean()


class Discriminator(nn.Module):
    """A PatchGAN: judges patches of about 30 samples a side, given the drawn planes of the frame."""

    def __init__(self) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.spectral_norm
        self.layers = nn.ModuleList(
            [
                norm(nn.Conv2d(4 * 6, 40, 3, padding=1)),
                norm(nn.Conv2d(40, 80, 4, 2, padding=1)),
                norm(nn.Conv2d(80, 96, 3, padding=1)),
            ]
        )
        self.last = norm(nn.Conv2d(96, 1, 3, padding=1))

    def forward(self, picture: Tensor, planes: Tensor) -> list[Tensor]:
        """Return the features of each layer and, last, the verdict. picture: (B, 3, S, S); planes: (B, 12, S, S)."""
        x = F.pixel_unshuffle(torch.cat([2 * picture - 1, planes[:, 6:9]], dim=1), 2)
        found = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), _SLOPE)
            found.append(x)
        return [*found, self.last(x)]


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Return the discriminator's loss from its verdicts."""
    loss: Tensor = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return loss


def adversarial(fake: list[Tensor], real: list[Tensor]) -> Tensor:
    """Return the generator's loss from the discriminator's answers to its picture and to the real one."""
    features = sum(((f - r.detach()).abs().mean() for f, r in zip(fake[:-1], real[:-1], strict=True)), start=0.0)
    return -ADVERSARIAL * fake[-1].mean() + FEATURES * features
