"""Test the pixel code: scaled, mirrored, compressed and filmed at an angle."""

from __future__ import annotations

import binascii
import io
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from realtime.core import pixelcode
from realtime.core.pixelcode import Code, Place, draw, draw_i420, place_in, read

codes = st.builds(Code, st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF))
sizes = st.sampled_from([(640, 480), (1280, 720), (480, 640), (512, 512), (640, 360)])


def scene(width: int, height: int, seed: int = 1) -> NDArray[np.uint8]:
    """Return a detailed picture, (height, width, 3) uint8."""
    small = np.random.default_rng(seed).integers(0, 255, (height // 16, width // 16, 3), np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def coded(code: Code, size: tuple[int, int]) -> NDArray[np.uint8]:
    image = scene(*size)
    draw(image, code)
    return image


@given(codes, sizes)
@settings(deadline=None, max_examples=50)
def test_a_drawn_code_can_be_read(code: Code, size: tuple[int, int]) -> None:
    assert read(coded(code, size)) == code


@given(codes, sizes, st.floats(0.4, 2.5), st.sampled_from([cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_NEAREST]))
@settings(deadline=None, max_examples=60)
def test_a_code_survives_scaling(code: Code, size: tuple[int, int], scale: float, how: int) -> None:
    image = coded(code, size)
    assert read(np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=how), np.uint8)) == code


@given(codes, sizes, st.integers(15, 95), st.floats(0.3, 1.3), st.floats(-60, 60), st.booleans())
@settings(deadline=None, max_examples=60)
def test_a_code_survives_jpeg_light_contrast_and_mirroring(
    code: Code, size: tuple[int, int], quality: int, contrast: float, light: float, mirrored: bool
) -> None:
    image = np.clip((coded(code, size).astype(np.float32) - 128) * contrast + 128 + light, 0, 255).astype(np.uint8)
    if mirrored:
        image = np.ascontiguousarray(image[:, ::-1])
    _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert read(np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)) == code


@given(codes, sizes)
@settings(deadline=None, max_examples=30)
def test_a_code_in_i420_is_the_same_as_in_rgb(code: Code, size: tuple[int, int]) -> None:
    planes = np.asarray(cv2.cvtColor(scene(*size), cv2.COLOR_RGB2YUV_I420), np.uint8)
    draw_i420(planes, code)
    assert read(planes[: size[1]]) == code
    assert read(np.asarray(cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420), np.uint8)) == code


@given(codes, st.integers(0, 63))
@settings(deadline=None, max_examples=50)
def test_a_code_with_one_wrong_cell_is_rejected(code: Code, cell: int) -> None:
    cells = pixelcode.grid(code).astype(np.float64)
    assert pixelcode.decode(cells) == code
    row, column = 2 + cell // 16, 2 + cell % 16
    cells[row, column] = pixelcode.BLACK + pixelcode.WHITE - cells[row, column]
    assert pixelcode.decode(cells) is None


@pytest.mark.parametrize("codec", ["libx264", "libvpx"])
def test_a_code_survives_video_at_a_low_bit_rate(codec: str) -> None:
    sent = []
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        stream: Any = out.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 640, 480, "yuv420p", 250_000
        stream.options = (
            {"tune": "zerolatency", "preset": "ultrafast"} if codec == "libx264" else {"deadline": "realtime"}
        )
        for i in range(40):
            code = Code.at(i, 1_000_000_000 + i * 33_333_333)
            sent.append(code)
            image = np.roll(scene(640, 480), 3 * i, axis=1)
            draw(image, code)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer, "r") as clip:
        got = [read(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)) for frame in clip.decode(video=0)]
    right = sum(a == b for a, b in zip(sent, got, strict=True))
    assert right >= 36
    assert all(b is None or a == b for a, b in zip(sent, got, strict=True))


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_no_code_is_read_where_none_was_drawn(seed: int) -> None:
    assert read(scene(320, 240, seed)) is None
    assert read(np.zeros((240, 320, 3), np.uint8)) is None


@given(st.integers(0, 2**62), st.integers(-(10**6), 10**9))
def test_the_age_is_right_across_the_wrap(now_us: int, age_us: int) -> None:
    now_ns = now_us * 1000 + 123
    code = Code.at(3, (now_us - age_us) * 1000)
    assert code.age_ns(now_ns) == age_us * 1000 + 123


def test_a_code_seen_at_an_angle_can_be_read() -> None:
    image = np.full((480, 640), 90, np.uint8)
    code = Code(513, 77_000_001)
    draw(image, code, Place(100, 120, 18))
    corners = np.array([[118, 138], [442, 138], [442, 246], [118, 246]], np.float32)
    to = np.array([[130, 150], [500, 120], [470, 300], [140, 260]], np.float32)
    seen = cv2.warpPerspective(image, cv2.getPerspectiveTransform(corners, to), (640, 480))
    assert pixelcode.decode(pixelcode.levels_through(np.asarray(seen, np.uint8), to)) == code


def test_drawing_a_code_that_does_not_fit_raises() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        draw(np.zeros((40, 40, 3), np.uint8), Code(1, 1))
    with pytest.raises(ValueError, match="does not fit"):
        draw(np.zeros((480, 640, 3), np.uint8), Code(1, 1), Place(600, 0, 10))
    assert read(np.zeros((1, 1, 3), np.uint8)) is None


def test_the_checksum_is_the_documented_one() -> None:
    assert binascii.crc_hqx(b"123456789", 0xFFFF) == 0x29B1


def test_drawing_changes_only_the_pixels_of_the_code() -> None:
    image = scene(640, 480)
    before = image.copy()
    draw(image, Code.now(1))
    place = place_in(640, 480)
    bottom, right = round(place.side * pixelcode.ROWS), round(place.side * pixelcode.COLUMNS)
    assert (bottom, right) == (80, 200)
    assert np.array_equal(image[bottom:], before[bottom:])
    assert np.array_equal(image[:, right:], before[:, right:])
