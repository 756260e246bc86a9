"""The networks that ``tools.bench_engines`` times: a family's stages, and its modules one by one.

Each is there twice: as the program runs it, norms folded, through a backend; and *plain*, as it is published, called
eagerly in PyTorch. A module by itself answers the mean size of what it computed, one number a tensor, so that no copy
to the host is timed with it. Importing this file needs no torch.
"""

from __future__ import annotations

import copy
import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from engines.backends.network_stage import Array, Feeds, GridSample, NetworkStage, TensorSpec, sample_inputs
from engines.install_hint import command
from engines.networks import fomm, liveportrait, weights

FAMILIES = ("liveportrait", "fomm")
"""What ``--generators`` takes."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a module lies in a family's stages, and what it takes."""

    name: str
    stage: str
    part: str
    """The stage's submodule that holds it."""
    inputs: tuple[TensorSpec, ...]
    call: Callable[..., Any]
    """Calls that submodule on tensors of the inputs."""
    half: bool = True
    """Whether the program runs it in half precision on a GPU."""
    framed: bool = True
    """Whether it runs in every frame."""

    @property
    def coordinates(self) -> frozenset[str]:
        """The inputs that stay float32 in half precision."""
        return frozenset(spec.name for spec in self.inputs if spec.name.startswith(("kp_", "deformation")))


def _motion_of_fomm(net: Any, small: Any, *points: Any) -> Any:
    driving, source = fomm.Keypoints(*points[:2]), fomm.Keypoints(*points[2:])
    return net.dense_motion_network(small, driving, source)


_PICTURE = TensorSpec("picture", (1, 3, 256, 256))
_POINTS = (1, liveportrait.KEYPOINTS, 3)
_VALUE, _JACOBIAN = (1, fomm.KEYPOINTS, 2), (1, fomm.KEYPOINTS, 2, 2)

CUTS = {
    "liveportrait": (
        Cut("M", "motion", "motion_extractor", (_PICTURE,), lambda net, x: net(x), half=False),
        Cut(
            "W",
            "frame",
            "warping_module",
            (
                TensorSpec("feature_3d", (1, 32, 16, 64, 64)),
                TensorSpec("compressed", (1, 4, 16, 64, 64)),
                TensorSpec("kp_driving", _POINTS),
                TensorSpec("kp_source", _POINTS),
            ),
            lambda net, volume, compressed, driving, source: net(volume, driving, source, compressed).feature,
        ),
        Cut(
            "G",
            "frame",
            "spade_generator",
            (TensorSpec("feature", (1, 256, 64, 64)),),
            lambda net, feature: net(feature),
        ),
        Cut(
            "stitching",
            "frame",
            "retarget_shoulder",
            (TensorSpec("points", (1, 6 * liveportrait.KEYPOINTS)),),
            lambda net, x: net(x),
            half=False,
        ),
        Cut(
            "F",
            "portrait",
            "appearance_feature_extractor",
            (_PICTURE,),
            lambda net, x: net(x),
            half=False,
            framed=False,
        ),
    ),
    "fomm": (
        Cut("detector", "motion", "kp_detector", (_PICTURE,), lambda net, x: net(x), half=False),
        Cut(
            "dense motion",
            "frame",
            "generator",
            (
                TensorSpec("small", (1, 3, 64, 64)),
                TensorSpec("kp_driving_value", _VALUE),
                TensorSpec("kp_driving_jacobian", _JACOBIAN),
                TensorSpec("kp_source_value", _VALUE),
                TensorSpec("kp_source_jacobian", _JACOBIAN),
            ),
            _motion_of_fomm,
        ),
        Cut(
            "generator",
            "frame",
            "generator",
            (
                TensorSpec("features", (1, 256, 64, 64)),
                TensorSpec("deformation", (1, 64, 64, 2)),
                TensorSpec("occlusion", (1, 1, 64, 64)),
            ),
            lambda net, features, deformation, occlusion: net.decode(features, deformation, occlusion),
        ),
    ),
}
"""The modules of each family, as the table names them."""


@dataclass(frozen=True, slots=True)
class Networks:
    """A family, loaded."""

    family: str
    label: str
    """Which weights."""
    stages: dict[str, NetworkStage]
    """As the program runs them."""
    plain: dict[str, Any]
    """The same stages' modules as published: norms unfolded, volumes sampled natively, float32 on the CPU."""

    @property
    def rebuild(self) -> str:
        """The command that builds these networks' engines."""
        weights = "" if self.label == "published" else f" --weights {shlex.quote(self.label)}"
        return f"{command('build-engine')} {self.family}{weights}"

    def single(self, cut: Cut) -> NetworkStage:
        """A module as a stage of its own, as the program runs it."""
        made = single(self.stages[cut.stage].module, cut)
        answers = trace(made, cut.inputs)[0].shape
        return NetworkStage(
            cut.name, made, cut.inputs, (TensorSpec("answer", tuple(answers)),), halves=("part",) if cut.half else ()
        )


