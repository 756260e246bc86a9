"""What ``tools.bench_engines`` times of a family: a whole frame, its modules, and the host's work before it."""

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
from tools.network_bench.networks import CUTS, Cut, Driven, Networks, count, single, zeros
from tools.network_bench.timing import Call, Clock, Subject, one_line, wall

PLAIN = "eager"
"""The way that the others are compared with: plain PyTorch."""
FRAME, HOST = "frame", "crop and upload"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Way:
    """A backend on a device."""

    name: str
    backend: str
    device: str
    compiled: bool = False


class Bench:
    """A family's subjects, and what they have open."""

    def __init__(
        self,
        networks: Networks,
        ways: list[Way],
        device: str | None,
        clock: Clock,
        refuse: Say,
    ) -> None:
        """``device`` is ``cuda`` or ``cpu``, where plain PyTorch runs, or None where it sees no GPU and so is left
        out; ``refuse`` is told what does not open."""
        self.networks, self.ways, self.device = networks, ways, device
        self._clock, self._refuse = clock, refuse
        self._driven = Driven(networks.stages)
        self._refused: set[str] = set()
        self._open: list[Backend] = []
        self.frames: dict[str, Mapping[str, Backend]] = {}
        """The stages that opened, by way."""

    def subjects(self) -> list[Subject]:
        """Everything there is to time, not yet opened."""
        family, cuts = self.networks.family, CUTS[self.networks.family]
        singles = [self._single(cut) for cut in cuts]
        whole = tuple(each.needs[0] for each, cut in zip(singles, cuts, strict=True) if cut.framed)
        return [
            Subject(family, FRAME, whole, self._open_frame, self._clock, self._refuse),
            Subject(family, HOST, (), self._open_host, wall, self._refuse),  # after the frame, which opens it
            *sorted(singles, key=lambda each: each.operations),
        ]

    def close(self) -> None:
        """Let go of everything."""
        for backend in self._open:
            backend.close()
        self.frames = {}

    def parity(self, way: str, reference: Array) -> dict[str, float]:
        """How far a way's picture is from the reference's, both in [0, 1]."""
        return apart(answer(self.frames[way], self._driven), reference)

    def reference(self) -> Array:
        """The picture as PyTorch on the CPU computes it in float32, which takes its time."""
        from engines.backends.torch_backend import TorchBackend

        stages = {name: TorchBackend(stage, "cpu") for name, stage in self.networks.stages.items()}
        return answer(stages, self._driven).copy()

    # ---- one module --------------------------------------------------------------------------------------------------

    def _single(self, cut: Cut) -> Subject:
        half = cut.half and self.device != "cpu"
        need = count(single(self.networks.stages[cut.stage].module, cut), cut.inputs, 2 if half else 4)
        make = partial(self._open_single, cut)
        return Subject(self.networks.family, cut.name, (need,), make, self._clock, self._refuse)

    def _open_single(self, cut: Cut) -> dict[str, Call]:
        ways = self._plainly(cut.name, partial(self._plain_single, cut))
        stage = self.networks.single(cut)
        rng = np.random.default_rng(5)
        feeds = {spec.name: rng.normal(0, 0.1, spec.shape).astype(np.float32) for spec in cut.inputs}

        def fed(backend: Backend) -> Call:
            for name, array in feeds.items():
                backend.retain_input(name, array)
            return partial(backend.run, {})

        for way in self.ways:
            if way.backend == "tensorrt":  # whose engines are of whole stages
                continue
            backend = self._opened(way, stage, None)
            if backend is not None:
                self._add(ways, way, cut.name, partial(fed, backend))
        return ways

    def _plainly(self, name: str, make: Callable[[], Call]) -> dict[str, Call]:
        """The way without a backend, where there is one."""
        if not self.device:
            return {}
        try:
            return {PLAIN: make()}
        except RuntimeError as error:  # out of the GPU's memory, say
            self._refuse(f"{PLAIN}: {self.networks.family} {name} fails: {one_line(error)}")
            return {}

    def _plain_single(self, cut: Cut) -> Call:
        import torch

        module = self._plain(single(self.networks.plain[cut.stage], cut), ("part",))
        inputs = [tensor.to(self.device) for tensor in zeros(cut.inputs)]

        def call() -> None:
            with torch.inference_mode():
                module(*inputs)

        return call

    def _plain(self, module: Any, halves: tuple[str, ...]) -> Any:
        """A copy on the device, in half precision on a GPU, and nothing else done to it."""
        module = copy.deepcopy(module).to(self.device)
        if self.device == "cuda":
            for name in halves:
                module.get_submodule(name).half()
        return module

    def _opened(self, way: Way, stage: Any, cache: Path | None) -> Backend | None:
        """The stage on a way's backend; None, once told, where it does not open or does not run."""
        if way.name in self._refused:
            return None
        try:
            backend = open_unchecked(
                stage,
                backend=way.backend,
                device=way.device,
                cache=cache,
                compiled=way.compiled,
                rebuild=self.networks.rebuild,
            )
            self._open.append(backend)
        except ReenactError as error:
            self._refuse(f"{way.name}: {self.networks.family} {stage.name} does not open: {one_line(error)}")
            if stage.name in self.networks.stages:
                self._refused.add(way.name)
            return None
        return backend

    def _add(self, ways: dict[str, Call], way: Way, name: str, make: Callable[[], Call]) -> None:
        """Another way, unless it fails at once, which is told. What has to be compiled is, before it is timed."""
        try:
            call = make()
            if way.compiled:
                call()
        except ReenactError as error:
            self._refuse(f"{way.name}: {self.networks.family} {name} fails: {one_line(error)}")
        else:
            ways[way.name] = call

    # ---- the frame ---------------------------------------------------------------------------------------------------

    def _open_frame(self) -> dict[str, Call]:
        ways = self._plainly(FRAME, self._plain_frame)
        for way in self.ways:
            opened = {
                name: self._opened(way, stage, cache_home() / "networks")
                for name, stage in self.networks.stages.items()
            }
            stages = {name: backend for name, backend in opened.items() if backend is not None}
            if len(stages) == len(opened):
                self._add(ways, way, FRAME, partial(self._frame, stages))
                if way.name in ways:
                    self.frames[way.name] = stages
        return ways

    def _frame(self, stages: Mapping[str, Backend]) -> Call:
        """The motion of a crop, and the picture that it makes, from and to the host's memory."""
        driven, motion, frame = self._driven, stages["motion"], stages["frame"]
        feeds = dict(prepared(stages, driven))

        def call() -> None:
            found = motion.run({"crop": driven.crop})
            feeds.update((name, found[name]) for name in driven.moves)
            frame.run(feeds)

        return call

    def _plain_frame(self) -> Call:
        import torch

        stages, driven, device = self.networks.plain, self._driven, self.device
        halves = {"portrait": (), "motion": ("motion_extractor", "kp_detector"), "frame": ()}
        halves["frame"] = self.networks.stages["frame"].halves
        nets = {
            name: self._plain(module, tuple(part for part in halves[name] if hasattr(module, part)))
            for name, module in stages.items()
        }
        names = {name: [spec.name for spec in stage.outputs] for name, stage in self.networks.stages.items()}
        kind = next(nets["motion"].parameters()).dtype

        def look(crop: Array) -> dict[str, Any]:
            found = nets["motion"](torch.from_numpy(crop).to(device).to(kind))
            return dict(zip(names["motion"], (tensor.float() for tensor in found), strict=True))

        with torch.inference_mode():
            found = nets["portrait"](torch.from_numpy(driven.source["source"]).to(device))
            held = dict(zip(names["portrait"], found, strict=True))
            rest = look(driven.rest)
            held |= {name.replace("driving_", "neutral_"): rest[name] for name in driven.moves}

        def call() -> None:
            with torch.inference_mode():
                controls = {name: torch.from_numpy(array).to(device) for name, array in driven.controls.items()}
                fed = held | look(driven.crop) | controls
                nets["frame"](*(fed[spec.name] for spec in driven.frame.inputs))[0].cpu()

        return call

    # ---- the host ----------------------------------------------------------------------------------------------------

    def _open_host(self) -> dict[str, Call]:
        """From a captured frame to work on its way to the device: the crop, its pixels as numbers, the upload."""
        prepare = cropping(self._driven.crop.shape[-1], self._refuse)

        def work(motion: Backend) -> None:
            motion.retain_input("crop", prepare())

        return {name: partial(work, stages["motion"]) for name, stages in self.frames.items()}


