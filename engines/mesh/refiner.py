"""Refines mouth and eyes of a warped frame with the networks of ``engines.networks.refiner``.

It fails closed: where a network cannot be run, the frame stays as the warp made it, and one line says so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from engines.errors import ReenactError
from engines.face.head import own_pose
from engines.face.topology import LOWER_LIDS, UPPER_LIDS
from engines.mesh import refine_crops
from engines.mesh.refine_crops import EYES, MOUTH, Planes, Region, crop, frame_of, pack, paste, to_crop
from engines.networks.refiner_layout import CHANNELS
from engines.types import Floats, Image, Points

if TYPE_CHECKING:
    from engines.backends.backend import Backend

RefineMode = Literal["auto", "on", "off"]
BUDGET_MS = 9.0
"""The most that refining may take of a frame for ``auto`` to turn it on: there are 33 ms for all of it at 30 fps."""
_ROUNDS = 12
"""Frames that are refined to measure what one takes."""
_LOWERED, _SHUT = 0.7, 0.4
"""The gap of the lids over the portrait's from which an eye is refined a little, and from which wholly.

An open eye is the portrait's own, sharper than any network makes it.
"""
_GREY, _COLOURED = 8.0, 24.0
"""Mean differences of a crop's channels up to which a portrait is grey, and from which it has colours, of 255."""
_SMALLEST_GAP = 2.0
"""Gap of the portrait's lids below which it is taken for this, samples of the crop."""


class _Crop:
    """A region of the current portrait and frame: its planes, the portrait's crop, and a slot of a network's input."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.planes = Planes(region)
        self.frame: Floats = np.zeros((2, 3), np.float32)
        self.own: Floats = np.zeros((478, 2), np.float32)
        self.now: Floats = np.zeros((478, 2), np.float32)
        """The landmarks of portrait and frame, in samples of the crop."""
        self._colour = 1.0
        """How much of a change's colours is kept."""
        self._source: Image = np.zeros((region.size, region.size, 3), np.uint8)
        self._warped: Image = np.zeros((region.size, region.size, 3), np.uint8)

    def set_portrait(self, image: Image, own: Points) -> None:
        """Take in a portrait and its landmarks in pixels."""
        frame = frame_of(own, self.region)
        self.own = to_crop(own, frame)
        self._source = crop(image, frame, self.region.size)
        self.planes.draw_portrait(self.own)
        spread = float(np.mean(self._source.max(axis=2) - self._source.min(axis=2)))
        self._colour = min(max((spread - _GREY) / (_COLOURED - _GREY), 0.0), 1.0)

    def coloured(self, change: Floats) -> Floats:
        """Return a change (3, S, S) without the colours that a grey portrait has not, such as a statue's."""
        if self._colour == 1.0:
            return change
        grey = change.mean(axis=0, keepdims=True)
        return np.asarray(grey + np.float32(self._colour) * (change - grey), np.float32)

    def place(self, now: Points, scale: float) -> None:
        """Lay the crop over a frame's landmarks in pixels, (478, 3). ``scale``: the head's, see ``frame_of``."""
        self.frame = frame_of(now, self.region, scale)
        self.now = to_crop(now, self.frame)

    def fill(self, out: Image, slot: Floats) -> None:
        """Write the planes of the frame ``out`` to ``slot``, (12, S, S)."""
        self.planes.draw(self.own, self.now)
        self._warped = crop(out, self.frame, self.region.size, self._warped)
        pack(self._warped, self._source, self.planes.drawn, slot)


