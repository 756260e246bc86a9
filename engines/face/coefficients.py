"""Expression coefficients, and what a face would look like at another expression.

A face is ``identity shape + basis @ code``, turned by the pose of the head. The code is read from the landmarks by a
small network: the 52 ARKit coefficients first, then free components for what these do not tell apart. Network and basis
are trained together by ``tools.train_expression`` so that, within a person, differences of codes explain differences of
shapes; the identity shape is what is left over.

The head frame here is the canonical one: the axes and the size of MediaPipe's canonical face, with the origin between
the eyes and one unit the root mean square distance of the rigid points, as in ``engines.face.head``.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import TrackerError
from engines.face.procrustes import similarity
from engines.face.topology import EYE_CORNERS, RIGID, RIGID_CANONICAL, RIGID_WEIGHTS
from engines.jit import compiled
from engines.types import LANDMARKS, Floats, Points

NAMES = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight",
    "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight",
    "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight",
    "eyeWideLeft", "eyeWideRight",
    "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight",
    "mouthUpperUpLeft", "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
"""The 52 ARKit coefficients: MediaPipe's order without its ``_neutral``, and ``tongueOut``, which it cannot read."""
MIRRORED = np.array(
    [NAMES.index(name.replace("Left", "*").replace("Right", "Left").replace("*", "Right")) for name in NAMES], np.intp
)
"""(52,): the coefficient that each one becomes when the picture is flipped left to right."""
READ = len(NAMES) - 1
"""How many of them are read from a picture: all but ``tongueOut``."""

FREE_LIMIT = 4.5
"""No face of the training had a free component beyond this: it is something else, or tracked wrongly."""

FILE = Path(__file__).parents[1] / "assets" / "expression.npz"
VERSION = 1
_ARRAYS = ("points", "mean", "spread", "w1", "b1", "w2", "b2", "w3", "b3", "basis")
_MOST_BYTES = 4 << 20

_CENTRE = RIGID_CANONICAL[
    [int(np.flatnonzero(point == RIGID)[0]) for corners in EYE_CORNERS for point in corners]
].mean(0)
_MIDDLE = np.average(RIGID_CANONICAL, axis=0, weights=RIGID_WEIGHTS)
UNIT = float(np.sqrt(np.average(((RIGID_CANONICAL - _MIDDLE) ** 2).sum(axis=1), weights=RIGID_WEIGHTS)))
"""Centimetres of the canonical face in one unit of the head frame."""
_RIGID_FRAME = np.ascontiguousarray((RIGID_CANONICAL - _CENTRE) / np.float32(UNIT), np.float32)


@compiled()
def canonical_shape(pixels: Any) -> Any:
    """Return a face in the canonical head frame, (478, 3) float32, from its landmarks in pixels, (478, 3) float32."""
    rigid = np.empty((RIGID.shape[0], 3), np.float32)
    for i in range(RIGID.shape[0]):
        for k in range(3):
            rigid[i, k] = pixels[RIGID[i], k]
    rotation, scale, origin = similarity(rigid, _RIGID_FRAME, RIGID_WEIGHTS)
    shape = np.empty((pixels.shape[0], 3), np.float32)
    for i in range(pixels.shape[0]):
        for k in range(3):
            total = 0.0
            for j in range(3):
                total += (pixels[i, j] - origin[j]) * rotation[j, k]
            shape[i, k] = total / scale
    return shape


