from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.marking.detector import Detection, Detector, tail_probability
from engines.marking.marks import FrameMarks, Marking
from engines.marking.payload import Payload
from engines.types import Image
from tests.support.pictures import scenery

PAYLOAD = Payload(0x1234567, 2525)
SIZE = (1280, 720)


def marked(size: tuple[int, int] = SIZE, language: str | None = None, seed: int = 0) -> Image:
    return FrameMarks(size, Marking(PAYLOAD, language)).mark(scenery(size, seed)).copy()


def luma(image: Image) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def detect(*images: Image) -> Detection:
    detector = Detector()
    for image in images:
        detector.add(luma(image))
    return detector.detect()


def jpeg(image: Image, quality: int) -> Image:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def scaled(image: Image, factor: float) -> Image:
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)


@pytest.mark.parametrize("size", [(1280, 720), (640, 360), (512, 512), (720, 1280), (640, 480)])
def test_a_single_frame_says_what_it_was_marked_with(size: tuple[int, int]) -> None:
    found = detect(marked(size))
    assert found.marked
    assert found.payload == PAYLOAD
    assert not found.mirrored
    assert found.false_alarm < 1e-6


CHANGES: dict[str, Callable[[Image], Any]] = {
    "jpeg": lambda image: jpeg(image, 60),
    "half": lambda image: scaled(image, 0.5),
    "enlarged": lambda image: scaled(image, 1.5),
    "cropped": lambda image: np.ascontiguousarray(image[101:605, 203:1099]),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "brighter": lambda image: cv2.convertScaleAbs(image, alpha=1.2, beta=25),
    "darker": lambda image: cv2.convertScaleAbs(image, alpha=0.8, beta=-20),
    "in a window": lambda image: cv2.copyMakeBorder(image, 150, 200, 100, 400, cv2.BORDER_CONSTANT, value=(40, 60, 80)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_payload_survives(change: str) -> None:
    found = detect(np.asarray(CHANGES[change](marked()), np.uint8))
    assert found.payload == PAYLOAD
    assert found.mirrored == (change == "mirrored")


def test_an_unmarked_picture_is_not_marked() -> None:
    for seed in range(3):
        found = detect(scenery(SIZE, seed))
        assert not found.marked
        assert found.payload is None


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_picture_of_one_colour_is_not_marked_until_it_is(value: int) -> None:
    plain = np.full((720, 1280, 3), value, np.uint8)
    assert not detect(plain).marked
    assert detect(FrameMarks(SIZE, Marking(PAYLOAD, None)).mark(plain)).payload == PAYLOAD


def test_frames_add_up() -> None:
    # each too noisy for itself
    random = np.random.default_rng(3)
    frames = [
        np.clip(marked().astype(np.float32) + random.normal(0, 110, (720, 1280, 3)), 0, 255).astype(np.uint8)
        for _ in range(12)
    ]
    assert detect(frames[0]).payload is None
    assert detect(*frames).payload == PAYLOAD


def test_the_map_shows_which_half_is_marked() -> None:
    image = marked()
    image[:, 640:] = scenery(SIZE)[:, 640:]
    detector = Detector()
    detector.add(luma(image))
    found = detector.detect()
    where = detector.map(found)
    assert found.payload == PAYLOAD
    assert where[:, :260].mean() > 0.3
    assert where[:, 380:].mean() < 0.1


def test_the_mark_is_faint_and_does_not_flicker() -> None:
    plain = scenery(SIZE)
    marks = FrameMarks(SIZE, Marking(PAYLOAD, None))
    first = marks.mark(plain).copy()
    assert (marks.mark(plain) == first).all()
    difference = first.astype(np.float64) - plain
    assert 20 * np.log10(255 / np.sqrt((difference**2).mean())) > 42
    assert (difference[..., 0] == difference[..., 1]).mean() > 0.99, "luma only"


def test_the_image_of_the_generator_is_left_alone() -> None:
    image = scenery(SIZE)
    FrameMarks(SIZE, Marking(PAYLOAD, "en")).mark(image)
    assert (image == scenery(SIZE)).all()


@pytest.mark.parametrize("size", [(64, 64), (66, 4096), (322, 182), (1918, 1078)])
def test_every_size_can_be_marked(size: tuple[int, int]) -> None:
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    assert FrameMarks(size, Marking(PAYLOAD, "en")).mark(image).shape == image.shape


def test_brightest_and_darkest_pixels_do_not_wrap() -> None:
    for value in (0, 1, 254, 255):
        plain = np.full((720, 1280, 3), value, np.uint8)
        difference = FrameMarks(SIZE, Marking(PAYLOAD, None)).mark(plain).astype(int) - value
        assert abs(difference).max() < 10


def test_false_alarms_become_rarer_with_the_statistic() -> None:
    assert tail_probability(3) > 0.99
    assert tail_probability(8) < 1e-6
    assert tail_probability(8) > tail_probability(9) > 0
