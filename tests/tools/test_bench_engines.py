"""The networks' benchmark: how it is asked, what it says, what becomes of refusals. Its times are no test."""

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
from tests.support.neural import needs
from tools import bench_engines
from tools.bench_engines import main, rows, several, ways_of
from tools.network_bench import subjects, table, timing
from tools.network_bench.networks import Cut, Networks, smooth
from tools.network_bench.subjects import FRAME, HOST, PLAIN, apart, cropping
from tools.network_bench.timing import Clock, Rates, Subject, rates, wall

torch = needs("torch")

from tests.support.fake_cuda import pretended  # noqa: E402 - after the skip

KNOWN = ("torch", "onnx")


def run(*words: str) -> int:
    """The tool's exit code."""
    return main(list(words))


# ---- the command line ------------------------------------------------------------------------------------------------


def test_a_list_is_read_in_its_order_and_each_name_once() -> None:
    assert several(" onnx,torch,onnx,", KNOWN, "--backends") == ["onnx", "torch"]
    for wrong in ("magic", "torch,magic", "", " , "):
        with pytest.raises(UsageError, match="--backends"):
            several(wrong, KNOWN, "--backends")


def test_a_gpu_is_asked_of_every_provider_and_a_cpu_of_one() -> None:
    def asked(device: str) -> list[tuple[str, str, str]]:
        return [(way.name, way.backend, way.device) for way in ways_of(["torch", "onnx"], device, compiled=False)]

    card = [("torch", "torch", "cuda"), ("onnx", "onnx", "cuda"), ("onnx rtx", "onnx", "rtx")]
    assert asked("auto") == card
    assert asked("cuda") == card[:2]
    assert asked("rtx") == [card[0], card[2]]
    assert asked("cpu") == [("torch", "torch", "cpu"), ("onnx", "onnx", "cpu")]
    assert [way.name for way in ways_of(["torch"], "cuda", compiled=True)] == ["torch", "torch compiled"]


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
def test_wrong_use_is_told_from_failure(words: tuple[str, ...]) -> None:
    assert run(*words) == 2


def test_without_a_gpu_it_says_so_in_one_line_and_what_else_can_be_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_engines, "sees_gpu", lambda: (False, False))
    assert run() == 1
    said = capsys.readouterr()
    assert said.err.splitlines()[0] == "neither PyTorch nor ONNX Runtime sees a GPU here"
    assert "--device cpu" in said.err
    assert not said.out


# ---- the whole, on networks that are small ---------------------------------------------------------------------------

FEATURE, MOVE = TensorSpec("feature", (1, 3, 8, 8)), TensorSpec("driving_value", (1, 3))


class Portrait(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, source: Any) -> tuple[Any]:
        return (torch.nn.functional.avg_pool2d(source, 2),)


class Look(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, crop: Any) -> tuple[Any]:
        return (self.conv(crop.to(self.conv.weight.dtype)).mean(dim=(2, 3)),)


class Draw(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, feature: Any, driving: Any, neutral: Any, multiplier: Any) -> tuple[Any]:
        moved = feature + (multiplier * (driving - neutral)).reshape(1, 3, 1, 1)
        return (self.conv(moved.to(self.conv.weight.dtype)).float().sigmoid(),)


def small(family: str, _: str) -> Networks:
    """A family of the same build, of a thousandth of the size."""
    picture = TensorSpec("crop", (1, 3, 16, 16))
    stages = {
        "portrait": NetworkStage("portrait", Portrait().eval(), (TensorSpec("source", (1, 3, 16, 16)),), (FEATURE,)),
        "motion": NetworkStage("motion", Look().eval(), (picture,), (MOVE,)),
        "frame": NetworkStage(
            "frame",
            Draw().eval(),
            (FEATURE, MOVE, TensorSpec("neutral_value", (1, 3)), TensorSpec("multiplier", (1, 1))),
            (TensorSpec("image", (1, 3, 8, 8)),),
            halves=("conv",),
            defaults={"multiplier": (1.0,)},
        ),
    }
    return Networks(family, "random:1", stages, {name: copy.deepcopy(each.module) for name, each in stages.items()})


@pytest.fixture
def small_networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cuts = (
        Cut("detector", "motion", "conv", (TensorSpec("crop", (1, 3, 16, 16)),), lambda net, x: net(x), half=False),
        Cut("generator", "frame", "conv", (FEATURE,), lambda net, x: net(x)),
    )
    monkeypatch.setattr(bench_engines, "load", small)
    monkeypatch.setattr(subjects, "CUTS", {"liveportrait": cuts, "fomm": cuts})
    monkeypatch.setattr(timing, "MOST", 8)
    monkeypatch.setattr(bench_engines, "rates", lambda *_: Rates(1e9, 1e9))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.usefixtures("small_networks")
