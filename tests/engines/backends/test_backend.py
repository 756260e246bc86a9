"""Backends over a small network of the same kinds of layers: they agree, own their buffers, and refuse the wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from engines.backends import backend as backends
from engines.backends.backend import Backend, check, open_one, open_stages, sample
from engines.backends.network_stage import Stage
from engines.errors import BackendError, UsageError
from engines.types import TensorSpec
from tests.support.neural import needs

if TYPE_CHECKING:
    from engines.backends.onnx_export import Precision

torch = needs("torch")


class Small(torch.nn.Module):  # type: ignore[name-defined]
    """A convolution and a vector, as the stages have them."""

    def __init__(self, spoil: Callable[[Any], Any] = lambda picture: picture) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)
        self.spoil = spoil

    def forward(self, picture: Any, gain: Any) -> tuple[Any, Any]:
        out = torch.sigmoid(self.conv(picture)) * gain.reshape(1, 1, 1, 1)
        return self.spoil(out), out.mean(dim=(2, 3))


class Twice(torch.nn.Module):  # type: ignore[name-defined]
    """Two convolutions, of which one may stay in float32."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.second = torch.nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, picture: Any, gain: Any) -> tuple[Any, Any]:
        out = torch.sigmoid(self.second(self.first(picture)).float()) * gain.reshape(1, 1, 1, 1)
        return out, out.mean(dim=(2, 3))


def stage(spoil: Callable[[Any], Any] = lambda picture: picture) -> Stage:
    return Stage(
        "small",
        Small(spoil).eval(),
        (TensorSpec("picture", (1, 3, 16, 16)), TensorSpec("gain", (1, 1))),
        (TensorSpec("out", (1, 3, 16, 16)), TensorSpec("mean", (1, 3))),
        defaults={"gain": (1.0,)},
    )


@pytest.fixture(params=["torch", "onnx"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "onnx":
        needs("onnx")
        needs("onnxruntime")
    running = open_stages({"small": stage()}, backend=request.param, device="cpu", cache=tmp_path)
    assert running.why == f"{request.param} on the CPU, float32"
    return running.stages["small"]


def test_it_answers_as_the_network_does(opened: Backend) -> None:
    feeds = sample(opened.inputs, {"gain": (0.5,)}, seed=3)
    with torch.inference_mode():
        out, mean = Small().eval()(torch.from_numpy(feeds["picture"]), torch.from_numpy(feeds["gain"]))
    answer = opened.run(feeds)
    np.testing.assert_allclose(answer["out"], out.numpy(), atol=1e-5)
    np.testing.assert_allclose(answer["mean"], mean.numpy(), atol=1e-5)


def test_what_is_kept_need_not_be_fed_again(opened: Backend) -> None:
    feeds = sample(opened.inputs, {"gain": (1.0,)})
    whole = {name: array.copy() for name, array in opened.run(feeds).items()}
    opened.keep("picture", feeds["picture"])
    again = opened.run({"gain": feeds["gain"]})
    np.testing.assert_array_equal(again["out"], whole["out"])
    half = opened.run({"gain": 0.5 * feeds["gain"]})
    np.testing.assert_allclose(half["out"], 0.5 * whole["out"], atol=1e-5)


def test_feeds_are_copied(opened: Backend) -> None:
    feeds = sample(opened.inputs, {"gain": (1.0,)})
    first = opened.run(feeds)["out"].copy()
    feeds["picture"][:] = 0
    np.testing.assert_array_equal(opened.run({})["out"], first)


@pytest.mark.parametrize("shape", [(1,), (), (3, 16, 16), (1, 1, 16, 16)])
def test_what_has_another_shape_is_refused_instead_of_spread(opened: Backend, shape: tuple[int, ...]) -> None:
    wrong = np.ones(shape, np.float32)
    for act in (lambda: opened.run({"picture": wrong}), lambda: opened.keep("picture", wrong)):
        with pytest.raises(BackendError, match=r"^picture is fed as .*, not as 1x3x16x16$"):
            act()


def test_closing_twice_is_no_trouble(opened: Backend) -> None:
    opened.close()
    opened.close()
    assert opened.name.endswith("float32")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda picture: picture * float("nan"), "that is not a number"),
        (lambda picture: picture * 0, "a picture of one colour"),
    ],
)
def test_a_wrong_answer_stops_it_at_once(spoil: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(BackendError, match=message) as caught:
        open_stages({"small": stage(spoil)}, backend="torch", device="cpu")
    assert "--backend torch" in caught.value.cure


def test_an_answer_that_is_far_off_the_reference_stops_it() -> None:
    class Off:
        """A backend whose answers are its own."""

        name = "onnx on the CPU, float32"
        inputs, outputs = stage().inputs, stage().outputs

        def keep(self, name: str, array: Any) -> None: ...
        def close(self) -> None: ...
        def run(self, _: Any) -> Any:
            rng = np.random.default_rng(0)
            return {spec.name: rng.random(spec.shape, np.float32) for spec in self.outputs}

    with pytest.raises(BackendError, match="off on average"):
        check(Off(), stage())


def test_what_was_asked_for_and_cannot_be_had_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "has_cuda", lambda: False)
    with pytest.raises(BackendError, match="no NVIDIA GPU") as caught:
        open_stages({"small": stage()}, backend="torch", device="cuda")
    assert "--device cpu" in caught.value.cure
    for backend, device in (("magic", "auto"), ("auto", "tpu"), ("torch", "rtx")):
        with pytest.raises(UsageError):
            open_stages({"small": stage()}, backend=backend, device=device)
    for backend, device, cure in (("auto", "rtx", "choose --backend onnx"), ("tensorrt", "cpu", "leave --device out")):
        with pytest.raises(UsageError, match=f"{backend} does not run on {device}") as refused:
            open_stages({"small": stage()}, backend=backend, device=device)
        assert refused.value.cure == cure
    with pytest.raises(BackendError, match="no NVIDIA GPU"):
        open_stages({"small": stage()}, backend="tensorrt")
    with pytest.raises(UsageError, match="--compile is for torch"):
        open_stages({"small": stage()}, backend="onnx", compiled=True)


