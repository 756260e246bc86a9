"""The refiner's networks and their weights' file."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install '.[neural]'")
pytest.importorskip("safetensors", reason="needs safetensors: pip install '.[neural]'")

from engines.backends.onnx_backend import OnnxBackend  # noqa: E402
from engines.errors import GeneratorError  # noqa: E402
from engines.networks import refiner, refiner_weights  # noqa: E402


@pytest.mark.parametrize("name", refiner.NETS)
def test_a_new_network_changes_nothing(name: str) -> None:
    size = refiner.SIZES[name]
    assert not refiner.create(name)(torch.rand(2, 12, size, size)).any()


@pytest.mark.parametrize("name", refiner.NETS)
def test_a_change_is_nothing_at_the_border(name: str) -> None:
    size = refiner.SIZES[name]
    with torch.inference_mode():
        change = refiner_weights.random(3)[name](torch.rand(1, 12, size, size))
    assert change[..., 0].abs().max() == change[..., -1].abs().max() == change[..., 0, :].abs().max() == 0
    assert change.abs().max() > 0.001


def test_all_networks_fit_into_the_file_that_ships() -> None:
    count = sum(p.numel() for name in refiner.NETS for p in refiner.create(name).parameters())
    assert 2 * count < refiner_weights.MOST_BYTES


def test_channels_fill_the_blocks_that_onnx_runtime_computes_in() -> None:
    assert not [width % 16 for widths in refiner.WIDTHS.values() for width in widths if width % 16]


def test_weights_come_back_as_they_were_written_in_half_precision(tmp_path: Path) -> None:
    parts = refiner_weights.random(1)
    refiner_weights.write({name: net.state_dict() for name, net in parts.items()}, tmp_path, {"steps": 3})
    assert refiner_weights.stated(tmp_path)["recipe"] == {"steps": 3}
    read = refiner_weights.load(tmp_path)
    assert set(read) == set(refiner.NETS)
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


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError) as caught:
        refiner_weights.load(tmp_path)
    assert caught.value.code == "refiner-missing"


def test_onnx_runtime_answers_as_pytorch_does(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install '.[neural]'")
    stage = refiner.stages(refiner_weights.random(2))["eyes"]
    feeds = stage.sample_inputs()
    with torch.inference_mode():
        expected = stage.module(torch.from_numpy(feeds["planes"]))[0].numpy()
    backend = OnnxBackend(stage, "cpu", tmp_path, threads=1)
    assert backend.run(feeds)["change"] == pytest.approx(expected, abs=1e-4)
    backend.close()