def test_every_way_is_timed_and_every_figure_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs("onnxruntime")
    out = tmp_path / "figures.json"
    words = ["--device", "cpu", "--backends", "torch,onnx", "--seconds", "60", "--json", str(out), "--markdown"]
    assert run(*words) == 0
    found = json.loads(out.read_text())
    assert {(row["generator"], row["network"]) for row in found["figures"]} == {
        (family, network) for family in ("liveportrait", "fomm") for network in (FRAME, HOST, "detector", "generator")
    }
    for row in found["figures"]:
        assert 0 < row["median_ms"] <= row["p99_ms"]
        assert row["way"] in ((PLAIN, "torch", "onnx") if row["network"] != HOST else ("torch", "onnx"))
        assert (row["floor_ms"] is None) == (row["network"] == HOST)
    assert [row["way"] for row in found["parity"]] == ["onnx", "onnx"]
    assert all(row["mean"] < 1e-6 and row["not_numbers"] == 0 for row in found["parity"])
    assert found["machine"]["packages"]["torch"]
    assert found["config"]["weights"] == {"fomm": "random:1", "liveportrait": "random:1"}
    said = capsys.readouterr().out
    assert "| liveportrait frame | torch |" in said
    assert "random:1" in said
    assert "no GPU used" in said


@pytest.mark.usefixtures("small_networks")
def test_what_does_not_open_is_told_once_and_in_its_own_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from engines.backends.open import open_unchecked

    def refuse(stage: NetworkStage, **asked: Any) -> Any:
        if asked["backend"] == "onnx":
            raise BackendError("this ONNX Runtime has no CUDAExecutionProvider", cure="install another")
        return open_unchecked(stage, **asked)

    monkeypatch.setattr(subjects, "open_unchecked", refuse)
    words = ["--device", "cpu", "--generators", "fomm", "--seconds", "60"]
    assert run(*words, "--backends", "torch,onnx") == 0
    said = capsys.readouterr()
    told = "onnx: fomm portrait does not open: this ONNX Runtime has no CUDAExecutionProvider; install another"
    assert said.err.splitlines().count(told) == 1
    assert "onnx" not in said.err.replace(told, "")
    assert "fomm frame" in said.out
    assert run(*words, "--backends", "onnx") == 1
    assert "no backend opened" in capsys.readouterr().err


@pytest.mark.usefixtures("small_networks")
def test_what_opens_and_then_fails_is_told_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> Any:
        raise BackendError("torch.compile fails: no compiler", cure="leave --compile out")

    from engines.backends.torch_backend import TorchBackend

    real = TorchBackend.run
    monkeypatch.setattr(torch, "compile", lambda module: module)
    monkeypatch.setattr(
        TorchBackend, "run", lambda each, feeds: fail() if "compiled" in each.name else real(each, feeds)
    )
    words = ["--device", "cpu", "--generators", "fomm", "--seconds", "60", "--backends", "torch", "--compile"]
    assert run(*words) == 0
    said = capsys.readouterr()
    assert "torch compiled: fomm frame fails: torch.compile fails: no compiler; leave --compile out" in said.err
    assert "torch compiled" not in said.out


@pytest.mark.usefixtures("small_networks")
def test_a_time_too_short_for_anything_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--device", "cpu", "--seconds", "0.001") == 1
    said = capsys.readouterr().err
    assert "fomm frame is left out" in said
    assert "0.001 s are too few to measure anything" in said


@pytest.mark.usefixtures("small_networks")
def test_on_a_gpu_every_figure_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backend_opening, "has_cuda", lambda: True)
    monkeypatch.setattr(bench_engines, "rates", rates_of_a_small_product)
    out = tmp_path / "figures.json"
    with pretended(monkeypatch) as recorder:
        assert run("--generators", "liveportrait", "--backends", "torch,onnx", "--json", str(out)) == 0
    found = json.loads(out.read_text())
    assert {row["way"] for row in found["figures"]} == {PLAIN, "torch"}
    assert [(row["way"], row["as"]) for row in found["parity"]] == [("torch", "torch on a recorder, float16")]
    assert found["parity"][0]["mean"] < 1e-3
    assert found["config"]["eager"] == "float16"
    assert found["machine"]["gpu"] == "a recorder"
    assert any("CUDAExecutionProvider" in note for note in found["notes"])
    assert recorder.log.count("capture") == 5
    said = capsys.readouterr().out
    assert "over the floor" in said
    assert "float16 against float32" in said


