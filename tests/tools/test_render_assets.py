"""The rendered portrait and performer: the files in the package, and that rendering is repeatable."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from engines.types import Image

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "engines" / "assets"
NAMES = ("portrait", "performer")

TINY = """
import hashlib, sys
from tools.render_assets import PEOPLE, render
picture = render(PEOPLE[sys.argv[1]], 32, 24, 1, density=0.002)
print(picture.shape, picture.dtype, hashlib.sha256(picture.tobytes()).hexdigest())
"""


def packaged(name: str) -> Image:
    with Pillow.open(ASSETS / f"{name}.png") as picture:
        assert picture.mode == "RGB"
        return np.asarray(picture).copy()


def cropped(image: Image, aspect: float) -> Image:
    """Return the middle of ``image`` with that ratio of width to height."""
    height, width = image.shape[:2]
    wide, tall = min(width, round(height * aspect)), min(height, round(width / aspect))
    x, y = (width - wide) // 2, (height - tall) // 2
    return np.ascontiguousarray(image[y : y + tall, x : x + wide])


@pytest.mark.parametrize("name", NAMES)
def test_a_packaged_picture_has_its_size_and_stays_small(name: str) -> None:
    assert packaged(name).shape == (960, 1280, 3)
    assert (ASSETS / f"{name}.png").stat().st_size < 2 << 20


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("aspect", [4 / 3, 16 / 9, 1.0])
def test_face_is_found_near_the_centre(name: str, aspect: float) -> None:
    from mediapipe.python.solutions import face_mesh

    image = cropped(packaged(name), aspect)
    with face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.9) as mesh:
        found = mesh.process(image).multi_face_landmarks
    assert found
    assert len(found) == 1
    points = np.array([(p.x, p.y) for p in found[0].landmark])
    assert np.abs(points.mean(0) - 0.5).max() < 0.06
    pupils = points[[468, 473]] * (image.shape[1], image.shape[0])
    assert abs(pupils[0, 1] - pupils[1, 1]) < 0.02 * abs(pupils[0, 0] - pupils[1, 0]), "the head is upright"


def test_the_two_are_different_people() -> None:
    portrait, performer = (packaged(name).astype(np.float32) for name in NAMES)
    assert np.abs(portrait - performer).mean() > 20


@pytest.mark.parametrize("name", NAMES)
def test_rendering_is_repeatable(name: str) -> None:
    """Rendered without numba's compiler, which would take longer than such a small picture."""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}

    def run() -> str:
        command = [sys.executable, "-c", TINY, name]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout

    first = run()
    assert first.startswith("(24, 32, 3) uint8")
    assert run() == first
