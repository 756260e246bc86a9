"""The slate: one mark and one text, whole and legible at every size."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.pipeline import slate

SIZES = [(320, 180), (640, 480), (512, 512), (360, 640), (1280, 720), (1920, 1080)]
TEXTS = ["back in a moment", "compiling for this machine, once (30 s to a minute): 12 of 40"]


def bright(image: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of what is brighter than the ground."""
    rows, columns = np.nonzero(image.min(axis=2) > 90)
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", TEXTS)
def test_mark_and_text_are_whole_and_in_the_middle(size: tuple[int, int], text: str) -> None:
    image = slate.draw(size, text)
    width, height = size
    assert image.shape == (height, width, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    left, top, right, bottom = bright(image)
    assert left > 0.03 * width
    assert right < 0.97 * width
    assert (left + right) / 2 == pytest.approx(width / 2, abs=0.02 * width + 1)
    assert (top + bottom) / 2 == pytest.approx(height / 2, abs=0.06 * height)


@pytest.mark.parametrize("size", SIZES)
def test_the_text_is_large_enough_and_apart_from_the_mark(size: tuple[int, int]) -> None:
    image, other = (slate.draw(size, text) for text in ("back in a moment", "waiting for the camera"))
    rows = np.flatnonzero((image != other).any(axis=(1, 2)))
    assert rows.max() - rows.min() > 0.035 * min(size)
    between = image[rows.min() - max(3, min(size) // 40) : rows.min() - 1].astype(int)
    assert between.max() < 70, "there is room between mark and text"


def test_the_ground_is_a_soft_shade_without_bands() -> None:
    image = slate.draw((1280, 720), "back in a moment").astype(int)
    assert image[:40].max() < 60
    row = image[60, :, 0]
    runs = np.diff(np.flatnonzero(np.diff(row)))
    assert runs.max() < 40


def test_a_slate_is_drawn_in_the_language_of_the_run() -> None:
    english, german = (slate.draw((640, 480), "back in a moment", language) for language in ("en", "de"))
    assert (english != german).any()
    assert (german == slate.draw((640, 480), "gleich zurück")).all()


def test_a_machine_without_the_letters_stays_in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slate, "_wide_font", lambda: "")
    english, chinese = (slate.draw((640, 480), "back in a moment", language) for language in ("en", "zh"))
    assert (english == chinese).all()
