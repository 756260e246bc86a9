"""Measures the refiner on self-reenactment: one frame of a clip is the portrait, others of it are the truth.

The warps are the program's own, made with the true landmarks, so that the rendering counts and not the tracking. The
driver's mouth is taken from the true frame as another camera would show it: other colours, blur, landmarks that are
off. Every picture is laid onto the true face by a similarity before it is compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from engines.face.topology import (
    EYE_CORNERS,
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    LOWER_LID_FOLDS,
    MOUTH_CORNERS,
    OVAL,
    RIGID,
    UPPER_LID_FOLDS,
)
from engines.mesh.refine_crops import EYES, MOUTH
from engines.types import FaceState, Image, Points
from realtime.tracking.face_mesh import FaceMesh
from tools.refiner_training.clips import SIDE, Clip, Shot, read_shots
from tools.refiner_training.figures import FEWEST, Figures, Seen
from tools.refiner_training.samples import Camera, other_camera, watched
from tools.refiner_training.warps import Warp, Warper, landmark_noise

REGIONS = ("mouth_inside", "lips", "eyelid", "eye", "face")
CASES = ("opening", "closing", "other")
METHODS = ("copy", "warp", "refined", "driver_raw", "driver_ratio", "driver")
SHUT_LIPS, WIDE_LIPS, SHUT_LIDS = 0.05, 0.1, 0.6
"""Lips are shut below the first gap over the mouth's width, and open from the second one; lids are shut
below this share of the clip's open ones.
"""
SOURCES, READ = 8, 160
"""Portraits of a clip, and frames that are looked at to choose from."""
JITTER_PX, JITTER_DRAWS, JITTER_PAIRS = 0.25, 5, 2
"""Noise of landmarks, frames with other noise, and pairs of a clip that jitter is measured on."""

Bools = NDArray[np.bool_]
Pictures = dict[str, Image]


@dataclass(frozen=True, slots=True)
class Pair:
    """A portrait, a true frame, and what each method makes of it, laid onto the true face."""

    source: Shot
    true: Shot
    cases: dict[str, str]
    """The case by region."""
    pictures: Pictures


@dataclass(slots=True)
class Evaluation:
    """What was measured."""

    figures: dict[str, dict[str, dict[str, Figures]]] = field(
        default_factory=lambda: {r: {c: {m: Figures() for m in METHODS} for c in CASES} for r in REGIONS}
    )
    jitter: dict[str, list[float]] = field(default_factory=lambda: {method: [] for method in METHODS})
    rows: list[Pair] = field(default_factory=list)
    """A few pairs for a sheet."""

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by region, case and method, and the jitter by method, in grey levels."""
        told: dict[str, Any] = {
            region: {case: {m: f.to_dict() for m, f in by_method.items()} for case, by_method in cases.items()}
            for region, cases in self.figures.items()
        }
        told["jitter"] = {m: round(float(np.mean(v)), 4) if v else None for m, v in self.jitter.items()}
        return told


