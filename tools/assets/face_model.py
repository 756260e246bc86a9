"""The face model ICT-FaceKit (MIT, USC ICT) as a mesh: who a head is, what its face does, and smooth subdivision.

Centimetres; x to the picture's right, y up, z towards the viewer. The model is a file of its own, which does not come
with the program.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines.types import Floats
from tools.assets.compiled import kernel

Ints = NDArray[np.int32]

SKIN, MOUTH, SOCKET, GUM, TEETH, EYE, CLOTH, GLASSES = range(1, 9)
"""Materials; 0 is the backdrop."""

_PARTS = (
    (0, 11247, SKIN),
    (11248, 13293, MOUTH),
    (13294, 14061, SOCKET),
    (14062, 17038, GUM),
    (17039, 21450, TEETH),
    (21451, 24590, EYE),
)
"""First vertex, last vertex and material. What is left out are films of liquid, drawn as highlights, and lashes,
drawn as strands."""

SYMMETRIC = ("browInnerUp", "cheekPuff")
"""Coefficients of ARKit that the model has once for each side."""


class Surface(NamedTuple):
    """A mesh. ``points`` and ``rest`` (V, 3) float32, ``faces`` (F, 4) int32 (-1: three corners), ``kind`` (V,) uint8.

    ``rest`` is where a vertex lies in the model's mean face, at rest: what is painted on is found by it.
    """

    points: Floats
    rest: Floats
    faces: Ints
    kind: NDArray[np.uint8]


@dataclass(frozen=True)
class FaceModel:
    """The model's arrays, without the parts that are not drawn."""

    neutral: Floats
    faces: Ints
    kind: NDArray[np.uint8]
    expressions: dict[str, Floats]
    identities: Floats

    def head(self, identity: dict[int, float], coefficients: dict[str, float]) -> Surface:
        """Return the head of ``identity`` (mode: standard deviations) with ARKit ``coefficients``, looking ahead."""
        points = self.neutral.copy()
        for mode, amount in identity.items():
            points += np.float32(amount) * self.identities[mode]
        for name, amount in coefficients.items():
            if amount:
                points += np.float32(amount) * self.expressions[name]
        return Surface(points, self.neutral, self.faces, self.kind)


def load_face_model(path: Path) -> FaceModel:
    """Read the model from its npz file."""
    with np.load(path, allow_pickle=False) as data:
        neutral = data["neutral"].astype(np.float32)
        faces, names = data["faces"].astype(np.int32), data["expression_names"].tolist()
        expressions, identities = data["expressions"].astype(np.float32), data["identities"].astype(np.float32)
    kind = np.zeros(len(neutral), np.uint8)
    for first, last, material in _PARTS:
        kind[first : last + 1] = material
    faces = faces[kind[faces[:, 0]] > 0]
    kept = np.flatnonzero(kind)
    number = np.full(len(neutral), -1, np.int32)
    number[kept] = np.arange(len(kept), dtype=np.int32)
    faces = np.where(faces >= 0, number[faces], -1).astype(np.int32)
    by_name = {_arkit(name): expressions[i][kept] for i, name in enumerate(names)}
    for name in SYMMETRIC:
        by_name[name] = by_name[f"{name}Left"] + by_name[f"{name}Right"]
    return FaceModel(neutral[kept], faces, kind[kept], by_name, identities[:, kept])


def _arkit(name: str) -> str:
    return name.replace("_L", "Left").replace("_R", "Right")


