"""The benchmark of the networks: its command line, its output, and variants that fail. Its times are not tested."""

from __future__ import annotations

import copy
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.backends import open as backend_opening
from engines.backends.network_stage import NetworkStage, TensorSpec
from engines.errors import BackendError, UsageError
from tests.support.engines.neural import needs
from tools import bench_engines
from tools.bench_engines import main, parse_names, rows, variants_of
from tools.network_bench import cases, table, timing
from tools.network_bench.cases import EAGER, FRAME, HOST, crop_function, picture_error
from tools.network_bench.networks import Networks, Submodule, smooth_picture
from tools.network_bench.timing import Case, Clock, Rates, measure_rates, wall_clock

torch = needs("torch")

from tests.support.engines.fake_cuda import fake_cuda  # noqa: E402 - after the skip

KNOWN = ("torch", "onnx")


def run(*words: str) -> int:
    """Run the tool and return its exit code."""
    return main(list(words))


# ---- the command line ------------------------------------------------------------------------------------------------


def test_a_list_keeps_its_order_and_names_each_item_once() -> None:
    assert parse_names(" onnx,torch,onnx,", KNOWN, "--backends") == ["onnx", "torch"]
    for wrong in ("magic", "torch,magic", "", " , "):
        with pytest.raises(UsageError) as caught:
            parse_names(wrong, KNOWN, "--backends")
        assert caught.value.code == "bench-bad-list"
        assert caught.value.found.startswith("--backends")


def test_a_gpu_is_measured_with_every_provider_and_a_cpu_with_one() -> None:
    def names(device: str) -> list[tuple[str, str, str]]:
        return [
            (variant.name, variant.backend, variant.device)
            for variant in variants_of(["torch", "onnx"], device, compiled=False)
        ]

    gpu = [("torch", "torch", "cuda"), ("onnx", "onnx", "cuda"), ("onnx rtx", "onnx", "rtx")]
    assert names("auto") == gpu
    assert names("cuda") == gpu[:2]
    assert names("rtx") == [gpu[0], gpu[2]]
    assert names("cpu") == [("torch", "torch", "cpu"), ("onnx", "onnx", "cpu")]
    assert [variant.name for variant in variants_of(["torch"], "cuda", compiled=True)] == ["torch", "torch compiled"]


@pytest.mark.parametrize(
    "words",
    [
        ("--generators", "mesh"),
        ("--backends", "auto"),
        ("--device", "tpu"),
        ("--seconds", "0"),
        ("--seconds", "nan"),
        ("--device", "cpu", "--weights", "random:many"),
        ("--json", "/no/such/folder/out.json"),
        ("--no-such-option",),
    ],
)
def test_wrong_usage_has_its_own_exit_code(words: tuple[str, ...]) -> None:
    assert run(*words) == 2


def test_without_a_gpu_the_cure_is_the_cpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench_engines, "sees_gpu", lambda: (False, False))
    assert run() == 1
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 2
    assert "--device cpu" in printed.err
    assert not printed.out


# ---- the whole benchmark, on small networks -------------------------------------------------------------------------

FEATURE, MOVE = TensorSpec("feature", (1, 3, 8, 8)), TensorSpec("driving_value", (1, 3))


class PortraitModule(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, source: Any) -> tuple[Any]:
        return (torch.nn.functional.avg_pool2d(source, 2),)


class MotionModule(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, crop: Any) -> tuple[Any]:
        return (self.conv(crop.to(self.conv.weight.dtype)).mean(dim=(2, 3)),)


class FrameModule(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, feature: Any, driving: Any, neutral: Any, multiplier: Any) -> tuple[Any]:
        moved = feature + (multiplier * (driving - neutral)).reshape(1, 3, 1, 1)
        return (self.conv(moved.to(self.conv.weight.dtype)).float().sigmoid(),)


def small(family: str, _: str) -> Networks:
    """Return a family of the same structure, a thousand times smaller."""
    source, picture = TensorSpec("source", (1, 3, 16, 16)), TensorSpec("crop", (1, 3, 16, 16))
    stages = {
        "portrait": NetworkStage("portrait", PortraitModule().eval(), (source,), (FEATURE,)),
        "motion": NetworkStage("motion", MotionModule().eval(), (picture,), (MOVE,)),
        "frame": NetworkStage(
            "frame",
            FrameModule().eval(),
            (FEATURE, MOVE, TensorSpec("neutral_value", (1, 3)), TensorSpec("multiplier", (1, 1))),
            (TensorSpec("image", (1, 3, 8, 8)),),
            halves=("conv",),
            defaults={"multiplier": (1.0,)},
        ),
    }
    return Networks(family, "random:1", stages, {name: copy.deepcopy(each.module) for name, each in stages.items()})


