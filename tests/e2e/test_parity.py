"""Our networks against the outputs of the reference implementations, with the command that dumps the arrays."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.backends.network_stage import GridSample
from tests.parity import dump as parity
from tests.support.engines.neural import ROOT, parity_dir

TOLERANCE = 1e-4
"""The largest error, as a share of each array's largest magnitude."""


def dump(family: str, seed: int, out: Path) -> dict[str, NDArray[Any]]:
    command = [sys.executable, "tests/parity/dump.py", family, "--weights", str(parity_dir() / "weights.py")]
    subprocess.run([*command, "--seed", str(seed), "--out", str(out)], cwd=ROOT, check=True, timeout=900)
    with np.load(out, allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("family", ["liveportrait", "fomm"])
def test_every_array_agrees_with_the_reference(family: str, tmp_path: Path) -> None:
    with np.load(parity_dir() / f"{family}.npz") as file:
        expected = dict(file)
    ours = dump(family, 1, tmp_path / "ours.npz")
    assert ours.keys() == expected.keys()
    for name, array in expected.items():
        assert ours[name].shape == array.shape, name
        assert ours[name].dtype == array.dtype, name
        worst = float(np.abs(ours[name] - array).max() / np.abs(array).max())
        assert worst < TOLERANCE, f"{name} is off by {worst:.1e} of its scale"


@pytest.mark.parametrize("grid_sample", ["native", "planar"])
@pytest.mark.parametrize("family", ["liveportrait", "fomm"])
def test_the_stages_compute_the_references_image(family: str, grid_sample: GridSample) -> None:
    """The norms are folded, and LivePortrait has all of a frame in one network, with both ways of sampling."""
    folder = parity_dir()
    import torch

    module, derive = importlib.import_module(f"engines.networks.{family}"), parity.load_weights(folder / "weights.py")
    with torch.inference_mode(), np.load(folder / f"{family}.npz") as expected:
        parts = parity.build(module, derive, folder / f"{family}.keys.json", 1)
        stages = module.stages(parts, grid_sample=grid_sample)

        def run(name: str, feeds: dict[str, Any]) -> dict[str, Any]:
            stage = stages[name]
            control = {key: torch.tensor(value) for key, value in stage.defaults.items()}
            given = [(feeds | control)[spec.name].reshape(spec.shape) for spec in stage.inputs]
            return dict(zip((spec.name for spec in stage.outputs), stage.module(*given), strict=True))

        source, first, now = (torch.from_numpy(derive.image(1, name)) for name in ("source", "driving0", "driving1"))
        neutral = {key.replace("driving", "neutral"): value for key, value in run("motion", {"crop": first}).items()}
        feeds = run("portrait", {"source": source}) | neutral | run("motion", {"crop": now})
        image = run("frame", feeds)["image"]
        step = image.shape[2] // 128
        worst = np.abs(image[:, :, ::step, ::step].numpy() - expected["relative.image.slice"]).max()
        # Random networks amplify the different rounding of the folded norms.
        assert float(worst) < 2e-3


def test_another_seed_gives_other_finite_arrays(tmp_path: Path) -> None:
    with np.load(parity_dir() / "fomm.npz") as file:
        one = dict(file)
    two = dump("fomm", 2, tmp_path / "2.npz")
    assert one.keys() == two.keys()
    assert all(np.isfinite(array).all() for array in two.values())
    assert np.abs(one["relative.image.slice"] - two["relative.image.slice"]).max() > 0.01
