"""PyTorch on a real GPU: float32, half precision, and the captured graph."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.backends.network_stage import NetworkStage
from engines.backends.numeric_check import check_backend, reference_outputs, relative_errors
from tests.support.engines.neural import needs

torch = needs("torch")

from tests.support.engines.small_stage import small_stage  # noqa: E402 - after the skip


def on_gpu(stage: NetworkStage) -> Any:
    from engines.backends.torch_backend import TorchBackend

    return TorchBackend(stage, "cuda")


@pytest.mark.usefixtures("torch_cuda")
def test_float32_agrees_with_the_reference_for_every_input() -> None:
    stage = small_stage()
    backend = on_gpu(stage)
    try:
        check_backend(backend, stage)
        for seed in range(4):
            feeds = stage.sample_inputs(seed)
            expected = reference_outputs(stage, feeds)
            for name, output in backend.run(feeds).items():
                assert relative_errors(output, expected[name])[0] < 2e-3
    finally:
        backend.close()


class Half(torch.nn.Module):  # type: ignore[misc, name-defined]
    """A convolution that may be in half precision, with casts at its edges."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, picture: Any, gain: Any) -> tuple[Any, Any]:
        out = torch.sigmoid(self.conv(picture.to(self.conv.weight.dtype)).float()) * gain.reshape(1, 1, 1, 1)
        return out, out.mean(dim=(2, 3))


@pytest.mark.usefixtures("torch_cuda")
def test_half_precision_is_declared_and_agrees_with_the_reference() -> None:
    stage = replace(small_stage(), module=Half().eval(), halves=("conv",))
    backend = on_gpu(stage)
    try:
        assert backend.precision == "float16"
        check_backend(backend, stage)
    finally:
        backend.close()


@pytest.mark.usefixtures("torch_cuda")
def test_a_replay_reuses_the_outputs_and_retained_inputs() -> None:
    stage = small_stage()
    backend = on_gpu(stage)
    try:
        feeds = stage.sample_inputs()
        first = backend.run(feeds)["out"]
        expected = first.copy()
        backend.retain_input("picture", feeds["picture"])
        again = backend.run({"gain": np.full((1, 1), 0.5, np.float32)})["out"]
        assert again is first
        np.testing.assert_allclose(again, 0.5 * expected, atol=1e-4)
    finally:
        backend.close()


@pytest.mark.usefixtures("torch_cuda")
def test_two_threads_capture_and_run_their_networks_at_the_same_time() -> None:
    stages = [replace(small_stage(), name=name) for name in ("one", "other")]
    errors: list[BaseException] = []

    def work(stage: NetworkStage) -> None:
        try:
            backend = on_gpu(stage)
            feeds = stage.sample_inputs()
            expected = backend.run(feeds)["out"].copy()
            for _ in range(200):
                np.testing.assert_array_equal(backend.run(feeds)["out"], expected)
            backend.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(stage,)) for stage in stages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert errors == []


@pytest.mark.usefixtures("torch_cuda")
@pytest.mark.parametrize("family", ["liveportrait", "fomm"])
def test_a_family_of_networks_passes_the_numeric_check(family: str, exports: Path) -> None:
    from engines.networks.generator import create_network_generator

    generator = create_network_generator(family, backend="torch", device="cuda", weights="random:1", cache=exports)
    assert generator.random_weights
    generator.close()
