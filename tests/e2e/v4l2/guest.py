"""A guest with real camera drivers: User Mode Linux with vivid (a webcam) and v4l2loopback (virtual cameras).

Building its kernel takes several minutes, so it is built only if REENACT_V4L2_BUILD_S allows that many seconds;
otherwise the tests are skipped unless the kernel exists.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
INSIDE = ROOT / "tests" / "e2e" / "v4l2"
BOOT_S = 60
"""The seconds that the guest may take to boot and run ``true``."""


def work_folder() -> Path:
    """Return the folder in which the script keeps its kernel."""
    return Path(os.environ.get("W") or Path(os.environ.get("TMPDIR") or tempfile.gettempdir()) / "v4l2-uml")


def boot_script(shared_dir: Path) -> Path:
    """Return the script that runs a command in the guest, and build the kernel. Skip the test if that fails."""
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
    _skip_unless_it_boots(script)
    return script


def _skip_unless_it_boots(script: Path) -> None:
    """Skip the test if the guest cannot even run ``true``: User Mode Linux does not work on every processor."""
    ended = run_inside(script, "true", seconds=BOOT_S)
    if ended.returncode:
        output = (ended.stdout + ended.stderr).strip()
        panic = re.search(r".*(?:panic|ptrace|out of memory).*", output)
        pytest.skip(f"the guest does not boot here: {panic[0] if panic else output[-200:]}")


def run_inside(script: Path, *command: str, seconds: int, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the guest, with the checkout in its Python path."""
    with_environment = [
        *("env", "-u", "OPENCV_LOG_LEVEL", f"PYTHONPATH={ROOT}"),
        f"REENACT_LOOPBACK_KO={work_folder() / 'umlk' / 'v4l2loopback.ko'}",
        *(f"{key}={value}" for key, value in environment.items()),
    ]
    import fcntl

    with (work_folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # all guests share one folder
        return subprocess.run(
            ["bash", str(script), *with_environment, *command],
            env={**os.environ, "LIMIT": str(seconds)},
            capture_output=True,
            text=True,
            timeout=seconds + 60,
            check=False,
        )


def create_user_home() -> Path:
    """Create a home for user 1000 with a filled cache: compiling in the guest takes more memory than it has."""
    home = Path(tempfile.mkdtemp(prefix="reenact-user-"))
    command = [sys.executable, str(ROOT / "run.py"), "--camera", "performer", "--sink", "null", "--size", "320x240"]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(home), "XDG_CACHE_HOME": str(home)}
    subprocess.run([*command, "--frames", "30"], env=environment, check=True, capture_output=True, timeout=300)
    for path in (home, *home.rglob("*")):
        os.chown(path, 1000, 1000)
    return home


def list_tests(name: str) -> list[str]:
    """Return the names of the tests in one of the ``inside_*.py``."""
    tree = ast.parse((INSIDE / f"inside_{name}.py").read_text("utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def pytest_inside(script: Path, name: str, *, seconds: int, only: str = "", **environment: str) -> str:
    """Run one of the ``inside_*.py`` in the guest, or one of its tests. Return its output for ``all_passed``.

    The guest needs a memory mapping for each page, of which the host allows a process 65530. If they are used up, the
    run is repeated once in a new guest, then the test is skipped: the program is tested, not the guest.
    """
    chosen = str(INSIDE / f"inside_{name}.py") + (f"::{only}" if only else "")
    command = [
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(ROOT), "-c"),
        *(str(ROOT / "pyproject.toml"), "-v", "-rP", "--tb=short", "--color=no", chosen),
    ]
    for _ in range(2):
        ended = run_inside(script, *command, seconds=seconds, **environment)
        output = ended.stdout + ended.stderr
        if ended.returncode == 0 or "UML ran out of memory on the host side" not in output:
            break
    else:
        pytest.skip("the guest ran out of memory maps: sysctl vm.max_map_count=262144 gives it more")
    assert ended.returncode == 0, output
    return output


def all_passed(output: str) -> bool:
    """Return True if pytest's summary in ``output`` counts tests that passed and none that failed."""
    counts = re.findall(r"^=+ (\d+ .+) in [\d.]+s.* =+\s*$", output, re.MULTILINE)
    return len(counts) == 1 and " passed" in counts[0] and not re.search("failed|error", counts[0])
