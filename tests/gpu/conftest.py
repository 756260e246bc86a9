"""Fixtures of the tests that need an NVIDIA GPU; they skip, with the reason, if it or a package is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engines.backends.engine_cache import Machine
from engines.backends.open import has_cuda
from tests.support.engines.neural import needs


@pytest.fixture(autouse=True)
def gpu() -> None:
    """Skip a test if there is no NVIDIA GPU."""
    if not has_cuda():
        pytest.skip("no NVIDIA GPU, or no driver for it")


@pytest.fixture
def torch_cuda() -> Any:
    """PyTorch with CUDA."""
    torch = needs("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch sees no GPU: install a CUDA build")
    return torch


@pytest.fixture
def onnxruntime_cuda() -> Any:
    """ONNX Runtime with CUDA."""
    needs("onnx")
    runtime = needs("onnxruntime")
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA: install onnxruntime-gpu in the place of onnxruntime")
    return runtime


@pytest.fixture
def tensorrt_machine() -> Machine:
    """TensorRT, PyCUDA and the GPU that they see."""
    pytest.importorskip("tensorrt", reason="TensorRT is not installed")
    pytest.importorskip("pycuda.driver", reason="PyCUDA is not installed", exc_type=ImportError)
    needs("torch")
    needs("onnx")
    from engines.backends.tensorrt_backend import this_machine

    machine = this_machine()
    if machine.gpu is None:
        pytest.skip("PyCUDA sees no GPU")
    return machine


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for exported networks and reference outputs."""
    return tmp_path_factory.mktemp("exports")
