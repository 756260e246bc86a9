"""The expression coefficients that ship, and what becomes of a file that is not theirs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import TrackerError
from engines.face.coefficients import (
    FILE,
    MIRRORED,
    NAMES,
    READ,
    CoefficientModel,
    canonical_shape,
    load,
    shipped,
    write,
)
from engines.face.head import pose_against
from engines.face.topology import MIRROR, RIGID, RIGID_CANONICAL
from engines.types import FaceState, Points
from tests.support.faces import head_pose, shape_of, with_expression


@pytest.fixture(scope="module")
def model() -> CoefficientModel:
    return shipped()


@pytest.fixture(scope="module")
def calm(driver_face: FaceState) -> Points:
    return shape_of(driver_face)


def read(model: CoefficientModel, shape: Points) -> dict[str, float]:
    """Return the coefficients of a shape by name."""
    code = model.read(canonical_shape(head_pose().project(shape)))
    return dict(zip(NAMES, model.coefficients(code).tolist(), strict=True))


def test_there_are_52_arkit_coefficients() -> None:
    assert len(NAMES) == len(set(NAMES)) == 52
    assert READ == 51
    assert NAMES[READ] == "tongueOut"
    assert (MIRRORED[MIRRORED] == np.arange(52)).all()
    assert NAMES[MIRRORED[NAMES.index("jawLeft")]] == "jawRight"


def test_the_file_that_ships_is_small() -> None:
    assert FILE.stat().st_size < 1_000_000


@given(st.tuples(*[st.floats(-0.5, 0.5)] * 3), st.floats(20, 300), st.tuples(st.floats(0, 900), st.floats(0, 900)))
def test_the_canonical_shape_does_not_depend_on_the_pose(
    calm: Points, rotation: tuple[float, float, float], scale: float, at: tuple[float, float]
) -> None:
    plain = canonical_shape(head_pose().project(calm))
    moved = canonical_shape(head_pose(rotation, at, scale).project(calm))
    np.testing.assert_allclose(moved, plain, atol=2e-4)


def test_the_canonical_face_is_its_own_shape() -> None:
    pixels = np.zeros((478, 3), np.float32)
    pixels[RIGID] = 30 * RIGID_CANONICAL + 100
    shape = canonical_shape(pixels)[RIGID]
    assert np.ptp(shape, axis=0) == pytest.approx(np.ptp(RIGID_CANONICAL, axis=0) / 5.318, rel=1e-3)


def test_expressions_are_read(model: CoefficientModel, calm: Points) -> None:
    rest = read(model, calm)
    assert all(0 <= value <= 1 for value in rest.values())
    assert rest["tongueOut"] == 0
    assert read(model, with_expression(calm, jaw=0.35))["jawOpen"] > rest["jawOpen"] + 0.2
    assert read(model, with_expression(calm, shut=0.8))["eyeBlinkLeft"] > rest["eyeBlinkLeft"] + 0.2
    assert read(model, with_expression(calm, smile=0.12))["mouthSmileRight"] > rest["mouthSmileRight"] + 0.15


def test_a_mirrored_face_has_mirrored_coefficients(model: CoefficientModel, calm: Points) -> None:
    """About: the network was trained on both, and is not symmetric by construction."""
    winking = with_expression(calm, shut=(0.8, 0.0))
    flipped = winking[MIRROR] * np.array([-1, 1, 1], np.float32)
    one, other = (np.array(list(read(model, shape).values())) for shape in (winking, flipped))
    assert np.abs(other - one[MIRRORED]).mean() < 0.05


def test_taking_the_expression_out_leaves_nearly_the_same_face(model: CoefficientModel, calm: Points) -> None:
    own = []
    expressions: list[dict[str, Any]] = [{}, {"jaw": 0.3}, {"smile": 0.1}, {"brows": 0.1}]
    for expression in expressions:
        shape = canonical_shape(head_pose().project(with_expression(calm, **expression)))
        own.append(shape - model.displacement(model.read(shape)))
    for each in own[1:]:
        moved = pose_against(each, own[0]).unproject(each)
        assert np.sqrt(((moved - own[0]) ** 2).mean()) < 0.03


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edited(path: Path) -> None:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["b3"] = arrays["b3"] + np.float16(0.5)
    np.savez_compressed(path, **arrays)


def of_another_version(path: Path) -> None:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez_compressed(path, **(arrays | {"version": np.int64(99)}))


def rubbish(path: Path) -> None:
    path.write_text("coefficients")


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (truncated, "coefficients-unreadable"),
        (rubbish, "coefficients-unreadable"),
        (edited, "coefficients-edited"),
        (of_another_version, "coefficients-version"),
        (Path.unlink, "coefficients-missing"),
    ],
)
def test_a_file_that_is_not_the_models_is_refused(tmp_path: Path, spoil: Callable[[Path], None], code: str) -> None:
    path = tmp_path / "expression.npz"
    path.write_bytes(FILE.read_bytes())
    spoil(path)
    with pytest.raises(TrackerError) as caught:
        load(path)
    assert caught.value.code == code
    assert caught.value.cure


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    with np.load(FILE) as file:
        arrays = {name: file[name] for name in file.files}
    write(tmp_path / "again.npz", arrays)
    again = load(tmp_path / "again.npz")
    np.testing.assert_array_equal(again.basis, shipped().basis)
