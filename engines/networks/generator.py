"""The generators that are published networks: LivePortrait and the First Order Motion Model.

``prepare`` computes what depends on the portrait alone, once. A frame then takes two networks: one finds the driver's
motion in a stabilised crop, relative to the driver's neutral (see ``driver_motion``), and the other generates the
image, which is pasted into the portrait. LivePortrait can also be asked to close eyes and lips that the motion does not
close, see ``engines.networks.retarget``.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from engines.backends.open import OpenStages, open_stages
from engines.errors import CommandError, UsageError, one_of
from engines.generator import REGIONS_OF
from engines.install_hint import command
from engines.networks.crop import crop_window, to_tensor
from engines.networks.driver_motion import DriverMotion
from engines.networks.paste import Paste
from engines.networks.retarget import (
    NO_CORRECTION,
    Correction,
    Openings,
    Retarget,
    eye_correction,
    lip_correction,
    openings,
)
from engines.types import FaceState, Image, Mask, Motion, Portrait

if TYPE_CHECKING:
    from engines.backends.network_stage import Array, NetworkStage

RETARGET_LABELS: dict[Retarget, str] = {"eyes": "eyes", "lips": "lips", "both": "eyes and lips"}
"""What each value of ``--retarget`` stands for, in words."""


@dataclass(frozen=True, slots=True)
class NetworkFeatures:
    """What a network generator keeps of a portrait."""

    source: Mapping[str, Array]
    """The outputs of the portrait network."""
    paste: Paste
    image: Image
    openings: Openings
    """Of the portrait's own eyes and lips."""


@dataclass(frozen=True, slots=True)
class Family:
    """What distinguishes the two families of networks."""

    name: str
    crop: int
    """Side of the input image, pixels."""
    square: int
    """Side of the output image, pixels."""
    motion: tuple[str, ...]
    """The outputs of the motion network that the frame network takes, without the prefix ``driving_``."""
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
    """A generator of the networks of one family, see ``engines.generator.Generator``."""

    mouths: tuple[str, ...] = ()
    mouth: str | None = None

    def __init__(
        self,
        family: Family,
        stages: OpenStages,
        weights: str,
        retarget: Retarget = "none",
        *,
        random_weights: bool = False,
    ) -> None:
        """Take ownership of ``stages``. ``weights`` names their weights. ``retarget`` is for LivePortrait alone."""
        self.family = family
        self.name = family.name
        self.regions = family.regions
        self.random_weights = random_weights
        retargeted = f"{RETARGET_LABELS[retarget]} retargeted, " if retarget != "none" else ""
        self.label = f"{family.name}, {weights}, {retargeted}{stages.choice}"
        self._stages = stages
        self._prepare_lock = threading.Lock()
        self._driver = DriverMotion(stages.backends["motion"], family.motion, family.crop)
        self._planes = [np.zeros((family.square, family.square), np.uint8) for _ in range(3)]
        self._square: Image = np.zeros((family.square, family.square, 3), np.uint8)
        self._controls = _Controls(family, retarget)
        self._current: Portrait | None = None

    def prepare(
        self,
        name: str,
        image: Image,
        face: FaceState,
        matte: Mask | None = None,  # noqa: ARG002 - a network moves the whole crop
        behind: Image | None = None,  # noqa: ARG002
    ) -> Portrait:
        """See ``Generator.prepare``."""
        family, window = self.family, crop_window(face.pixels())
        crop: Image = np.zeros((family.crop, family.crop, 3), np.uint8)
        tensor = np.zeros((1, 3, family.crop, family.crop), np.float32)
        to_tensor(window.cut(image, crop), tensor)
        with self._prepare_lock:
            outputs = self._stages.backends["portrait"].run({"source": tensor})
            source = {key: array.copy() for key, array in outputs.items()}
        features = NetworkFeatures(source, Paste(image, window, family.square), image.copy(), openings(face.pixels()))
        return Portrait(name, (image.shape[1], image.shape[0]), features)

    def drive(self, portrait: Portrait, motion: Motion, driving: Image | None) -> Image:
        """See ``Generator.drive``. Raises UsageError for a region that the family does not support."""
        features: NetworkFeatures = portrait.features
        if motion.region not in self.family.regions:
            regions = one_of(self.family.regions)
            found = f"--region {motion.region} with {self.family.name}"
            raise UsageError("region-not-available", found, regions, f"choose --region {regions}")
        if self._current is not portrait:
            self._retain_source(portrait)
        self._driver.update(motion, driving)
        feeds = self._driver.feeds(motion.presence)
        if not feeds:
            return features.paste.blend_in(features.paste.own)  # no face was seen yet
        outputs = self._stages.backends["frame"].run(feeds | self._controls.feeds(motion, features.openings))
        _to_image(outputs["image"][0], self._planes, self._square)
        return features.paste.blend_in(self._square)

    def alpha(self) -> Mask | None:
        """Return None: a network's image has no alpha."""
        return None

    def set_mouth(self, mouth: str) -> None:
        """See ``Generator.set_mouth``."""
        found = f"the mouth {mouth!r} for the generator {self.name}"
        raise CommandError("mouth-not-available", found, "the generator mesh", "leave the mouth as it is")

    @property
    def refined(self) -> None:
        """See ``Generator.refined``: there is no choice."""

    def set_refined(self, on: bool) -> None:  # noqa: ARG002
        """See ``Generator.set_refined``."""
        found, expected = f"the generator {self.name}", "the mesh with networks that repair its frames"
        raise CommandError("refiner-not-available", found, expected, "choose the generator mesh")

    def close(self) -> None:
        """See ``Generator.close``."""
        self._stages.close()

    def _retain_source(self, portrait: Portrait) -> None:
        """Copy a portrait's tensors to the frame network, where they stay until another portrait is driven."""
        features: NetworkFeatures = portrait.features
        frame = self._stages.backends["frame"]
        inputs = {spec.name for spec in frame.inputs}
        for name, array in features.source.items():
            if name in inputs:
                frame.retain_input(name, array)
        self._current = portrait


