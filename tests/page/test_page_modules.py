"""The page's modules, tested by Node's own test runner and checked by TypeScript."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from realtime.webrtc.process.http_server import PAGE

ROOT = Path(__file__).parents[2]
TESTS = sorted(Path(__file__).parent.glob("*.test.js"))
MAX_LINES = 250


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("Node.js is not on the path: sudo apt install nodejs")
    return found


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_modules(node: str) -> None:
    assert TESTS
    done = _run([node, "--test", *map(str, TESTS)])
    assert done.returncode == 0, done.stdout + done.stderr


def test_types(node: str) -> None:
    compiler = ROOT / "tests" / "page" / "node_modules" / "typescript" / "bin" / "tsc"
    if not compiler.exists():
        pytest.skip("TypeScript is not installed: make page installs it")
    done = _run([node, str(compiler), "-p", "tests/page"])
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("module", sorted(PAGE.glob("*.js")), ids=lambda path: path.name)
def test_no_module_is_long(module: Path) -> None:
    assert len(module.read_text("utf-8").splitlines()) <= MAX_LINES


def test_addresses_are_relative_to_the_page() -> None:
    """A proxy may serve the page below any path."""
    absolute = re.compile(r"""["'`(]/(static|api|whip|whep)\b""")
    for path in (path for path in PAGE.rglob("*") if path.is_file()):
        assert not absolute.search(path.read_text("utf-8")), path.name
