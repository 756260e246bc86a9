"""The basis of expressions that ships, and what becomes of a file that is not it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engines.errors import GeneratorError
from engines.face import rig


@pytest.fixture(autouse=True)
def read_anew() -> Iterator[None]:
    rig.shipped_rig.cache_clear()
    yield
    rig.shipped_rig.cache_clear()


def test_an_expression_is_the_sum_of_its_coefficients() -> None:
    shipped = rig.shipped_rig()
    weights = np.zeros(len(shipped.basis), np.float32)
    weights[[3, 20]] = 0.5, 1
    expected = (weights.astype(float) @ shipped.basis.astype(float)).reshape(-1, 3)
    np.testing.assert_allclose(shipped.displacement(weights), expected, atol=1e-5)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04", b"no archive at all"])
def test_a_damaged_file_is_an_error_of_its_own(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rig.npz"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(rig, "FILE", path)
    with pytest.raises(GeneratorError) as caught:
        rig.shipped_rig()
    assert caught.value.code == "rig-unreadable"


def test_a_file_of_other_arrays_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "rig.npz", other=np.zeros(3))
    monkeypatch.setattr(rig, "FILE", tmp_path / "rig.npz")
    with pytest.raises(GeneratorError) as caught:
        rig.shipped_rig()
    assert caught.value.code == "rig-unreadable"
