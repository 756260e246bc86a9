"""The generators that are published networks: LivePortrait and the First Order Motion Model, in the live loop.

What depends on the portrait is computed once, by ``prepare``. A frame then takes two networks: the driver's motion out
of a locked crop, relative to the driver's neutral (see ``driver_motion``), and the picture, which is pasted back into
the portrait. LivePortrait can be asked to shut eyes and lips where that falls short: see
``engines.networks.retarget``.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from engines.backends.backend import BUILD, Array, OpenStages, open_stages
from engines.errors import CommandError, UsageError
from engines.generator import REGIONS_OF
from engines.networks.crop import around, feed
from engines.networks.driver_motion import Driver
from engines.networks.paste import Paste
from engines.networks.retarget import NOTHING, Ratios, Retarget, Wish, eyes, lips, ratios
from engines.types import FaceState, Image, Motion, Portrait

RETARGETED = {"eyes": "eyes", "lips": "lips", "both": "eyes and lips"}
"""In words."""


@dataclass(frozen=True, slots=True)
class NetworkFeatures:
    """What is kept of a portrait."""

    source: Mapping[str, Array]
    """What the portrait network answered."""
    paste: Paste
    image: Image
    openings: Ratios
    """Of its own eyes and lips."""


@dataclass(frozen=True, slots=True)
class Family:
    """What sets the two families apart."""

    name: str
    crop: int
    """Side of what the networks take."""
    square: int
    """Side of what they make."""
    motion: tuple[str, ...]
    """The motion network's answers that the frame network takes, ``driving_`` left out."""
    regions: tuple[str, ...]


LIVEPORTRAIT = Family(
    "liveportrait",
    256,
    512,
    ("rotation", "expression", "scale", "translation"),
    REGIONS_OF["liveportrait"],
)
FOMM = Family("fomm", 256, 256, ("value", "jacobian"), REGIONS_OF["fomm"])
FAMILIES = {family.name: family for family in (LIVEPORTRAIT, FOMM)}


class NetworkGenerator:
    """See ``engines.generator.Generator``."""

    mouths: tuple[str, ...] = ()
    mouth: str | None = None

    def __init__(
        self,
        family: Family,
        running: OpenStages,
        label: str,
        retarget: Retarget = "none",
        *,
        random_weights: bool = False,
    ) -> None:
        """Take ownership of ``running``. ``label`` names its weights. ``retarget`` is for LivePortrait alone."""
        self.family = family
        self.regions = family.regions
        retargeted = f"{RETARGETED[retarget]} retargeted, " if retarget != "none" else ""
        self.name = family.name
        self.random_weights = random_weights
        self.label = f"{family.name}, {label}, {retargeted}{running.why}"
        self._running = running
        self._preparing = threading.Lock()
        self._driver = Driver(running.stages["motion"], family.motion, family.crop)
        self._planes = [np.zeros((family.square, family.square), np.uint8) for _ in range(3)]
        self._square: Image = np.zeros((family.square, family.square, 3), np.uint8)
        self._controls = _Controls(family, retarget)
        self._for: Portrait | None = None

    def prepare(self, name: str, image: Image, face: FaceState) -> Portrait:
        """See ``Generator.prepare``."""
        family, window = self.family, around(face.pixels())
        crop: Image = np.zeros((family.crop, family.crop, 3), np.uint8)
        fed = np.zeros((1, 3, family.crop, family.crop), np.float32)
        feed(window.cut(image, crop), fed)
        with self._preparing:
            answer = self._running.stages["portrait"].run({"source": fed})
            source = {key: array.copy() for key, array in answer.items()}
        features = NetworkFeatures(source, Paste(image, window, family.square), image.copy(), ratios(face.pixels()))
        return Portrait(name, (image.shape[1], image.shape[0]), features)

    def drive(self, portrait: Portrait, motion: Motion, driving: Image | None) -> Image:
        """See ``Generator.drive``. Raises UsageError for a region that the family cannot move by itself."""
        features: NetworkFeatures = portrait.features
        if motion.region not in self.family.regions:
            raise UsageError(
                f"{self.family.name} moves everything at once, not {motion.region} alone",
                cure=f"choose --region {' or '.join(self.family.regions)}",
            )
        if self._for is not portrait:
            self._take(portrait)
        self._driver.follow(motion, driving)
        feeds = self._driver.feeds(motion.presence)
        if not feeds:
            return features.paste.lay(features.paste.own)  # nobody has driven it yet
        answer = self._running.stages["frame"].run(feeds | self._controls.of(motion, features.openings))
        _picture(answer["image"][0], self._planes, self._square)
        return features.paste.lay(self._square)

    def set_mouth(self, mouth: str) -> None:
        """See ``Generator.set_mouth``."""
        found = f"the mouth {mouth!r} for the generator {self.name}"
        raise CommandError("mouth-not-available", found, "the generator mesh", "leave the mouth as it is")

    def close(self) -> None:
        """See ``Generator.close``."""
        self._running.close()

    def _take(self, portrait: Portrait) -> None:
        """Hand the portrait's tensors over: they stay on the device until another is put on."""
        features: NetworkFeatures = portrait.features
        frame = self._running.stages["frame"]
        taken = {spec.name for spec in frame.inputs}
        for name, array in features.source.items():
            if name in taken:
                frame.keep(name, array)
        self._for = portrait


