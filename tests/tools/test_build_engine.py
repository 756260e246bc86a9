"""The engine builder without TensorRT: wrong usage, export, the list, and builds on a fake GPU.

Building through the real TensorRT API is tested in tests/e2e.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from rich.console import Console

from engines.backends.engine_cache import read_sidecar
from engines.backends.network_stage import Array
from engines.backends.tensorrt_backend import EngineSignature
from engines.errors import BackendError, ReenactError, UsageError
from realtime.terminal.signals import Interrupts
from tests.support.engines.engine_files import put
from tests.support.engines.fake_gpu import CAPABILITY, NAME, VERSION, FakeGpu, Plan
from tests.support.engines.networks import file, small
from tests.support.engines.neural import needs
from tools import build_engine
from tools.build_engine import INTERRUPTED, app
from tools.engine_builder import builder, jobs, trt
from tools.engine_builder.onnx import Deviation

torch = needs("torch")
onnx = needs("onnx")
needs("onnxruntime")
needs("onnxslim")


@dataclass
class Done:
    """The result of a command."""

    exit_code: int
    out: str
    err: str
    error: ReenactError | None = None

    @property
    def code(self) -> str:
        """The code of the error, or an empty text."""
        return self.error.code if self.error else ""

    @property
    def found(self) -> str:
        """What the error found."""
        assert self.error is not None, self.err
        return self.error.found

    @property
    def cure(self) -> str:
        """The cure of the error."""
        assert self.error is not None, self.err
        return self.error.cure


class Builder:
    """The command in this process, with a folder for its engines."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capture = capture

    def __call__(self, *arguments: str) -> Done:
        self._capture.readouterr()
        words = [*arguments, "--out", str(self.folder)]
        exit_code: Any = 0
        error = None
        try:
            app(args=words, prog_name="python -m tools.build_engine", obj=words)
        except ReenactError as raised:
            error = raised
        except SystemExit as ended:
            exit_code = ended.code or 0
        printed = self._capture.readouterr()
        return Done(exit_code, printed.out, printed.err, error)

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []


