"""The parts of the First Order Motion Model that can be tested quickly. Parity is in tests/e2e."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import engines.networks.fomm as fo
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


@pytest.mark.parametrize("part", list(fo.MODULES))
def test_names_and_shapes_are_the_published_ones(part: str) -> None:
    keys = json.loads((parity_dir() / "fomm.keys.json").read_text("utf-8"))
    assert set(keys) == set(fo.MODULES)
    with torch.device("meta"):
        own = {name: list(value.shape) for name, value in fo.MODULES[part]().state_dict().items()}
    assert own == keys[part]


@given(st.lists(st.floats(-3, 3), min_size=4, max_size=4).filter(lambda m: abs(m[0] * m[3] - m[1] * m[2]) > 0.1))
def test_the_closed_form_inverts(values: list[float]) -> None:
    matrix = torch.tensor(values, dtype=torch.float64).reshape(1, 2, 2)
    np.testing.assert_allclose(matrix @ fo.inverse_2x2(matrix), np.eye(2)[None], atol=1e-9)


def keypoints(seed: int) -> fo.Keypoints:
    random = torch.Generator().manual_seed(seed)
    value = 0.3 * torch.randn(1, 10, 2, generator=random)
    return fo.Keypoints(value, torch.eye(2) + 0.1 * torch.randn(1, 10, 2, 2, generator=random))


def test_a_driver_at_rest_leaves_the_source_as_it_is() -> None:
    source, neutral = keypoints(1), keypoints(2)
    still = fo.relative_keypoints(source, neutral, neutral, torch.ones(1, 1))
    assert torch.allclose(still.value, source.value, atol=1e-6)
    assert torch.allclose(still.jacobian, source.jacobian, atol=1e-5)
    absolute = fo.relative_keypoints(source, neutral, source, torch.ones(1, 1))
    assert torch.allclose(absolute.value, neutral.value, atol=1e-6)


def picture(seed: int) -> Tensor:
    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(256, 256), mode="bilinear")


def test_the_stages_compute_what_the_parts_compute() -> None:
    weights = load_weights("fomm", "random:2")
    stages = fo.stages(weights.parts)
    source, first, now = picture(1), picture(2), picture(3)
    feeds = dict(
        zip((spec.name for spec in stages["portrait"].outputs), stages["portrait"].module(source), strict=True)
    )
    for whose, image in (("neutral", first), ("driving", now)):
        for spec, value in zip(stages["motion"].outputs, stages["motion"].module(image), strict=True):
            assert tuple(value.shape) == spec.shape
            feeds[spec.name.replace("driving", whose)] = value
    feeds["multiplier"] = torch.tensor(stages["frame"].defaults["multiplier"]).reshape(1, 1)
    ordered = [feeds[spec.name] for spec in stages["frame"].inputs]
    assert [tuple(value.shape) for value in ordered] == [spec.shape for spec in stages["frame"].inputs]
    (image,) = stages["frame"].module(*ordered)

    found = [weights.parts["kp_detector"](each) for each in (source, now, first)]
    moved = fo.relative_keypoints(found[0], found[1], found[2], torch.ones(1, 1))
    expected = weights.parts["generator"](source, moved, found[0]).image
    assert tuple(image.shape) == stages["frame"].outputs[0].shape
    assert float((image - expected).abs().max()) < 1e-3
    assert float(image.min()) >= 0
    assert float(image.max()) <= 1
    assert float(image.std()) > 0.05
