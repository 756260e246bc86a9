"""A network with static shapes, as the backends run it and the engine builder exports it.

A family (``engines.networks.liveportrait``, ``engines.networks.fomm``) consists of three:

    portrait    once a portrait     everything that depends on the portrait alone
    motion      once a frame        the driving crop -> its motion
    frame       once a frame        the portrait's tensors, the motion and the controls -> the image

Tensors keep their names from stage to stage: the outputs of ``portrait`` and ``motion`` can be fed to ``frame`` as
they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

Array = NDArray[Any]
Feeds = Mapping[str, Array]
"""Arrays by the names of their tensors."""

GridSample = Literal["native", "planar"]
"""How a volume is sampled: by 5-D grid_sample, or by 4-D ones in a plane where its slices are stacked."""

TensorKind = Literal["values", "image", "matrix", "scale"]
"""What a tensor holds: any numbers, an RGB image in [0, 1], matrices near the identity, or factors near one."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a network, for which a backend allocates a buffer."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    """The NumPy dtype at the backend's boundary, whatever precision the backend computes in."""
    kind: TensorKind = field(default="values", repr=False)  # repr is part of a network's identity, which this is not


@dataclass(frozen=True, slots=True)
class NetworkStage:
    """One network of a family, in eval mode, float32, on the CPU. A backend moves or exports a copy of it."""

    name: str
    module: nn.Module = field(repr=False)
    """Takes the inputs in order and returns a tuple of the outputs in order."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    halves: tuple[str, ...] = ()
    """The submodules, by dotted name, that tolerate half precision.

    ``module.get_submodule(name).half()`` is all that it takes: the stage casts at their edges. Everything else stays
    float32.
    """
    defaults: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """The neutral values of the inputs that are controls, flattened."""

    def sample_inputs(self, seed: int = 7) -> dict[str, Array]:
        """Return inputs for a numeric check, in new arrays: see ``sample_inputs``."""
        return sample_inputs(self.inputs, self.defaults, seed)


@dataclass(frozen=True, slots=True)
class OnnxNetwork:
    """A network that is an ONNX file already: ONNX Runtime runs it without PyTorch."""

    name: str
    content: bytes = field(repr=False)
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def sample_inputs(
    specs: tuple[TensorSpec, ...], defaults: Mapping[str, tuple[float, ...]] | None = None, seed: int = 7
) -> dict[str, Array]:
    """Return random inputs of realistic size, the same on every machine.

    An input that is named in ``defaults`` gets those values, flattened.
    """
    rng = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for spec in specs:
        values: Array
        if defaults and spec.name in defaults:
            values = np.array(defaults[spec.name]).reshape(spec.shape)
        elif spec.kind == "matrix":
            values = np.broadcast_to(np.eye(spec.shape[-1]), spec.shape) + rng.normal(0, 0.02, spec.shape)
        elif spec.kind == "scale":
            values = 1 + rng.normal(0, 0.05, spec.shape)
        elif spec.kind == "image":
            values = rng.uniform(0, 1, spec.shape)
        else:
            values = rng.normal(0, 0.2, spec.shape)
        feeds[spec.name] = np.ascontiguousarray(values, dtype=spec.dtype)
    return feeds
