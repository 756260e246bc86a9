"""Compiled loops, with and without a cache that can be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE = """
import numpy as np
from engines.jit import compiled

@compiled()
def total(values):
    whole = 0.0
    for value in values:
        whole += value
    return whole
"""


CALL = "import numpy as np, loops; print(loops.total(np.arange(4.0)), sum(loops.total.stats.cache_hits.values()))"


def ran(folder: Path, code: str = CALL, **environment: str) -> str:
    """Return the output of a process that imports the module in ``folder`` and runs ``code``."""
    path = os.pathsep.join((str(folder), str(ROOT)))
    env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_machine_code_is_cached_for_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "loops.py").write_text(MODULE)
    said = [ran(tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "kept")) for _ in range(2)]
    assert said == ["6.0 0", "6.0 1"], "the second finds what the first has compiled"
    assert any((tmp_path / "kept").rglob("*.nbc"))


def test_without_a_writable_cache_it_still_runs(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("folders are made unwritable otherwise there")
    (tmp_path / "loops.py").write_text(MODULE)
    # files where folders would have to be: not even root can write below them
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    (tmp_path / "__pycache__").write_text("")
    assert ran(tmp_path, HOME=str(blocked), XDG_CACHE_HOME=str(blocked), NUMBA_CACHE_DIR="") == "6.0 0"


def test_functions_are_reported_when_they_are_compiled_and_not_when_they_are_cached(tmp_path: Path) -> None:
    (tmp_path / "loops.py").write_text(MODULE)
    code = """
import numpy as np, loops
from engines.jit import watch
seen = []
with watch(lambda count, total: seen.append((count, total))) as compilation:
    loops.total(np.arange(4.0))
    loops.total(np.arange(5.0))
    print(compilation.count, seen)
"""
    printed = [ran(tmp_path, code, NUMBA_CACHE_DIR=str(tmp_path / "kept")) for _ in range(2)]
    assert printed == ["1 [(1, 1)]", "0 []"]
