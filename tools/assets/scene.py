"""A head in a studio: poses it, dresses it, lights it and draws it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.types import Floats
from tools.assets.face_model import (
    EYE,
    GUM,
    MOUTH,
    SKIN,
    TEETH,
    FaceModel,
    Ints,
    Subdivision,
    Surface,
    load_face_model,
    normals,
    triangles,
)
from tools.assets.light import Studio, light_mesh, scatter
from tools.assets.raster import Camera, visible
from tools.assets.shade import LAMPS, Buffers, Eyes, interpolate, shade
from tools.assets.skin import Maps

PIVOT = np.array([0.0, -6.0, -1.0], np.float32)
"""What the head turns about: the top of the neck."""


def rotation(turn: tuple[float, float, float]) -> Floats:
    """Return the rotation (3, 3) by ``turn``: radians by which the head nods down, turns to its left, tilts clockwise.

    It is ``Rz(-tilt) · Ry(turn) · Rx(nod)`` in the model's axes (x to the picture's right, y up).
    """
    nod, aside, tilt = turn
    c, s = np.cos(nod), np.sin(nod)
    about_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    c, s = np.cos(aside), np.sin(aside)
    about_y = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    c, s = np.cos(tilt), np.sin(tilt)
    about_z = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, np.float32)


def on_head(rest: Floats) -> Floats:
    """Return how far points of the mean face (V, 3) follow the head: 1 above the neck, 0 on the shoulders."""
    t = np.clip((rest[:, 1] + 0.25 * rest[:, 2] + 14.5) / 9.0, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def posed(points: Floats, follow: Floats, turn: tuple[float, float, float], steps: int = 16) -> Floats:
    """Return points (V, 3) turned about the neck, each as far as it follows the head (V,)."""
    bins = np.rint(follow * steps).astype(int)
    out = points.copy()
    for k in range(1, steps + 1):
        here = bins == k
        if here.any():
            part = rotation((turn[0] * k / steps, turn[1] * k / steps, turn[2] * k / steps))
            out[here] = (points[here] - PIVOT) @ part.T + PIVOT
    return out


def _without_edge(corners: Ints, rest: Floats) -> Ints:
    """Return the triangles without those of the shoulders, which clothes cover."""
    shoulder = (np.abs(rest[:, 0]) > 10.5) & (rest[:, 1] < -11)
    return np.ascontiguousarray(corners[~shoulder[corners].any(1)])


class HeadMesh:
    """The face model made ready to be drawn many times: its subdivision, its edges and what carries light."""

    def __init__(self, model: FaceModel) -> None:
        """Prepare the topology."""
        self.model = model
        self.coarse = _without_edge(triangles(model.faces), model.neutral)
        self.subdivision = Subdivision(model.faces, len(model.neutral))
        self.fine = _without_edge(triangles(self.subdivision.faces), self.subdivision.smooth(model.neutral))
        edges = self.subdivision.edges
        self.edges = edges
        self.scattering = ((model.kind[edges[:, 0]] == SKIN) & (model.kind[edges[:, 1]] == SKIN)).astype(np.float32)
        kinds = self.subdivision.smooth(model.kind[:, None].astype(np.float32))[:, 0]
        self.fine_kind = np.rint(kinds).astype(np.uint8)
        self.fine_rest = self.subdivision.smooth(model.neutral)
        self.follow = on_head(model.neutral)
        on_eye = self.fine_kind == EYE
        self.eyes = [np.flatnonzero(on_eye & (side * self.fine_rest[:, 0] > 0)) for side in (1, -1)]
        """The vertices of the eyeballs, which are lit as the spheres that they are beneath the cornea."""


def open_mesh(path: Path) -> HeadMesh:
    """Read the face model and prepare it."""
    return HeadMesh(load_face_model(path))


@dataclass(frozen=True)
class Extra:
    """A mesh besides the head, such as clothes: points (V, 3), triangles (T, 3), and its material."""

    points: Floats
    corners: Ints
    kind: int
    follows: bool = False


@dataclass(frozen=True)
class Look:
    """What does not change from frame to frame."""

    maps: Maps
    eyes: Eyes
    studio: Studio
    camera: Camera
    extras: tuple[Extra, ...] = ()
    frame: tuple[float, float, float] = (0.02, 0.02, 0.02)
    directions: int = 96
    scatter: tuple[int, int, int] = (12, 4, 2)


@dataclass
class Drawn:
    """A drawn head: linear ``image`` (H, W, 3), what each pixel shows, and the light at the vertices."""

    image: Floats
    buffers: Buffers
    points: Floats
    cover: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.cover = self.buffers.kind > 0


def draw_head(
    mesh: HeadMesh,
    surface: Surface,
    turn: tuple[float, float, float],
    look: Look,
    size: tuple[int, int],
    hair: tuple[Floats, Floats] | None = None,
    cloth: Maps | None = None,
) -> Drawn:
    """Return the head of ``surface`` as drawn at ``size`` (height, width), with the shadows of ``hair`` on it."""
    points = posed(surface.points, mesh.follow, turn)
    extras = [
        e.points if not e.follows else posed(e.points, np.ones(len(e.points), np.float32), turn) for e in look.extras
    ]
    all_points, all_corners = _joined([points, *extras], [mesh.coarse, *(e.corners for e in look.extras)])
    light = light_mesh(all_points, normals(all_points, all_corners), all_corners, look.studio, look.directions, hair)
    count = len(points)
    skin_light = scatter(light.total[:count], mesh.edges, mesh.scattering, look.scatter)
    share = np.zeros((len(all_points), LAMPS), np.float32)
    share[:, : light.share.shape[1]] = light.share
    fine = mesh.subdivision.smooth(np.concatenate([points, skin_light, share[:count]], 1))
    kinds = [mesh.fine_kind, *(np.full(len(e.points), e.kind, np.uint8) for e in look.extras)]
    fine_points, corners = _joined(
        [np.ascontiguousarray(fine[:, :3]), *extras], [mesh.fine, *(e.corners for e in look.extras)]
    )
    values = np.zeros((len(fine_points), 13), np.float32)
    values[:, :3] = normals(fine_points, corners)
    values[: len(fine), 3:10], values[len(fine) :, 3:6], values[len(fine) :, 6:10] = (
        fine[:, 3:10],
        light.total[count:],
        share[count:],
    )
    values[: len(fine), 10:] = mesh.fine_rest
    values[: len(fine), 3:6] += _inside(mesh, look.studio)
    for eye in mesh.eyes:
        out = fine_points[eye] - fine_points[eye].mean(0)
        values[eye, :3] = out / np.linalg.norm(out, axis=1, keepdims=True)
    seen = visible(look.camera.project(fine_points, *size), corners, *size)
    flat = interpolate(seen.triangle, seen.weight, corners, values)
    kind = np.where(seen.triangle >= 0, np.concatenate(kinds)[corners[seen.triangle][..., 0]], 0).astype(np.uint8)
    normal, lit, lamps, rest = (np.ascontiguousarray(part) for part in np.split(flat, (3, 6, 10), -1))
    buffers = Buffers(kind, normal, lit, lamps, rest, seen.depth)
    view = (look.camera.span, look.camera.distance)
    return Drawn(shade(buffers, look.maps, look.eyes, look.studio, cloth, look.frame, view), buffers, fine_points)


def _inside(mesh: HeadMesh, studio: Studio) -> Floats:
    """Return the light (V, 3) that is scattered between lips, teeth and tongue, which shadows do not account for."""
    within = np.isin(mesh.fine_kind, (MOUTH, GUM, TEETH))[:, None]
    depth = np.clip((mesh.fine_rest[:, 2:] - 3.5) / 7.5, 0, 1) ** 1.5
    return np.asarray(within * depth * (np.array(studio.sky) + np.array(studio.ground)) * 0.75, np.float32)


def _joined(points: list[Floats], corners: list[Ints]) -> tuple[Floats, Ints]:
    starts = np.cumsum([0, *(len(p) for p in points[:-1])])
    shifted = [c + np.int32(start) for c, start in zip(corners, starts, strict=True)]
    return np.concatenate(points).astype(np.float32), np.ascontiguousarray(np.concatenate(shifted), np.int32)
