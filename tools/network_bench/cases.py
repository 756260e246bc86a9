"""The cases that ``tools.bench_engines`` times for a family: a whole frame, its modules, and the host's work."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from engines.backends.backend import Backend
from engines.backends.network_stage import Array, Feeds
from engines.backends.open import open_unchecked
from engines.cache_dirs import cache_home
from engines.errors import ReenactError
from engines.face.topology import EYE_CORNERS, MOUTH_CORNERS
from tools.network_bench.networks import SUBMODULES, FrameInputs, Networks, Submodule, count_cost, isolate, zeros
from tools.network_bench.timing import Call, Case, Clock, one_line, wall_clock
from tools.support.command import Notice

EAGER = "eager"
"""The name of the variant that the others are compared with: the published networks in plain PyTorch."""
FRAME, HOST = "frame", "crop and upload"
"""The names of the cases that are not modules."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A backend on a device."""

    name: str
    backend: str
    device: str
    compiled: bool = False


class FamilyBench:
    """The cases of a family, and the backends that they have open."""

    def __init__(
        self,
        networks: Networks,
        variants: list[Variant],
        device: str | None,
        clock: Clock,
        on_failure: Notice,
    ) -> None:
        """``device`` is where plain PyTorch runs, ``cuda`` or ``cpu``, or None to leave it out.

        ``on_failure`` is called with a message for each variant that cannot be opened or run.
        """
        self.networks, self.variants, self.device = networks, variants, device
        self._clock, self._on_failure = clock, on_failure
        self._inputs = FrameInputs(networks.stages)
        self._failed: set[str] = set()
        self._open: list[Backend] = []
        self.frames: dict[str, Mapping[str, Backend]] = {}
        """The open stages of each variant."""

    def cases(self) -> list[Case]:
        """Return all cases, not yet opened."""
        family, submodules = self.networks.family, SUBMODULES[self.networks.family]
        modules = [self._module_case(submodule) for submodule in submodules]
        whole = tuple(each.costs[0] for each, submodule in zip(modules, submodules, strict=True) if submodule.per_frame)
        return [
            Case(family, FRAME, whole, self._open_frame, self._clock, self._on_failure),
            Case(
                family, HOST, (), self._open_host, wall_clock, self._on_failure
            ),  # after the frame, which opens the backends
            *sorted(modules, key=lambda each: each.operations),
        ]

    def close(self) -> None:
        """Close all backends."""
        for backend in self._open:
            backend.close()
        self.frames = {}

    def parity(self, variant: str, reference: Array) -> dict[str, float]:
        """Return the error of a variant's picture against the reference."""
        return picture_error(frame_image(self.frames[variant], self._inputs), reference)

    def reference(self) -> Array:
        """Return the picture of PyTorch in float32 on the CPU, (1, 3, H, W) in [0, 1]. This is slow."""
        from engines.backends.torch_backend import TorchBackend

        stages = {name: TorchBackend(stage, "cpu") for name, stage in self.networks.stages.items()}
        return frame_image(stages, self._inputs).copy()

    # ---- one module --------------------------------------------------------------------------------------------------

    def _module_case(self, submodule: Submodule) -> Case:
        half = submodule.half and self.device != "cpu"
        module = isolate(self.networks.stages[submodule.stage].module, submodule)
        cost = count_cost(module, submodule.inputs, 2 if half else 4)
        open_ = partial(self._open_module, submodule)
        return Case(self.networks.family, submodule.name, (cost,), open_, self._clock, self._on_failure)

    def _open_module(self, submodule: Submodule) -> dict[str, Call]:
        variants = self._open_eager(submodule.name, partial(self._eager_module, submodule))
        stage = self.networks.isolate(submodule)
        rng = np.random.default_rng(5)
        feeds = {spec.name: rng.normal(0, 0.1, spec.shape).astype(np.float32) for spec in submodule.inputs}

        def prepare(backend: Backend) -> Call:
            for name, array in feeds.items():
                backend.retain_input(name, array)
            return partial(backend.run, {})

        for variant in self.variants:
            if variant.backend == "tensorrt":  # its engines are of whole stages
                continue
            backend = self._open_backend(variant, stage, None)
            if backend is not None:
                self._add(variants, variant, submodule.name, partial(prepare, backend))
        return variants

    def _open_eager(self, name: str, make: Callable[[], Call]) -> dict[str, Call]:
        """Return the variant of plain PyTorch, or nothing where it is left out or fails."""
        if not self.device:
            return {}
        try:
            return {EAGER: make()}
        except RuntimeError as error:  # for example out of GPU memory
            self._on_failure(f"{EAGER}: {self.networks.family} {name} fails: {one_line(error)}")
            return {}

    def _eager_module(self, submodule: Submodule) -> Call:
        import torch

        module = self._eager_copy(isolate(self.networks.eager[submodule.stage], submodule), ("part",))
        inputs = [tensor.to(self.device) for tensor in zeros(submodule.inputs)]

        def call() -> None:
            with torch.inference_mode():
                module(*inputs)

        return call

    def _eager_copy(self, module: Any, halves: tuple[str, ...]) -> Any:
        """Return a copy on the device, otherwise unchanged but for the modules ``halves``: half precision on a GPU."""
        module = copy.deepcopy(module).to(self.device)
        if self.device == "cuda":
            for name in halves:
                module.get_submodule(name).half()
        return module

    def _open_backend(self, variant: Variant, stage: Any, cache: Path | None) -> Backend | None:
        """Open a stage on a variant's backend. Return None where that fails, which is reported once."""
        if variant.name in self._failed:
            return None
        try:
            backend = open_unchecked(
                stage,
                backend=variant.backend,
                device=variant.device,
                cache=cache,
                compiled=variant.compiled,
                rebuild=self.networks.rebuild,
            )
            self._open.append(backend)
        except ReenactError as error:
            self._on_failure(f"{variant.name}: {self.networks.family} {stage.name} cannot be opened: {one_line(error)}")
            if stage.name in self.networks.stages:
                self._failed.add(variant.name)
            return None
        return backend

    def _add(self, variants: dict[str, Call], variant: Variant, name: str, make: Callable[[], Call]) -> None:
        """Add a variant unless it fails, which is reported. A compiled one is run once, so that it is compiled."""
        try:
            call = make()
            if variant.compiled:
                call()
        except ReenactError as error:
            self._on_failure(f"{variant.name}: {self.networks.family} {name} fails: {one_line(error)}")
        else:
            variants[variant.name] = call

    # ---- the frame ---------------------------------------------------------------------------------------------------

    def _open_frame(self) -> dict[str, Call]:
        variants = self._open_eager(FRAME, self._eager_frame)
        for variant in self.variants:
            backends = {
                name: self._open_backend(variant, stage, cache_home() / "networks")
                for name, stage in self.networks.stages.items()
            }
            stages = {name: backend for name, backend in backends.items() if backend is not None}
            if len(stages) == len(backends):
                self._add(variants, variant, FRAME, partial(self._frame, stages))
                if variant.name in variants:
                    self.frames[variant.name] = stages
        return variants

    def _frame(self, stages: Mapping[str, Backend]) -> Call:
        """Return a call that computes the motion of a crop and its picture, from and to the host's memory."""
        inputs, motion, frame = self._inputs, stages["motion"], stages["frame"]
        feeds = dict(prepare_feeds(stages, inputs))

        def call() -> None:
            outputs = motion.run({"crop": inputs.crop})
            feeds.update((name, outputs[name]) for name in inputs.motion_names)
            frame.run(feeds)

        return call

    def _eager_frame(self) -> Call:
        import torch

        stages, inputs, device = self.networks.eager, self._inputs, self.device
        halves = {"portrait": (), "motion": ("motion_extractor", "kp_detector"), "frame": ()}
        halves["frame"] = self.networks.stages["frame"].halves
        nets = {
            name: self._eager_copy(module, tuple(part for part in halves[name] if hasattr(module, part)))
            for name, module in stages.items()
        }
        names = {name: [spec.name for spec in stage.outputs] for name, stage in self.networks.stages.items()}
        dtype = next(nets["motion"].parameters()).dtype

        def motion(crop: Array) -> dict[str, Any]:
            outputs = nets["motion"](torch.from_numpy(crop).to(device).to(dtype))
            return dict(zip(names["motion"], (tensor.float() for tensor in outputs), strict=True))

        with torch.inference_mode():
            outputs = nets["portrait"](torch.from_numpy(inputs.source["source"]).to(device))
            constant = dict(zip(names["portrait"], outputs, strict=True))
            rest = motion(inputs.rest)
            constant |= {name.replace("driving_", "neutral_"): rest[name] for name in inputs.motion_names}

        def call() -> None:
            with torch.inference_mode():
                controls = {name: torch.from_numpy(array).to(device) for name, array in inputs.controls.items()}
                feeds = constant | motion(inputs.crop) | controls
                nets["frame"](*(feeds[spec.name] for spec in inputs.frame.inputs))[0].cpu()

        return call

    # ---- the host ----------------------------------------------------------------------------------------------------

    def _open_host(self) -> dict[str, Call]:
        """Return the work between a captured frame and the device: the crop, its conversion to float32, the upload."""
        prepare = crop_function(self._inputs.crop.shape[-1], self._on_failure)

        def work(motion: Backend) -> None:
            motion.retain_input("crop", prepare())

        return {name: partial(work, stages["motion"]) for name, stages in self.frames.items()}


