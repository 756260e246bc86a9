"""Test cameras and virtual cameras with real Linux drivers: each ``inside_*.py`` runs in the guest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from engines.types import Image
from tests.e2e.v4l2.guest import all_passed, boot_script, create_user_home, list_tests, pytest_inside
from tests.support.clips import write_video
from tools.support.files import read_frames

SIZE = (640, 480)
CLIP_FRAMES = 120
FEATURES = {"webcam": 300, "virtualcam": 300, "program": 300}
"""The modules, with the seconds that each may take."""


@pytest.fixture(scope="module")
def guest(shared_dir: Path) -> Path:
    """Return the script that runs a command in the guest."""
    return boot_script(shared_dir)


@pytest.fixture(scope="module")
def clip(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clip of a real face that talks and turns, in the size of the camera."""
    source = shared_dir / "faces" / "clips" / "lp__d6.mp4"
    if not source.is_file():
        pytest.skip(f"no clip {source}")
    path = tmp_path_factory.mktemp("driver") / "face.mp4"
    return write_video(path, [_fitted(image) for image in read_frames(source, CLIP_FRAMES)])


def _fitted(image: Image) -> Image:
    """Crop a picture to the shape of the camera, and scale it."""
    height, width = image.shape[:2]
    rows = min(height, width * SIZE[1] // SIZE[0])
    columns = rows * SIZE[0] // SIZE[1]
    top, left = (height - rows) // 2, (width - columns) // 2
    fitted: Image = cv2.resize(image[top : top + rows, left : left + columns], SIZE)  # type: ignore[assignment]
    return fitted


@pytest.mark.parametrize("name", list(FEATURES))
def test_on_real_drivers(guest: Path, clip: Path, name: str) -> None:
    output = pytest_inside(guest, name, seconds=FEATURES[name], REENACT_CLIP=str(clip))
    print(output)
    assert all_passed(output)


@pytest.fixture(scope="module")
def user_home(guest: Path) -> Iterator[Path]:
    """Create the home of a user with fewer permissions."""
    del guest  # skips the test before the home is created
    home = create_user_home()
    yield home
    shutil.rmtree(home)


@pytest.mark.parametrize("fault", list_tests("faults"))
def test_the_program_survives_a_fault(guest: Path, clip: Path, user_home: Path, fault: str) -> None:
    """Run each fault in a new guest, whose memory is not yet fragmented."""
    environment = {"REENACT_CLIP": str(clip), "REENACT_USER_HOME": str(user_home)}
    output = pytest_inside(guest, "faults", only=fault, seconds=300, **environment)
    print(output)
    assert all_passed(output)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_in_a_video_call(guest: Path, clip: Path) -> None:
    output = pytest_inside(guest, "browser", seconds=400, REENACT_CLIP=str(clip))
    print(output)
    assert all_passed(output)


def test_soak(guest: Path, clip: Path) -> None:
    """Run for 40 seconds, or for REENACT_SOAK_S seconds."""
    seconds = int(os.environ.get("REENACT_SOAK_S") or 40)
    output = pytest_inside(guest, "soak", seconds=seconds + 200, REENACT_CLIP=str(clip), REENACT_SOAK_S=str(seconds))
    print(output)
    assert all_passed(output)
