"""The rendered portraits and the performer: the files in the package, and the parts of the renderer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from engines.types import Floats
from realtime.capture.performer import FPS, FRAMES, TRUTH
from realtime.portraits.bundled import FOLDER, bundled_portraits
from tools.assets import performance
from tools.assets.face_model import Subdivision, normals, triangles
from tools.assets.gallery import GALLERY, STYLES
from tools.assets.light import Lamp, Studio, light_mesh
from tools.assets.raster import Camera, visible
from tools.assets.scene import rotation
from tools.render_assets import SIZE, write_list

CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
CUBE_FACES = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]], np.int32)


# The files


def test_the_gallery_has_many_styles_and_is_small() -> None:
    assert len(GALLERY) >= 10
    assert {picture.style for picture in GALLERY.values()} == set(STYLES)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 4 << 20


def test_the_list_in_the_package_is_the_gallery_s(tmp_path: Path) -> None:
    write_list(tmp_path)
    assert json.loads((FOLDER / "portraits.json").read_text()) == json.loads((tmp_path / "portraits.json").read_text())


@pytest.mark.parametrize("portrait", bundled_portraits(), ids=lambda portrait: str(portrait.name))
def test_a_bundled_picture_has_its_size(portrait: object) -> None:
    with Pillow.open(portrait.path) as picture:  # type: ignore[attr-defined]
        assert picture.mode == "RGB"
        assert (picture.height, picture.width) == SIZE


def test_the_truth_in_the_package_is_the_performance_s() -> None:
    assert round(performance.LOOP_S * performance.FPS) == FRAMES
    assert performance.FPS == FPS
    with np.load(TRUTH) as packaged:
        for name, values in performance.truth().items():
            if name == "names":
                np.testing.assert_array_equal(packaged[name], values)
            else:
                np.testing.assert_allclose(packaged[name], np.asarray(values, np.float32), atol=1e-5)


# The renderer


def test_a_subdivided_cube_is_rounder_and_closed() -> None:
    subdivision = Subdivision(CUBE_FACES, len(CUBE))
    fine = subdivision.smooth(CUBE)
    assert fine.shape == (8 + 12 + 6, 3)
    assert subdivision.faces.shape == (24, 4)
    assert not subdivision.boundary.any()
    radius = np.linalg.norm(fine, axis=1)
    assert radius.max() / radius.min() < 1.25
    outwards = (normals(fine, triangles(subdivision.faces)) * fine).sum(1)
    assert abs(np.sign(outwards).sum()) == len(fine), "all faces wind the same way"


def test_subdivision_keeps_a_flat_square_with_its_boundary() -> None:
    square = np.array([[0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]], np.float32)
    fine = Subdivision(np.array([[0, 1, 2, 3]], np.int32), 4).smooth(square)
    assert np.abs(fine[:, 2]).max() == 0
    np.testing.assert_allclose(fine[4:8].mean(0), [1, 1, 0])


def _square(z: float, half: float) -> tuple[Floats, NDArray[np.int32]]:
    points = np.array([[-half, -half, z], [half, -half, z], [half, half, z], [-half, half, z]], np.float32)
    return points, np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def test_the_nearer_of_two_surfaces_is_seen() -> None:
    far, corners = _square(0.0, 8.0)
    near, _ = _square(5.0, 2.0)
    points = np.concatenate([far, near])
    both = np.concatenate([corners, corners + 4]).astype(np.int32)
    camera = Camera(y=0.0, span=20.0)
    seen = visible(camera.project(points, 40, 40), both, 40, 40)
    assert seen.triangle[20, 20] >= 2
    assert seen.triangle[20, 8] in (0, 1)
    assert seen.triangle[1, 1] == -1
    np.testing.assert_allclose(seen.weight[20, 20].sum(), 1, atol=1e-5)


def test_a_surface_beneath_another_is_in_its_shadow() -> None:
    floor, corners = _square(0.0, 8.0)
    facing = np.tile(np.array([0, 0, 1], np.float32), (4, 1))
    studio = Studio((Lamp(0, 0, 20, (1, 1, 1)),), (0.1, 0.1, 0.1), (0.1, 0.1, 0.1))
    free = light_mesh(floor, facing, corners, studio, 200)
    lid, _ = _square(3.0, 14.0)
    both = np.concatenate([floor, lid])
    covered = light_mesh(both, np.concatenate([facing, facing]), np.concatenate([corners, corners + 4]), studio, 200)
    assert free.share.min() > 0.9
    assert covered.total[:4].max() < 0.2 * free.total.min()


def test_the_head_turns_as_documented() -> None:
    nose = np.array([0, 0, 10], np.float32)
    assert (rotation((0.2, 0, 0)) @ nose)[1] < -1, "it nods down"
    assert (rotation((0, 0.2, 0)) @ nose)[0] > 1, "it turns to its left"
    crown = np.array([0, 10, 0], np.float32)
    assert (rotation((0, 0, 0.2)) @ crown)[0] > 1, "it tilts clockwise"
