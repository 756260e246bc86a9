from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import features

from engines.errors import ReenactError
from engines.marking.label import WORDS, draw_label
from engines.marking.marks import FrameMarks, Marking
from engines.marking.payload import Payload

SIZES = [(1280, 720), (320, 180), (720, 1280), (64, 64)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("language", WORDS)
def test_the_label_lies_in_the_lower_right_corner(size: tuple[int, int], language: str) -> None:
    label = draw_label(size, language)
    height, width = label.alpha.shape
    assert label.left >= 0
    assert label.left + width <= size[0]
    assert label.top > size[1] / 2
    assert label.top + height <= size[1]


@pytest.mark.parametrize("background", [0, 128, 255])
def test_the_letters_stand_out_where_the_frame_is_shown_small(background: int) -> None:
    image = np.full((720, 1280, 3), background, np.uint8)
    shown = FrameMarks((1280, 720), Marking(Payload(1, 1))).mark(image)
    small = cv2.resize(shown, (320, 180), interpolation=cv2.INTER_AREA)
    label = draw_label((320, 180), "en")
    height, width = label.alpha.shape
    plate = small[label.top : label.top + height, label.left : label.left + width].astype(int)
    assert np.ptp(np.sort(plate[..., 1].ravel())[20:-20]) > 60


def test_the_languages_differ_and_none_has_an_empty_box() -> None:
    # a missing letter is a box: every other letter that is missing looks the same
    drawn = {language: draw_label((1280, 720), language).alpha.tobytes() for language in WORDS}
    assert len(set(drawn.values())) == len(WORDS)


def test_without_a_language_there_is_no_label() -> None:
    image = np.full((720, 1280, 3), 100, np.uint8)
    with_label = FrameMarks((1280, 720), Marking(Payload(1, 1), "en")).mark(image).astype(int)
    without = FrameMarks((1280, 720), Marking(Payload(1, 1), None)).mark(image).astype(int)
    assert abs(without - 100).max() < 10
    assert abs(with_label - 100).max() > 50


def test_a_label_that_could_not_be_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda _: False)
    with pytest.raises(ReenactError) as caught:
        draw_label((1280, 720), "en")
    assert caught.value.code == "label-no-font"