@pytest.fixture
def small_networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    submodules = (
        Submodule(
            "detector", "motion", "conv", (TensorSpec("crop", (1, 3, 16, 16)),), lambda net, x: net(x), half=False
        ),
        Submodule("generator", "frame", "conv", (FEATURE,), lambda net, x: net(x)),
    )
    monkeypatch.setattr(bench_engines, "load_networks", small)
    monkeypatch.setattr(cases, "SUBMODULES", {"liveportrait": submodules, "fomm": submodules})
    monkeypatch.setattr(timing, "MAX_TURNS", 8)
    monkeypatch.setattr(bench_engines, "measure_rates", lambda *_: Rates(1e9, 1e9))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.usefixtures("small_networks")
def test_every_variant_is_timed_and_every_figure_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs("onnxruntime")
    out = tmp_path / "figures.json"
    words = ["--device", "cpu", "--backends", "torch,onnx", "--seconds", "60", "--json", str(out), "--markdown"]
    assert run(*words) == 0
    report = json.loads(out.read_text())
    assert {(row["generator"], row["network"]) for row in report["figures"]} == {
        (family, network) for family in ("liveportrait", "fomm") for network in (FRAME, HOST, "detector", "generator")
    }
    for row in report["figures"]:
        assert 0 < row["median_ms"] <= row["p99_ms"]
        assert row["variant"] in ((EAGER, "torch", "onnx") if row["network"] != HOST else ("torch", "onnx"))
        assert (row["floor_ms"] is None) == (row["network"] == HOST)
    assert [row["variant"] for row in report["parity"]] == ["onnx", "onnx"]
    assert all(row["mean"] < 1e-6 and row["not_finite"] == 0 for row in report["parity"])
    assert report["machine"]["packages"]["torch"]
    assert report["config"]["weights"] == {"fomm": "random:1", "liveportrait": "random:1"}
    printed = capsys.readouterr().out
    assert "| liveportrait frame | torch |" in printed
    assert "random:1" in printed
    assert "no GPU used" in printed


@pytest.mark.usefixtures("small_networks")
def test_a_variant_that_cannot_be_opened_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from engines.backends.open import open_unchecked

    def fail(stage: NetworkStage, **options: Any) -> Any:
        if options["backend"] == "onnx":
            raise BackendError("onnx-no-provider", "no CUDAExecutionProvider", cure="install another")
        return open_unchecked(stage, **options)

    monkeypatch.setattr(cases, "open_unchecked", fail)
    words = ["--device", "cpu", "--generators", "fomm", "--seconds", "60"]
    assert run(*words, "--backends", "torch,onnx") == 0
    printed = capsys.readouterr()
    line = "onnx: fomm portrait cannot be opened: no CUDAExecutionProvider; install another"
    assert printed.err.splitlines().count(line) == 1
    assert "onnx" not in printed.err.replace(line, "")
    assert "fomm frame" in printed.out
    assert run(*words, "--backends", "onnx") == 1
    assert "no backend can be measured" in capsys.readouterr().err


@pytest.mark.usefixtures("small_networks")
def test_a_variant_that_opens_and_then_fails_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> Any:
        raise BackendError("compile-failed", "torch.compile fails: no compiler", cure="leave --compile out")

    from engines.backends.torch_backend import TorchBackend

    real = TorchBackend.run
    monkeypatch.setattr(torch, "compile", lambda module: module)
    monkeypatch.setattr(
        TorchBackend, "run", lambda each, feeds: fail() if "compiled" in each.name else real(each, feeds)
    )
    words = ["--device", "cpu", "--generators", "fomm", "--seconds", "60", "--backends", "torch", "--compile"]
    assert run(*words) == 0
    printed = capsys.readouterr()
    assert "torch compiled: fomm frame fails: torch.compile fails: no compiler; leave --compile out" in printed.err
    assert "torch compiled" not in printed.out


@pytest.mark.usefixtures("small_networks")
def test_a_time_too_short_for_anything_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--device", "cpu", "--seconds", "0.001") == 1
    printed = capsys.readouterr().err
    assert "fomm frame is left out" in printed
    assert "0.001 s" in printed.splitlines()[-2]


@pytest.mark.usefixtures("small_networks")
def test_on_a_gpu_every_figure_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backend_opening, "has_cuda", lambda: True)
    monkeypatch.setattr(bench_engines, "measure_rates", rates_of_a_small_product)
    out = tmp_path / "figures.json"
    with fake_cuda(monkeypatch) as recorder:
        assert run("--generators", "liveportrait", "--backends", "torch,onnx", "--json", str(out)) == 0
    report = json.loads(out.read_text())
    assert {row["variant"] for row in report["figures"]} == {EAGER, "torch"}
    assert [(row["variant"], row["as"]) for row in report["parity"]] == [("torch", "torch on a fake GPU, float16")]
    assert report["parity"][0]["mean"] < 1e-3
    assert report["config"]["eager"] == "float16"
    assert report["machine"]["gpu"] == "a fake GPU"
    assert any("CUDAExecutionProvider" in note for note in report["notes"])
    assert recorder.log.count("capture") == 5
    printed = capsys.readouterr().out
    assert "over the floor" in printed
    assert "float16 against float32" in printed


