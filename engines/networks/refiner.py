"""The networks of the refiner, which repair what a warp of the portrait cannot show.

A warp only moves the pixels that a photograph has. The inside of a mouth that opens, the skin of a lid that closes and
the rim of an iris are painted by the mesh generator, or squeezed out of what lay beside them. Three small U-Nets
(Ronneberger et al., "U-Net", MICCAI 2015, arXiv 1505.04597) look at the places where that shows, and answer what to
add to the frame:

    mouth    1 crop of 96x96    lips and the inside of the mouth, made up from the portrait alone
    driver   1 crop of 96x96    the same where the inside was copied from the driver: makes it fit colour and edges
    eyes     2 crops of 64x64   lids, lashes and irises; the left eye is mirrored, so that one network knows both

Data flow, for a crop of S samples a side and B crops (``engines.mesh.refine_crops`` makes the input):

    planes       (B, 12, S, S)        frame (3) and portrait (3) in [-1, 1]; in [0, 1]: opening, lips or iris, contours
                                      of the landmarks, stretch of the warp, opening and lips or iris of the portrait
    stem         (B, C0, S/2, S/2)    pixel unshuffle by 2 (Shi et al., CVPR 2016, arXiv 1609.05158), convolution
    down 0..3    (B, Ci, S/2^(i+1), S/2^(i+1))    a residual block (He et al., CVPR 2016) after each halving
    up 2..0      the same shapes      nearest upsampling, joined with the level's own features, a residual block
    head         (B, 4, S, S)         convolution, pixel shuffle by 2: a difference d (3) and a gate g (1)
    change       (B, 3, S, S)         fade * sigmoid(g) * 2 tanh(d / 2): added to the frame, in parts of full scale

``fade`` falls to 0 at the border of the crop, so that no seam can show. The gate lets a network leave a pixel exactly
as the warp made it. There is no normalisation: batches are tiny, and styles differ within one. Only convolutions, leaky
ReLU, pooling, nearest upsampling and pixel shuffles are used, which every backend runs and quantises well.

Losses (``tools.refiner_training.losses``), with w the weights of a pixel, which are highest inside the opening:

    L = |v (y - t)|_1 + 0.5 |v grad(y - t)|_1 + |low(w (y - t))|_1 + |w (y - y')|_1 + 1.5 |k high(c)|_1

y: the frame with the change c added; t: the real frame; low: averages over 4x4 and over 8x8; y': what is made of the
same frame warped with other noise on the landmarks; high: what differs from the average of 7x7; k: 1 inside the
opening, off its edge; v = w (1 - 0.65 k). Inside an opening nothing tells a network where a tooth or the edge of an
iris lies, and L1 makes a doubt a blur: there the detail of the warp is kept, and the averages count.

Importing this file needs no torch; building anything in it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engines.backends.network_stage import NetworkStage, TensorSpec
from engines.networks.refiner_layout import BATCHES, CHANNELS, SIZES, SLOPE, WIDTHS, fade_of

try:
    import torch
    import torch.nn.functional as F  # noqa: N812 - its usual name
    from torch import Tensor, nn
except ModuleNotFoundError:  # then the classes can be named, but not built
    from types import SimpleNamespace

    nn = SimpleNamespace(Module=object)

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Block(nn.Module):
    """Two convolutions 3x3 beside a shortcut, with leaky ReLU."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inner, outer, 3, padding=1)
        self.second = nn.Conv2d(outer, outer, 3, padding=1)
        self.shortcut = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.first(x), SLOPE)  # (B, outer, H, W)
        return F.leaky_relu(self.shortcut(x) + self.second(y), SLOPE)  # (B, outer, H, W)


class RefinerNet(nn.Module):
    """One network of the refiner."""

    def __init__(self, size: int, widths: tuple[int, ...]) -> None:
        """``size``: samples along each side of a crop; ``widths``: the channels of each level."""
        super().__init__()
        self.stem = nn.Conv2d(4 * CHANNELS, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_Block(widths[max(level - 1, 0)], width) for level, width in enumerate(widths))
        self.up = nn.ModuleList(
            _Block(widths[level] + widths[level + 1], widths[level]) for level in range(len(widths) - 1)
        )
        self.head = nn.Conv2d(widths[0], 16, 3, padding=1)
        self._begin()
        self.register_buffer("fade", torch.from_numpy(fade_of(size)), persistent=False)

    def _begin(self) -> None:
        """Set weights that keep the size of features from layer to layer (He et al., ICCV 2015), and change nothing."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, SLOPE)
                nn.init.zeros_(module.bias)
        for block in (*self.down, *self.up):
            block.second.weight.data.mul_(0.5)
        nn.init.zeros_(self.head.weight)

    def forward(self, planes: Tensor) -> Tensor:
        """Return the change of the frame, (B, 3, S, S), in parts of full scale. ``planes``: (B, 12, S, S)."""
        x = F.pixel_unshuffle(planes, 2).to(self.stem.weight.dtype)  # (B, 48, S/2, S/2)
        x = F.leaky_relu(self.stem(x), SLOPE)  # (B, C0, S/2, S/2)
        levels = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)  # (B, Ci, S/2^(i+1), S/2^(i+1))
            levels.append(x)
        for level in reversed(range(len(self.up))):
            x = self.up[level](torch.cat([F.interpolate(x, scale_factor=2.0), levels[level]], dim=1))
        answer = F.pixel_shuffle(self.head(x), 2).float()  # (B, 4, S, S)
        change: Tensor = self.fade * torch.sigmoid(answer[:, 3:]) * 2 * torch.tanh(answer[:, :3] / 2)
        return change


class _Stage(nn.Module):
    """A network that returns a tuple of its outputs, as backends want it."""

    def __init__(self, net: RefinerNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, planes: Tensor) -> tuple[Tensor]:
        return (self.net(planes),)  # (B, 3, S, S)


def create(name: str) -> RefinerNet:
    """Return a network of ``NETS`` that changes nothing yet."""
    return RefinerNet(SIZES[name], WIDTHS[name])


def stages(parts: Mapping[str, RefinerNet]) -> dict[str, NetworkStage]:
    """Return the networks as the backends run them, by name, each as large as one frame needs it."""
    return {
        name: NetworkStage(
            f"refiner-{name}",
            _Stage(module).eval(),
            (TensorSpec("planes", (BATCHES[name], CHANNELS, SIZES[name], SIZES[name])),),
            (TensorSpec("change", (BATCHES[name], 3, SIZES[name], SIZES[name])),),
            halves=("net.stem", "net.down", "net.up", "net.head"),
        )
        for name, module in parts.items()
    }
