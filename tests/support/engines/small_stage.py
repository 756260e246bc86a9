"""A small network with the kinds of layers that the real ones have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engines.backends.network_stage import NetworkStage, TensorSpec
from tests.support.engines.neural import needs

torch = needs("torch")


class Small(torch.nn.Module):  # type: ignore[name-defined, misc]
    """A convolution and a vector; ``change`` is applied to the image."""

    def __init__(self, change: Callable[[Any], Any] = lambda image: image) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)
        self.change = change

    def forward(self, picture: Any, gain: Any) -> tuple[Any, Any]:
        out = torch.sigmoid(self.conv(picture)) * gain.reshape(1, 1, 1, 1)
        return self.change(out), out.mean(dim=(2, 3))


def small_stage(change: Callable[[Any], Any] = lambda image: image) -> NetworkStage:
    """Return the network as a stage with an image and a control."""
    return NetworkStage(
        "small",
        Small(change).eval(),
        (TensorSpec("picture", (1, 3, 16, 16), kind="image"), TensorSpec("gain", (1, 1))),
        (TensorSpec("out", (1, 3, 16, 16), kind="image"), TensorSpec("mean", (1, 3))),
        defaults={"gain": (1.0,)},
    )
