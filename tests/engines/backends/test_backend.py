"""Backends with a small network: they agree, own their buffers, and refuse wrong inputs and outputs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from engines.backends.backend import Backend, Precision
from engines.backends.network_stage import TensorSpec, sample_inputs
from engines.backends.numeric_check import check_backend, reference_outputs
from engines.backends.open import open_stages, open_unchecked
from engines.errors import BackendError, UsageError
from tests.support.engines.neural import needs

if TYPE_CHECKING:
    from engines.backends.onnx_export import ExportPrecision

torch = needs("torch")

from tests.support.engines.small_stage import Small, small_stage  # noqa: E402 - after the skip


class Twice(torch.nn.Module):  # type: ignore[name-defined]
    """Two convolutions, one of which may stay in float32."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.second = torch.nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, picture: Any, gain: Any) -> tuple[Any, Any]:
        out = torch.sigmoid(self.second(self.first(picture)).float()) * gain.reshape(1, 1, 1, 1)
        return out, out.mean(dim=(2, 3))


@pytest.fixture(params=["torch", "onnx"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "onnx":
        needs("onnx")
        needs("onnxruntime")
    stages = open_stages({"small": small_stage()}, backend=request.param, device="cpu", cache=tmp_path)
    assert stages.choice == f"{request.param} on the CPU, float32"
    return stages.backends["small"]


def test_the_outputs_are_the_networks(opened: Backend) -> None:
    feeds = sample_inputs(opened.inputs, {"gain": (0.5,)}, seed=3)
    with torch.inference_mode():
        out, mean = Small().eval()(torch.from_numpy(feeds["picture"]), torch.from_numpy(feeds["gain"]))
    answer = opened.run(feeds)
    np.testing.assert_allclose(answer["out"], out.numpy(), atol=1e-5)
    np.testing.assert_allclose(answer["mean"], mean.numpy(), atol=1e-5)


def test_a_retained_input_may_be_left_out(opened: Backend) -> None:
    feeds = sample_inputs(opened.inputs, {"gain": (1.0,)})
    whole = {name: array.copy() for name, array in opened.run(feeds).items()}
    opened.retain_input("picture", feeds["picture"])
    again = opened.run({"gain": feeds["gain"]})
    np.testing.assert_array_equal(again["out"], whole["out"])
    half = opened.run({"gain": 0.5 * feeds["gain"]})
    np.testing.assert_allclose(half["out"], 0.5 * whole["out"], atol=1e-5)


def test_inputs_are_copied(opened: Backend) -> None:
    feeds = sample_inputs(opened.inputs, {"gain": (1.0,)})
    first = opened.run(feeds)["out"].copy()
    feeds["picture"][:] = 0
    np.testing.assert_array_equal(opened.run({})["out"], first)


@pytest.mark.parametrize("shape", [(1,), (), (3, 16, 16), (1, 1, 16, 16)])
def test_an_input_of_another_shape_is_refused(opened: Backend, shape: tuple[int, ...]) -> None:
    wrong = np.ones(shape, np.float32)
    for act in (lambda: opened.run({"picture": wrong}), lambda: opened.retain_input("picture", wrong)):
        with pytest.raises(BackendError) as caught:
            act()
        assert (caught.value.code, caught.value.expected) == ("input-wrong-shape", "1x3x16x16")


def test_close_is_idempotent(opened: Backend) -> None:
    opened.close()
    opened.close()
    assert opened.name.endswith("float32")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda image: image * float("nan"), "output-not-finite"),
        (lambda image: image * 0, "output-one-colour"),
    ],
)
def test_wrong_outputs_are_refused(change: Callable[[Any], Any], code: str) -> None:
    with pytest.raises(BackendError) as caught:
        open_stages({"small": small_stage(change)}, backend="torch", device="cpu")
    assert caught.value.code == code
    assert "--backend torch" in caught.value.cure


