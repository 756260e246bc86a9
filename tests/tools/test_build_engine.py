"""The engine builder's command line without TensorRT: what it refuses, exports, lists, and keeps on a GPU in memory.

Building through the real TensorRT API is tried in tests/e2e.
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
from types import FrameType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from rich.console import Console

from engines.backends.engine_cache import read_sidecar
from engines.backends.network_stage import Array
from engines.backends.tensorrt_backend import EngineSignature
from engines.errors import BackendError
from realtime.terminal.signals import Interrupts
from tests.engines.backends.test_engine_cache import put
from tests.support.fake_gpu import CAPABILITY, NAME, VERSION, FakeGpu, Plan
from tests.support.networks import file, small
from tests.support.neural import needs
from tools import build_engine
from tools.build_engine import STOPPED, main
from tools.engine_builder import trt
from tools.engine_builder.onnx import Compared

torch = needs("torch")
onnx = needs("onnx")
needs("onnxruntime")
needs("onnxslim")


@dataclass
class Done:
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def found(self) -> str:
        """The line that says what is wrong."""
        assert "Traceback" not in self.err
        return self.err.splitlines()[0]


class Builder:
    """The command line in this process, with a folder for its engines."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capture = capture

    def __call__(self, *arguments: str) -> Done:
        self._capture.readouterr()
        code = main([*arguments, "--out", str(self.folder)])
        said = self._capture.readouterr()
        return Done(code, said.out, said.err)

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []


