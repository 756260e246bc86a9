"""Samples for the refiner's networks: crops of the program's own warps beside the real frames, cached by clip.

The cache is keyed by the clip, by ``VERSION``, and by the sources of the generator: a change of the
picture makes them again. Each file's checksum is checked when it is opened.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

import engines.mesh
from engines.errors import UsageError
from engines.mesh.refine_crops import EYES, MOUTH, Region
from engines.types import FaceState, Floats, Image
from realtime.tracking.face_mesh import FaceMesh
from tools.refiner_training.clips import SIDE, Clip, Shot, read_shots
from tools.refiner_training.warps import Cut, Warp, Warper, cut, landmark_noise

VERSION = 6
"""Part of the cache's key: to be raised when samples are made in another way."""
FRAMES, SOURCES, TARGETS = 110, 10, 14
"""Frames read of a clip, of these used as portraits, and real frames for each portrait."""
MARGIN = 8
"""Samples around a crop, for augmentation."""
NOISE = 0.3
"""Noise of single landmarks, pixels of a cut frame."""
MOUTH_OFF, EYE_OFF, EYE_OFF_SHUT = 1.5, 1.4, 3.0
"""A sample is left out if the outline of the warp's opening is further than this from the true one, crop samples.

The program shuts a lid completely whose landmarks still show a gap, so shut eyes may be further off.
"""
SHUT_LIDS = 0.45
"""The share of the clip's open lids below which an eye is taken for shut."""
WATCHED = 8
"""Frames of a talking driver that the generator sees before its pictures of a mouth are used, to know the light."""
OPEN_LIPS = 0.06
"""A gap of the lips over the mouth's width from which the inside shows."""
PICTURES = ("warped", "again", "driver", "source", "true")
"""The pictures of a mouth's sample; an eye's has no ``driver``."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples of one network; all arrays have the samples first. Pictures are mapped from the cache."""

    pictures: NDArray[np.uint8]
    """(N, pictures, size, size, 3), see ``PICTURES``; size is the crop's with ``MARGIN`` on each side."""
    own: Floats
    """(N, 478, 2): the portrait's landmarks in samples of its crop."""
    now: Floats
    """(N, 2, 478, 2): those of ``warped`` and of ``again``."""
    gaps: Floats
    """(N, 2): the gap of lips or lids of the portrait and of the real frame."""
    eye: NDArray[np.int64]
    """(N,): which eye, 0 for the mouth."""

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.pictures)


@dataclass(frozen=True, slots=True)
class ClipSamples:
    """The samples of one clip."""

    clip: Clip
    mouth: Samples
    eyes: Samples


def collect(clips: Iterable[Clip], folder: Path, console: Console) -> list[ClipSamples]:
    """Return the samples of clips, made where they are not in ``folder`` yet."""
    code = _code_digest()
    made = []
    mesh: FaceMesh | None = None
    for clip in track(list(clips), "making samples", console=console):
        sha = hashlib.sha256(clip.path.read_bytes()).hexdigest()
        key = hashlib.sha256(repr((VERSION, FRAMES, SOURCES, TARGETS, NOISE, sha, code)).encode()).hexdigest()[:16]
        stem = folder / f"{clip.name}-{key}"
        if not _sums_file(stem).is_file():
            mesh = mesh or FaceMesh()
            _make(clip, mesh, stem, seed=int(sha[:8], 16))
        mouth, eyes = (_open(stem, kind) for kind in ("mouth", "eyes"))
        made.append(ClipSamples(clip, mouth, eyes))
    if mesh is not None:
        mesh.close()
    return made


