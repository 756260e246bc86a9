"""The networks that ``tools.bench_engines`` times: the stages of a family, and its modules one by one.

There are two versions of each: as the program runs it, with folded norms, on a backend; and *eager*, as published, in
plain PyTorch. An isolated module returns the mean magnitude of its outputs, one number per tensor, so that no copy to
the host is timed with it. Importing this module does not need torch.
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
"""The families that can be measured."""


@dataclass(frozen=True, slots=True)
class Submodule:
    """A module inside a family's stages, and its inputs."""

    name: str
    stage: str
    part: str
    """The dotted name, in the stage, of the module that is called."""
    inputs: tuple[TensorSpec, ...]
    call: Callable[..., Any]
    """Calls that module with tensors of the inputs."""
    half: bool = True
    """True if the program runs it in half precision on a GPU."""
    per_frame: bool = True
    """True if it runs in every frame."""

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

SUBMODULES = {
    "liveportrait": (
        Submodule("M", "motion", "motion_extractor", (_PICTURE,), lambda net, x: net(x), half=False),
        Submodule(
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
        Submodule(
            "G",
            "frame",
            "spade_generator",
            (TensorSpec("feature", (1, 256, 64, 64)),),
            lambda net, feature: net(feature),
        ),
        Submodule(
            "stitching",
            "frame",
            "retarget_shoulder",
            (TensorSpec("points", (1, 6 * liveportrait.KEYPOINTS)),),
            lambda net, x: net(x),
            half=False,
        ),
        Submodule(
            "F",
            "portrait",
            "appearance_feature_extractor",
            (_PICTURE,),
            lambda net, x: net(x),
            half=False,
            per_frame=False,
        ),
    ),
    "fomm": (
        Submodule("detector", "motion", "kp_detector", (_PICTURE,), lambda net, x: net(x), half=False),
        Submodule(
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
        Submodule(
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
"""The modules of each family, with the names of the table."""


@dataclass(frozen=True, slots=True)
class Networks:
    """The loaded networks of a family."""

    family: str
    label: str
    """Describes the weights."""
    stages: dict[str, NetworkStage]
    """The stages as the program runs them."""
    eager: dict[str, Any]
    """The modules of the stages as published: norms not folded, volumes sampled natively, float32 on the CPU."""

    @property
    def rebuild(self) -> str:
        """The command that builds the engines of these networks."""
        weights = "" if self.label == "published" else f" --weights {shlex.quote(self.label)}"
        return f"{command('build-engine')} {self.family}{weights}"

    def isolate(self, submodule: Submodule) -> NetworkStage:
        """Return a module as a stage of its own, as the program runs it."""
        module = isolate(self.stages[submodule.stage].module, submodule)
        shape = infer_shapes(module, submodule.inputs)[0].shape
        return NetworkStage(
            submodule.name,
            module,
            submodule.inputs,
            (TensorSpec("magnitudes", tuple(shape)),),
            halves=("part",) if submodule.half else (),
        )


def load_networks(family: str, where: str, grid_sample: GridSample = "planar") -> Networks:
    """Load the weights of a family and create its stages. Raises as ``weights.load_weights`` does."""
    loaded = weights.load_weights(family, None if where == "published" else where)
    if family == "fomm":
        parts: Any = (loaded.parts["kp_detector"], loaded.parts["generator"])
        eager: dict[str, Any] = {
            "portrait": fomm.PortraitStage(*parts),
            "motion": fomm.MotionStage(parts[0]),
            "frame": fomm.FrameStage(parts[1]),
        }
        return Networks(family, loaded.label, fomm.stages(loaded.parts), eager)
    eager = {
        "portrait": liveportrait.PortraitStage(loaded.parts),
        "motion": liveportrait.MotionStage(loaded.parts),
        "frame": liveportrait.FrameStage(loaded.parts),
    }
    return Networks(family, loaded.label, liveportrait.stages(loaded.parts, grid_sample=grid_sample), eager)


def isolate(stage: Any, submodule: Submodule) -> Any:
    """Return a module that calls only the submodule and returns the mean magnitude of each of its outputs."""
    import torch

    class Isolated(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.part = stage.get_submodule(submodule.part)

        def forward(self, *inputs: Any) -> tuple[Any]:
            dtype = next(self.part.parameters()).dtype
            tensors = [
                tensor if spec.name in submodule.coordinates else tensor.to(dtype)
                for spec, tensor in zip(submodule.inputs, inputs, strict=True)
            ]
            outputs = flatten(submodule.call(self.part, *tensors))
            return (torch.cat([output.float().abs().mean().reshape(1) for output in outputs]),)

    return Isolated().eval()


def flatten(output: Any) -> list[Any]:
    """Return the tensors of an output, which is a tensor or a tuple."""
    return list(output) if isinstance(output, tuple) else [output]


def infer_shapes(module: Any, specs: tuple[TensorSpec, ...], hook: Callable[[Any, Any], None] | None = None) -> Any:
    """Return the outputs of a network without values, only shapes. ``hook`` is called before each module."""
    import torch

    shadow = copy.deepcopy(module).to("meta")
    if hook is not None:
        for part in shadow.modules():
            part.register_forward_pre_hook(hook)
    with torch.inference_mode():
        return shadow(*(torch.empty(spec.shape, device="meta") for spec in specs))


def count_cost(module: Any, specs: tuple[TensorSpec, ...], width: int) -> tuple[int, int]:
    """Return the cost of one call: floating-point operations of matrix products and convolutions, and bytes.

    The bytes are those of the used weights, the inputs and the outputs, each once, at ``width`` bytes per number: the
    memory traffic if everything in between stayed on the chip.
    """
    from torch.utils.flop_counter import FlopCounterMode

    weights_of: dict[int, int] = {}

    def record(part: Any, _: Any) -> None:
        weights_of[id(part)] = sum(parameter.numel() for parameter in part.parameters(recurse=False))

    with FlopCounterMode(display=False) as counter:
        outputs = infer_shapes(module, specs, record)
    numbers = sum(weights_of.values()) + sum(tensor.numel() for tensor in outputs)
    numbers += sum(math.prod(spec.shape) for spec in specs)
    return counter.get_total_flops(), width * numbers


def zeros(specs: tuple[TensorSpec, ...]) -> list[Any]:
    """Return zero tensors of those shapes on the CPU."""
    import torch

    return [torch.zeros(spec.shape) for spec in specs]


class FrameInputs:
    """The inputs of a frame: the source, a driving crop, a neutral crop, and every control at rest."""

    def __init__(self, stages: dict[str, NetworkStage]) -> None:
        motion, portrait, self.frame = stages["motion"], stages["portrait"], stages["frame"]
        self.source: Feeds = sample_inputs(portrait.inputs, {}, seed=1)
        self.crop = smooth_picture(motion.inputs[0].shape, seed=2)
        self.rest = smooth_picture(motion.inputs[0].shape, seed=3)
        names = {spec.name for spec in self.frame.inputs}
        self.motion_names = [spec.name for spec in motion.outputs if spec.name in names]
        self.controls = {
            spec.name: np.array(self.frame.defaults[spec.name], spec.dtype).reshape(spec.shape)
            for spec in self.frame.inputs
            if spec.name in self.frame.defaults
        }

    def neutral(self, driving: Feeds) -> dict[str, Array]:
        """Return a copy of a motion under the names of the neutral motion."""
        return {name.replace("driving_", "neutral_"): driving[name].copy() for name in self.motion_names}


def smooth_picture(shape: tuple[int, ...], seed: int) -> Array:
    """Return a picture (1, 3, n, n) float32 in [0, 1] without sharp edges, like a crop."""
    rng, size = np.random.default_rng(seed), shape[-1]
    wave = np.linspace(0, 2 * np.pi, size, dtype=np.float32)
    waves = rng.uniform(0.5, 4, (2, 3, 1)).astype(np.float32) * wave + rng.uniform(0, 6, (2, 3, 1)).astype(np.float32)
    picture = 0.5 + 0.25 * (np.sin(waves[0])[:, :, None] + np.sin(waves[1])[:, None, :])
    return np.ascontiguousarray(picture[None], np.float32)