class Subdivision:
    """One step of Catmull and Clark's subdivision of a mesh; each face becomes one quadrilateral for each corner."""

    def __init__(self, faces: Ints, vertices: int) -> None:
        """Find the edges of ``faces`` (F, 4)."""
        self.corners = faces
        self.present = faces >= 0
        self.count = self.present.sum(1)
        following = np.roll(faces, -1, axis=1)
        three = self.count == 3
        following[three, 2] = faces[three, 0]
        pairs = np.sort(np.stack([faces, following], -1)[self.present], axis=1).astype(np.int64)
        keys, inverse = np.unique(pairs[:, 0] * vertices + pairs[:, 1], return_inverse=True)
        self.edges = np.stack([keys // vertices, keys % vertices], -1).astype(np.int32)
        self.edge_of = np.full(faces.shape, -1, np.int32)
        self.edge_of[self.present] = inverse
        self.vertices = vertices
        self.boundary = np.bincount(inverse, minlength=len(keys)) == 1
        self.faces = self._split()

    def _split(self) -> Ints:
        first_edge, first_face = self.vertices, self.vertices + len(self.edges)
        quads = []
        for k in range(4):
            here = np.flatnonzero(self.present[:, k])
            before = np.where(k > 0, k - 1, self.count[here] - 1)
            quads.append(
                np.stack(
                    [
                        self.corners[here, k],
                        first_edge + self.edge_of[here, k],
                        first_face + here,
                        first_edge + self.edge_of[here, before],
                    ],
                    -1,
                )
            )
        return np.asarray(np.concatenate(quads), np.int32)

    def smooth(self, values: Floats) -> Floats:
        """Return the values (V', C) of the finer mesh for those of the coarse one (V, C)."""
        return _catmull_clark(
            np.ascontiguousarray(values, np.float32), self.corners, self.edges, self.edge_of, self.boundary
        )


@kernel
def _catmull_clark(values: Floats, faces: Ints, edges: Ints, edge_of: Ints, boundary: NDArray[np.bool_]) -> Floats:
    """Return ``Subdivision.smooth`` of values: Catmull and Clark (1978), with boundaries as cubic splines."""
    vertices, channels = values.shape
    first_face = vertices + edges.shape[0]
    out = np.zeros((first_face + faces.shape[0], channels), np.float32)
    around = np.zeros(vertices, np.float32)
    near = np.zeros((vertices, channels), np.float32)
    across = np.zeros((vertices, channels), np.float32)
    degree = np.zeros(vertices, np.float32)
    rim = np.zeros((vertices, channels), np.float32)
    rims = np.zeros(vertices, np.float32)
    for f in range(faces.shape[0]):
        size = 3 if faces[f, 3] < 0 else 4
        for c in range(channels):
            total = np.float32(0)
            for k in range(size):
                total += values[faces[f, k], c]
            out[first_face + f, c] = total / size
        for k in range(size):
            around[faces[f, k]] += 1
            for c in range(channels):
                near[faces[f, k], c] += out[first_face + f, c]
                out[vertices + edge_of[f, k], c] += 0.25 * out[first_face + f, c]
    for e in range(edges.shape[0]):
        a, b = edges[e]
        degree[a] += 1
        degree[b] += 1
        for c in range(channels):
            middle = 0.5 * (values[a, c] + values[b, c])
            across[a, c] += middle
            across[b, c] += middle
            if boundary[e]:
                out[vertices + e, c] = middle
                rim[a, c] += middle
                rim[b, c] += middle
            else:
                out[vertices + e, c] += 0.5 * middle
        if boundary[e]:
            rims[a] += 1
            rims[b] += 1
    for v in range(vertices):
        for c in range(channels):
            if rims[v] > 0:
                out[v, c] = 0.5 * values[v, c] + 0.5 * rim[v, c] / rims[v]
            elif degree[v] > 0:
                n = degree[v]
                out[v, c] = (near[v, c] / around[v] + 2 * across[v, c] / n + (n - 3) * values[v, c]) / n
            else:
                out[v, c] = values[v, c]
    return out


def triangles(faces: Ints) -> Ints:
    """Return the triangles (T, 3) of faces (F, 4)."""
    four = faces[:, 3] >= 0
    return np.ascontiguousarray(np.concatenate([faces[:, :3], faces[four][:, [0, 2, 3]]]))


def normals(points: Floats, corners: Ints) -> Floats:
    """Return the unit normals (V, 3) of a mesh of triangles, weighted by area."""
    a, b, c = (points[corners[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    total = np.stack(
        [sum(np.bincount(corners[:, k], face[:, axis], len(points)) for k in range(3)) for axis in range(3)], -1
    )
    return np.asarray(total / (np.linalg.norm(total, axis=1, keepdims=True) + 1e-12), np.float32)
