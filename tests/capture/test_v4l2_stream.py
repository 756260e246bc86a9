"""Choosing a format, and knowing a camera again."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import SourceMissing
from realtime.capture import v4l2_devices, v4l2_stream, webcam
from realtime.capture.v4l2_stream import Offer, pick

HD, VGA = (1280, 720), (640, 480)
FORMATS = ["YUYV", "UYVY", "NV12", "YU12", "RGB3", "BGR3", "MJPG", "H264", "pRAA"]
some_offers = st.lists(
    st.builds(Offer, st.sampled_from(FORMATS), st.sampled_from([HD, VGA]), st.sampled_from([5.0, 15.0, 30.0, 60.0]))
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
def test_compressed_from_720_rows_at_30_a_second_upwards(size: tuple[int, int], fps: float, found: str) -> None:
    offers = [Offer("YUYV", size, 10 if size == HD else 30), Offer("H264", size, 60), Offer("MJPG", size, 60)]
    chosen = pick(offers, size, fps)
    assert chosen is not None
    assert chosen.fourcc == found


def test_uncompressed_where_there_is_nothing_else() -> None:
    assert pick([Offer("YUYV", HD, 10)], HD, 30) == Offer("YUYV", HD, 10)
    assert pick([Offer("YUYV", VGA, 30), Offer("MJPG", HD, 15)], HD, 30) == Offer("MJPG", HD, 15), "the size first"
    assert pick([Offer("H264", HD, 30)], HD, 30) is None


@given(some_offers, st.sampled_from([HD, VGA]), st.sampled_from([10.0, 30.0, 60.0]))
def test_no_other_offer_of_that_size_is_nearer_to_the_rate(
    offers: list[Offer], size: tuple[int, int], fps: float
) -> None:
    chosen = pick(offers, size, fps)
    readable = [offer for offer in offers if offer.fourcc not in ("H264", "pRAA")]
    assert (chosen is None) == (not readable)
    for offer in readable:
        assert chosen is not None
        if offer.size == size:
            assert chosen.size == size
            assert min(chosen.fps, 0.98 * fps) >= min(offer.fps, 0.98 * fps)


@pytest.mark.parametrize("padding", [0, 32])
def test_every_format_shows_the_same_colours(padding: int) -> None:
    """Rows may be longer than the picture."""
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
        found = v4l2_stream._CONVERT[fourcc](flat, row, height)
        assert found.dtype == np.uint8
        assert found.shape == (height, stride, 3)
        np.testing.assert_allclose(found[20, 20], (200, 60, 40), atol=4, err_msg=fourcc)


@pytest.mark.parametrize("rubbish", [b"", b"rubbish" * 100])
def test_a_broken_jpeg_is_told(rubbish: bytes) -> None:
    with pytest.raises((ValueError, cv2.error)):
        v4l2_stream._CONVERT["MJPG"](np.frombuffer(rubbish, np.uint8), 0, 48)


def test_an_offer_says_what_it_is() -> None:
    assert str(Offer("MJPG", HD, 30)) == "1280x720 MJPG at 30 fps"
    assert pick([Offer("YUYV", VGA, math.inf)], VGA, 30) is not None


def camera(number: int, label: str, bus: str = "usb-1", **more: bool) -> v4l2_devices.Node:
    return v4l2_devices.Node(f"/dev/video{number}", label, "uvcvideo", captures=True, bus=bus, **more)


CAMERAS = [camera(0, "USB Camera: HD"), camera(2, "USB Camera: Infrared"), camera(4, "Elgato")]


@pytest.mark.parametrize(("wanted", "number"), [("elgato", 4), ("Infra", 2), ("USB Camera: HD", 0)])
def test_a_camera_by_part_of_its_name(wanted: str, number: int) -> None:
    assert webcam.named(CAMERAS, wanted).index == number


def test_a_name_that_could_be_two_or_none_lists_them() -> None:
    with pytest.raises(SourceMissing, match=r"'usb' could be /dev/video0 \(USB.*\) or /dev/video2 \(USB.*Infrared\)"):
        webcam.named(CAMERAS, "usb")
    with pytest.raises(SourceMissing, match=r"no camera and no file 'Zoom'; this machine has /dev/video0 \(USB"):
        webcam.named(CAMERAS, "Zoom")


def test_a_camera_is_known_again_under_another_number() -> None:
    before = camera(0, "Cam", "usb-1")
    assert webcam.same_camera([camera(3, "Cam", "usb-1")], before) == camera(3, "Cam", "usb-1")
    assert webcam.same_camera([camera(3, "Cam", "usb-2")], before) == camera(3, "Cam", "usb-2"), "another socket"
    two = [camera(2, "Cam", "usb-2"), camera(3, "Cam", "usb-1")]
    assert webcam.same_camera(two, before) == two[1]


def test_another_camera_that_took_the_number_is_left_alone() -> None:
    before = camera(0, "Cam", "usb-1")
    assert webcam.same_camera([camera(0, "Another", "usb-1")], before) is None
    assert webcam.same_camera([camera(1, "Cam", "usb-2"), camera(2, "Cam", "usb-3")], before) is None, "which of them?"
