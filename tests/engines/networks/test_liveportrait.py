"""The parts of LivePortrait that can be tested quickly: names, sampling, algebra, folding. Parity is in tests/e2e."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engines.networks.liveportrait as lp
from engines.networks.weights import load_weights
from tests.support.engines.neural import needs, parity_dir

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = needs("torch")


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("part", list(lp.MODULES))
def test_names_and_shapes_are_the_published_ones(part: str) -> None:
    keys = json.loads((parity_dir() / "liveportrait.keys.json").read_text("utf-8"))
    assert set(keys) == set(lp.MODULES)
    with torch.device("meta"):
        own = {name: list(value.shape) for name, value in lp.MODULES[part]().state_dict().items()}
    assert own == keys[part]


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), reach=st.sampled_from([0.5, 1.0, 1.5, 4.0]), depth=st.sampled_from([1, 2, 16]))
def test_planar_sampling_is_volumetric_sampling(seed: int, reach: float, depth: int) -> None:
    random = torch.Generator().manual_seed(seed)
    volume = torch.randn(1, 3, depth, 9, 7, generator=random)
    grid = (torch.rand(1, 4, 5, 6, 3, generator=random) * 2 - 1) * reach
    native = lp.sample_native(volume, grid)
    planar = lp.sample_planar(volume, grid)
    assert planar.shape == native.shape
    assert float((planar - native).abs().max()) < 1e-4


def test_planar_sampling_is_exact_at_the_networks_size_and_edges() -> None:
    volume = noise(1, 4, 16, 64, 64).sigmoid()  # at the edge, a jump from up to 1 to the zeros outside
    grid = lp.coordinate_grid(16, 64, 64, torch.device("cpu"))[None]
    for shifted in (grid, grid + 1 / 64, grid * 1.3, torch.round(grid * 64) / 64):
        worst = (lp.sample_planar(volume, shifted) - lp.sample_native(volume, shifted)).abs().max()
        assert float(worst) < 1e-4


def test_coordinates_stay_float32_in_half_precision() -> None:
    volume, grid = noise(1, 4, 16, 64, 64), lp.coordinate_grid(16, 64, 64, torch.device("cpu"))[None] * 0.9
    for sampled in (lp.sample_native, lp.sample_planar):
        halved = sampled(volume.half(), grid)
        assert halved.dtype == torch.float16
        assert float((halved.float() - sampled(volume, grid)).abs().max()) < 5e-3


@given(st.tuples(*[st.floats(-90, 90)] * 3))
def test_rotation_turns_without_stretching(angles: tuple[float, float, float]) -> None:
    turn = lp.rotation(*(torch.tensor([[angle]]) for angle in angles))[0]
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-5)
    assert float(torch.det(turn)) == pytest.approx(1, abs=1e-4)


def pose(seed: int) -> lp.KeypointMotion:
    turn = lp.rotation(*(10 * noise(1, 1, seed=seed + i) for i in range(3)))
    expression, scale = 0.1 * noise(1, 21, 3, seed=seed + 3), 1 + 0.1 * noise(1, 1, seed=seed + 4)
    return lp.KeypointMotion(turn, expression, scale, noise(1, 3))


def test_relative_motion_follows_its_weights() -> None:
    source, driving, neutral = pose(10), pose(20), pose(30)
    everything, nothing = torch.ones(1, 3), torch.zeros(1, 3)
    face, no_face = torch.ones(1, 21, 3), torch.zeros(1, 21, 3)
    still = lp.relative_motion(source, driving, neutral, nothing, no_face)
    rest = lp.relative_motion(source, neutral, neutral, everything, face)
    absolute = lp.relative_motion(source, driving, source, everything, face)
    for got, expected in ((still, source), (rest, source), (absolute, driving)):
        for one, other in zip(got, expected, strict=True):
            assert torch.allclose(one, other, atol=1e-5)
    lips = no_face.clone()
    lips[:, list(lp.LIP_KEYPOINTS)] = 1
    moved = lp.relative_motion(source, driving, neutral, nothing, lips).exp - source.exp
    assert [i for i in range(21) if float(moved[0, i].abs().max()) > 0] == sorted(lp.LIP_KEYPOINTS)


def test_retargeting_adds_its_networks_outputs_by_their_weights() -> None:
    with torch.device("meta"):
        parts: dict[str, Any] = {"warping_module": lp.WarpingNetwork(), "spade_generator": lp.SPADEDecoder()}
    parts |= {name: lp.MODULES[name]() for name in ("retarget_shoulder", "retarget_mouth", "retarget_eye")}
    frame = lp.FrameStage(parts).eval()
    x_s, x_d = noise(1, 21, 3), noise(1, 21, 3, seed=1)
    eye, lip = torch.tensor([[0.3, 0.32, 0.0]]), torch.tensor([[0.2, 0.05]])
    none, half, whole = (torch.full((1, 1), weight) for weight in (0.0, 0.5, 1.0))
    eyes = parts["retarget_eye"](torch.cat([x_s.flatten(1), eye], dim=1)).reshape(1, 21, 3)
    lips = parts["retarget_mouth"](torch.cat([x_s.flatten(1), lip], dim=1)).reshape(1, 21, 3)
    assert torch.equal(frame._corrected(x_s, x_d, none, eye, none, lip, none), x_d)
    shut = frame._corrected(x_s, x_d, none, eye, whole, lip, half)
    assert torch.allclose(shut, x_d + eyes + lips / 2, atol=1e-6)


def test_folding_the_norms_changes_nothing() -> None:
    parts: dict[str, Any] = {
        "block": lp.SPADEResnetBlock(8, 4, 6),
        "down": lp.DownBlock3d(3, 5),
        "res": lp.ResBlock3d(4),
    }
    inputs = {
        "block": (noise(1, 8, 8, 8), noise(1, 6, 4, 4)),
        "down": (noise(1, 3, 2, 8, 8),),
        "res": (noise(1, 4, 2, 4, 4),),
    }
    for name, part in parts.items():
        for index, value in enumerate(part.state_dict().values()):
            if value.is_floating_point():
                value.copy_(noise(*value.shape, seed=index).abs() + 0.5)
        part.eval()
        folded = lp.folded(part)
        assert not any(key.endswith(("weight_orig", "conv.running_mean")) for key in folded.state_dict())
        assert torch.allclose(part(*inputs[name]), folded(*inputs[name]), rtol=1e-3, atol=1e-4)


@settings(max_examples=20)
@given(spread=st.sampled_from([0.1, 1.0, 50.0]), shift=st.floats(-30, 30), seed=st.integers(0, 2**31))
def test_a_norm_with_channels_last_is_the_same_and_keeps_the_layout(spread: float, shift: float, seed: int) -> None:
    norm = lp.SPADE(16, 8).eval()
    x = (spread * noise(1, 16, 12, 12, seed=seed) + shift).contiguous(memory_format=torch.channels_last)
    label = noise(1, 8, 3, 3, seed=seed + 1)
    expected = norm(x, label)
    norm.channels_last = True
    assert torch.allclose(norm(x, label), expected, rtol=1e-3, atol=1e-3)
    assert lp.modulated(x, x, x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("kind", ["down", "up"])
def test_a_volume_with_channels_last_is_resized_to_the_same_bits_in_its_layout(kind: str, batch: int) -> None:
    block: Any = (lp.DownBlock3d if kind == "down" else lp.UpBlock3d)(8, 16).eval()
    block.to(memory_format=torch.channels_last_3d)
    x = noise(batch, 8, 4, 12, 12).contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        expected = block(x)
        block.channels_last = True
        assert torch.equal(block(x), expected)

    def seen(pictures: Tensor) -> Tensor:
        assert pictures.is_contiguous(memory_format=torch.channels_last)
        assert pictures.data_ptr() == x.data_ptr()  # nothing was copied
        return pictures[:, :, ::2].contiguous(memory_format=torch.channels_last)

    made = lp.by_slices(x, seen)
    assert torch.equal(made, x[:, :, :, ::2])
    assert made.is_contiguous(memory_format=torch.channels_last_3d)


def test_stages_have_the_outputs_that_they_declare() -> None:
    stages = lp.stages(load_weights("liveportrait", "random:3").parts)
    portrait, motion, frame = (stages[name] for name in ("portrait", "motion", "frame"))
    crop = torch.nn.functional.interpolate(noise(1, 3, 8, 8).sigmoid(), size=(256, 256))
    pose = motion.module(crop)
    assert [(spec.name, spec.shape) for spec in motion.outputs] == [
        (spec.name, tuple(value.shape)) for spec, value in zip(motion.outputs, pose, strict=True)
    ]
    made = {spec.name for spec in (*portrait.outputs, *motion.outputs)}
    neutral = {spec.name.replace("driving", "neutral") for spec in motion.outputs}
    assert {spec.name for spec in frame.inputs} <= made | neutral | set(frame.defaults)
    controls = [spec for spec in frame.inputs if spec.name in frame.defaults]
    assert all(np.prod(spec.shape) == len(frame.defaults[spec.name]) for spec in controls)
    assert all(frame.module.get_submodule(name) is not None for name in frame.halves)