def test_inaccurate_outputs_are_refused() -> None:
    class Off:
        """A backend with random outputs."""

        name = "onnx on the CPU, float32"
        precision: Precision = "float32"
        inputs, outputs = small_stage().inputs, small_stage().outputs

        def retain_input(self, name: str, array: Any) -> None: ...
        def close(self) -> None: ...
        def run(self, _: Any) -> Any:
            rng = np.random.default_rng(0)
            return {spec.name: rng.random(spec.shape, np.float32) for spec in self.outputs}

    with pytest.raises(BackendError) as caught:
        check_backend(Off(), small_stage())
    assert (caught.value.code, caught.value.expected) == ("output-inaccurate", "at most 0.2%")


def test_the_tolerance_goes_by_the_precision() -> None:
    """A float32 result with the error of half precision is refused, whatever the backend's name says."""

    class Rounded:
        name = "float32"
        inputs, outputs = small_stage().inputs, small_stage().outputs

        def __init__(self, precision: Precision) -> None:
            self.precision = precision

        def retain_input(self, name: str, array: Any) -> None: ...
        def close(self) -> None: ...
        def run(self, feeds: Any) -> Any:
            return {name: array * 1.01 for name, array in reference_outputs(small_stage(), feeds).items()}

    check_backend(Rounded("float16"), small_stage())
    check_backend(Rounded("bfloat16"), small_stage())
    with pytest.raises(BackendError) as caught:
        check_backend(Rounded("float32"), small_stage())
    assert caught.value.code == "output-inaccurate"


def test_sample_inputs_go_by_the_kind_and_not_by_the_name() -> None:
    specs = (
        TensorSpec("scale", (1, 3)),
        TensorSpec("a", (1, 50), kind="scale"),
        TensorSpec("b", (1, 4, 2, 2), kind="matrix"),
        TensorSpec("c", (1, 3, 8, 8), kind="image"),
        TensorSpec("d", (1, 3)),
    )
    found = sample_inputs(specs, {"d": (1.0, 2.0, 3.0)})
    assert abs(found["scale"]).max() < 1  # no kind, so around 0
    assert found["a"].mean() == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(found["b"], np.broadcast_to(np.eye(2), (1, 4, 2, 2)), atol=0.1)
    assert 0 <= found["c"].min() < found["c"].max() <= 1
    np.testing.assert_array_equal(found["d"], [[1, 2, 3]])
    again = sample_inputs(specs, {"d": (1.0, 2.0, 3.0)})
    assert all((again[name] == array).all() for name, array in found.items())


def test_a_backend_or_device_that_is_not_available_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.backends.open.has_cuda", lambda: False)
    stages = {"small": small_stage()}
    for backend, device, code in (
        ("magic", "auto", "backend-unknown"),
        ("auto", "tpu", "device-unknown"),
        ("torch", "rtx", "device-not-available"),
        ("auto", "rtx", "device-not-available"),
        ("tensorrt", "cpu", "device-not-available"),
    ):
        with pytest.raises(UsageError) as refused:
            open_stages(stages, backend=backend, device=device)
        assert refused.value.code == code
        assert refused.value.cure
    for backend, device in (("torch", "cuda"), ("tensorrt", "auto")):
        with pytest.raises(BackendError) as caught:
            open_stages(stages, backend=backend, device=device)
        assert caught.value.code == "gpu-missing"
        assert "--device cpu" in caught.value.cure
    with pytest.raises(UsageError) as refused:
        open_stages(stages, backend="onnx", compiled=True)
    assert refused.value.code == "compile-not-available"


def test_a_backend_whose_packages_are_missing_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("engines.backends.tensorrt_backend", "engines.backends.engine_cache"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "pydantic", None)
    monkeypatch.setattr("engines.backends.open.has_cuda", lambda: True)
    with pytest.raises(BackendError) as caught:
        open_unchecked(small_stage(), backend="tensorrt", device="cuda")
    assert caught.value.code == "package-missing"
    assert "pydantic" in caught.value.found
    assert "pip install" in caught.value.cure
    stages = open_stages({"small": small_stage()}, cache=tmp_path)
    assert f"not tensorrt on cuda: {caught.value}" in stages.choice
    stages.close()