def prepare_feeds(stages: Mapping[str, Backend], inputs: FrameInputs) -> Feeds:
    """Retain the portrait in the backends. Return the feeds of every frame apart from the driving motion."""
    portrait = stages["portrait"].run(inputs.source)
    names = {spec.name for spec in inputs.frame.inputs}
    for name, array in portrait.items():
        if name in names:
            stages["frame"].retain_input(name, array)
    return inputs.neutral(stages["motion"].run({"crop": inputs.rest})) | inputs.controls


def frame_image(stages: Mapping[str, Backend], inputs: FrameInputs) -> Array:
    """Return the picture of one frame, (1, 3, H, W) in [0, 1]."""
    feeds = prepare_feeds(stages, inputs)
    outputs = stages["motion"].run({"crop": inputs.crop})
    return stages["frame"].run({**feeds, **{name: outputs[name] for name in inputs.motion_names}})["image"]


def picture_error(picture: Array, reference: Array) -> dict[str, float]:
    """Return mean and largest difference, and how many values of the picture are not finite."""
    finite = np.isfinite(picture)
    errors = np.abs(np.where(finite, picture, 0).astype(np.float64) - reference)
    return {"mean": float(errors.mean()), "max": float(errors.max()), "not_finite": int((~finite).sum())}


def crop_function(size: int, on_failure: Notice) -> Callable[[], Array]:
    """Return a function that crops a face from a 1280x720 frame to (1, 3, n, n) float32, as the generators do.

    Without OpenCV the function only converts a crop, which is reported to ``on_failure``.
    """
    crop = np.zeros((size, size, 3), np.uint8)
    values = np.zeros((1, 3, size, size), np.float32)

    def scale() -> Array:
        np.multiply(crop.transpose(2, 0, 1)[None], np.float32(1 / 255), out=values, casting="unsafe")
        return values

    try:
        from engines.networks.crop import StableCrop
    except ImportError as error:
        on_failure(f"the host's work is measured without cropping: {error.name} is not installed")
        return scale
    rng = np.random.default_rng(4)
    frame = rng.integers(0, 255, (720, 1280, 3), np.uint8)
    face = rng.normal((640, 360, 0), 50, (478, 3)).astype(np.float32)
    face[np.concatenate(EYE_CORNERS), 1] -= 60
    face[MOUTH_CORNERS, 1] += 80
    stable_crop, times_ns = StableCrop(), iter(range(0, 1 << 62, 33_333_333))

    def crop_and_scale() -> Array:
        stable_crop.update(face, next(times_ns)).cut(frame, crop)
        return scale()

    return crop_and_scale
