"""How far sound and picture are apart, from when clicks were played and pictures shown."""

from __future__ import annotations

import numpy as np
import pytest

from tools.latency.sound import offsets_ms


@pytest.mark.parametrize("late_ms", [-120.0, 0.0, 7.5, 200.0])
def test_the_offset_is_how_late_the_sound_is(late_ms: float) -> None:
    # pictures are shown 80 ms after they were taken, on a clock that begins at another moment
    shown = [(taken + 80 + 12_345, taken) for taken in np.arange(0, 5000, 33.3)]
    claps = [500 * number + 80 + 12_345 + late_ms for number in range(1, 9)]
    assert offsets_ms(claps, shown) == pytest.approx(np.full(8, late_ms), abs=0.1)


def test_clicks_without_a_picture_are_left_out() -> None:
    shown = [(1000.0, 900.0), (1500.0, 1400.0)]
    assert offsets_ms([0.0, 1100.0, 9000.0], shown) == pytest.approx([0.0])
