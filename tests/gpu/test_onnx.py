"""ONNX Runtime on a real GPU: CUDA, and TensorRT for RTX."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.backends.numeric_check import check_backend, reference_outputs
from engines.errors import BackendError
from tests.support.engines.neural import needs

needs("torch")

from tests.support.engines.small_stage import small_stage  # noqa: E402 - after the skip


@pytest.mark.usefixtures("onnxruntime_cuda")
def test_cuda_agrees_with_the_reference_and_runs_all_of_the_network(exports: Path) -> None:
    from engines.backends.onnx_backend import OnnxBackend

    stage = small_stage()
    backend = OnnxBackend(stage, "cuda", exports)
    try:
        assert (backend.name, backend.precision) == ("onnx on CUDA, float32", "float32")
        check_backend(backend, stage, exports)
        feeds = stage.sample_inputs()
        expected = backend.run(feeds)["mean"].copy()
        backend.retain_input("picture", feeds["picture"])
        assert backend.run({"gain": 2 * feeds["gain"]})["mean"] == pytest.approx(2 * expected, rel=1e-3)
    finally:
        backend.close()


def test_rtx_agrees_with_the_reference(exports: Path) -> None:
    needs("onnx")
    needs("onnxruntime")
    pytest.importorskip("onnxruntime_ep_nv_tensorrt_rtx", reason="TensorRT for RTX is not installed")
    from engines.backends.onnx_backend import OnnxBackend

    stage = small_stage()
    try:
        backend = OnnxBackend(stage, "rtx", exports)
    except BackendError as error:
        if error.code != "gpu-not-supported":
            raise
        pytest.skip(str(error))
    try:
        check_backend(backend, stage, exports)
        feeds = stage.sample_inputs()
        expected = reference_outputs(stage, feeds)
        outputs = backend.run(feeds)
        assert outputs.keys() == expected.keys()
        for name, output in outputs.items():
            assert output == pytest.approx(expected[name], rel=5e-2, abs=5e-2)
    finally:
        backend.close()
