"""TensorRT for RTX in a fake ONNX Runtime: the errors if it is not available."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from engines.backends.network_stage import NetworkStage, TensorSpec
from engines.backends.onnx_backend import OnnxBackend
from engines.errors import BackendError

STAGE = NetworkStage("small", None, (TensorSpec("picture", (1,)),), (TensorSpec("out", (1,)),))


class Runtime:
    """Has no GPU, and refuses a plug-in that it knows already, as ONNX Runtime does."""

    def __init__(self, failure: str = "") -> None:
        self.failure = failure
        self.known: list[str] = []
        self.SessionOptions = SimpleNamespace

    def register_execution_provider_library(self, name: str, _: str) -> None:
        if self.failure:
            raise RuntimeError(self.failure)
        if name in self.known:
            raise RuntimeError(f"{name} is already registered")
        self.known.append(name)

    def get_ep_devices(self) -> list[object]:
        return [SimpleNamespace(ep_name="CPUExecutionProvider")]


def refusal(monkeypatch: pytest.MonkeyPatch, runtime: Runtime) -> BackendError:
    plugin = SimpleNamespace(get_library_path=lambda: "/lib/rtx.so")
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", plugin)
    with pytest.raises(BackendError) as caught:
        OnnxBackend(STAGE, "rtx")
    return caught.value


def test_a_plug_in_that_does_not_load_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    error = refusal(monkeypatch, Runtime("libcudart.so.13: cannot open shared object file\nand more"))
    assert error.code == "package-broken"
    assert error.found.endswith("libcudart.so.13: cannot open shared object file")


def test_without_a_gpu_it_is_the_same_error_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime()
    for _ in range(2):
        assert refusal(monkeypatch, runtime).code == "gpu-not-supported"


def test_without_the_plug_in_the_cure_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", Runtime())
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", None)
    with pytest.raises(BackendError) as caught:
        OnnxBackend(STAGE, "rtx")
    assert caught.value.code == "package-missing"
    assert "[rtx]" in caught.value.cure
