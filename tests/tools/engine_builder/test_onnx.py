"""ONNX files of the engine builder: description, simplification, and comparison layer by layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.backends.network_stage import TensorSpec
from engines.backends.onnx_export import ExportOptions
from engines.errors import BackendError
from tests.support.engines.networks import file, small
from tests.support.engines.neural import needs
from tools.engine_builder.onnx import compare_stage, describe, largest_errors, random_inputs, simplify

torch = needs("torch")
needs("onnxruntime")
needs("onnxslim")


def test_the_error_of_a_value_that_is_not_finite_is_infinite() -> None:
    expected = {"a": np.ones((2, 3), np.float32), "b": np.zeros(2, np.float32)}
    assert largest_errors(expected, expected) == (0.0, 0.0)
    outputs = {"a": expected["a"].copy(), "b": expected["b"]}
    outputs["a"][0, 0] = 4.0
    assert largest_errors(outputs, expected) == pytest.approx((0.5, 3.0))
    for worst in (np.nan, np.inf):
        outputs["a"][0, 0] = worst
        assert largest_errors(outputs, expected) == (float("inf"), float("inf"))
        assert largest_errors(expected, outputs) == (float("inf"), float("inf"))


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
    assert after.worst_layer == "body.second"
    assert after.worst_layer_mean is not None
    assert after.worst_layer_mean > 0.3
    assert after.mean > before.mean


def test_a_file_that_cannot_be_simplified_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> None:
        raise KeyError("shape")

    monkeypatch.setattr("onnxslim.slim", fail)
    with pytest.raises(BackendError) as caught:
        simplify(file(tmp_path / "model.onnx"), tmp_path / "slim.onnx")
    assert caught.value.code == "onnx-not-simplified"


def test_random_inputs_have_the_shapes_and_types_of_the_inputs(tmp_path: Path) -> None:
    described = describe(file(tmp_path / "model.onnx", kind="UINT8", op="Identity"))
    assert described.inputs == (TensorSpec("in", (1, 3, 8, 8), "uint8"),)
    specs = (*described.inputs, replace(described.inputs[0], name="b", dtype="float16"))
    for spec, array in zip(specs, random_inputs(specs).values(), strict=True):
        assert (array.shape, array.dtype) == (spec.shape, np.dtype(spec.dtype))
        assert np.isfinite(array).all()
