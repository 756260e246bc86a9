"""The functions of the cost benchmark; its results are not tested."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import ReenactError, SourceMissing
from tools.bench_costs import Figure, cost, driving_frames, fitted, markdown, memory, record_driver, run_daemon


@given(
    shape=st.tuples(st.integers(2, 90), st.integers(2, 90)),
    size=st.tuples(st.integers(40, 90), st.integers(40, 90)),
)
def test_a_fitted_picture_is_complete_and_centred(shape: tuple[int, int], size: tuple[int, int]) -> None:
    result = fitted(np.full((*shape, 3), 200, np.uint8), size)
    assert result.shape == (size[1], size[0], 3)
    lit = result[..., 0] > 0
    rows, columns = np.flatnonzero(lit.any(1)), np.flatnonzero(lit.any(0))
    assert len(rows) == size[1] or len(columns) == size[0]
    assert abs(rows[0] - (size[1] - 1 - rows[-1])) <= 1
    assert abs(columns[0] - (size[0] - 1 - columns[-1])) <= 1


def test_the_table_is_markdown_with_the_machine() -> None:
    text = markdown([Figure("cost", "≤ 1.6", "1.2", met=True)], Path("folder/clip.mp4"))
    assert "| cost | ≤ 1.6 | 1.2 |" in text
    assert "clip.mp4" in text
    assert "folder" not in text
    assert f"numpy {np.__version__}" in text


def test_floor_and_cost_are_measured_on_the_performer() -> None:
    figure = cost(None, (256, 256), 4)
    assert figure.data["frames"] == 4
    assert figure.data["floor_ms"] > 0
    assert figure.data["ratio"] > 0


def test_memory_is_measured() -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("this system has no /proc")
    assert memory(None, 4, 4).data["before_mb"] > 1


def test_a_driver_is_recorded_in_the_given_length(tmp_path: Path) -> None:
    clip = tmp_path / "driver.mp4"
    record_driver(None, clip, 5)
    capture = cv2.VideoCapture(str(clip))
    pictures = list(iter(lambda: capture.read()[0], False))
    capture.release()
    assert len(pictures) == 5


def test_a_missing_clip_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing) as caught:
        list(islice(driving_frames(tmp_path / "nothing.mp4", (64, 64)), 1))
    assert caught.value.code == "video-missing"


def test_a_run_that_fails_is_an_error_with_its_message(tmp_path: Path) -> None:
    with pytest.raises(ReenactError) as caught:
        run_daemon("--camera", str(tmp_path / "nothing.mp4"), "--sink", "null")
    assert caught.value.code == "program-failed"
    assert "nothing.mp4" in caught.value.found
