"""TensorRT for RTX cards in ONNX Runtime, over a runtime in memory: what is told where it cannot be had."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from engines.backends.network_stage import Stage
from engines.backends.onnx_backend import OnnxBackend
from engines.errors import BackendError
from engines.types import TensorSpec

STAGE = Stage("small", None, (TensorSpec("picture", (1,)),), (TensorSpec("out", (1,)),))


class Runtime:
    """Knows no card, and refuses a plug-in that it knows already, as ONNX Runtime does."""

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


def test_a_plug_in_that_does_not_load_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    error = refusal(monkeypatch, Runtime("libcudart.so.13: cannot open shared object file\nand more"))
    assert str(error).endswith("cannot load TensorRT for RTX cards: libcudart.so.13: cannot open shared object file")
    assert "driver and CUDA" in error.cure


def test_without_a_card_that_is_told_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime()
    for _ in range(2):
        assert str(refusal(monkeypatch, runtime)) == "TensorRT for RTX finds no card that it takes"


def test_without_the_plug_in_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", Runtime())
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", None)
    with pytest.raises(BackendError, match="is not installed") as caught:
        OnnxBackend(STAGE, "rtx")
    assert "[rtx]" in caught.value.cure