def test_a_backend_whose_packages_are_missing_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("engines.backends.tensorrt_backend", "engines.backends.engine_cache"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "pydantic", None)
    monkeypatch.setattr(backends, "has_cuda", lambda: True)
    found = "the backend tensorrt needs pydantic, which is not installed"
    with pytest.raises(BackendError, match=f"^{found}$") as caught:
        open_one(stage(), backend="tensorrt", device="cuda")
    assert "pip install" in caught.value.cure
    running = open_stages({"small": stage()}, cache=tmp_path)
    assert f"not tensorrt on cuda: {found}" in running.why
    running.close()


def test_auto_says_what_it_chose_and_why_not_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    needs("onnxruntime")
    monkeypatch.setattr(backends, "has_cuda", lambda: False)
    running = open_stages({"small": stage()}, cache=tmp_path)
    assert running.why.startswith("onnx on the CPU")
    assert "no NVIDIA GPU here" in running.why
    running.close()


def test_an_exported_network_is_kept_and_found_again(tmp_path: Path) -> None:
    needs("onnx")
    from engines.backends.onnx_export import export

    first = export(stage(), tmp_path)
    written = first.stat().st_mtime_ns
    assert export(stage(), tmp_path) == first
    assert first.stat().st_mtime_ns == written
    other = stage()
    with torch.no_grad():
        other.module.conv.weight.mul_(2)
    assert export(other, tmp_path) != first
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".onnx", ".onnx"]


def test_what_pytorch_answers_is_kept_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feeds = sample(stage().inputs, {"gain": (1.0,)})
    first = backends.reference(stage(), feeds, tmp_path)
    monkeypatch.setattr("engines.backends.torch_backend.TorchBackend", None)  # it must not be asked again
    again = backends.reference(stage(), feeds, tmp_path)
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array)


def test_a_kept_answer_that_is_damaged_is_computed_anew(tmp_path: Path) -> None:
    feeds = sample(stage().inputs, {"gain": (1.0,)})
    first = backends.reference(stage(), feeds, tmp_path)
    (kept,) = tmp_path.glob("*.npz")
    for damage in (b"", b"PK\x03\x04 rubbish", kept.read_bytes()[:200]):
        kept.write_bytes(damage)
        again = backends.reference(stage(), feeds, tmp_path)
        np.testing.assert_array_equal(again["out"], first["out"])


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_is_exported_as_such_but_for_what_is_kept(tmp_path: Path, precision: Precision) -> None:
    onnx = needs("onnx")
    from engines.backends.onnx_export import Recipe, export

    half = replace(stage(), module=Twice().eval(), halves=("first", "second"))
    opset = 22 if precision == "bf16" else 20
    model = onnx.load(export(half, tmp_path, Recipe(opset, precision, ("second",))))
    kinds = {each.name: each.data_type for each in model.graph.initializer}
    wanted = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}[precision]
    assert kinds["first.weight"] == wanted
    assert kinds["second.weight"] == onnx.TensorProto.FLOAT
    edges = [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]
    assert set(edges) == {onnx.TensorProto.FLOAT}
    assert next(iter(model.opset_import)).version == opset