@pytest.mark.usefixtures("small_networks")
def test_a_gpu_that_only_another_backend_sees_is_named_and_held_against_what_should_be_reached(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install 'reenact[neural]'")
    from engines.backends.open import open_unchecked

    monkeypatch.setattr(bench_engines, "sees_gpu", lambda: (False, True))
    answers = {"name": "A Card", "compute_cap": "9.0", "driver_version": "1.2"}
    monkeypatch.setattr(bench_engines, "asked_of_the_driver", answers.get)
    monkeypatch.setattr(
        subjects, "open_unchecked", lambda stage, **asked: open_unchecked(stage, **(asked | {"device": "cpu"}))
    )
    assert run("--device", "cuda", "--generators", "liveportrait", "--backends", "onnx", "--markdown") == 0
    said = capsys.readouterr().out
    assert "A Card, compute capability 9.0, driver 1.2" in said
    assert "over the floor" in said


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("published", []),
        ("random:1", ["--weights", "random:1"]),
        ("my weights/lp", ["--weights", "my weights/lp"]),
    ],
)
def test_the_command_that_builds_an_engine_names_the_weights_as_the_builder_takes_them(
    label: str, words: list[str]
) -> None:
    command = Networks("fomm", label, {}, {}).rebuild
    assert shlex.split(command) == ["python", "-m", "tools.build_engine", "fomm", *words]


def rates_of_a_small_product(device: str, clock: Clock) -> Rates:
    """Rates as they are measured, of next to nothing."""
    return rates(device, clock, turns=1, sizes=(64, 1 << 16))


# ---- what is said ----------------------------------------------------------------------------------------------------


def found_on_a_gpu() -> dict[str, Any]:
    def subject(name: str, *needs: tuple[int, int]) -> Subject:
        return Subject("liveportrait", name, needs, dict, wall, print)

    frame = subject(FRAME, (1_000_000_000, 1), (580_000_000, 1))
    frame.seconds = {PLAIN: [0.012] * 3, "torch": [0.0030, 0.0020, 0.0020], "onnx": [0.009] * 3}
    host = subject(HOST)
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
            {"generator": "liveportrait", "way": "torch", "as": "t", "mean": 1e-3, "max": 2e-2, "not_numbers": 0}
        ],
        "notes": ["onnx rtx: it takes no such card"],
    }


def test_a_gpu_s_figures_are_held_against_what_should_be_reached() -> None:
    found = found_on_a_gpu()
    assert [(row[2], row[3]) for row in table.reach(found)] == [
        ("1.27x", "torch"),
        ("6.00x", "torch"),
        ("0.4 ms", "torch"),
        ("mean 1.0e-03, 0 NaN", "torch"),
    ]
    text = table.markdown(found)
    assert "A Card, compute capability 9.0, driver 1.2" in text
    assert "- onnx rtx: it takes no such card" in text
    found["machine"]["gpu"] = None
    assert table.reach(found) == []


def test_the_terminal_has_the_same_rows(capsys: pytest.CaptureFixture[str]) -> None:
    table.show(found_on_a_gpu())
    said = capsys.readouterr().out
    for word in ("liveportrait crop and upload", "1.27x", "A Card", "1.0e-03"):
        assert word in said


def test_values_that_are_no_numbers_are_counted() -> None:
    picture = np.full((1, 3, 2, 2), 0.5, np.float32)
    broken = picture.copy()
    broken[0, 0, 0, 0] = np.nan
    assert apart(picture + np.float32(0.25), picture) == {"mean": 0.25, "max": 0.25, "not_numbers": 0}
    assert apart(broken, picture)["not_numbers"] == 1


def test_a_crop_is_what_the_networks_take(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    fed = cropping(32, told.append)()
    assert fed.shape == (1, 3, 32, 32)
    assert fed.dtype == np.float32
    assert 0 <= fed.min() < fed.max() <= 1
    assert not told
    monkeypatch.setitem(__import__("sys").modules, "engines.networks.crop", None)
    assert cropping(32, told.append)().shape == (1, 3, 32, 32)
    assert len(told) == 1


def test_a_crop_to_drive_with_is_a_picture() -> None:
    picture = smooth((1, 3, 64, 64), seed=2)
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert float(np.ptp(picture)) > 0.1
