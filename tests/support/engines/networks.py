"""Small networks for tests of exporting and building: a stage as the families have them, and an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engines.backends.network_stage import NetworkStage, TensorSpec
from tests.support.engines.neural import needs

torch = needs("torch")
onnx = needs("onnx")


class Net(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Two convolutions in a module that is never called itself, and a linear layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Module()
        self.body.first = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.body.second = torch.nn.Conv2d(4, 3, 3, padding=1)
        self.head = torch.nn.Linear(3, 3)

    def forward(self, picture: Any, gain: Any) -> tuple[Any, Any]:
        out = torch.sigmoid(self.body.second(self.body.first(picture)).float()) * gain.reshape(1, 1, 1, 1)
        return out, self.head(self.head(out.mean(dim=(2, 3))))


def small() -> NetworkStage:
    return NetworkStage(
        "small",
        Net().eval(),
        (TensorSpec("picture", (1, 3, 8, 8)), TensorSpec("gain", (1, 1))),
        (TensorSpec("out", (1, 3, 8, 8)), TensorSpec("mean", (1, 3))),
        halves=("body",),
        defaults={"gain": (1.0,)},
    )


def file(path: Path, *, sizes: list[Any] | None = None, kind: str = "FLOAT", op: str = "Relu") -> Path:
    """Write an ONNX file of one node and return its path."""
    helper, shape = onnx.helper, [1, 3, 8, 8] if sizes is None else sizes
    ends = [helper.make_tensor_value_info(name, getattr(onnx.TensorProto, kind), shape) for name in ("in", "out")]
    graph = helper.make_graph([helper.make_node(op, ["in"], ["out"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path