class _Controls:
    """The inputs of the frame network that the user controls. Buffers are allocated once."""

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

    def feeds(self, motion: Motion, own: Openings) -> dict[str, Array]:
        """Return the controls for a frame; ``own`` are the portrait's openings."""
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
            self._set_retargeting(motion, own)
        return self._values

    def _set_retargeting(self, motion: Motion, own: Openings) -> None:
        """Ask for eyes and lips as open as the driver's, measured with the gain and without the head's pose."""
        neutral, now = openings(motion.neutral), openings(motion.expression)
        eyes = lips = NO_CORRECTION
        if self._retarget != "lips" and motion.region in ("all", "expression", "eyes"):
            eyes = eye_correction(own, neutral, now)
            # in x these keypoints move with the gaze, which the correction does not replace
            self._values["expression_weights"][:, self._eyes, 1:] = motion.gain * (1 - eyes.weight)
        if self._retarget != "eyes" and motion.region in ("all", "expression", "lips"):
            lips = lip_correction(own, neutral, now)
        self._set_correction("eye", own.eyes, eyes)
        self._set_correction("lip", (own.lips,), lips)

    def _set_correction(self, name: str, own: tuple[float, ...], correction: Correction) -> None:
        ratio = self._values[f"{name}_ratio"]
        ratio[0, :-1], ratio[0, -1] = own, correction.ratio
        self._values[f"{name}_weight"].fill(correction.weight)


def _to_image(output: Array, planes: list[Image], out: Image) -> None:
    """Round a network's output (3, n, n) float32 in [0, 1] into ``out`` (n, n, 3) uint8.

    ``planes`` are three (n, n) uint8 buffers: to interleave the channels as float32 takes tens of times as long.
    """
    for values, plane in zip(output, planes, strict=True):
        cv2.convertScaleAbs(values, plane, 255)
    cv2.merge(planes, out)


def create_network_generator(
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

    Raises GeneratorError (or its BackendError) if weights, packages or devices are missing, and UsageError for
    ``retarget`` with a family that has no networks for it.
    """
    from engines.backends.torch_backend import import_torch
    from engines.networks.weights import load_weights

    family = FAMILIES[name]
    if retarget != "none" and family is not LIVEPORTRAIT:
        found, cure = f"--retarget {retarget} with {name}", "leave --retarget out, or choose --generator liveportrait"
        raise UsageError("retarget-not-available", found, "the generator liveportrait", cure)
    import_torch()
    loaded = load_weights(name, weights)
    rebuild = f"{command('build-engine')} {name}" + (f" --weights {weights}" if weights else "")
    stages = open_stages(
        _network_stages(name, loaded.parts),
        backend=backend,
        device=device,
        cache=cache,
        compiled=compiled,
        rebuild=rebuild,
    )
    return NetworkGenerator(family, stages, loaded.label, retarget, random_weights=loaded.random)


def _network_stages(name: str, parts: Any) -> dict[str, NetworkStage]:
    if name == "liveportrait":
        from engines.networks import liveportrait

        # planar sampling is exact, and twice as fast except on a GPU
        return liveportrait.stages(parts, grid_sample="planar")
    from engines.networks import fomm

    return fomm.stages(parts)