class NetRefiner:
    """Refines frames with networks, see ``engines.mesh.generator.Refiner``."""

    def __init__(self, backends: Mapping[str, Backend]) -> None:
        """``backends``: networks by name, see ``engines.networks.refiner_layout``; those missing are left out.

        They belong to the refiner from now on.
        """
        self._backends = dict(backends)
        self.makes_mouths = "mouth" in self._backends
        self._mouth, self._eyes = _Crop(MOUTH), tuple(_Crop(region) for region in EYES)
        self._mouth_input = np.zeros((1, CHANNELS, MOUTH.size, MOUTH.size), np.float32)
        self._eyes_input = np.zeros((2, CHANNELS, EYES[0].size, EYES[0].size), np.float32)
        self._portrait: Points | None = None
        self.enabled = True
        """Whether frames are refined; may be changed between two of them. False after a network has failed."""
        refine_crops.compile_all()

    def refine(self, out: Image, image: Image, own: Points, now: Points, mouth: str) -> None:
        """See ``engines.mesh.generator.Refiner.refine``."""
        if not self.enabled:
            return
        try:
            self._refine(out, image, own, now, mouth)
        except Exception as error:  # a portrait without refinement is better than none
            self.enabled = False
            found = error.found if isinstance(error, ReenactError) else f"{type(error).__name__}: {error}"
            logging.getLogger(__name__).warning("frames are no longer refined: %s", found)

    def close(self) -> None:
        """Release the networks. Idempotent."""
        for backend in self._backends.values():
            backend.close()
        self._backends = {}

    def _refine(self, out: Image, image: Image, own: Points, now: Points, mouth: str, *, always: bool = False) -> None:
        """Refine a frame. ``always``: eyes too that are open."""
        if self._portrait is not own:
            for each in (self._mouth, *self._eyes):
                each.set_portrait(image, own)
            self._portrait = own
        scale = own_pose(now).scale
        eyes = self._backends.get("eyes")
        if eyes is not None:
            for each in self._eyes:
                each.place(now, scale)
            shares = [1.0 if always else lowered_share(each.own, each.now, k) for k, each in enumerate(self._eyes)]
            if any(shares):
                for each, slot in zip(self._eyes, self._eyes_input, strict=True):
                    each.fill(out, slot)
                changes = eyes.run({"planes": self._eyes_input})["change"]
                for each, change, share in zip(self._eyes, changes, shares, strict=True):
                    if share:
                        paste(each.coloured(change), each.frame, share, out)
        net = self._backends.get({"driver": "driver", "neural": "mouth"}.get(mouth, ""))
        if net is not None:
            self._mouth.place(now, scale)
            self._mouth.fill(out, self._mouth_input[0])
            change = net.run({"planes": self._mouth_input})["change"][0]
            paste(self._mouth.coloured(change), self._mouth.frame, 1.0, out)

    def measure(self) -> float:
        """Return what refining takes of a frame, ms, with packing and pasting.

        It is that of the faster frames of some: beside it, a start loads much that a run does not.
        """
        image = np.full((512, 512, 3), 128, np.uint8)
        points = _some_face()
        mouth = "driver" if "driver" in self._backends else "neural"
        times = []
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            self._refine(image, image, points, points, mouth, always=True)
            times.append(time.perf_counter() - start)
        self._portrait = None
        return 1000 * sorted(times)[len(times) // 4]


def lowered_share(own: Floats, now: Floats, index: int) -> float:
    """Return how much an eye counts as lowered, 0 to 1, compared with the portrait's.

    own, now: landmarks in samples of the eye's crop, (478, 2); index: 0 for the right eye, 1 for the left one.
    """
    lower, upper = LOWER_LIDS[index][2:5], UPPER_LIDS[index][2:5]
    before, after = (float((points[lower, 1] - points[upper, 1]).mean()) for points in (own, now))
    share = min(max((_LOWERED - after / max(before, _SMALLEST_GAP)) / (_LOWERED - _SHUT), 0.0), 1.0)
    return share * share * (3 - 2 * share)


def _some_face() -> Points:
    """Return landmarks as of a face in an image of 512x512 pixels, (478, 3)."""
    from engines.face.topology import RIGID, RIGID_CANONICAL

    points = np.zeros((478, 3), np.float32)
    points[:] = RIGID_CANONICAL.mean(axis=0)
    points[RIGID] = RIGID_CANONICAL
    # the other points only have to lie somewhere in the face, spread over it
    spread = np.random.default_rng(0).normal(0, 2.0, (478, 3)).astype(np.float32)
    spread[RIGID] = 0
    return np.asarray((points + spread) * 14 + 256, np.float32)


def open_refiner(mode: RefineMode, threads: int = 2, folder: Path | None = None) -> tuple[NetRefiner | None, str]:
    """Return a refiner, or None, and what was chosen and why in a few words.

    ``auto`` turns it on where there are weights and packages for it and a frame takes no more than ``BUDGET_MS``.
    ``folder``: that of the weights, those that ship by default. Raises GeneratorError and BackendError for ``on``
    where it cannot be opened.
    """
    if mode == "off":
        return None, "not refined"
    try:
        made = NetRefiner(open_networks(folder, threads))
        took = made.measure()
    except ReenactError as error:
        if mode == "on":
            raise
        return None, f"not refined: {error.found}"
    if mode == "auto" and took > BUDGET_MS:
        made.close()
        return None, f"not refined: it would take {took:.1f} ms a frame, more than {BUDGET_MS:.0f}"
    return made, f"refined, {took:.1f} ms a frame"


def open_networks(folder: Path | None = None, threads: int = 2) -> dict[str, Backend]:
    """Return the networks by name, on ONNX Runtime. Raises GeneratorError, BackendError.

    ``folder``: that of the weights, those that ship by default.
    """
    from engines.backends.onnx_backend import OnnxBackend
    from engines.networks import refiner_onnx, refiner_weights

    networks = refiner_onnx.networks(refiner_weights.arrays(folder or refiner_weights.FOLDER))
    return {name: OnnxBackend(network, "cpu", None, threads) for name, network in networks.items()}