class _Controls:
    """The frame network's inputs that are the person's wishes. Buffers are made once."""

    def __init__(self, family: Family, retarget: Retarget) -> None:
        self._values: dict[str, Array] = {"multiplier": np.ones((1, 1), np.float32)}
        self._family = family
        self._retarget = retarget
        if family is LIVEPORTRAIT:
            from engines.networks.liveportrait import EYE_KEYPOINTS, KEYPOINTS, LIP_KEYPOINTS

            self._lips, self._eyes = list(LIP_KEYPOINTS), list(EYE_KEYPOINTS)
            self._values |= {
                "pose_weights": np.ones((1, 3), np.float32),
                "expression_weights": np.ones((1, KEYPOINTS, 3), np.float32),
                "stitching": np.ones((1, 1), np.float32),
                "eye_ratio": np.zeros((1, 3), np.float32),
                "eye_weight": np.zeros((1, 1), np.float32),
                "lip_ratio": np.zeros((1, 2), np.float32),
                "lip_weight": np.zeros((1, 1), np.float32),
            }

    def of(self, motion: Motion, own: Ratios) -> dict[str, Array]:
        """The controls for a frame; ``own`` are the portrait's openings."""
        if self._family is not LIVEPORTRAIT:
            self._values["multiplier"].fill(motion.gain)
            return self._values
        expression = self._values["expression_weights"]
        expression.fill(motion.gain if motion.region in ("all", "expression") else 0.0)
        for region, points in (("lips", self._lips), ("eyes", self._eyes)):
            if motion.region == region:
                expression[:, points] = motion.gain
        self._values["pose_weights"].fill(motion.region in ("all", "pose"))
        if self._retarget != "none":
            self._shut(motion, own)
        return self._values

    def _shut(self, motion: Motion, own: Ratios) -> None:
        """Eyes and lips as the driver's openings want them: what is measured has the gain in it, and no head pose."""
        neutral, now = ratios(motion.neutral), ratios(motion.expression)
        eye = lip = NOTHING
        if self._retarget != "lips" and motion.region in ("all", "expression", "eyes"):
            eye = eyes(own, neutral, now)
            # across the picture these keypoints move with the gaze, which is not asked for
            self._values["expression_weights"][:, self._eyes, 1:] = motion.gain * (1 - eye.weight)
        if self._retarget != "eyes" and motion.region in ("all", "expression", "lips"):
            lip = lips(own, neutral, now)
        self._ask("eye", own.eyes, eye)
        self._ask("lip", (own.lips,), lip)

    def _ask(self, name: str, own: tuple[float, ...], wish: Wish) -> None:
        ratio = self._values[f"{name}_ratio"]
        ratio[0, :-1], ratio[0, -1] = own, wish.ratio
        self._values[f"{name}_weight"].fill(wish.weight)


def _picture(answer: Array, planes: list[Image], out: Image) -> None:
    """A network's answer (3, n, n) float32 in [0, 1], as a sigmoid makes it, rounded into ``out`` (n, n, 3) uint8.

    ``planes`` are three (n, n) uint8 to work in: to interleave the channels as float32 takes tens of times as long.
    """
    for values, plane in zip(answer, planes, strict=True):
        cv2.convertScaleAbs(values, plane, 255)
    cv2.merge(planes, out)


def create(
    name: str,
    *,
    backend: str,
    device: str,
    weights: str | None,
    compiled: bool = False,
    cache: Path | None = None,
    retarget: Retarget = "none",
) -> NetworkGenerator:
    """Load a family's weights and open its networks.

    Raises GeneratorError (BackendError among them) for weights, packages or devices that are not there, and UsageError
    where a family without networks for it is to ``retarget``.
    """
    from engines.backends.torch_backend import import_torch
    from engines.networks import weights as checkpoints

    family = FAMILIES[name]
    if retarget != "none" and family is not LIVEPORTRAIT:
        raise UsageError(
            f"{name} has no networks to retarget {RETARGETED[retarget]} with",
            cure="leave --retarget out, or choose --generator liveportrait",
        )
    import_torch()
    loaded = checkpoints.load(name, weights)
    stages = _stages(name, loaded.parts)
    rebuild = f"{BUILD} {name}" + (f" --weights {weights}" if weights else "")
    running = open_stages(stages, backend=backend, device=device, cache=cache, compiled=compiled, rebuild=rebuild)
    return NetworkGenerator(family, running, loaded.label, retarget, random_weights=loaded.random)


def _stages(name: str, parts: Any) -> Any:
    if name == "liveportrait":
        from engines.networks import liveportrait

        # in the plane: exact, and twice as fast where it is not a GPU that samples
        return liveportrait.stages(parts, grid_sample="planar")
    from engines.networks import fomm

    return fomm.stages(parts)
