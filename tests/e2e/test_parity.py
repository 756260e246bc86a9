"""Our networks against what the reference implementations answered, through the command that dumps the arrays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.neural import ROOT, parity_dir

TOLERANCE = 1e-4
"""Of each array's own scale."""


def dump(family: str, seed: int, out: Path) -> dict[str, NDArray[Any]]:
    command = [sys.executable, "tests/parity/dump.py", family, "--weights", str(parity_dir() / "weights.py")]
    subprocess.run([*command, "--seed", str(seed), "--out", str(out)], cwd=ROOT, check=True, timeout=900)
    with np.load(out, allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("family", ["liveportrait", "fomm"])
def test_every_array_is_the_references(family: str, tmp_path: Path) -> None:
    with np.load(parity_dir() / f"{family}.npz") as file:
        expected = dict(file)
    ours = dump(family, 1, tmp_path / "ours.npz")
    assert ours.keys() == expected.keys()
    for name, array in expected.items():
        assert ours[name].shape == array.shape, name
        assert ours[name].dtype == array.dtype, name
        worst = float(np.abs(ours[name] - array).max() / np.abs(array).max())
        assert worst < TOLERANCE, f"{name} is off by {worst:.1e} of its scale"


def test_another_seed_gives_other_finite_arrays(tmp_path: Path) -> None:
    one, two = (dump("fomm", seed, tmp_path / f"{seed}.npz") for seed in (2, 3))
    assert one.keys() == two.keys()
    assert all(np.isfinite(array).all() for array in one.values())
    assert np.abs(one["relative.image.slice"] - two["relative.image.slice"]).max() > 0.01