def prepared(stages: Mapping[str, Backend], driven: Driven) -> Feeds:
    """Hand the portrait over, and answer what is fed in every frame besides the driving motion."""
    portrait = stages["portrait"].run(driven.source)
    taken = {spec.name for spec in driven.frame.inputs}
    for name, array in portrait.items():
        if name in taken:
            stages["frame"].retain_input(name, array)
    return driven.neutral(stages["motion"].run({"crop": driven.rest})) | driven.controls


def answer(stages: Mapping[str, Backend], driven: Driven) -> Array:
    """The picture of one frame."""
    feeds = prepared(stages, driven)
    found = stages["motion"].run({"crop": driven.crop})
    return stages["frame"].run({**feeds, **{name: found[name] for name in driven.moves}})["image"]


def apart(picture: Array, reference: Array) -> dict[str, float]:
    """Mean and largest difference, and how many of a picture's values are no numbers."""
    finite = np.isfinite(picture)
    off = np.abs(np.where(finite, picture, 0).astype(np.float64) - reference)
    return {"mean": float(off.mean()), "max": float(off.max()), "not_numbers": int((~finite).sum())}


def cropping(size: int, refuse: Say) -> Callable[[], Array]:
    """Cuts a crop out of a 1280x720 frame around a face and makes (1, 3, n, n) float32 of it, as the generators do.

    Without OpenCV a crop is taken as it is, which is said.
    """
    crop = np.zeros((size, size, 3), np.uint8)
    fed = np.zeros((1, 3, size, size), np.float32)

    def scale() -> Array:
        np.multiply(crop.transpose(2, 0, 1)[None], np.float32(1 / 255), out=fed, casting="unsafe")
        return fed

    try:
        from engines.networks.crop import StableCrop
    except ImportError as error:
        refuse(f"the host's work is measured without cutting out the crop: {error.name} is not installed")
        return scale
    rng = np.random.default_rng(4)
    frame = rng.integers(0, 255, (720, 1280, 3), np.uint8)
    face = rng.normal((640, 360, 0), 50, (478, 3)).astype(np.float32)
    face[np.concatenate(EYE_CORNERS), 1] -= 60
    face[MOUTH_CORNERS, 1] += 80
    lock, moment = StableCrop(), iter(range(0, 1 << 62, 33_333_333))

    def cut() -> Array:
        lock.update(face, next(moment)).cut(frame, crop)
        return scale()

    return cut
