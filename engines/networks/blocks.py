"""What the networks of LivePortrait and of the First Order Motion Model have in common.

The names of the members are those of the published state dicts. In the shape comments B is the batch; an hourglass of
volumes has the depth D after the channels. Importing this file needs no torch; building anything in it does.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

try:
    import torch
    import torch.nn.functional as F  # noqa: N812 - its usual name
    from torch import Tensor, nn
except ModuleNotFoundError:  # then the classes can be named, but not built
    from types import SimpleNamespace

    nn = SimpleNamespace(Module=object)


class DownBlock2d(nn.Module):
    """Convolution, norm, ReLU, and a pool to half the size."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, 3, padding=1)
        self.norm = nn.BatchNorm2d(outer)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(F.relu(self.norm(self.conv(x))), 2)  # (B, outer, H/2, W/2)


class Encoder(nn.Module):
    """The descending half of an hourglass, which returns every level.

    ``block`` makes a block from the numbers of its input's and output's channels.
    """

    def __init__(self, block: type[nn.Module], width: int, inner: int, blocks: int, widest: int) -> None:
        super().__init__()
        sizes = [inner] + [min(widest, width * 2 ** (level + 1)) for level in range(blocks)]
        self.down_blocks = nn.ModuleList(block(a, b) for a, b in itertools.pairwise(sizes))

    def forward(self, x: Tensor) -> list[Tensor]:
        levels = [x]
        for block in self.down_blocks:
            levels.append(block(levels[-1]))  # (B, min(widest, width 2^level), 64/2^level, 64/2^level)
        return levels


class Decoder(nn.Module):
    """The ascending half, with a skip connection from each level; ``block`` as of ``Encoder``."""

    def __init__(self, block: type[nn.Module], width: int, inner: int, blocks: int, widest: int) -> None:
        super().__init__()
        self.up_blocks = nn.ModuleList()
        for level in reversed(range(blocks)):
            wide = min(widest, width * 2 ** (level + 1))
            skip = 1 if level == blocks - 1 else 2  # every level but the deepest is stacked with its skip connection
            self.up_blocks.append(block(skip * wide, min(widest, width * 2**level)))
        self.out_filters = width + inner

    def forward(self, levels: list[Tensor]) -> Tensor:
        x = levels[-1]
        for block, skip in zip(self.up_blocks, reversed(levels[:-1]), strict=True):
            x = torch.cat([block(x), skip], dim=1)  # (B, up + skip, 2H, 2W)
        return x


def ticks(points: int, device: torch.device) -> Tensor:
    """Return the positions of ``points`` pixels along an axis, (points,) float32; the outermost are at -1 and 1."""
    # rounded as in the published networks, unlike linspace
    return 2 * (torch.arange(points, device=device, dtype=torch.float32) / (points - 1)) - 1


def fold_norms(part: nn.Module, pairs: Sequence[tuple[str, str]]) -> None:
    """Fold batch norms into the convolutions before them, in place.

    ``pairs`` are the names that convolutions and their norms have in a block.
    """
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    for block in list(part.modules()):
        for conv_name, norm_name in pairs:
            conv, norm = getattr(block, conv_name, None), getattr(block, norm_name, None)
            if isinstance(conv, nn.Conv2d | nn.Conv3d) and isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
                setattr(block, conv_name, fuse_conv_bn_eval(conv, norm).requires_grad_(False))
                setattr(block, norm_name, nn.Identity())
