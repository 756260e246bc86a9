"""The rig of sliders: how far each coefficient moves each landmark, from the face model's own expressions.

python -m tools.expression_training.rig ict_face.npz

The basis of ``engines.face.coefficients`` explains what trackers see, in which coefficients go together: it does not
tell apart what one of them does. ICT-FaceKit (MIT, USC ICT) has a sculpted expression for each. Its mean face is drawn,
the landmarks are found in the picture, and each is tied to the place of the mesh that is seen there.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from engines.face import rig
from engines.face.coefficients import MIRRORED, NAMES, READ, canonical_shape, shipped
from engines.face.head import pose_against
from engines.face.topology import ALL_EYE_CORNERS, IRISES, LEFT_EYE, MIRROR, RIGHT_EYE
from engines.types import LANDMARKS, FaceState, Floats, Image, Points
from realtime.tracking.still_faces import FaceFinder
from tools.assets.face_model import SKIN, FaceModel, triangles
from tools.assets.performance import PERFORMER
from tools.assets.person import Person, Quality, Sitter, backdrop, over, reduced, tone_map
from tools.assets.raster import Camera, visible
from tools.assets.scene import open_mesh
from tools.support.command import new_app, run_app

SIZE = (640, 640)
"""Height and width of the pictures that the landmarks are found in."""
PARTED = {"jawOpen": 0.3}
"""Lips that are a little apart: where they touch, the landmarks of both would be tied to either."""
SAMPLES = 4
"""How finely the mesh is looked at, in places along a pixel's side."""
_ACROSS, _UP, _DOWN = 0.125, 0.06, 0.065
GAZE = {
    "eyeLookInRight": (_ACROSS, 0.0), "eyeLookOutRight": (-_ACROSS, 0.0),
    "eyeLookInLeft": (-_ACROSS, 0.0), "eyeLookOutLeft": (_ACROSS, 0.0),
    "eyeLookUpRight": (0.0, -_UP), "eyeLookUpLeft": (0.0, -_UP),
    "eyeLookDownRight": (0.0, _DOWN), "eyeLookDownLeft": (0.0, _DOWN),
}  # fmt: skip
"""How far each coefficient moves its iris, across and down in the head frame: a fifth of an eye's width to the side."""
AMOUNTS = {"jawOpen": 0.8, "mouthClose": 0.8, "browDownLeft": 1.5, "browDownRight": 1.5}
"""Shares of what the model does: its widest mouth would leave the outline of most faces, and its frown is faint."""
FLIP = np.array([-1, 1, 1], np.float32)
_IRIS_POINTS = np.concatenate(IRISES)

app = new_app()


@app.command()
def rig_command(
    model: Annotated[Path, typer.Argument(help="the face model, an npz file")],
    out: Annotated[Path, typer.Option(help="file to write")] = rig.FILE,
) -> None:
    """Write the rig of the sliders from the face model."""
    mesh = open_mesh(model)
    person = replace(PERFORMER, identity={}, camera=Camera(y=0.0, span=36.0))
    quality = Quality(48, 2, 0.5)
    sitter = Sitter(mesh, person, SIZE, quality)
    neutral = _identity_shape(_found(_drawn(sitter, {}, quality)))
    parted = _found(_drawn(sitter, PARTED, quality)).pixels()
    write(out, mesh.model, person, neutral, parted)


def write(out: Path, model: FaceModel, person: Person, neutral: Points, parted: Points) -> None:
    """Write the rig. ``neutral``: the mean face, (478, 3) in the head frame; ``parted``: its landmarks in pixels."""
    corners, weights = _places(model, person, parted)
    basis = _basis(model, corners, weights)
    np.savez_compressed(out, face=neutral.astype(np.float16), basis=basis.astype(np.float16))


def _drawn(sitter: Sitter, face: dict[str, float], quality: Quality) -> Image:
    layers = sitter.draw(face, (0.0, 0.0, 0.0))
    wall = backdrop(sitter.size, (0.4, 0.4, 0.4), (0.1, 0.1, 0.1))
    return tone_map(reduced(over(layers, wall), quality.samples))


def _found(image: Image) -> FaceState:
    with FaceFinder() as finder:
        return finder.find(image)[0]


def _identity_shape(face: FaceState) -> Points:
    """Return a face without expression, symmetric, in the canonical head frame."""
    model = shipped()
    shape = canonical_shape(face.pixels())
    shape = shape - model.displacement(model.read(shape))
    return np.asarray(0.5 * (shape + shape[MIRROR] * FLIP), np.float32)


def _places(model: FaceModel, person: Person, pixels: Points) -> tuple[NDArray[np.int32], Floats]:
    """Return the triangle, (478, 3), and the weights of its corners, (478, 3), that lie at each landmark."""
    height, width = SIZE[0] * SAMPLES, SIZE[1] * SAMPLES
    projected = person.camera.project(model.head(person.identity, PARTED).points, height, width)
    every = np.ascontiguousarray(triangles(model.faces))
    seen = visible(projected, every, height, width)
    kinds = np.where(seen.triangle >= 0, model.kind[every[seen.triangle][..., 0]], 0)
    rows, columns = np.nonzero(kinds == SKIN)
    nearest = [np.argmin((columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2) for x, y in pixels[:, :2] * SAMPLES]
    at = rows[nearest], columns[nearest]
    return every[seen.triangle[at]], seen.weight[at]


def _basis(model: FaceModel, corners: NDArray[np.int32], weights: Floats) -> Floats:
    """Return how far each coefficient moves each landmark, (51, 478, 3), symmetric, in the head frame."""

    def landmarks(points: Floats) -> Points:
        flipped = (points[corners] * weights[..., None]).sum(axis=1) * np.array([1, -1, -1], np.float32)
        return np.ascontiguousarray(flipped, np.float32)

    # the head stays where it is: the jaw moves points that poses are found by
    rest = landmarks(model.neutral)
    pose = pose_against(rest, canonical_shape(rest))
    moves = np.zeros((READ, LANDMARKS, 3), np.float32)
    for index, name in enumerate(NAMES[:READ]):
        amount = np.float32(AMOUNTS.get(name, 1.0) / pose.scale)
        moves[index] = landmarks(model.expressions[name]) @ pose.rotation * amount
    mirrored = np.stack([moves[MIRRORED[index]][MIRROR] * FLIP for index in range(READ)])
    basis = np.asarray(0.5 * (moves + mirrored), np.float32)
    basis[:, _IRIS_POINTS] = 0
    # the corners of an eye stay where they are; what is tied to the lids there would take gaze and width with it
    of_eyes = [index for index, name in enumerate(NAMES[:READ]) if name.startswith("eye")]
    basis[np.array(of_eyes)[:, None], ALL_EYE_CORNERS] = 0
    for name, (across, down) in GAZE.items():
        side = RIGHT_EYE if name.endswith("Right") else LEFT_EYE
        basis[NAMES.index(name), IRISES[side], :2] = across, down
    return basis


def main(arguments: list[str] | None = None, prog: str = "python -m tools.expression_training.rig") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