class Methods:
    """Makes the pictures of every method. ``refiner`` is None where frames are not refined: then nothing is changed."""

    def __init__(self, refiner: Any) -> None:
        self._refiner = refiner
        self._warper = Warper()

    def set_source(self, source: Shot, seen: list[tuple[Image, FaceState]]) -> None:
        """Make ``source`` the portrait. ``seen``: what the camera saw of its driver before, see ``watched``."""
        self._warper.set_source(source)
        self._warper.watch(seen)

    def make(self, source: Shot, true: Shot, camera: Camera, seed: int) -> Pictures:
        """Return the pictures of all methods, laid onto the true face."""
        motion = self._warper.fit(true)
        made = self._all(source, true, motion, camera, seed, None)
        return {name: _onto(warp, true) for name, warp in made.items()}

    def jitter(self, source: Shot, true: Shot, camera: Camera, seed: int) -> dict[str, float]:
        """Return how much each method's face trembles under noise of the landmarks: mean deviation, grey levels."""
        motion = self._warper.fit(true)
        random = np.random.default_rng(seed)
        frames: dict[str, list[Image]] = {method: [] for method in METHODS}
        for _ in range(JITTER_DRAWS):
            noise = landmark_noise(random, JITTER_PX)
            for name, warp in self._all(source, true, motion, camera, seed, noise).items():
                frames[name].append(warp.image)
        pixels = self._warper.warp(motion).pixels
        region = _polygon(pixels, MOUTH.outer, 1.2) | _polygon(pixels, EYES[0].inner, 1.5)
        region |= _polygon(pixels, EYES[1].inner, 1.5)
        return {
            name: float(np.stack(images).astype(np.float32).std(axis=0)[region].mean())
            for name, images in frames.items()
        }

    def _all(self, source: Shot, true: Shot, motion: Any, camera: Camera, seed: int, noise: Any) -> dict[str, Warp]:
        warper = self._warper
        plain = warper.warp(motion, noise)
        driving, face = other_camera(true, camera, np.random.default_rng(seed))
        warper.set_mouth("driver")
        ratio = warper.warp(motion, noise, driving, face)
        warper.set_mouth("painted")
        raw = Warp(_raw_mouth(plain, driving, face.pixels()), plain.pixels)
        return {
            "copy": Warp(source.image, source.pixels),
            "warp": plain,
            "refined": self._refined(plain, "neural"),
            "driver_raw": raw,
            "driver_ratio": ratio,
            "driver": self._refined(ratio, "driver"),
        }

    def _refined(self, warp: Warp, mouth: str) -> Warp:
        if self._refiner is None:
            return warp
        image = warp.image.copy()
        self._refiner.refine(image, self._warper.image, self._warper.own, warp.pixels, mouth)
        return Warp(image, warp.pixels)


def evaluate(clips: Iterable[Clip], refiner: Any, pairs: int, seed: int, console: Console) -> Evaluation:
    """Measure all methods on ``pairs`` frames of each clip."""
    found, methods, mesh = Evaluation(), Methods(refiner), FaceMesh()
    for clip in track(list(clips), "comparing with the truth", console=console):
        random = np.random.default_rng([seed, *clip.name.encode()])
        shots, rate = read_shots(clip.path, READ, mesh)
        if len(shots) < 2:
            console.print(f"{clip.name}: no face in enough frames", highlight=False)
            continue
        open_lids = float(np.quantile([shot.lids for shot in shots], 0.8))
        kept = 0
        last: Shot | None = None
        camera = Camera.random(random)
        for source, true in choose_pairs(shots, rate, pairs, random):
            if source is not last:
                last, camera = source, Camera.random(random)
                methods.set_source(source, watched(shots, camera, random))
            number = int(random.integers(1 << 31))
            cases = cases_of(source, true, open_lids)
            pair = Pair(source, true, cases, methods.make(source, true, camera, number))
            _add(found, pair)
            if kept < JITTER_PAIRS and true.lips > WIDE_LIPS:
                kept += 1
                for name, value in methods.jitter(source, true, camera, number).items():
                    found.jitter[name].append(value)
                found.rows.append(pair)
            elif cases["eye"] == "closing" and len(found.rows) % 3 == 2:
                found.rows.append(pair)
    mesh.close()
    return found


def choose_pairs(shots: list[Shot], rate: float, count: int, random: np.random.Generator) -> list[tuple[Shot, Shot]]:
    """Return pairs of a portrait and a true frame, at least a second apart where the clip allows, by portrait."""
    few = min(SOURCES, len(shots), count)
    # most portraits have their mouth shut
    calm = 1.0 + 3 * (np.array([s.lips for s in shots]) < SHUT_LIPS)
    sources = [shots[k] for k in sorted(random.choice(len(shots), few, replace=False, p=calm / calm.sum()))]
    pairs = []
    for index, source in enumerate(sources):
        share = count // few + (index < count % few)
        far = [s for s in shots if abs(s.number - source.number) >= rate]
        far = far or [s for s in shots if s is not source]
        lids = np.array([s.lids for s in far])
        # rare cases are what is measured: an open mouth, lowered lids
        wanted = 1.0 + 2 * np.array([s.lips > WIDE_LIPS for s in far]) + 3 * (lids < SHUT_LIDS * np.quantile(lids, 0.8))
        picked = random.choice(len(far), min(share, len(far)), replace=False, p=wanted / wanted.sum())
        pairs += [(source, far[k]) for k in picked]
    return pairs


