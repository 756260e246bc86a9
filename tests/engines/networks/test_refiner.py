"""The refiner's networks and their weights' file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install '.[neural]'")

from engines.backends.onnx_backend import OnnxBackend  # noqa: E402
from engines.errors import GeneratorError  # noqa: E402
from engines.networks import refiner, refiner_layout, refiner_onnx, refiner_weights  # noqa: E402


@pytest.mark.parametrize("name", refiner_layout.NETS)
def test_a_new_network_changes_nothing(name: str) -> None:
    size = refiner_layout.SIZES[name]
    assert not refiner.create(name)(torch.rand(2, 12, size, size)).any()


@pytest.mark.parametrize("name", refiner_layout.NETS)
def test_a_change_is_nothing_at_the_border(name: str) -> None:
    size = refiner_layout.SIZES[name]
    with torch.inference_mode():
        change = refiner_weights.random(3)[name](torch.rand(1, 12, size, size))
    assert change[..., 0].abs().max() == change[..., -1].abs().max() == change[..., 0, :].abs().max() == 0
    assert change.abs().max() > 0.001


def test_all_networks_fit_into_the_file_that_ships() -> None:
    count = sum(p.numel() for name in refiner_layout.NETS for p in refiner.create(name).parameters())
    assert 2 * count < refiner_weights.MOST_BYTES


def test_channels_fill_the_blocks_that_onnx_runtime_computes_in() -> None:
    assert not [width % 16 for widths in refiner_layout.WIDTHS.values() for width in widths if width % 16]


def test_weights_come_back_as_they_were_written_in_half_precision(tmp_path: Path) -> None:
    parts = refiner_weights.random(1)
    refiner_weights.write({name: net.state_dict() for name, net in parts.items()}, tmp_path, {"steps": 3})
    assert refiner_weights.stated(tmp_path)["recipe"] == {"steps": 3}
    read = refiner_weights.load(tmp_path)
    assert set(read) == set(refiner_layout.NETS)
    assert torch.equal(read["eyes"].stem.weight, parts["eyes"].stem.weight.half().float())


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    refiner_weights.write({"eyes": refiner.create("eyes").state_dict()}, tmp_path)
    path = tmp_path / refiner_weights.FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(GeneratorError) as caught:
        refiner_weights.load(tmp_path)
    assert caught.value.code == "refiner-changed"


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    refiner_weights.write({"eyes": refiner.create("eyes").state_dict()}, tmp_path)
    with (tmp_path / refiner_weights.FILE).open("r+b") as file:
        file.truncate(refiner_weights.MOST_BYTES + 1)
    with pytest.raises(GeneratorError) as caught:
        refiner_weights.load(tmp_path)
    assert caught.value.code == "refiner-changed"
    assert "large" in caught.value.found


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError) as caught:
        refiner_weights.load(tmp_path)
    assert caught.value.code == "refiner-missing"


@pytest.mark.parametrize("name", refiner_layout.NETS)
def test_onnx_runtime_answers_as_pytorch_does(name: str) -> None:
    stage = refiner.stages(refiner_weights.random(2))[name]
    net = stage.module.net
    for parameter in net.parameters():
        parameter.data = parameter.data.half().float()  # as they are in the file
    feeds = stage.sample_inputs()
    with torch.inference_mode():
        expected = stage.module(torch.from_numpy(feeds["planes"]))[0].numpy()
    weights = {key: value.numpy() for key, value in net.state_dict().items()}
    backend = OnnxBackend(refiner_onnx.networks({name: weights})[name], threads=1)
    assert backend.run(feeds)["change"] == pytest.approx(expected, abs=1e-5)
    assert np.abs(expected).max() > 0.01
    backend.close()


def test_the_file_that_is_written_is_one_that_safetensors_reads(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="needs safetensors: pip install '.[neural]'")
    parts = refiner_weights.random(4)
    refiner_weights.write({name: net.state_dict() for name, net in parts.items()}, tmp_path)
    read = safetensors.load_file(tmp_path / refiner_weights.FILE)
    assert torch.equal(read["driver.head.weight"], parts["driver"].head.weight.half())
    assert len(read) == sum(len(net.state_dict()) for net in parts.values())


def test_running_the_networks_loads_no_torch() -> None:
    """It takes longer to load than the rest of the program takes to start."""
    script = (
        "import sys, engines.networks.refiner_onnx, engines.networks.refiner_weights; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