def test_a_module_to_keep_that_is_not_there_is_told(tmp_path: Path) -> None:
    needs("onnx")
    from engines.backends.onnx_export import Recipe, export

    with pytest.raises(UsageError, match="has no module 'third'") as caught:
        export(stage(), tmp_path, Recipe(precision="fp16", kept=("third",)))
    assert "conv" in caught.value.cure


def test_no_room_for_the_exported_network_is_told(tmp_path: Path) -> None:
    needs("onnx")
    from engines.backends.onnx_export import export

    taken = tmp_path / "file"
    taken.write_text("in the way")
    with pytest.raises(BackendError, match="cannot be written"):
        export(stage(), taken)


@pytest.mark.parametrize(
    ("message", "cure"),
    [
        ("CUDA failure 719: unspecified launch failure\nin file x", "start again"),
        ("BFCArena: Failed to allocate memory for requested buffer", "close what else"),
    ],
)
def test_a_gpu_that_fails_onnx_runtime_is_told_in_one_line(tmp_path: Path, message: str, cure: str) -> None:
    needs("onnx")
    needs("onnxruntime")
    from engines.backends.onnx_backend import OnnxBackend

    class Gone:
        """The session, and what it was fed with, on a GPU that is gone."""

        def run_with_iobinding(self, _: Any) -> None:
            raise RuntimeError(message)

        update_inplace = run_with_iobinding

    backend = OnnxBackend(stage(), "cpu", tmp_path)
    feeds = sample(backend.inputs, {"gain": (1.0,)})
    backend.run(feeds)
    backend._device = "cuda"
    backend._session = Gone()
    found = f"^ONNX Runtime fails: {message.splitlines()[0]}$"
    with pytest.raises(BackendError, match=found) as caught:
        backend.run(feeds)
    assert cure in caught.value.cure
    backend._values = {"picture": Gone(), "gain": Gone()}
    with pytest.raises(BackendError, match=found):
        backend.run(feeds)
    with pytest.raises(BackendError, match=found):
        backend.keep("gain", feeds["gain"])
    backend.close()
    backend.close()


class Runtime:
    """ONNX Runtime with a GPU that is the CPU: what it is asked for, and sessions that are real ones."""

    def __init__(self, lacks: str = "") -> None:
        import onnxruntime

        self._real = onnxruntime
        self.lacks = lacks
        """``kernels``: the GPU cannot do all of a network; ``memory``: nor can it open one."""
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
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'reenact[neural]'")
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install 'reenact[neural]'")
    made = Runtime()
    monkeypatch.setattr("engines.backends.onnx_backend.import_onnxruntime", lambda: made)
    return made


def test_onnx_runtime_on_a_gpu_multiplies_float32_as_such_and_prints_nothing(
    runtime: Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from engines.backends.onnx_backend import OnnxBackend

    backend = OnnxBackend(stage(), "cuda", tmp_path)
    assert backend.name == "onnx on CUDA, float32"
    assert runtime.asked == [[("CUDAExecutionProvider", {"use_tf32": "0"})]]
    assert runtime.placed == [("cuda", 0)] * 2
    assert runtime.preloaded
    assert not capsys.readouterr().out
    check(backend, stage())


def test_a_plug_in_s_memory_goes_by_the_cards_maker(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engines.backends import onnx_backend

    monkeypatch.setattr(onnx_backend, "_add_rtx", lambda *_: None)
    backend = onnx_backend.OnnxBackend(stage(), "rtx", tmp_path)
    assert backend.name == "onnx on TensorRT for RTX, float32"
    assert runtime.placed == [("gpu", 0, 0x10DE)] * 2


def test_what_a_gpu_leaves_to_the_cpu_is_said(runtime: Runtime, tmp_path: Path) -> None:
    from engines.backends.onnx_backend import OnnxBackend

    runtime.lacks = "kernels"
    assert OnnxBackend(stage(), "cuda", tmp_path).name == "onnx on CUDA, some of it on the CPU, float32"
    runtime.lacks = "memory"
    with pytest.raises(BackendError, match=r"^ONNX Runtime cannot load small: no memory$"):
        OnnxBackend(stage(), "cuda", tmp_path)