@pytest.fixture
def build(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Builder:
    """Return the command on a machine without TensorRT and without a GPU."""
    for package in ("tensorrt", "pycuda", "pycuda.driver"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(build_engine, "has_cuda", lambda: False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return Builder(tmp_path / "engines", capsys)


@pytest.fixture
def fomm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the family by one small network."""

    @dataclass
    class Loaded:
        label: str
        parts: Mapping[str, Any]

    monkeypatch.setattr("engines.networks.weights.load_weights", lambda *_: Loaded("random weights of seed 1", {}))
    monkeypatch.setattr("engines.networks.fomm.stages", lambda _, **__: {"small": small()})


# ---- wrong usage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], "model-not-named"),
        (["magic"], "model-unknown"),
        (["absent.onnx"], "onnx-missing"),
        (["fomm", "--precision", "int8"], "precision-unknown"),
        (["fomm", "--fp32", "body.third"], "module-unknown"),
        (["fomm", "--opset", "15"], "opset-unsupported"),
        (["fomm", "--opset", "23"], "opset-unsupported"),
        (["fomm", "--opset", "-1"], "opset-unsupported"),
        (["fomm", "--opset", "20", "--precision", "bf16"], "opset-without-bfloat16"),
        (["fomm", "--grid-sample", "magic"], "grid-sample-unknown"),
        (["fomm", "--grid-sample", "native", "--opset", "17"], "opset-without-volumes"),
    ],
)
@pytest.mark.usefixtures("fomm")
def test_a_wrong_option_is_an_error_with_a_cure(build: Builder, arguments: list[str], code: str) -> None:
    done = build(*arguments, "--onnx-only")
    assert done.code == code
    assert isinstance(done.error, UsageError)
    assert done.cure
    assert build.files == []


@pytest.mark.parametrize("arguments", [["--level", "6"], ["--level", "-1"], ["--workspace", "0"], ["--opset", "x"]])
def test_numbers_out_of_range_are_wrong_usage(build: Builder, arguments: list[str]) -> None:
    done = build("fomm", *arguments)
    assert done.exit_code == 2
    assert "Traceback" not in done.err
    assert arguments[0] in done.err


@pytest.mark.parametrize(
    "arguments",
    [["--precision", "fp16"], ["--fp32", "conv"], ["--opset", "20"], ["--grid-sample", "planar"], ["--weights", "x"]],
)
def test_options_of_families_are_wrong_usage_for_a_file(build: Builder, tmp_path: Path, arguments: list[str]) -> None:
    done = build(str(file(tmp_path / "model.onnx")), *arguments, "--onnx-only")
    assert done.code == "onnx-options"
    assert done.found.startswith(f"{arguments[0]}: ")


def test_without_tensorrt_it_fails_before_anything_takes_long(build: Builder, tmp_path: Path) -> None:
    for model in ("liveportrait", str(file(tmp_path / "model.onnx"))):
        done = build(model)
        assert done.code == "package-missing"
        assert "tensorrt" in done.cure
    assert build.files == []


def test_a_folder_that_cannot_be_written_is_an_error(build: Builder, tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("a file")
    done = build(str(file(tmp_path / "model.onnx")), "--onnx-only")
    assert done.code == "engine-folder-not-writable"
    assert "--out" in done.cure


# ---- files that are not ONNX -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"<!DOCTYPE html><html><title>Sign in</title></html>", "onnx-is-web-page"),
        (b"\n <HTML>", "onnx-is-web-page"),
        (b"# Model\n\nDownload it from the releases page.\n", "onnx-invalid"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "onnx-invalid"),
        (b"", "onnx-invalid"),
        (bytes(1000), "onnx-invalid"),
        (b"PK\x03\x04 a checkpoint", "onnx-invalid"),
    ],
)
def test_a_file_that_is_not_onnx_is_an_error(build: Builder, tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    done = build(str(path), "--onnx-only")
    assert done.code == code
    assert str(path) in done.found
    assert build.files == []


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_an_error(build: Builder, tmp_path: Path, share: float) -> None:
    path = file(tmp_path / "model.onnx")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    done = build(str(path), "--onnx-only")
    assert done.code == "onnx-invalid"


@pytest.mark.parametrize(
    ("changes", "code", "part"),
    [
        ({"sizes": ["batch", 3, 8, 8]}, "onnx-dynamic-shape", "(batch, 3, 8, 8)"),
        ({"sizes": [1, 3, None, None]}, "onnx-dynamic-shape", "(1, 3, ?, ?)"),
        ({"kind": "DOUBLE"}, "onnx-bad-type", "double"),
        ({"kind": "BFLOAT16"}, "onnx-bad-type", "bfloat16"),
        ({"op": "Identity", "kind": "STRING"}, "onnx-bad-type", "string"),
        ({"op": "Identity", "sizes": [0, 3]}, "onnx-dynamic-shape", "(?, 3)"),
    ],
)
def test_inputs_that_are_not_supported_are_an_error(
    build: Builder, tmp_path: Path, changes: dict[str, Any], code: str, part: str
) -> None:
    done = build(str(file(tmp_path / "model.onnx", **changes)), "--onnx-only")
    assert done.code == code
    assert part in done.found


def test_a_network_without_inputs_is_an_error(build: Builder, tmp_path: Path) -> None:
    helper = onnx.helper
    value = helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [1.0])
    out = helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Constant", [], ["out"], value=value)], "g", [], [out])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    done = build(str(tmp_path / "m.onnx"), "--onnx-only")
    assert done.code == "onnx-no-tensors"


def test_an_unknown_operator_is_an_error(build: Builder, tmp_path: Path) -> None:
    helper = onnx.helper
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("in", "out")]
    graph = helper.make_graph([helper.make_node("Magic", ["in"], ["out"], domain="x")], "g", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("x", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    done = build(str(tmp_path / "m.onnx"), "--onnx-only")
    assert done.code == "onnx-not-runnable"
    assert "--no-check" in done.cure
    assert build.files == []


# ---- export only -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16", "INT64", "UINT8"])
def test_a_file_is_simplified_and_checked(build: Builder, tmp_path: Path, kind: str) -> None:
    done = build(str(file(tmp_path / "model.onnx", kind=kind, op="Identity")), "--onnx-only", "--json")
    assert done.exit_code == 0
    (result,) = json.loads(done.out)
    written = Path(result["onnx"])
    assert build.files == [written.name]
    assert hashlib.sha256(written.read_bytes()).hexdigest() == result["onnx_sha256"]
    assert result["export"]["mean"] <= result["export"]["allowed"]
    onnx.checker.check_model(str(written), full_check=True)
    assert not list(tmp_path.glob("reenact-engine-*"))  # temporary files


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
@pytest.mark.usefixtures("fomm")
def test_a_family_is_exported_simplified_and_compared_layer_by_layer(build: Builder, precision: str) -> None:
    done = build("fomm", "--precision", precision, "--onnx-only", "--json")
    assert done.exit_code == 0
    (result,) = json.loads(done.out)
    assert result["stage"] == "small"
    assert 0 <= result["export"]["mean"] <= result["export"]["max"]
    assert result["export"]["worst_layer"] in ("body.first", "body.second")
    assert f"exported in {precision}" in done.err
    assert build.files == [Path(result["onnx"]).name]


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_the_refiner_is_exported_with_random_weights(build: Builder, precision: str) -> None:
    done = build("refiner", "--weights", "random:1", "--precision", precision, "--onnx-only", "--json")
    assert done.exit_code == 0
    results = json.loads(done.out)
    assert {result["stage"] for result in results} == {"refiner-mouth", "refiner-driver", "refiner-eyes"}
    assert max(result["export"]["max"] for result in results) < 0.02


def test_a_seed_that_is_no_number_is_a_mistake_in_usage(build: Builder) -> None:
    done = build("refiner", "--weights", "random:x", "--onnx-only")
    assert done.error is not None
    assert done.error.code == "weights-bad-seed"


@pytest.mark.usefixtures("fomm")
def test_without_json_the_lines_are_on_standard_output(build: Builder) -> None:
    done = build("fomm", "--onnx-only", "--fp32", "body.second", "--no-check")
    assert (done.exit_code, done.err) == (0, "")
    assert done.out.startswith("small: exported in fp16, opset 20, ")
    assert done.out.rstrip().endswith(build.files[0])


@pytest.mark.usefixtures("fomm")
def test_nothing_is_written_when_the_error_is_too_large(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    for deviation in (
        Deviation(0.3, 0.9, "body.first", 0.4),
        Deviation(0.3, 0.9, "body.first", None),
        Deviation(float("inf"), float("inf"), "body.first", 1e-3),
    ):
        monkeypatch.setattr(jobs, "compare_stage", lambda *_, result=deviation: result)
        done = build("fomm", "--onnx-only")
        assert done.code == "export-inaccurate"
        assert "worst layer body.first" in done.found
        assert done.cure == "--fp32 body.first"
        assert build.files == []


@pytest.mark.usefixtures("fomm")
def test_a_layer_that_overflows_and_recovers_is_reported_and_is_null_in_json(
    build: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "compare_stage", lambda *_: Deviation(1e-4, 1e-3, "body.first", None))
    done = build("fomm", "--onnx-only", "--json")
    assert done.exit_code == 0
    assert "worst layer body.first (overflows)" in done.err
    assert json.loads(done.out)[0]["export"]["worst_layer_mean"] is None


@pytest.mark.parametrize(
    ("module", "step"),
    [(jobs, "export_onnx"), (builder, "simplify"), (jobs, "compare_stage")],
)
@pytest.mark.usefixtures("fomm")
def test_ctrl_c_leaves_no_file(
    build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, step: str
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, step, stop)
    done = build("fomm", "--onnx-only")
    assert done.exit_code == INTERRUPTED == 130
    assert done.err.count("\n") == 2
    assert build.files == []
    assert not list(tmp_path.glob("reenact-engine-*"))


@pytest.mark.usefixtures("fomm")
def test_a_full_disk_is_an_error_and_leaves_no_file(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    done = build("fomm", "--onnx-only")
    assert done.code == "onnx-not-writable"
    assert "No space left on device" in done.found
    assert build.files == []


# ---- on a fake GPU ---------------------------------------------------------------------------------------------------


@pytest.fixture
def card(build: Builder, monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """Return a fake GPU with a TensorRT that builds an engine with the outputs of the network."""
    del build
    card = FakeGpu()
    card.install(monkeypatch)
    monkeypatch.setattr(build_engine, "has_cuda", lambda: True)
    monkeypatch.setattr(builder, "WARM_UP", 1)
    monkeypatch.setattr(builder, "REPEATS", 3)
    module = small().module

    def outputs(**fed: Array) -> Mapping[str, Array]:
        with torch.inference_mode():
            out, mean = module(torch.from_numpy(fed["picture"].copy()), torch.from_numpy(fed["gain"].copy()))
        return {"out": out.numpy(), "mean": mean.numpy()}

    def built(path: Path, signature: Any, *_: Any) -> trt.BuiltEngine:
        assert path.is_file()
        card.plans.setdefault(b"an engine", Plan(signature.inputs, signature.outputs, outputs))
        return trt.BuiltEngine(b"an engine", 0.1)

    monkeypatch.setattr(trt, "build", built)
    return card


@pytest.mark.usefixtures("fomm")
def test_an_engine_is_timed_compared_and_written_with_its_description(build: Builder, card: FakeGpu) -> None:
    done = build("fomm", "--json", "--level", "5", "--workspace", "256", "--fp32", "body.second")
    assert done.exit_code == 0
    (result,) = json.loads(done.out)
    path = Path(result["file"])
    assert path.read_bytes() == b"an engine"
    sidecar = read_sidecar(path)
    assert {**sidecar.model_dump(mode="json"), "file": str(path)} == result
    assert (sidecar.tensorrt, sidecar.gpu) == (VERSION, NAME)
    assert sidecar.compute_capability == ".".join(map(str, CAPABILITY))
    assert (sidecar.precision, sidecar.float32, sidecar.level) == ("float16", ["body.second"], 5)
    assert sidecar.workspace_mib == 256
    assert sidecar.engine is not None
    assert sidecar.engine.mean < 1e-6
    assert sidecar.median_ms is not None
    assert not card.memory
    assert build.files == sorted([path.name, path.with_suffix(".json").name])
    (listed,) = json.loads(build("--list", "--json").out)
    assert (listed["fits"], listed["why_not"]) == (True, None)
    assert "fits this machine" in build("--list").out


@pytest.mark.usefixtures("fomm")
def test_an_engine_with_wrong_outputs_is_not_written(build: Builder, card: FakeGpu) -> None:
    wrong = {spec.name: np.full(spec.shape, np.nan, np.float32) for spec in small().outputs}
    card.plans[b"an engine"] = Plan(small().inputs, small().outputs, lambda **_: wrong)
    done = build("fomm")
    assert done.code == "export-inaccurate"
    assert done.cure == "--precision fp32"
    assert build.files == []
    assert not card.memory


@pytest.mark.usefixtures("fomm")
def test_a_gpu_without_memory_for_the_engine_is_an_error(build: Builder, card: FakeGpu) -> None:
    card.faults["mem_alloc"] = card.driver.MemoryError("cuMemAlloc failed: out of memory")
    done = build("fomm")
    assert done.code == "gpu-out-of-memory"
    assert build.files == []


@pytest.mark.usefixtures("fomm")
def test_ctrl_c_during_build_or_timing_leaves_no_file(
    build: Builder, card: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    card.faults["execute"] = KeyboardInterrupt()  # type: ignore[assignment]
    assert build("fomm").exit_code == INTERRUPTED
    assert build.files == []
    assert not card.memory

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trt, "build", stop)
    assert build("fomm").exit_code == INTERRUPTED
    assert build.files == []


def test_a_gpu_that_cuda_cannot_use_fails_before_anything_takes_long(build: Builder, card: FakeGpu) -> None:
    card.faults["init"] = card.driver.Error("cuInit failed: system has unsupported display driver")
    done = build("liveportrait")
    assert done.code == "cuda-not-starting"
    assert "cuInit failed" in done.found


def test_float32_is_not_lowered_to_tf32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensorrt = MagicMock()
    tensorrt.ILogger, tensorrt.IProgressMonitor = type("ILogger", (), {}), object
    network, config = MagicMock(num_inputs=0, num_outputs=0), MagicMock()
    builder = tensorrt.Builder.return_value
    builder.create_network.return_value, builder.create_builder_config.return_value = network, config
    builder.build_serialized_network.return_value = b"an engine"
    config.get_timing_cache.return_value = None
    monkeypatch.setattr(trt, "import_tensorrt", lambda: tensorrt)
    signature, console = EngineSignature("none", (), ()), Console(file=io.StringIO())
    path = tmp_path / "none.onnx"
    built = trt.build(path, signature, trt.BuilderSettings(None, 3), tmp_path / "t", console, lambda: None)
    assert built.engine == b"an engine"
    config.clear_flag.assert_called_once_with(tensorrt.BuilderFlag.TF32)


def test_ctrl_c_is_handled_while_tensorrt_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handled = threading.Event()

    class Recorded(Interrupts):
        def _handle(self, number: int, frame: FrameType | None) -> None:
            super()._handle(number, frame)
            handled.set()

    def work(bar: trt.ProgressBar, interrupts: Interrupts) -> str:
        bar.start("timing", None, 1000)
        signal.raise_signal(signal.SIGINT)  # arrives on the main thread
        handled.wait(5)
        bar.step("timing", 1)
        return "stopped" if interrupts.count else "not stopped"

    monkeypatch.setattr(trt, "Interrupts", Recorded)

    stopped: list[str] = []
    with (tmp_path / "console").open("w") as console, pytest.raises(KeyboardInterrupt):
        trt.run_with_progress(lambda *with_: stopped.append(work(*with_)), "frame", Console(file=console), lambda: None)
    assert stopped == ["stopped"]


def test_an_error_of_the_work_is_raised(tmp_path: Path) -> None:
    def work(*_: object) -> None:
        raise BackendError("gpu-failed", "TensorRT fails")

    with (tmp_path / "console").open("w") as console, pytest.raises(BackendError) as caught:
        trt.run_with_progress(work, "frame", Console(file=console), lambda: None)
    assert caught.value.code == "gpu-failed"


# ---- the list --------------------------------------------------------------------------------------------------------


def test_the_list_of_an_empty_folder(build: Builder) -> None:
    done = build("--list")
    assert (done.exit_code, done.err) == (0, "")
    assert done.out.startswith(f"no engines in {build.folder}")
    assert json.loads(build("--list", "--json").out) == []
    assert not build.folder.exists()


def test_the_list_has_the_reason_why_an_engine_does_not_fit(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu().install(monkeypatch)
    usable: dict[str, Any] = {"tensorrt": VERSION, "gpu": NAME, "compute_capability": "9.0"}
    put(build.folder, "a-fits", **usable)
    put(build.folder, "b-elsewhere", **{**usable, "gpu": "NVIDIA L4", "compute_capability": "8.9"})
    put(build.folder, "c-edited", **usable).write_bytes(b"edited")
    put(build.folder, "d-damaged", **usable).with_suffix(".json").write_text("{")
    put(build.folder, "e-alone", **usable).with_suffix(".json").unlink()
    put(build.folder, "f-nowhere", **{**usable, "gpu": None, "compute_capability": None})
    done = build("--list")
    assert done.exit_code == 0
    reasons = [line.strip() for line in done.out.splitlines() if "fit" in line and ".engine  " not in line]
    assert reasons[0] == "fits this machine"
    expected = ["NVIDIA L4", "truncated or changed", "edited or damaged", "no readable sidecar", "without a GPU"]
    assert len(reasons) == 6
    for reason, part in zip(reasons[1:], expected, strict=True):
        assert reason.startswith("does not fit: ")
        assert part in reason
    listed = json.loads(build("--list", "--json").out)
    assert [each["fits"] for each in listed] == [True] + 5 * [False]
    assert all(part in each["why_not"] for each, part in zip(listed[1:], expected, strict=True))
    assert all(each["bytes"] > 0 for each in listed)


def test_without_tensorrt_the_list_names_what_is_missing(build: Builder) -> None:
    put(build.folder, tensorrt=VERSION)
    assert f"it needs TensorRT {VERSION}, which is not installed" in build("--list").out
