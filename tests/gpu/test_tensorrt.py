"""TensorRT on a real GPU: an engine is built by the command line, and runs as a captured graph."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engines.backends.engine_cache import Machine, list_engines, mismatch
from engines.backends.numeric_check import check_backend, reference_outputs, relative_errors
from engines.errors import BackendError
from tests.support.engines.neural import ROOT, needs

needs("torch")

from tests.support.engines.small_stage import small_stage  # noqa: E402 - after the skip


@pytest.fixture
def engine(tensorrt_machine: Machine, tmp_path: Path) -> bytes:
    """An engine of the small network, built for this GPU."""
    from engines.backends.onnx_export import export_onnx

    model = export_onnx(small_stage(), tmp_path)
    command = [sys.executable, "-m", "tools.build_engine", str(model), "--out", str(tmp_path / "engines")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stderr
    (entry,) = list_engines(tmp_path / "engines")
    assert entry.sidecar is not None
    assert mismatch(entry.sidecar, tensorrt_machine) == ""
    return entry.path.read_bytes()


def test_an_engine_agrees_with_the_reference_as_a_captured_graph(
    engine: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    from engines.backends.tensorrt_backend import EngineSignature, TensorrtBackend

    stage = small_stage()
    backend = TensorrtBackend.from_engine(EngineSignature(stage.name, stage.inputs, stage.outputs), engine, "float32")
    try:
        with caplog.at_level(logging.INFO, "engines.backends.tensorrt_backend"):
            check_backend(backend, stage)
        assert not caplog.records, "the engine could not be captured as a graph"
        for seed in range(3):
            feeds = stage.sample_inputs(seed)
            expected = reference_outputs(stage, feeds)
            backend.retain_input("picture", feeds["picture"])
            outputs = backend.run({"gain": feeds["gain"]})
            assert relative_errors(outputs["out"], expected["out"])[0] < 2e-3
    finally:
        backend.close()


def test_an_engine_runs_on_another_thread_than_the_one_that_opened_it(engine: bytes) -> None:
    from engines.backends.tensorrt_backend import EngineSignature, TensorrtBackend

    stage = small_stage()
    backend = TensorrtBackend.from_engine(EngineSignature(stage.name, stage.inputs, stage.outputs), engine, "float32")
    errors: list[BaseException] = []

    def work() -> None:
        try:
            check_backend(backend, stage)
            backend.close()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert errors == []


@pytest.mark.usefixtures("tensorrt_machine")
def test_a_damaged_engine_is_an_error() -> None:
    from engines.backends.tensorrt_backend import EngineSignature, TensorrtBackend

    stage = small_stage()
    with pytest.raises(BackendError) as caught:
        TensorrtBackend.from_engine(EngineSignature(stage.name, stage.inputs, stage.outputs), b"damaged", "float32")
    assert caught.value.code == "engine-not-loading"