def test_auto_says_what_it_chose_and_why_not_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    needs("onnxruntime")
    monkeypatch.setattr("engines.backends.open.has_cuda", lambda: False)
    stages = open_stages({"small": small_stage()}, cache=tmp_path)
    assert stages.choice.startswith("onnx on the CPU")
    assert "no NVIDIA GPU here" in stages.choice
    stages.close()


def test_an_exported_network_is_cached(tmp_path: Path) -> None:
    needs("onnx")
    from engines.backends.onnx_export import export_onnx

    first = export_onnx(small_stage(), tmp_path)
    written = first.stat().st_mtime_ns
    assert export_onnx(small_stage(), tmp_path) == first
    assert first.stat().st_mtime_ns == written
    other = small_stage()
    with torch.no_grad():
        other.module.conv.weight.mul_(2)
    assert export_onnx(other, tmp_path) != first
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".onnx", ".onnx"]


def test_reference_outputs_are_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feeds = sample_inputs(small_stage().inputs, {"gain": (1.0,)})
    first = reference_outputs(small_stage(), feeds, tmp_path)
    monkeypatch.setattr("engines.backends.torch_backend.TorchBackend", None)  # it must not be asked again
    again = reference_outputs(small_stage(), feeds, tmp_path)
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array)


def test_damaged_reference_outputs_are_computed_again(tmp_path: Path) -> None:
    feeds = sample_inputs(small_stage().inputs, {"gain": (1.0,)})
    first = reference_outputs(small_stage(), feeds, tmp_path)
    (kept,) = tmp_path.glob("*.npz")
    for damage in (b"", b"PK\x03\x04 rubbish", kept.read_bytes()[:200]):
        kept.write_bytes(damage)
        again = reference_outputs(small_stage(), feeds, tmp_path)
        np.testing.assert_array_equal(again["out"], first["out"])


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_is_exported_except_for_float32_modules(tmp_path: Path, precision: ExportPrecision) -> None:
    onnx = needs("onnx")
    from engines.backends.onnx_export import ExportOptions, export_onnx

    half = replace(small_stage(), module=Twice().eval(), halves=("first", "second"))
    opset = 22 if precision == "bf16" else 20
    model = onnx.load(export_onnx(half, tmp_path, ExportOptions(opset, precision, ("second",))))
    kinds = {each.name: each.data_type for each in model.graph.initializer}
    wanted = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}[precision]
    assert kinds["first.weight"] == wanted
    assert kinds["second.weight"] == onnx.TensorProto.FLOAT
    edges = [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]
    assert set(edges) == {onnx.TensorProto.FLOAT}
    assert next(iter(model.opset_import)).version == opset


def test_an_unknown_float32_module_is_an_error(tmp_path: Path) -> None:
    needs("onnx")
    from engines.backends.onnx_export import ExportOptions, export_onnx

    with pytest.raises(UsageError) as caught:
        export_onnx(small_stage(), tmp_path, ExportOptions(precision="fp16", float32=("third",)))
    assert caught.value.code == "export-unknown-module"
    assert "conv" in caught.value.expected


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    needs("onnx")
    from engines.backends.onnx_export import export_onnx

    taken = tmp_path / "file"
    taken.write_text("in the way")
    with pytest.raises(BackendError) as caught:
        export_onnx(small_stage(), taken)
    assert caught.value.code == "export-not-writable"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("CUDA failure 719: unspecified launch failure\nin file x", "gpu-failed"),
        ("BFCArena: Failed to allocate memory for requested buffer", "gpu-out-of-memory"),
    ],
)
def test_a_gpu_that_fails_under_onnx_runtime_is_an_error(tmp_path: Path, message: str, code: str) -> None:
    needs("onnx")
    needs("onnxruntime")
    from engines.backends.onnx_backend import OnnxBackend

    class Gone:
        """A session, and values, on a GPU that is lost."""

        def run_with_iobinding(self, _: Any) -> None:
            raise RuntimeError(message)

        update_inplace = run_with_iobinding

    backend = OnnxBackend(small_stage(), "cpu", tmp_path)
    feeds = sample_inputs(backend.inputs, {"gain": (1.0,)})
    backend.run(feeds)
    backend._device = "cuda"
    backend._session = Gone()

    def assert_fails(act: Callable[[], object]) -> None:
        with pytest.raises(BackendError) as caught:
            act()
        assert caught.value.code == code
        assert caught.value.found.endswith(message.splitlines()[0])

    assert_fails(lambda: backend.run(feeds))
    backend._values = {"picture": Gone(), "gain": Gone()}
    assert_fails(lambda: backend.run(feeds))
    assert_fails(lambda: backend.retain_input("gain", feeds["gain"]))
    backend.close()
    backend.close()


