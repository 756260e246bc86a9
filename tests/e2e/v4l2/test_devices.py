"""Cameras and virtual cameras on real Linux drivers: each ``inside_*.py`` runs in the guest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from engines.types import Image
from tests.e2e.v4l2.guest import all_passed, boot_script, home_of_somebody, named_tests, pytest_inside
from tests.support.clips import write_video
from tools.support.files import read_frames

SIZE = (640, 480)
CLIP_FRAMES = 120
FEATURES = {"webcam": 300, "virtualcam": 300, "program": 300}
"""Each with the seconds that it may take."""


@pytest.fixture(scope="module")
def guest(shared_dir: Path) -> Path:
    """The script that runs a command in the guest."""
    return boot_script(shared_dir)


@pytest.fixture(scope="module")
def clip(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real face that talks and turns, as a camera of 640x480 sees it."""
    source = shared_dir / "faces" / "clips" / "lp__d6.mp4"
    if not source.is_file():
        pytest.skip(f"no clip {source}")
    path = tmp_path_factory.mktemp("driver") / "face.mp4"
    return write_video(path, [_fitted(image) for image in read_frames(source, CLIP_FRAMES)])


def _fitted(image: Image) -> Image:
    """The middle of the picture, in the shape of the camera's."""
    height, width = image.shape[:2]
    rows = min(height, width * SIZE[1] // SIZE[0])
    columns = rows * SIZE[0] // SIZE[1]
    top, left = (height - rows) // 2, (width - columns) // 2
    fitted: Image = cv2.resize(image[top : top + rows, left : left + columns], SIZE)  # type: ignore[assignment]
    return fitted


@pytest.mark.parametrize("name", list(FEATURES))
def test_on_real_drivers(guest: Path, clip: Path, name: str) -> None:
    said = pytest_inside(guest, name, seconds=FEATURES[name], REENACT_CLIP=str(clip))
    print(said)
    assert all_passed(said)


@pytest.fixture(scope="module")
def somebody(guest: Path) -> Iterator[Path]:
    """The home of a user who may do less."""
    del guest  # where there is none, nobody needs a home
    home = home_of_somebody()
    yield home
    shutil.rmtree(home)


@pytest.mark.parametrize("fault", named_tests("faults"))
def test_what_becomes_of_a_fault(guest: Path, clip: Path, somebody: Path, fault: str) -> None:
    """Each in a guest of its own, whose memory nobody has cut to pieces."""
    environment = {"REENACT_CLIP": str(clip), "REENACT_SOMEBODY": str(somebody)}
    said = pytest_inside(guest, "faults", only=fault, seconds=300, **environment)
    print(said)
    assert all_passed(said)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_in_a_video_call(guest: Path, clip: Path) -> None:
    said = pytest_inside(guest, "browser", seconds=400, REENACT_CLIP=str(clip))
    print(said)
    assert all_passed(said)


def test_soak(guest: Path, clip: Path) -> None:
    """Half a minute; REENACT_SOAK_S=1800 for the real one."""
    seconds = int(os.environ.get("REENACT_SOAK_S") or 40)
    said = pytest_inside(guest, "soak", seconds=seconds + 200, REENACT_CLIP=str(clip), REENACT_SOAK_S=str(seconds))
    print(said)
    assert all_passed(said)
