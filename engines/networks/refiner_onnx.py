"""Writes the refiner's networks as ONNX from their weights alone: the base install runs them without PyTorch.

The graph is that of ``engines.networks.refiner.RefinerNet``, operator by operator. The weights stay in half precision
in the file, and ONNX Runtime widens them once, when it loads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.backends.network_stage import OnnxNetwork, TensorSpec
from engines.backends.onnx_writer import Graph
from engines.networks.refiner_layout import BATCHES, CHANNELS, SIZES, SLOPE, WIDTHS, fade_of

Weights = Mapping[str, NDArray[Any]]


class _Writer:
    """Adds the layers of one network to a graph."""

    def __init__(self, name: str, weights: Weights) -> None:
        self.graph = Graph(f"refiner-{name}")
        self._weights = weights
        self._scales = self.graph.tensor("scales", np.array([1, 1, 2, 2], np.float32))

    def conv(self, x: str, layer: str, pad: int = 1, step: int = 1) -> str:
        """Add the convolution ``layer`` and return its output."""
        names = [self._constant(f"{layer}.{part}") for part in ("weight", "bias")]
        return self.graph.node("Conv", [x, *names], f"{layer}.out", pads=[pad] * 4, strides=[step] * 2)

    def active(self, x: str) -> str:
        """Add a leaky ReLU."""
        return self.graph.node("LeakyRelu", [x], f"{x}.active", alpha=SLOPE)

    def block(self, x: str, block: str) -> str:
        """Add a residual block."""
        first = self.active(self.conv(x, f"{block}.first"))
        second = self.conv(first, f"{block}.second")
        short = self.conv(x, f"{block}.shortcut", 0) if f"{block}.shortcut.weight" in self._weights else x
        return self.active(self.graph.node("Add", [short, second], f"{block}.sum"))

    def halved(self, x: str) -> str:
        """Add max pooling by 2."""
        return self.graph.node("MaxPool", [x], f"{x}.halved", kernel_shape=[2, 2], strides=[2, 2])

    def doubled(self, x: str) -> str:
        """Add nearest upsampling by 2."""
        return self.graph.node(
            "Resize", [x, "", self._scales], f"{x}.doubled", mode="nearest",
            coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        )  # fmt: skip

    def _constant(self, name: str) -> str:
        """Return the name of a weight in float32, from one in half precision."""
        half = self.graph.tensor(f"{name}.half", np.asarray(self._weights[name], np.float16))
        return self.graph.node("Cast", [half], name, to=1)


def networks(weights: Mapping[str, Weights]) -> dict[str, OnnxNetwork]:
    """Return the networks as ONNX Runtime runs them, by name, each as large as one frame needs it."""
    return {
        name: OnnxNetwork(
            f"refiner-{name}",
            to_onnx(name, own),
            (TensorSpec("planes", (BATCHES[name], CHANNELS, SIZES[name], SIZES[name])),),
            (TensorSpec("change", (BATCHES[name], 3, SIZES[name], SIZES[name])),),
        )
        for name, own in weights.items()
    }


def to_onnx(name: str, weights: Weights) -> bytes:
    """Return the network ``name`` of ``engines.networks.refiner_layout.NETS`` as ONNX.

    ``weights``: its state dict as arrays. The input is ``planes``, (B, 12, S, S), the output ``change``, (B, 3, S, S).
    """
    size, batch, levels = SIZES[name], BATCHES[name], range(len(WIDTHS[name]))
    writer = _Writer(name, {**weights, "stem.weight": _stem(weights["stem.weight"])})
    graph = writer.graph
    planes = graph.input("planes", (batch, CHANNELS, size, size))
    x = writer.active(writer.conv(planes, "stem", pad=2, step=2))
    kept = []
    for level in levels:
        x = writer.block(writer.halved(x) if level else x, f"down.{level}")
        kept.append(x)
    for level in reversed(levels[:-1]):
        joined = graph.node("Concat", [writer.doubled(x), kept[level]], f"up.{level}.joined", axis=1)
        x = writer.block(joined, f"up.{level}")
    answer = graph.node("DepthToSpace", [writer.conv(x, "head")], "answer", blocksize=2, mode="CRD")
    _change(graph, answer, size)
    graph.output("change", (batch, 3, size, size))
    return graph.to_bytes()


def _stem(weight: NDArray[Any]) -> NDArray[np.float32]:
    """Return pixel unshuffle by 2 and a convolution 3x3 behind it as one of 6x6 in steps of 2.

    weight: (C0, 48, 3, 3), the channels by plane, row and column of the unshuffled cells. Moving the samples costs ONNX
    Runtime as much time as computing with them.
    """
    outer, inner, height, width = weight.shape
    cells = np.asarray(weight, np.float32).reshape(outer, inner // 4, 2, 2, height, width)
    return np.ascontiguousarray(cells.transpose(0, 1, 4, 2, 5, 3).reshape(outer, inner // 4, 2 * height, 2 * width))


def _change(graph: Graph, answer: str, size: int) -> None:
    """Add what makes the change of the difference and the gate: fade * sigmoid(g) * 2 tanh(d / 2)."""
    parts = graph.tensor("parts.first", np.array([0], np.int64)), graph.tensor("parts.last", np.array([3], np.int64))
    rest = graph.tensor("parts.end", np.array([4], np.int64))
    axis = graph.tensor("parts.axis", np.array([1], np.int64))
    difference = graph.node("Slice", [answer, *parts, axis], "difference")
    gate = graph.node("Sigmoid", [graph.node("Slice", [answer, parts[1], rest, axis], "gate")], "opened")
    half = graph.tensor("half", np.array(0.5, np.float32))
    bent = graph.node("Tanh", [graph.node("Mul", [difference, half], "halved")], "bent")
    fade = graph.tensor("fade", 2 * fade_of(size))
    graph.node("Mul", [graph.node("Mul", [bent, gate], "gated"), fade], "change")
