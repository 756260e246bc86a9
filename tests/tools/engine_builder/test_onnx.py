"""ONNX files of the engine builder: described, simplified, and compared layer by layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.backends.network_stage import TensorSpec
from engines.backends.onnx_export import ExportOptions
from engines.errors import BackendError
from tests.support.networks import file, small
from tests.support.neural import needs
from tools.engine_builder.onnx import compare_stage, describe, farthest, noise, simplify

torch = needs("torch")
needs("onnxruntime")
needs("onnxslim")


def test_what_is_no_number_is_infinitely_far() -> None:
    right = {"a": np.ones((2, 3), np.float32), "b": np.zeros(2, np.float32)}
    assert farthest(right, right) == (0.0, 0.0)
    off = {"a": right["a"].copy(), "b": right["b"]}
    off["a"][0, 0] = 4.0
    assert farthest(off, right) == pytest.approx((0.5, 3.0))
    for worst in (np.nan, np.inf):
        off["a"][0, 0] = worst
        assert farthest(off, right) == (float("inf"), float("inf"))
        assert farthest(right, off) == (float("inf"), float("inf"))


@pytest.mark.parametrize(("precision", "opset"), [("fp32", 20), ("fp16", 20), ("bf16", 22)])
def test_the_worst_layer_is_the_one_that_was_changed(tmp_path: Path, precision: Any, opset: int) -> None:
    from engines.backends.onnx_export import export_onnx

    stage = small()
    path = export_onnx(stage, tmp_path, ExportOptions(opset, precision))
    slim = tmp_path / "slim.onnx"
    simplify(path, slim)
    feeds = stage.sample_inputs()
    before = compare_stage(slim, stage, feeds, precision)
    assert before.mean < (1e-6 if precision == "fp32" else 1e-2)
    with torch.no_grad():
        stage.module.body.second.bias += 5.0
    after = compare_stage(slim, stage, feeds, precision)
    assert after.worst == "body.second"
    assert after.worst_mean is not None
    assert after.worst_mean > 0.3
    assert after.mean > before.mean


def test_a_file_that_onnxslim_stumbles_over_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(_: Any) -> None:
        raise KeyError("shape")

    monkeypatch.setattr("onnxslim.slim", stumble)
    with pytest.raises(BackendError, match="cannot be simplified: 'shape'"):
        simplify(file(tmp_path / "model.onnx"), tmp_path / "slim.onnx")


def test_noise_is_of_the_inputs_kind(tmp_path: Path) -> None:
    described = describe(file(tmp_path / "model.onnx", kind="UINT8", op="Identity"))
    assert described.inputs == (TensorSpec("in", (1, 3, 8, 8), "uint8"),)
    specs = (*described.inputs, replace(described.inputs[0], name="b", dtype="float16"))
    for spec, array in zip(specs, noise(specs).values(), strict=True):
        assert (array.shape, array.dtype) == (spec.shape, np.dtype(spec.dtype))
        assert np.isfinite(array).all()
