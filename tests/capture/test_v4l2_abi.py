"""Test the structures of V4L2 with a driver in memory."""

from __future__ import annotations

import errno
import struct
import sys

import pytest

from realtime.capture import v4l2_abi, v4l2_stream
from realtime.capture.v4l2_stream import FormatOption

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="V4L2 exists on Linux only")

FORMATS = (b"MJPG", b"YUYV", b"H264")
SIZES = ((640, 480), (1280, 720))
RATES = (10, 30)
BUFFERS = 2


class FakeDriver:
    """Answers requests as a driver does, by the offsets that the kernel's documentation gives."""

    def __init__(self) -> None:
        self.streaming = False
        self.rate = 0

    def ioctl(self, _handle: int, request: int, argument: bytearray) -> None:
        size = request >> 16 & 0x3FFF
        assert len(argument) == size, "the size of the structure is part of the request number"
        answers = {
            v4l2_abi.VIDIOC_QUERYCAP: self.capability,
            v4l2_abi.VIDIOC_ENUM_FMT: self.enumerate_format,
            v4l2_abi.VIDIOC_ENUM_FRAMESIZES: self.enumerate_size,
            v4l2_abi.VIDIOC_ENUM_FRAMEINTERVALS: self.enumerate_rate,
            v4l2_abi.VIDIOC_TRY_FMT: self.set_format,
            v4l2_abi.VIDIOC_S_PARM: self.set_rate,
            v4l2_abi.VIDIOC_REQBUFS: self.request_buffers,
            v4l2_abi.VIDIOC_STREAMON: self.start,
        }
        answers[request](argument)

    def capability(self, argument: bytearray) -> None:
        flags = v4l2_abi.CAP_DEVICE_CAPS | v4l2_abi.CAP_VIDEO_CAPTURE | v4l2_abi.CAP_VIDEO_OUTPUT
        struct.pack_into("<16s32s32s3I", argument, 0, b"uvcvideo", b"Cam", b"usb-1", 6, flags, 1)

    def enumerate_format(self, argument: bytearray) -> None:
        index, kind = struct.unpack_from("<2I", argument)
        if kind != v4l2_abi.BUF_TYPE_VIDEO_CAPTURE or index >= len(FORMATS):
            raise OSError(errno.EINVAL, "no more formats")
        argument[44:48] = FORMATS[index]

    def enumerate_size(self, argument: bytearray) -> None:
        (index,) = struct.unpack_from("<I", argument)
        if argument[4:8] not in FORMATS or index >= len(SIZES):
            raise OSError(errno.EINVAL, "no more sizes")
        struct.pack_into("<3I", argument, 8, v4l2_abi.FRMSIZE_TYPE_DISCRETE, *SIZES[index])

    def enumerate_rate(self, argument: bytearray) -> None:
        index, _, width, height = struct.unpack_from("<4I", argument)
        if (width, height) not in SIZES or index >= len(RATES):
            raise OSError(errno.EINVAL, "no more rates")
        struct.pack_into("<2I", argument, 20, 1, RATES[index])

    def set_format(self, argument: bytearray) -> None:
        width, height, _, field = struct.unpack_from("<2I4sI", argument, 8)
        assert field == v4l2_abi.FIELD_NONE
        assert (width, height) == (600, 400)
        struct.pack_into("<2I", argument, 8, *SIZES[0])
        struct.pack_into("<I", argument, 24, 2 * SIZES[0][0])

    def set_rate(self, argument: bytearray) -> None:
        numerator, denominator = struct.unpack_from("<2I", argument, 12)
        self.rate = round(denominator / numerator)
        struct.pack_into("<2I", argument, 12, 1, RATES[-1])

    def request_buffers(self, argument: bytearray) -> None:
        _, kind, memory = struct.unpack_from("<3I", argument)
        assert (kind, memory) == (v4l2_abi.BUF_TYPE_VIDEO_CAPTURE, v4l2_abi.MEMORY_MMAP)
        struct.pack_into("<I", argument, 0, BUFFERS)

    def start(self, argument: bytearray) -> None:
        self.streaming = struct.unpack("<i", argument) == (v4l2_abi.BUF_TYPE_VIDEO_CAPTURE,)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    fake = FakeDriver()
    monkeypatch.setattr("fcntl.ioctl", fake.ioctl)
    return fake


def test_the_capabilities_are_those_of_the_device_node(driver: FakeDriver) -> None:
    del driver
    assert v4l2_abi.query_capability(0) == v4l2_abi.Capability("uvcvideo", "Cam", "usb-1", v4l2_abi.CAP_VIDEO_CAPTURE)


def test_formats_sizes_and_rates_are_listed(driver: FakeDriver) -> None:
    del driver
    sizes = sorted(SIZES, reverse=True)
    assert v4l2_stream.list_sizes(0) == {"MJPG": sizes, "YUYV": sizes, "H264": sizes}
    assert v4l2_abi.list_rates(0, "YUYV", SIZES[0]) == list(RATES)
    assert v4l2_abi.list_rates(0, "YUYV", (1, 1)) == []


def test_the_options_are_what_the_driver_answers(driver: FakeDriver) -> None:
    del driver
    options = v4l2_stream.list_options(0, (600, 400))
    assert options == [FormatOption("MJPG", SIZES[0], 30), FormatOption("YUYV", SIZES[0], 30)]
    given = v4l2_abi.negotiate_format(0, v4l2_abi.VIDIOC_TRY_FMT, "YUYV", (600, 400))
    assert given == v4l2_abi.Format("YUYV", 640, 480, 1280)


def test_rate_buffers_and_stream_are_requested(driver: FakeDriver) -> None:
    assert v4l2_abi.negotiate_rate(0, v4l2_abi.VIDIOC_S_PARM, 25) == 30
    assert driver.rate == 25
    assert v4l2_abi.request_buffers(0, 5) == BUFFERS
    v4l2_abi.stream_on(0, v4l2_abi.BUF_TYPE_VIDEO_CAPTURE)
    assert driver.streaming


def test_a_buffer_is_read() -> None:
    buffer = v4l2_abi.new_buffer(3)
    assert len(buffer) == v4l2_abi.VIDIOC_DQBUF >> 16 & 0x3FFF
    struct.pack_into("<2I", buffer, 8, 1000, v4l2_abi.BUF_FLAG_TIMESTAMP_MONOTONIC)
    struct.pack_into("<2q", buffer, 24, 12, 345_678)
    struct.pack_into("<3I", buffer, 64, 4096, 0, 8192)
    assert v4l2_abi.read_buffer(buffer) == (3, 1000, v4l2_abi.BUF_FLAG_TIMESTAMP_MONOTONIC, 12_345_678_000)
    assert v4l2_abi.mapping_of(buffer) == (4096, 8192)