def load(family: str, where: str, grid_sample: GridSample = "planar") -> Networks:
    """Load a family's weights, and put its stages together. Raises as ``engines.networks.weights.load`` does."""
    found = weights.load_weights(family, None if where == "published" else where)
    if family == "fomm":
        parts: Any = (found.parts["kp_detector"], found.parts["generator"])
        plain: dict[str, Any] = {
            "portrait": fomm.PortraitStage(*parts),
            "motion": fomm.MotionStage(parts[0]),
            "frame": fomm.FrameStage(parts[1]),
        }
        return Networks(family, found.label, fomm.stages(found.parts), plain)
    plain = {
        "portrait": liveportrait.PortraitStage(found.parts),
        "motion": liveportrait.MotionStage(found.parts),
        "frame": liveportrait.FrameStage(found.parts),
    }
    return Networks(family, found.label, liveportrait.stages(found.parts, grid_sample=grid_sample), plain)


def single(stage: Any, cut: Cut) -> Any:
    """A module cut out of a stage's module: takes the cut's inputs, answers the mean size of each of its tensors."""
    import torch

    class Single(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.part = stage.get_submodule(cut.part)

        def forward(self, *inputs: Any) -> tuple[Any]:
            dtype = next(self.part.parameters()).dtype
            fed = [
                tensor if spec.name in cut.coordinates else tensor.to(dtype)
                for spec, tensor in zip(cut.inputs, inputs, strict=True)
            ]
            answers = flat(cut.call(self.part, *fed))
            return (torch.cat([answer.float().abs().mean().reshape(1) for answer in answers]),)

    return Single().eval()


def flat(answer: Any) -> list[Any]:
    """A tensor, or those of a tuple."""
    return list(answer) if isinstance(answer, tuple) else [answer]


def trace(module: Any, specs: tuple[TensorSpec, ...], use: Callable[[Any, Any], None] | None = None) -> Any:
    """What a network answers, in shapes alone: nothing is computed. ``use`` sees every module before it is called."""
    import torch

    ghost = copy.deepcopy(module).to("meta")
    if use is not None:
        for part in ghost.modules():
            part.register_forward_pre_hook(use)
    with torch.inference_mode():
        return ghost(*(torch.empty(spec.shape, device="meta") for spec in specs))


def count(module: Any, specs: tuple[TensorSpec, ...], width: int) -> tuple[int, int]:
    """What one call of a network takes: floating-point operations of its matrix products and convolutions, and bytes.

    Bytes are the weights that it uses, its inputs and its answers, each once, at ``width`` bytes a number: what would
    have to cross the memory if all between stayed on the chip.
    """
    from torch.utils.flop_counter import FlopCounterMode

    used: dict[int, int] = {}

    def use(part: Any, _: Any) -> None:
        used[id(part)] = sum(parameter.numel() for parameter in part.parameters(recurse=False))

    with FlopCounterMode(display=False) as counter:
        answers = trace(module, specs, use)
    numbers = sum(used.values()) + sum(tensor.numel() for tensor in answers) + sum(math.prod(s.shape) for s in specs)
    return counter.get_total_flops(), width * numbers


def zeros(specs: tuple[TensorSpec, ...]) -> list[Any]:
    """Inputs of those shapes, on the CPU."""
    import torch

    return [torch.zeros(spec.shape) for spec in specs]


class Driven:
    """What a frame is fed: two crops, one of which is the neutral, and every control at rest."""

    def __init__(self, stages: dict[str, NetworkStage]) -> None:
        motion, portrait, self.frame = stages["motion"], stages["portrait"], stages["frame"]
        self.source: Feeds = sample_inputs(portrait.inputs, {}, seed=1)
        self.crop = smooth(motion.inputs[0].shape, seed=2)
        self.rest = smooth(motion.inputs[0].shape, seed=3)
        names = {spec.name for spec in self.frame.inputs}
        self.moves = [spec.name for spec in motion.outputs if spec.name in names]
        self.controls = {
            spec.name: np.array(self.frame.defaults[spec.name], spec.dtype).reshape(spec.shape)
            for spec in self.frame.inputs
            if spec.name in self.frame.defaults
        }

    def neutral(self, driving: Feeds) -> dict[str, Array]:
        """A motion as the neutral, copied."""
        return {name.replace("driving_", "neutral_"): driving[name].copy() for name in self.moves}


def smooth(shape: tuple[int, ...], seed: int) -> Array:
    """A picture (1, 3, n, n) float32 in [0, 1] without sharp edges, as a crop is."""
    rng, size = np.random.default_rng(seed), shape[-1]
    wave = np.linspace(0, 2 * np.pi, size, dtype=np.float32)
    waves = rng.uniform(0.5, 4, (2, 3, 1)).astype(np.float32) * wave + rng.uniform(0, 6, (2, 3, 1)).astype(np.float32)
    picture = 0.5 + 0.25 * (np.sin(waves[0])[:, :, None] + np.sin(waves[1])[:, None, :])
    return np.ascontiguousarray(picture[None], np.float32)
