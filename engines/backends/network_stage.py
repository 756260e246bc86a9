"""A stage: one network with static shapes, as the backends run it and the engine builder exports it.

A family (``engines.networks.liveportrait``, ``engines.networks.fomm``) offers three of them:

    portrait    once a portrait     everything that depends on the portrait alone
    motion      once a frame        the driving crop -> its motion
    frame       once a frame        the portrait's tensors, the motion and the controls -> the picture

Tensors keep their names from stage to stage: what ``portrait`` and ``motion`` answer can be fed to ``frame`` as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from engines.types import TensorSpec

if TYPE_CHECKING:
    from torch import nn

GridSample = Literal["native", "planar"]
"""How a volume is sampled: by 5-D grid_sample, or by 4-D ones in a plane where its slices are stacked."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One network of a family, in eval mode, float32, on the CPU; a backend moves or exports a copy."""

    name: str
    module: nn.Module = field(repr=False)
    """Takes the inputs in order and returns a tuple of the outputs in order."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    halves: tuple[str, ...] = ()
    """The submodules, by dotted name, that bear half precision: ``module.get_submodule(name).half()`` is all that it
    takes, the stage casts at their edges. What is not below one of them stays float32; empty: everything does."""
    defaults: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """The flat values of those inputs that are controls, where nothing is asked for."""
