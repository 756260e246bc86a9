"""How far sound and picture are apart, from when clicks were played and pictures shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.errors import SourceLost
from tools.latency.sound import browser_errors, measure_recording, offsets_ms
from tools.support.files import write_mp4


@pytest.mark.parametrize("late_ms", [-120.0, 0.0, 7.5, 200.0])
def test_the_offset_is_how_late_the_sound_is(late_ms: float) -> None:
    # pictures are shown 80 ms after they were taken, on a clock that begins at another moment
    shown = [(taken + 80 + 12_345, taken) for taken in np.arange(0, 5000, 33.3)]
    claps = [500 * number + 80 + 12_345 + late_ms for number in range(1, 9)]
    assert offsets_ms(claps, shown) == pytest.approx(np.full(8, late_ms), abs=0.1)


def test_clicks_without_a_picture_are_left_out() -> None:
    shown = [(1000.0, 900.0), (1500.0, 1400.0)]
    assert offsets_ms([0.0, 1100.0, 9000.0], shown) == pytest.approx([0.0])


@pytest.mark.parametrize(
    ("claps", "shown", "code"),
    [
        ([1000.0], [], "measure-no-code"),
        ([], [(1000.0, 900.0), (1500.0, 1400.0)], "measure-no-clicks"),
        ([9000.0], [(1000.0, 900.0), (1500.0, 1400.0)], "measure-no-clicks"),
    ],
)
def test_nothing_to_compare_is_an_error(claps: list[float], shown: list[tuple[float, float]], code: str) -> None:
    with pytest.raises(SourceLost) as caught:
        offsets_ms(claps, shown)
    assert caught.value.code == code


def test_a_recording_without_sound_or_without_anything_is_an_error(tmp_path: Path) -> None:
    silent, empty = tmp_path / "silent.mp4", tmp_path / "empty.mp4"
    write_mp4([np.zeros((48, 64, 3), np.uint8)] * 3, silent, 25, {})
    empty.write_bytes(b"")
    for path in (silent, empty, tmp_path / "missing.mp4"):
        with pytest.raises(SourceLost) as caught:
            measure_recording(path)
        assert caught.value.code == "measure-no-recording"


def test_an_error_of_the_browser_is_told_with_a_code() -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: make test installs it")
    with pytest.raises(SourceLost) as caught, browser_errors():
        raise playwright.TimeoutError("no button\ncall log")
    assert caught.value.code == "measure-browser-failed"
    assert "call log" not in caught.value.found