def cases_of(source: Shot, true: Shot, open_lids: float) -> dict[str, str]:
    """Return the case of each region: whether mouth or eyes open from shut, close from open, or neither."""
    mouth = _case(source.lips, true.lips, SHUT_LIPS, WIDE_LIPS)
    eyes = _case(source.lids, true.lids, SHUT_LIDS * open_lids, SHUT_LIDS * open_lids)
    return {region: eyes if region in ("eyelid", "eye") else mouth for region in REGIONS}


def _case(before: float, after: float, shut: float, opened: float) -> str:
    if before < shut and after >= opened:
        return "opening"
    return "closing" if before >= opened and after < shut else "other"


def _add(found: Evaluation, pair: Pair) -> None:
    real = Seen(pair.true.image)
    seen = {name: Seen(picture) for name, picture in pair.pictures.items()}
    for region, mask in masks_of(pair.true.pixels).items():
        if mask.sum() >= FEWEST:
            for name, one in seen.items():
                found.figures[region][pair.cases[region]][name].add(one, real, mask)


def masks_of(pixels: Points) -> dict[str, Bools]:
    """Return the regions of a true frame, (``SIDE``, ``SIDE``) each."""
    folds = [
        np.concatenate([corners[:1], upper, corners[1:], lower[::-1]])
        for corners, upper, lower in zip(EYE_CORNERS, UPPER_LID_FOLDS, LOWER_LID_FOLDS, strict=True)
    ]
    around = [_polygon(pixels, fold, 1.0) for fold in folds]
    opening = [_polygon(pixels, region.inner, 1.0) for region in EYES]
    inside = np.concatenate([MOUTH_CORNERS[:1], INNER_UPPER_LIP, MOUTH_CORNERS[1:], INNER_LOWER_LIP[::-1]])
    return {
        "mouth_inside": _polygon(pixels, inside, 1.0),
        "lips": _polygon(pixels, MOUTH.outer, 1.0),
        "eyelid": (around[0] & ~opening[0]) | (around[1] & ~opening[1]),
        "eye": _polygon(pixels, folds[0], 1.25) | _polygon(pixels, folds[1], 1.25),
        "face": _polygon(pixels, OVAL, 1.0),
    }


def _polygon(pixels: Points, outline: NDArray[np.intp], grow: float) -> Bools:
    points = pixels[outline, :2]
    middle = points.mean(axis=0)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(mask, [np.rint(middle + grow * (points - middle)).astype(np.int32)], (1,))
    return mask.astype(bool)


def _onto(warp: Warp, true: Shot) -> Image:
    """Lay a picture onto the true face by a similarity over rigid landmarks."""
    move, _ = cv2.estimateAffinePartial2D(
        warp.pixels[RIGID, :2].astype(np.float32), true.pixels[RIGID, :2].astype(np.float32), method=cv2.LMEDS
    )
    laid = cv2.warpAffine(warp.image, move, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(laid, np.uint8)


def _raw_mouth(plain: Warp, driving: Image, pixels: Points) -> Image:
    """Return a warp with the inside of the driver's mouth as the camera shows it, laid in by an affine map."""
    inner = MOUTH.inner
    move, _ = cv2.estimateAffine2D(pixels[inner, :2].astype(np.float32), plain.pixels[inner, :2].astype(np.float32))
    if move is None:
        return plain.image
    laid = cv2.warpAffine(driving, move, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.GaussianBlur(_polygon(plain.pixels, inner, 1.0).astype(np.float32), (0, 0), 1.0)[..., None]
    return np.asarray(plain.image + mask * (laid.astype(np.float32) - plain.image) + 0.5, np.uint8)
