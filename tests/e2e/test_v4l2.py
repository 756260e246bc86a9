"""Cameras and virtual cameras on real Linux drivers: vivid and v4l2loopback in a User Mode Linux guest.

The guest runs pytest on the files in ``v4l2/``. Its kernel takes several minutes to build, so that a test does so
only where REENACT_V4L2_BUILD_S allows it so many seconds; without, the tests skip unless the kernel is there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSIDE = ROOT / "tests" / "e2e" / "v4l2"
GUEST_S = 300


def work_folder() -> Path:
    """Where the script keeps its kernel."""
    return Path(os.environ.get("W") or Path(os.environ.get("TMPDIR") or tempfile.gettempdir()) / "v4l2-uml")


@pytest.fixture(scope="module")
def guest(shared_dir: Path) -> Path:
    """The script that runs a command in the guest, its kernel built."""
    script = shared_dir / "tools" / "v4l2-uml.sh"
    if not script.is_file():
        pytest.skip(f"no {script} to boot a guest with real V4L2 drivers")
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root may boot the guest")
    kernel = work_folder() / "umlk"
    if not ((kernel / "linux").exists() and (kernel / "v4l2loopback.ko").exists()):
        seconds = float(os.environ.get("REENACT_V4L2_BUILD_S") or 0)
        if not seconds:
            pytest.skip(f"the guest's kernel is not built: set REENACT_V4L2_BUILD_S=1200, or run {script} once")
        try:
            subprocess.run(["bash", script, "true"], check=True, timeout=seconds, capture_output=True)
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
            pytest.skip(f"the guest's kernel could not be built: {error}")
    return script


@pytest.mark.parametrize("name", ["webcam", "virtualcam"])
def test_on_real_drivers(guest: Path, name: str) -> None:
    command = [
        *("env", "-u", "OPENCV_LOG_LEVEL", f"PYTHONPATH={ROOT}"),
        f"REENACT_LOOPBACK_KO={work_folder() / 'umlk' / 'v4l2loopback.ko'}",
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(ROOT), "-c"),
        *(str(ROOT / "pyproject.toml"), "-v", "--tb=short", "--color=no", str(INSIDE / f"inside_{name}.py")),
    ]
    ended = subprocess.run(
        ["bash", guest, *command],
        env={**os.environ, "LIMIT": str(GUEST_S)},
        capture_output=True,
        text=True,
        timeout=GUEST_S + 60,
        check=False,
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    assert " passed" in said
