"""Test the choice of a format, the conversions, and finding a camera by its name or again."""

from __future__ import annotations

import math
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import NoReadableFormat, SourceMissing
from realtime.capture import v4l2_abi, v4l2_devices, v4l2_stream, webcam
from realtime.capture.v4l2_stream import FormatOption, choose_format

HD, VGA = (1280, 720), (640, 480)
FORMATS = ["YUYV", "UYVY", "NV12", "YU12", "RGB3", "BGR3", "MJPG", "H264", "pRAA"]
some_options = st.lists(
    st.builds(
        FormatOption, st.sampled_from(FORMATS), st.sampled_from([HD, VGA]), st.sampled_from([5.0, 15.0, 30.0, 60.0])
    )
)


@pytest.mark.parametrize(
    ("size", "fps", "found"),
    [
        (HD, 30, "MJPG"),
        (HD, 10, "YUYV"),
        (VGA, 30, "YUYV"),
        (VGA, 60, "MJPG"),
    ],
)
def test_compressed_formats_are_chosen_from_720_rows_at_30_fps_upwards(
    size: tuple[int, int], fps: float, found: str
) -> None:
    options = [
        FormatOption("YUYV", size, 10 if size == HD else 30),
        FormatOption("H264", size, 60),
        FormatOption("MJPG", size, 60),
    ]
    chosen = choose_format(options, size, fps)
    assert chosen is not None
    assert chosen.fourcc == found


def test_the_size_counts_before_rate_and_format() -> None:
    slow, small, jpeg = FormatOption("YUYV", HD, 10), FormatOption("YUYV", VGA, 30), FormatOption("MJPG", HD, 15)
    assert choose_format([slow], HD, 30) == slow
    assert choose_format([small, jpeg], HD, 30) == jpeg
    assert choose_format([FormatOption("H264", HD, 30)], HD, 30) is None


@given(some_options, st.sampled_from([HD, VGA]), st.sampled_from([10.0, 30.0, 60.0]))
def test_no_other_option_of_that_size_is_nearer_to_the_rate(
    options: list[FormatOption], size: tuple[int, int], fps: float
) -> None:
    chosen = choose_format(options, size, fps)
    readable = [option for option in options if option.fourcc not in ("H264", "pRAA")]
    assert (chosen is None) == (not readable)
    for option in readable:
        assert chosen is not None
        if option.size == size:
            assert chosen.size == size
            assert min(chosen.fps, 0.98 * fps) >= min(option.fps, 0.98 * fps)


@pytest.mark.parametrize("padding", [0, 32])
def test_every_format_is_converted_to_the_same_colours(padding: int) -> None:
    """Convert rows with and without padding."""
    width, height = 64, 48
    image = np.full((height, width + padding, 3), (200, 60, 40), np.uint8)
    i420 = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420), np.uint8)
    luma, chroma = i420[:height], i420[height:].reshape(2, -1)
    stride = width + padding
    raw = {
        "YU12": (i420, stride),
        "YV12": (np.concatenate([luma.reshape(-1), chroma[::-1].reshape(-1)]), stride),
        "NV12": (np.concatenate([luma.reshape(-1), chroma.T.reshape(-1)]), stride),
        "YUYV": (np.stack([luma.reshape(-1), np.resize(chroma[:, 0], luma.size)], axis=1), 2 * stride),
        "UYVY": (np.stack([np.resize(chroma[:, 0], luma.size), luma.reshape(-1)], axis=1), 2 * stride),
        "RGB3": (image, 3 * stride),
        "BGR3": (image[..., ::-1], 3 * stride),
        "MJPG": (cv2.imencode(".jpg", image[..., ::-1])[1], 0),
    }
    for fourcc, (pixels, row) in raw.items():
        flat = np.ascontiguousarray(pixels, np.uint8).reshape(-1)
        found = v4l2_stream.CONVERTERS[fourcc](flat, row, height)
        assert found.dtype == np.uint8
        assert found.shape == (height, stride, 3)
        np.testing.assert_allclose(found[20, 20], (200, 60, 40), atol=4, err_msg=fourcc)


@pytest.mark.parametrize("rubbish", [b"", b"rubbish" * 100])
def test_a_broken_jpeg_raises(rubbish: bytes) -> None:
    with pytest.raises((ValueError, cv2.error)):
        v4l2_stream.CONVERTERS["MJPG"](np.frombuffer(rubbish, np.uint8), 0, 48)


def test_an_option_has_a_readable_form() -> None:
    assert str(FormatOption("MJPG", HD, 30)) == "1280x720 MJPG at 30 fps"
    assert choose_format([FormatOption("YUYV", VGA, math.inf)], VGA, 30) is not None


def camera(number: int, label: str, bus: str = "usb-1", **more: bool) -> v4l2_devices.Node:
    return v4l2_devices.Node(f"/dev/video{number}", label, "uvcvideo", captures=True, bus=bus, **more)


CAMERAS = [camera(0, "USB Camera: HD"), camera(2, "USB Camera: Infrared"), camera(4, "Elgato")]


@pytest.mark.skipif(sys.platform != "linux", reason="V4L2 exists on Linux only")
@pytest.mark.parametrize("formats", [("H264", "pRAA"), ()])
def test_a_camera_without_a_readable_format(formats: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v4l2_abi, "list_formats", lambda _handle: list(formats))
    monkeypatch.setattr(webcam, "_check", lambda path: v4l2_devices.Node(path, "Cam", "uvcvideo", captures=True))
    with pytest.raises(NoReadableFormat) as caught:
        webcam.Webcam("/dev/null")
    assert caught.value.code == "camera-no-readable-format"
    assert all(fourcc in caught.value.found for fourcc in formats)
    assert "YUYV" in caught.value.expected


@pytest.mark.parametrize(("wanted", "number"), [("elgato", 4), ("Infra", 2), ("USB Camera: HD", 0)])
def test_a_camera_is_found_by_part_of_its_name(wanted: str, number: int) -> None:
    assert webcam.find_by_name(CAMERAS, wanted).index == number


def test_a_name_of_two_cameras_or_of_none_lists_the_cameras() -> None:
    with pytest.raises(SourceMissing) as caught:
        webcam.find_by_name(CAMERAS, "usb")
    assert caught.value.code == "camera-ambiguous"
    assert "/dev/video2 (USB Camera: Infrared)" in caught.value.found
    with pytest.raises(SourceMissing) as caught:
        webcam.find_by_name(CAMERAS, "Zoom")
    assert caught.value.code == "camera-missing"
    assert "/dev/video0 (USB Camera: HD)" in caught.value.expected


def test_a_camera_is_found_again_under_another_number() -> None:
    before = camera(0, "Cam", "usb-1")
    assert webcam.find_same([camera(3, "Cam", "usb-1")], before) == camera(3, "Cam", "usb-1")
    assert webcam.find_same([camera(3, "Cam", "usb-2")], before) == camera(3, "Cam", "usb-2"), "another port"
    two = [camera(2, "Cam", "usb-2"), camera(3, "Cam", "usb-1")]
    assert webcam.find_same(two, before) == two[1]


def test_another_camera_that_got_the_number_is_not_taken() -> None:
    before = camera(0, "Cam", "usb-1")
    assert webcam.find_same([camera(0, "Another", "usb-1")], before) is None
    assert webcam.find_same([camera(1, "Cam", "usb-2"), camera(2, "Cam", "usb-3")], before) is None, "ambiguous"