@pytest.fixture
def build(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Builder:
    """On a machine with neither TensorRT nor a GPU."""
    for package in ("tensorrt", "pycuda", "pycuda.driver"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(build_engine, "has_cuda", lambda: False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return Builder(tmp_path / "engines", capsys)


@pytest.fixture
def fomm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The family of that name is one small network."""

    @dataclass
    class Loaded:
        label: str
        parts: Mapping[str, Any]

    monkeypatch.setattr("engines.networks.weights.load_weights", lambda *_: Loaded("random weights of seed 1", {}))
    monkeypatch.setattr("engines.networks.fomm.stages", lambda _, **__: {"small": small()})


# ---- wrong use -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([], "no model is named"),
        (["magic"], "magic: it is no family of networks and no file"),
        (["absent.onnx"], "absent.onnx: there is no such file"),
        (["fomm", "--precision", "int8"], "there is no precision 'int8'"),
        (["fomm", "--fp32", "body.third"], "fomm has no module 'body.third'"),
        (["fomm", "--opset", "15"], "--opset 15"),
        (["fomm", "--opset", "23"], "--opset 23"),
        (["fomm", "--opset", "-1"], "--opset -1"),
        (["fomm", "--opset", "20", "--precision", "bf16"], "--opset 20 has no convolution in bfloat16"),
        (["fomm", "--grid-sample", "magic"], "there is no --grid-sample magic"),
        (["fomm", "--grid-sample", "native", "--opset", "17"], "--opset 17 cannot sample volumes"),
    ],
)
@pytest.mark.usefixtures("fomm")
def test_what_cannot_be_asked_for_is_told_with_what_can(build: Builder, arguments: list[str], found: str) -> None:
    done = build(*arguments, "--onnx-only")
    assert done.code == 2
    assert done.found == found
    assert len(done.err.splitlines()) == 2
    assert build.files == []


@pytest.mark.parametrize("arguments", [["--level", "6"], ["--level", "-1"], ["--workspace", "0"], ["--opset", "x"]])
def test_numbers_out_of_range_are_wrong_use(build: Builder, arguments: list[str]) -> None:
    done = build("fomm", *arguments)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert arguments[0] in done.err


@pytest.mark.parametrize(
    "arguments",
    [["--precision", "fp16"], ["--fp32", "conv"], ["--opset", "20"], ["--grid-sample", "planar"], ["--weights", "x"]],
)
def test_a_file_has_its_precision_and_operators_already(build: Builder, tmp_path: Path, arguments: list[str]) -> None:
    done = build(str(file(tmp_path / "model.onnx")), *arguments, "--onnx-only")
    assert done.code == 2
    assert done.found.startswith(f"{arguments[0]}: an ONNX file has its precision")


def test_without_tensorrt_it_says_so_before_anything_takes_long(build: Builder, tmp_path: Path) -> None:
    for model in ("liveportrait", str(file(tmp_path / "model.onnx"))):
        done = build(model)
        assert (done.code, done.found) == (1, "no package tensorrt")
        assert "pip install" in done.err
    assert build.files == []


def test_a_folder_that_cannot_be_written_to_is_told(build: Builder, tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("in the way")
    done = build(str(file(tmp_path / "model.onnx")), "--onnx-only")
    assert (done.code, done.found) == (1, f"{build.folder} cannot be written to: File exists")
    assert "--out" in done.err


# ---- files that are not what they say --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"<!DOCTYPE html><html><title>Sign in</title></html>", "a web page saved under that name"),
        (b"\n <HTML>", "a web page saved under that name"),
        (b"# Model\n\nDownload it from the releases page.\n", "not a network in ONNX"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "not a network in ONNX"),
        (b"", "not a network in ONNX"),
        (bytes(1000), "not a network in ONNX"),
        (b"PK\x03\x04 a checkpoint", "not a network in ONNX"),
    ],
)
def test_what_is_no_network_is_told(build: Builder, tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    done = build(str(path), "--onnx-only")
    assert done.code == 1
    assert done.found.startswith(f"{path} is {found}")
    assert len(done.err.splitlines()) == 2
    assert build.files == []


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_told(build: Builder, tmp_path: Path, share: float) -> None:
    path = file(tmp_path / "model.onnx")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    done = build(str(path), "--onnx-only")
    assert done.code == 1
    assert "is not a network in ONNX" in done.found


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"sizes": ["batch", 3, 8, 8]}, "model.onnx: in has sizes left open: (batch, 3, 8, 8)"),
        ({"sizes": [1, 3, None, None]}, "model.onnx: in has sizes left open: (1, 3, ?, ?)"),
        ({"kind": "DOUBLE"}, "model.onnx: in is double"),
        ({"kind": "BFLOAT16"}, "model.onnx: in is bfloat16"),
        ({"op": "Identity", "kind": "STRING"}, "model.onnx: in is string"),
        ({"op": "Identity", "sizes": [0, 3]}, "model.onnx: in has sizes left open: (?, 3)"),
    ],
)
def test_inputs_that_cannot_be_had_are_told(
    build: Builder, tmp_path: Path, changes: dict[str, Any], found: str
) -> None:
    done = build(str(file(tmp_path / "model.onnx", **changes)), "--onnx-only")
    assert (done.code, done.found) == (1, found)


def test_a_network_that_takes_or_gives_nothing_is_told(build: Builder, tmp_path: Path) -> None:
    helper = onnx.helper
    value = helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [1.0])
    out = helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Constant", [], ["out"], value=value)], "g", [], [out])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    done = build(str(tmp_path / "m.onnx"), "--onnx-only")
    assert done.code == 1
    assert "takes nothing" in done.found


def test_an_operator_that_nobody_knows_is_told(build: Builder, tmp_path: Path) -> None:
    helper = onnx.helper
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("in", "out")]
    graph = helper.make_graph([helper.make_node("Magic", ["in"], ["out"], domain="x")], "g", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("x", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    done = build(str(tmp_path / "m.onnx"), "--onnx-only")
    assert done.code == 1
    assert "ONNX Runtime does not run m-" in done.err
    assert "--no-check" in done.err
    assert build.files == []


# ---- export only -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16", "INT64", "UINT8"])
def test_a_file_is_simplified_and_checked(build: Builder, tmp_path: Path, kind: str) -> None:
    done = build(str(file(tmp_path / "model.onnx", kind=kind, op="Identity")), "--onnx-only", "--json")
    assert done.code == 0
    (said,) = json.loads(done.out)
    made = Path(said["onnx"])
    assert build.files == [made.name]
    assert hashlib.sha256(made.read_bytes()).hexdigest() == said["onnx_sha256"]
    assert said["export"]["mean"] <= said["export"]["allowed"]
    onnx.checker.check_model(str(made), full_check=True)
    assert not list(tmp_path.glob("reenact-engine-*"))  # what was needed on the way


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
@pytest.mark.usefixtures("fomm")
def test_a_family_is_exported_simplified_and_compared_layer_by_layer(build: Builder, precision: str) -> None:
    done = build("fomm", "--precision", precision, "--onnx-only", "--json")
    assert done.code == 0
    (said,) = json.loads(done.out)
    assert said["stage"] == "small"
    assert 0 <= said["export"]["mean"] <= said["export"]["max"]
    assert said["export"]["worst_layer"] in ("body.first", "body.second")
    assert f"exported in {precision}" in done.err
    assert build.files == [Path(said["onnx"]).name]


@pytest.mark.usefixtures("fomm")
def test_for_the_person_the_lines_are_on_standard_output(build: Builder) -> None:
    done = build("fomm", "--onnx-only", "--fp32", "body.second", "--no-check")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("small: exported in fp16, opset 20, ")
    assert done.out.rstrip().endswith(build.files[0])


@pytest.mark.usefixtures("fomm")
def test_a_tolerance_that_is_not_met_keeps_nothing(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    for compared in (
        Compared(0.3, 0.9, "body.first", 0.4),
        Compared(0.3, 0.9, "body.first", None),
        Compared(float("inf"), float("inf"), "body.first", 1e-3),
    ):
        monkeypatch.setattr(build_engine, "compare_stage", lambda *_, now=compared: now)
        done = build("fomm", "--onnx-only")
        assert done.code == 1
        assert "off on average in fp16, worst layer body.first" in done.found
        assert "nothing is kept" in done.found
        assert "--fp32 body.first" in done.err
        assert build.files == []


@pytest.mark.usefixtures("fomm")
def test_a_layer_that_overflows_and_recovers_is_told_and_is_valid_json(
    build: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_engine, "compare_stage", lambda *_: Compared(1e-4, 1e-3, "body.first", None))
    done = build("fomm", "--onnx-only", "--json")
    assert done.code == 0
    assert "worst layer body.first (overflows)" in done.err
    assert json.loads(done.out)[0]["export"]["worst_layer_mean"] is None


@pytest.mark.parametrize("step", ["export_onnx", "simplify", "compare_stage"])
@pytest.mark.usefixtures("fomm")
def test_ctrl_c_leaves_nothing(build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build_engine, step, stop)
    done = build("fomm", "--onnx-only")
    assert done.code == STOPPED == 130
    assert done.err == "\nstopped: nothing half-written is left\n"
    assert build.files == []
    assert not list(tmp_path.glob("reenact-engine-*"))


@pytest.mark.usefixtures("fomm")
def test_no_room_for_the_file_is_told_and_leaves_nothing(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    done = build("fomm", "--onnx-only")
    assert done.code == 1
    assert "cannot be written to" in done.found
    assert "No space left on device" in done.found
    assert build.files == []


# ---- on a GPU in memory ----------------------------------------------------------------------------------------------


@pytest.fixture
def card(build: Builder, monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """A GPU, and a TensorRT that builds an engine which answers as the network does."""
    del build
    card = FakeGpu()
    card.install(monkeypatch)
    monkeypatch.setattr(build_engine, "has_cuda", lambda: True)
    monkeypatch.setattr(build_engine, "WARM_UP", 1)
    monkeypatch.setattr(build_engine, "REPEATS", 3)
    module = small().module

    def answer(**fed: Array) -> Mapping[str, Array]:
        with torch.inference_mode():
            out, mean = module(torch.from_numpy(fed["picture"].copy()), torch.from_numpy(fed["gain"].copy()))
        return {"out": out.numpy(), "mean": mean.numpy()}

    def built(path: Path, asked: Any, *_: Any) -> trt.Built:
        assert path.is_file()
        card.plans.setdefault(b"an engine", Plan(asked.inputs, asked.outputs, answer))
        return trt.Built(b"an engine", 0.1)

    monkeypatch.setattr(trt, "build", built)
    return card


@pytest.mark.usefixtures("fomm")
def test_an_engine_is_timed_compared_and_kept_with_all_that_is_known(build: Builder, card: FakeGpu) -> None:
    done = build("fomm", "--json", "--level", "5", "--workspace", "256", "--fp32", "body.second")
    assert done.code == 0
    (said,) = json.loads(done.out)
    path = Path(said["file"])
    assert path.read_bytes() == b"an engine"
    sidecar = read_sidecar(path)
    assert {**sidecar.model_dump(mode="json"), "file": str(path)} == said
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
def test_an_engine_that_answers_wrongly_is_not_kept(build: Builder, card: FakeGpu) -> None:
    wrong = {spec.name: np.full(spec.shape, np.nan, np.float32) for spec in small().outputs}
    card.plans[b"an engine"] = Plan(small().inputs, small().outputs, lambda **_: wrong)
    done = build("fomm")
    assert done.code == 1
    assert "nothing is kept" in done.found
    assert done.err.splitlines()[1].strip() == "--precision fp32"
    assert build.files == []
    assert not card.memory


@pytest.mark.usefixtures("fomm")
def test_a_gpu_without_memory_for_the_engine_is_told_and_nothing_kept(build: Builder, card: FakeGpu) -> None:
    card.faults["mem_alloc"] = card.driver.MemoryError("cuMemAlloc failed: out of memory")
    done = build("fomm")
    assert (done.code, done.found) == (1, "no free memory on the GPU")
    assert build.files == []


@pytest.mark.usefixtures("fomm")
def test_ctrl_c_while_it_is_built_or_timed_leaves_nothing(
    build: Builder, card: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    card.faults["execute"] = KeyboardInterrupt()  # type: ignore[assignment]
    assert build("fomm").code == STOPPED
    assert build.files == []
    assert not card.memory

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trt, "build", stop)
    assert build("fomm").code == STOPPED
    assert build.files == []


def test_a_gpu_that_cuda_does_not_start_on_is_told_before_anything_takes_long(build: Builder, card: FakeGpu) -> None:
    card.faults["init"] = card.driver.Error("cuInit failed: system has unsupported display driver")
    done = build("liveportrait")
    assert done.code == 1
    assert done.found.startswith("CUDA does not start: cuInit failed")


def test_what_is_float32_in_the_network_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensorrt = MagicMock()
    tensorrt.ILogger, tensorrt.IProgressMonitor = type("ILogger", (), {}), object
    network, config = MagicMock(num_inputs=0, num_outputs=0), MagicMock()
    builder = tensorrt.Builder.return_value
    builder.create_network.return_value, builder.create_builder_config.return_value = network, config
    builder.build_serialized_network.return_value = b"an engine"
    config.get_timing_cache.return_value = None
    monkeypatch.setattr(trt, "import_tensorrt", lambda: tensorrt)
    asked, console = EngineSignature("none", (), ()), Console(file=io.StringIO())
    path = tmp_path / "none.onnx"
    built = trt.build(path, asked, trt.Options(None, 3), tmp_path / "t", console, lambda: None)
    assert built.engine == b"an engine"
    config.clear_flag.assert_called_once_with(tensorrt.BuilderFlag.TF32)


def test_ctrl_c_is_heard_while_tensorrt_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = threading.Event()

    class Heard(Interrupts):
        def _handle(self, number: int, frame: FrameType | None) -> None:
            super()._handle(number, frame)
            heard.set()

    def work(bar: trt.Bar, interrupts: Interrupts) -> str:
        bar.start("timing", None, 1000)
        signal.raise_signal(signal.SIGINT)  # arrives on the main thread
        heard.wait(5)
        bar.step("timing", 1)
        return "stopped" if interrupts.count else "never told"

    monkeypatch.setattr(trt, "Interrupts", Heard)

    stopped: list[str] = []
    with (tmp_path / "console").open("w") as console, pytest.raises(KeyboardInterrupt):
        trt.attended(lambda *with_: stopped.append(work(*with_)), "frame", Console(file=console), lambda: None)
    assert stopped == ["stopped"]


def test_what_goes_wrong_at_work_is_raised(tmp_path: Path) -> None:
    def work(*_: object) -> None:
        raise BackendError("TensorRT fails")

    with (tmp_path / "console").open("w") as console, pytest.raises(BackendError, match="TensorRT fails"):
        trt.attended(work, "frame", Console(file=console), lambda: None)


# ---- the list --------------------------------------------------------------------------------------------------------


def test_a_list_of_nothing(build: Builder) -> None:
    done = build("--list")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"no engines in {build.folder}")
    assert json.loads(build("--list", "--json").out) == []
    assert not build.folder.exists()


def test_the_list_says_of_each_why_it_does_not_fit(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu().install(monkeypatch)
    fitting: dict[str, Any] = {"tensorrt": VERSION, "gpu": NAME, "compute_capability": "9.0"}
    put(build.folder, "a-fits", **fitting)
    put(build.folder, "b-elsewhere", **{**fitting, "gpu": "NVIDIA L4", "compute_capability": "8.9"})
    put(build.folder, "c-edited", **fitting).write_bytes(b"edited")
    put(build.folder, "d-damaged", **fitting).with_suffix(".json").write_text("{")
    put(build.folder, "e-alone", **fitting).with_suffix(".json").unlink()
    put(build.folder, "f-nowhere", **{**fitting, "gpu": None, "compute_capability": None})
    done = build("--list")
    assert done.code == 0
    whys = [line.strip() for line in done.out.splitlines() if "fit" in line and ".engine  " not in line]
    assert whys[0] == "fits this machine"
    expected = ["NVIDIA L4", "truncated or changed", "edited or damaged", "no readable sidecar", "without a GPU"]
    assert len(whys) == 6
    assert all(why.startswith("does not fit: ") and part in why for why, part in zip(whys[1:], expected, strict=True))
    listed = json.loads(build("--list", "--json").out)
    assert [each["fits"] for each in listed] == [True] + 5 * [False]
    assert all(part in each["why_not"] for each, part in zip(listed[1:], expected, strict=True))
    assert all(each["bytes"] > 0 for each in listed)


def test_without_tensorrt_the_list_says_what_is_missing(build: Builder) -> None:
    put(build.folder, tensorrt=VERSION)
    assert f"it needs TensorRT {VERSION}, which is not installed" in build("--list").out