class Runtime:
    """ONNX Runtime with a fake GPU, which records what it is asked for; the sessions are real ones on the CPU."""

    def __init__(self, lacks: str = "") -> None:
        import onnxruntime

        self._real = onnxruntime
        self.lacks = lacks
        """``kernels``: the GPU cannot run all of a network; ``memory``: it cannot open one."""
        self.asked: list[Any] = []
        self.placed: list[tuple[Any, ...]] = []
        self.preloaded = False
        self.OrtValue = self

    def preload_dlls(self) -> None:
        self.preloaded = True
        print("Failed to load libcufft.so.12")

    def get_available_providers(self) -> list[str]:
        return ["CUDAExecutionProvider"]

    def SessionOptions(self) -> Any:  # noqa: N802 - its name
        return self._real.SessionOptions()

    def InferenceSession(self, path: str, options: Any, providers: Any = None) -> Any:  # noqa: N802
        try:
            whole = options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
        except RuntimeError:
            whole = False
        if self.lacks == "memory" or (self.lacks == "kernels" and whole):
            raise RuntimeError(f"no {self.lacks}\nmore")
        self.asked.append(providers)
        session = self._real.InferenceSession(path, providers=["CPUExecutionProvider"])
        session.get_providers = lambda: ["CUDAExecutionProvider" if providers else "NvTensorRTRTXExecutionProvider"]
        return session

    def ortvalue_from_numpy(self, array: Any, *place: Any) -> Any:
        self.placed.append(place)
        return self._real.OrtValue.ortvalue_from_numpy(array, "cpu", 0)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    needs("onnx")
    needs("onnxruntime")
    made = Runtime()
    monkeypatch.setattr("engines.backends.onnx_backend.import_onnxruntime", lambda: made)
    return made


def test_onnx_runtime_on_a_gpu_does_not_use_tf32_and_prints_nothing(
    runtime: Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from engines.backends.onnx_backend import OnnxBackend

    backend = OnnxBackend(small_stage(), "cuda", tmp_path)
    assert backend.name == "onnx on CUDA, float32"
    assert runtime.asked == [[("CUDAExecutionProvider", {"use_tf32": "0"})]]
    assert runtime.placed == [("cuda", 0)] * 2
    assert runtime.preloaded
    assert not capsys.readouterr().out
    check_backend(backend, small_stage())


def test_the_memory_of_a_plug_in_is_named_by_its_vendor(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engines.backends import onnx_backend

    monkeypatch.setattr(onnx_backend, "_add_rtx", lambda *_: None)
    backend = onnx_backend.OnnxBackend(small_stage(), "rtx", tmp_path)
    assert backend.name == "onnx on TensorRT for RTX, float32"
    assert runtime.placed == [("gpu", 0, 0x10DE)] * 2


def test_the_name_says_if_some_of_the_network_runs_on_the_cpu(runtime: Runtime, tmp_path: Path) -> None:
    from engines.backends.onnx_backend import OnnxBackend

    runtime.lacks = "kernels"
    assert OnnxBackend(small_stage(), "cuda", tmp_path).name == "onnx on CUDA, some of it on the CPU, float32"
    runtime.lacks = "memory"
    with pytest.raises(BackendError) as caught:
        OnnxBackend(small_stage(), "cuda", tmp_path)
    assert caught.value.code == "onnx-load-failed"
    assert caught.value.found.endswith("no memory")