def _code_digest() -> str:
    """Return a digest of the generator's sources."""
    folder = Path(next(iter(engines.mesh.__path__)))
    paths = sorted(folder.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def _make(clip: Clip, mesh: FaceMesh, stem: Path, seed: int) -> None:
    """Write the samples of a clip: a file of pictures and one of landmarks for each network, and their checksums."""
    random = np.random.default_rng(seed)
    shots, rate = read_shots(clip.path, FRAMES, mesh)
    made: dict[str, list[tuple[NDArray[np.uint8], Floats, Floats, tuple[float, float], int]]] = {
        "mouth": [],
        "eyes": [],
    }
    warper = Warper()
    shut = SHUT_LIDS * float(np.quantile([shot.lids for shot in shots], 0.8)) if shots else 0.0
    for source in _sources(shots, random):
        warper.set_source(source)
        camera = Camera.random(random)
        warper.watch(watched(shots, camera, random))
        own = {region.name + str(i): cut(source.image, source.pixels, region, MARGIN) for i, region in _regions()}
        for target in _targets(source, shots, rate, random):
            _add_pair(warper, source, target, own, camera, random, made, shut)
    stem.parent.mkdir(parents=True, exist_ok=True)
    sums: dict[str, int] = {}
    for kind, rows in made.items():
        size = (MOUTH if kind == "mouth" else EYES[0]).size + 2 * MARGIN
        count = len(PICTURES) if kind == "mouth" else len(PICTURES) - 1
        pictures = np.stack([row[0] for row in rows]) if rows else np.zeros((0, count, size, size, 3), np.uint8)
        np.save(f"{stem}-{kind}.npy", pictures)
        np.savez(
            f"{stem}-{kind}.npz",
            own=np.array([row[1] for row in rows], np.float32).reshape(-1, 478, 2),
            now=np.array([row[2] for row in rows], np.float32).reshape(-1, 2, 478, 2),
            gaps=np.array([row[3] for row in rows], np.float32).reshape(-1, 2),
            eye=np.array([row[4] for row in rows], np.int64),
        )
        sums |= {name: _checksum(Path(name)) for name in (f"{stem}-{kind}.npy", f"{stem}-{kind}.npz")}
    _sums_file(stem).write_text(json.dumps({Path(k).name: v for k, v in sums.items()}), encoding="utf-8")


def _regions() -> list[tuple[int, Region]]:
    return [(0, MOUTH), (0, EYES[0]), (1, EYES[1])]


def _add_pair(
    warper: Warper,
    source: Shot,
    target: Shot,
    own: dict[str, Cut],
    camera: Camera,
    random: np.random.Generator,
    made: dict[str, list[tuple[NDArray[np.uint8], Floats, Floats, tuple[float, float], int]]],
    shut: float,
) -> None:
    """Warp ``source`` to ``target`` twice with other noise, once with the driver's mouth, and append the crops.

    ``shut``: the gap of the lids below which an eye is shut.
    """
    motion = warper.fit(target)
    clean = warper.warp(motion)
    first, second = (warper.warp(motion, landmark_noise(random, NOISE)) for _ in range(2))
    third = first
    if target.lips > OPEN_LIPS / 2:
        driving, face = other_camera(target, camera, random)
        warper.set_mouth("driver")
        third = warper.warp(motion, None, driving, face)
        warper.set_mouth("painted")
    for index, region in _regions():
        true = cut(target.image, target.pixels, region, MARGIN)
        off = float(np.hypot(*(cut(clean.image, clean.pixels, region).points - true.points)[region.inner].T).mean())
        mine = own[region.name + str(index)]
        if region is MOUTH:
            if off <= MOUTH_OFF:
                crops = [_cut(warp, region) for warp in (first, second, third)]
                pictures = np.stack([*(each.image for each in crops), mine.image, true.image])
                now = np.stack([crops[0].points, crops[1].points])
                made["mouth"].append((pictures, mine.points, now, (source.lips, target.lips), 0))
        elif off <= (EYE_OFF_SHUT if target.lids < shut else EYE_OFF):
            crops = [_cut(warp, region) for warp in (first, second)]
            pictures = np.stack([*(each.image for each in crops), mine.image, true.image])
            now = np.stack([crops[0].points, crops[1].points])
            made["eyes"].append((pictures, mine.points, now, (source.lids, target.lids), index))


def _cut(warp: Warp, region: Region) -> Cut:
    return cut(warp.image, warp.pixels, region, MARGIN)


def _sources(shots: list[Shot], random: np.random.Generator) -> list[Shot]:
    """Return the frames that are used as portraits: most with the mouth shut and the eyes open, as portraits are."""
    if len(shots) < 10:
        return []
    lips, lids = np.array([s.lips for s in shots]), np.array([s.lids for s in shots])
    calm = 0.15 + (lips <= max(np.quantile(lips, 0.3), 0.03)) + 0.5 * (lids >= np.quantile(lids, 0.5))
    picked = random.choice(len(shots), min(SOURCES, len(shots) // 2), replace=False, p=calm / calm.sum())
    return [shots[k] for k in picked]


def _targets(source: Shot, shots: list[Shot], rate: float, random: np.random.Generator) -> list[Shot]:
    """Return real frames at least a second away: those with an open mouth or lowered lids more often."""
    far = [s for s in shots if abs(s.number - source.number) >= rate] or [s for s in shots if s is not source]
    lids = float(np.quantile([s.lids for s in shots], 0.8))
    opening = np.array([s.lips > max(OPEN_LIPS, source.lips + 0.03) for s in far])
    closing = np.array([s.lids < 0.7 * lids for s in far])
    shares = 1.0 + 3 * opening + 3 * closing
    picked = random.choice(len(far), min(TARGETS, len(far)), replace=False, p=shares / shares.sum())
    return [far[k] for k in picked]


@dataclass(frozen=True, slots=True)
class Camera:
    """Another camera than the one that took a clip, and another driver in front of it for the generator."""

    colours: Floats
    """Gain of each channel, gamma and saturation, (5,)."""
    driver_id: int
    """Of its own: what the generator remembers of the light on one driver is wrong for the next."""

    @staticmethod
    def random(random: np.random.Generator) -> Camera:
        """Return a camera of random colours."""
        gains = np.exp(random.normal(0, 0.12) + random.normal(0, 0.06, 3))
        colours = [*gains, np.exp(random.normal(0, 0.15)), np.exp(random.normal(0, 0.15))]
        return Camera(np.array(colours, np.float32), int(random.integers(1, 1 << 30)))


def watched(shots: list[Shot], camera: Camera, random: np.random.Generator) -> list[tuple[Image, FaceState]]:
    """Return what a camera sees of a driver who talks for a while, as ``other_camera`` does."""
    talking = [shot for shot in shots if shot.lips > OPEN_LIPS / 2] or shots
    picked = random.choice(len(talking), min(WATCHED, len(talking)), replace=False)
    return [other_camera(talking[k], camera, random) for k in picked]


def recoloured(image: Image, colours: Floats) -> Image:
    """Return a picture in the colours of another camera, see ``Camera``."""
    grey = image.astype(np.float32) / 255
    grey = np.clip(grey.mean(axis=2, keepdims=True) * (1 - colours[4]) + grey * colours[4], 0, 1)
    return np.asarray(np.clip(255 * grey ** colours[3] * colours[:3] + 0.5, 0, 255), np.uint8)


def other_camera(target: Shot, camera: Camera, random: np.random.Generator) -> tuple[Image, FaceState]:
    """Return a frame as another camera would show it to another tracker: colours, blur, and landmarks that are off."""
    image = recoloured(target.image, camera.colours)
    blur = float(random.choice([0.0, 0.6, 1.0, 1.6]))
    if blur:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), blur), np.uint8)
    pixels = target.pixels.copy()
    middle = pixels[MOUTH.inner, :2].mean(axis=0)
    pixels[:, :2] = middle + (pixels[:, :2] - middle) * np.exp(random.normal(0, 0.04, 2)) + random.normal(0, 1.0, 2)
    pixels[:, :2] += random.normal(0, NOISE, (478, 2))
    pixels = pixels.astype(np.float32)
    number = int(random.integers(1 << 30))
    face = FaceState(
        number, number * 40_000_000, pixels / np.float32(SIDE), (SIDE, SIDE), driver_id=camera.driver_id
    )  # fmt: skip
    return image, face


def _sums_file(stem: Path) -> Path:
    """Return the file of checksums: written last, so that it says that the others are complete."""
    return Path(f"{stem}.json")


def _checksum(path: Path) -> int:
    total = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            total = zlib.crc32(block, total)
    return total


def _open(stem: Path, kind: str) -> Samples:
    """Open a clip's samples. Raises UsageError where a file is not what was written."""
    sums = json.loads(_sums_file(stem).read_text(encoding="utf-8"))
    for path in (Path(f"{stem}-{kind}.npy"), Path(f"{stem}-{kind}.npz")):
        if not path.is_file() or _checksum(path) != sums[path.name]:
            raise UsageError(
                "training-cache-broken",
                f"{path}, which is not as it was written",
                "the cache of this program",
                f"remove {stem.parent}, then train again",
            )
    with np.load(f"{stem}-{kind}.npz") as file:
        return Samples(np.load(f"{stem}-{kind}.npy", mmap_mode="r"), **{name: file[name] for name in file.files})