@pytest.mark.usefixtures("small_networks")
def test_a_gpu_that_only_another_backend_sees_is_compared_with_the_targets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install 'reenact[neural]'")
    from engines.backends.open import open_unchecked

    monkeypatch.setattr(bench_engines, "sees_gpu", lambda: (False, True))
    fields = {"name": "A Card", "compute_cap": "9.0", "driver_version": "1.2"}
    monkeypatch.setattr(bench_engines, "query_driver", fields.get)
    monkeypatch.setattr(
        cases, "open_unchecked", lambda stage, **options: open_unchecked(stage, **(options | {"device": "cpu"}))
    )
    assert run("--device", "cuda", "--generators", "liveportrait", "--backends", "onnx", "--markdown") == 0
    printed = capsys.readouterr().out
    assert "A Card, compute capability 9.0, driver 1.2" in printed
    assert "over the floor" in printed


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("published", []),
        ("random:1", ["--weights", "random:1"]),
        ("my weights/lp", ["--weights", "my weights/lp"]),
    ],
)
def test_the_command_that_builds_an_engine_quotes_the_weights(label: str, words: list[str]) -> None:
    command = Networks("fomm", label, {}, {}).rebuild
    assert shlex.split(command)[1:] == ["-m", "tools.build_engine", "fomm", *words]


def rates_of_a_small_product(device: str, clock: Clock) -> Rates:
    """Measure the rates with small matrices and a small copy."""
    return measure_rates(device, clock, turns=1, sizes=(64, 1 << 16))


# ---- the tables ----------------------------------------------------------------------------------------------------


def report_of_a_gpu() -> dict[str, Any]:
    def case(name: str, *costs: tuple[int, int]) -> Case:
        return Case("liveportrait", name, costs, dict, wall_clock, print)

    frame = case(FRAME, (1_000_000_000, 1), (580_000_000, 1))
    frame.seconds = {EAGER: [0.012] * 3, "torch": [0.0030, 0.0020, 0.0020], "onnx": [0.009] * 3}
    host = case(HOST)
    host.seconds = {"torch": [4e-4], "onnx": [9e-4]}
    rates = Rates(1e12, 1e12)
    return {
        "machine": {
            "gpu": "A Card",
            "compute_capability": "9.0",
            "driver": "1.2",
            "cores": 8,
            "python": "3.12",
            "packages": {"torch": "2"},
        },
        "config": {"weights": {"liveportrait": "random:1"}, "clock": "CUDA events", "eager": "float16"},
        "rates": {"operations_per_s": rates.operations, "bytes_per_s": rates.bytes},
        "figures": [*rows(frame, rates), *rows(host, rates)],
        "parity": [
            {"generator": "liveportrait", "variant": "torch", "as": "t", "mean": 1e-3, "max": 2e-2, "not_finite": 0}
        ],
        "notes": ["onnx rtx: it does not support this card"],
    }


def test_the_figures_of_a_gpu_are_compared_with_the_targets() -> None:
    report = report_of_a_gpu()
    assert [(row[2], row[3]) for row in table.targets(report)] == [
        ("1.27x", "torch"),
        ("6.00x", "torch"),
        ("0.4 ms", "torch"),
        ("mean 1.0e-03, 0 NaN", "torch"),
    ]
    text = table.markdown(report)
    assert "A Card, compute capability 9.0, driver 1.2" in text
    assert "- onnx rtx: it does not support this card" in text
    report["machine"]["gpu"] = None
    assert table.targets(report) == []


def test_the_terminal_has_the_same_rows(capsys: pytest.CaptureFixture[str]) -> None:
    table.show(report_of_a_gpu())
    printed = capsys.readouterr().out
    for word in ("liveportrait crop and upload", "1.27x", "A Card", "1.0e-03"):
        assert word in printed


def test_values_that_are_not_finite_are_counted() -> None:
    picture = np.full((1, 3, 2, 2), 0.5, np.float32)
    broken = picture.copy()
    broken[0, 0, 0, 0] = np.nan
    assert picture_error(picture + np.float32(0.25), picture) == {"mean": 0.25, "max": 0.25, "not_finite": 0}
    assert picture_error(broken, picture)["not_finite"] == 1


def test_a_crop_has_the_format_of_the_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    notices: list[str] = []
    crop = crop_function(32, notices.append)()
    assert crop.shape == (1, 3, 32, 32)
    assert crop.dtype == np.float32
    assert 0 <= crop.min() < crop.max() <= 1
    assert not notices
    monkeypatch.setitem(__import__("sys").modules, "engines.networks.crop", None)
    assert crop_function(32, notices.append)().shape == (1, 3, 32, 32)
    assert len(notices) == 1


def test_a_driving_crop_is_a_picture() -> None:
    picture = smooth_picture((1, 3, 64, 64), seed=2)
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert float(np.ptp(picture)) > 0.1
