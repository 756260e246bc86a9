"""Engines built through the real TensorRT API on the CPU, where they cannot be run."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from engines.backends.network_stage import TensorSpec
from tests.e2e.tensorrt_cpu import environment
from tests.support.engines.neural import needs

needs("torch")
needs("onnxslim")

ROOT = Path(__file__).parents[2]
STAGES = ("portrait", "motion", "frame")


@pytest.fixture(scope="module")
def env() -> dict[str, str]:
    return environment()


def build(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.build_engine", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=560, check=False)


def tensors(specs: tuple[TensorSpec, ...]) -> list[dict[str, Any]]:
    return [{"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype} for spec in specs]


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("liveportrait", ["--precision", "fp16"]),
        ("liveportrait", ["--grid-sample", "planar", "--fp32", "warping_module.dense_motion_network", "--no-check"]),
        ("fomm", ["--precision", "bf16", "--level", "1", "--workspace", "2048"]),
        ("fomm", ["--precision", "fp32", "--opset", "17"]),
    ],
)
def test_a_family_is_built(env: dict[str, str], tmp_path: Path, family: str, options: list[str]) -> None:
    from engines.backends.onnx_export import network_id
    from engines.networks import fomm, liveportrait, weights

    done = build(env, family, "--weights", "random:1", "--out", str(tmp_path), "--json", *options)
    assert done.returncode == 0, done.stderr
    built = json.loads(done.stdout)
    module = liveportrait if family == "liveportrait" else fomm
    stages = module.stages(weights.load_weights(family, "random:1").parts)
    assert [each["stage"] for each in built] == list(STAGES)
    for each in built:
        engine, stage = Path(each["file"]), stages[each["stage"]]
        assert hashlib.sha256(engine.read_bytes()).hexdigest() == each["engine_sha256"]
        assert json.loads(engine.with_suffix(".json").read_text()).items() <= each.items()
        assert each["network"] == network_id(stage)
        assert each["inputs"] == tensors(stage.inputs)
        assert each["outputs"] == tensors(stage.outputs)
        assert (each["gpu"], each["compute_capability"], each["median_ms"]) == (None, None, None)
        assert each["tensorrt"].startswith("11.4")
        assert (each["export"] is None) == ("--no-check" in options)
        if each["export"]:
            assert each["export"]["mean"] <= each["export"]["allowed"]
            assert each["export"]["worst_layer"] in dict(stage.module.named_modules())
    frame = built[-1]
    assert frame["precision"] == {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}.get(
        options[options.index("--precision") + 1] if "--precision" in options else "fp16"
    )
    assert not list(tmp_path.glob(".*"))
    listed = json.loads(build(env, "--list", "--json", "--out", str(tmp_path)).stdout)
    assert len(listed) == len(STAGES)
    assert all("without a GPU" in each["why_not"] for each in listed)


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_the_refiner_is_built(env: dict[str, str], tmp_path: Path, precision: str) -> None:
    done = build(env, "refiner", "--weights", "random:1", "--out", str(tmp_path), "--json", "--precision", precision)
    assert done.returncode == 0, done.stderr
    built = json.loads(done.stdout)
    assert {each["stage"] for each in built} == {"refiner-mouth", "refiner-driver", "refiner-eyes"}
    for each in built:
        assert hashlib.sha256(Path(each["file"]).read_bytes()).hexdigest() == each["engine_sha256"]
        assert each["export"]["mean"] <= each["export"]["allowed"]


def test_an_onnx_file_is_built(env: dict[str, str], tmp_path: Path) -> None:
    onnx = needs("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    shapes = {name: helper.make_tensor_value_info(name, kind, [1, 3, 8, 8]) for name in ("in", "out")}
    graph = helper.make_graph([helper.make_node("Relu", ["in"], ["out"])], "g", [shapes["in"]], [shapes["out"]])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "small.onnx")
    done = build(env, str(tmp_path / "small.onnx"), "--out", str(tmp_path / "engines"), "--json")
    assert done.returncode == 0, done.stderr
    (built,) = json.loads(done.stdout)
    assert (built["model"], built["opset"], built["precision"]) == ("small.onnx", 17, "float32")
    assert built["export"]["max"] == 0


def test_a_file_that_tensorrt_cannot_parse_is_an_error(env: dict[str, str], tmp_path: Path) -> None:
    onnx = needs("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    shapes = {name: helper.make_tensor_value_info(name, kind, [4]) for name in ("in", "out")}
    node = helper.make_node("Erf", ["in"], ["out"])
    node.op_type = "Det"  # the determinant, which TensorRT does not have
    shapes["in"] = helper.make_tensor_value_info("in", kind, [4, 2, 2])
    graph = helper.make_graph([node], "g", [shapes["in"]], [shapes["out"]])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "det.onnx")
    done = build(env, str(tmp_path / "det.onnx"), "--out", str(tmp_path / "engines"))
    assert done.returncode == 1
    assert "TensorRT cannot parse" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "engines").glob("*.engine"))


def test_ctrl_c_leaves_no_incomplete_file(env: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.build_engine", "fomm", "--weights", "random:1", "--out", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        first = run.stdout.readline()  # the first network is exported, everything else follows
        assert "portrait: exported" in first
        began = time.monotonic()
        run.send_signal(signal.SIGINT)
        _, printed = run.communicate(timeout=120)
    assert run.returncode == 130, printed
    assert "interrupted" in printed
    assert "Traceback" not in printed
    assert time.monotonic() - began < 60
    assert {path.suffix for path in tmp_path.iterdir()} <= {".engine", ".json", ".cache"}
    for engine in tmp_path.glob("*.engine"):
        sidecar = json.loads(engine.with_suffix(".json").read_text())
        assert hashlib.sha256(engine.read_bytes()).hexdigest() == sidecar["engine_sha256"]