@dataclass(frozen=True, slots=True)
class CoefficientModel:
    """The network from landmarks to codes, and the basis from codes to shapes. Immutable; any thread may use it."""

    points: NDArray[np.intp]
    """(P,): the landmarks that the network looks at."""
    mean: Floats
    """(P * 3,): what is subtracted from their coordinates, canonical head frame."""
    layers: tuple[tuple[Floats, Floats], ...]
    """Weights (in, out) and biases (out,) of each layer; SiLU between them."""
    basis: Floats
    """(code, 478 * 3): how far each component of the code moves each landmark, canonical head frame."""

    @property
    def size(self) -> int:
        """How many components a code has: ``READ`` coefficients and the free ones."""
        return len(self.basis)

    def read(self, shape: Points) -> Floats:
        """Return the code of a face, (size,) float32, new; ``shape`` is (478, 3) as of ``canonical_shape``."""
        values = shape[self.points].reshape(-1) - self.mean
        last = len(self.layers) - 1
        for index, (weight, bias) in enumerate(self.layers):
            values = product(values, weight) + bias
            if index < last:
                values = values * _sigmoid(values)
        values[:READ] = _sigmoid(values[:READ])
        np.clip(values[READ:], -FREE_LIMIT, FREE_LIMIT, out=values[READ:])
        return np.asarray(values, np.float32)

    def is_plausible(self, code: Floats) -> bool:
        """Return True if a code is that of a face like those that the model was trained on."""
        return bool(np.abs(code[READ:]).max() < FREE_LIMIT)

    def displacement(self, code: Floats) -> Points:
        """Return how far a code moves every landmark from the identity shape, (478, 3) float32, new."""
        return np.asarray(product(code, self.basis), np.float32).reshape(LANDMARKS, 3)

    def coefficients(self, code: Floats) -> Floats:
        """Return the 52 ARKit coefficients of a code, (52,) float32 in [0, 1], new, in the order of ``NAMES``."""
        values = np.zeros(len(NAMES), np.float32)
        values[:READ] = code[:READ]
        return values


@compiled()
def product(vector: Any, matrix: Any) -> Any:
    """Return ``vector @ matrix``, float32. Rows whose value is zero cost nothing.

    Compiled, because BLAS would divide it among threads, which takes milliseconds where all cores are busy.
    """
    total = np.zeros(matrix.shape[1], np.float32)
    for i in range(matrix.shape[0]):
        value = vector[i]
        if value != 0:
            for j in range(matrix.shape[1]):
                total[j] += value * matrix[i, j]
    return total


def _sigmoid(values: Floats) -> Floats:
    """Return 1 / (1 + exp(-x)), which does not overflow in this form."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * values), np.float32)


def digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return a digest of a model's arrays: what its file must state, so that an edited one is noticed."""
    sha = hashlib.sha256()
    for name in _ARRAYS:
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a model's arrays, rounded to float16 by the caller, with version and digest."""
    np.savez_compressed(
        path, version=np.int64(VERSION), digest=np.array(digest(arrays)), **{name: arrays[name] for name in _ARRAYS}
    )


def load(path: Path = FILE) -> CoefficientModel:
    """Read a model's file. Raises TrackerError where it is missing, truncated, edited or of another version."""
    expected, cure = "the file that this version of reenact ships", "reinstall reenact, or train it again"
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("too large")
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            version = int(file["version"])
            if version != VERSION:
                found = f"version {version} of the expression coefficients in {path}"
                raise TrackerError("coefficients-version", found, f"version {VERSION}", cure)
            arrays = {name: file[name] for name in _ARRAYS}
            stated = str(file["digest"])
    except FileNotFoundError:
        raise TrackerError("coefficients-missing", f"no expression coefficients at {path}", expected, cure) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, TypeError) as error:
        found = f"{path}, which cannot be read as expression coefficients"
        raise TrackerError("coefficients-unreadable", found, expected, cure) from error
    if digest(arrays) != stated:
        raise TrackerError("coefficients-edited", f"{path}, which was changed after it was written", expected, cure)
    return _model(arrays)


def _model(arrays: Mapping[str, NDArray[Any]]) -> CoefficientModel:
    single = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
    first = (single["w1"] / single["spread"], single["b1"])
    layers = (first, (single["w2"], single["b2"]), (single["w3"], single["b3"]))
    points = arrays["points"].astype(np.intp)
    return CoefficientModel(points, single["mean"], layers, single["basis"].reshape(len(single["basis"]), -1))


@cache
def shipped() -> CoefficientModel:
    """Return the model that ships, read once. Raises TrackerError."""
    return load()
