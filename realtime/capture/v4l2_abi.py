"""The part of the V4L2 API that is used here: request numbers, constants and structures of <linux/videodev2.h>.

Structures have the layout of 64-bit systems. https://docs.kernel.org/userspace-api/media/v4l/
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

VIDIOC_QUERYCAP = 0x80685600
VIDIOC_ENUM_FMT = 0xC0405602
VIDIOC_S_FMT = 0xC0D05605
VIDIOC_REQBUFS = 0xC0145608
VIDIOC_QUERYBUF = 0xC0585609
VIDIOC_QBUF = 0xC058560F
VIDIOC_DQBUF = 0xC0585611
VIDIOC_STREAMON = 0x40045612
VIDIOC_STREAMOFF = 0x40045613
VIDIOC_G_PARM = 0xC0CC5615
VIDIOC_S_PARM = 0xC0CC5616
VIDIOC_TRY_FMT = 0xC0D05640
VIDIOC_ENUM_FRAMESIZES = 0xC02C564A
VIDIOC_ENUM_FRAMEINTERVALS = 0xC034564B

CAP_VIDEO_CAPTURE = 0x1
CAP_VIDEO_OUTPUT = 0x2
CAP_VIDEO_CAPTURE_MPLANE = 0x1000
CAP_DEVICE_CAPS = 0x80000000
BUF_TYPE_VIDEO_CAPTURE = 1
BUF_TYPE_VIDEO_OUTPUT = 2
BUF_FLAG_ERROR = 0x40
BUF_FLAG_TIMESTAMP_MASK, BUF_FLAG_TIMESTAMP_MONOTONIC = 0xE000, 0x2000
BUF_FLAG_TSTAMP_SRC_MASK, BUF_FLAG_TSTAMP_SRC_SOE = 0x70000, 0x10000
MEMORY_MMAP = 1
FRMSIZE_TYPE_DISCRETE = 1
FIELD_NONE = 1


@dataclass(frozen=True, slots=True)
class Capability:
    """``struct v4l2_capability``: what a device is and can do."""

    driver: str
    card: str
    bus: str
    flags: int
    """The ``CAP_*`` flags of this device node."""


@dataclass(frozen=True, slots=True)
class Format:
    """``struct v4l2_pix_format``, as far as it is used."""

    fourcc: str
    width: int
    height: int
    stride: int
    """Bytes a row; 0 for compressed formats."""


def ioctl(handle: int, request: int, argument: bytearray | bytes) -> None:
    """Send a request to a driver, which writes its answer over a bytearray. Raises OSError. No-op outside Linux."""
    if sys.platform == "linux":
        import fcntl

        fcntl.ioctl(handle, request, argument)


def enumerate_answers(handle: int, request: int, length: int, query: Callable[[int], bytes]) -> Iterator[bytearray]:
    """Yield a driver's answers, ``length`` bytes each, to ``query(0)``, ``query(1)`` ... until it has no more."""
    for index in range(256):
        argument = bytearray(query(index).ljust(length, b"\0"))
        try:
            ioctl(handle, request, argument)
        except OSError:
            return
        yield argument


def query_capability(handle: int) -> Capability:
    """Return the capabilities of an open device. Raises OSError if it has gone or is not a video device."""
    answer = bytearray(104)
    ioctl(handle, VIDIOC_QUERYCAP, answer)
    driver, card, bus, _version, all_flags, node_flags = struct.unpack_from("<16s32s32s3I", answer)
    flags = node_flags if all_flags & CAP_DEVICE_CAPS else all_flags
    return Capability(_text(driver), _text(card), _text(bus), flags)


def request_buffers(handle: int, count: int) -> int:
    """Ask for memory-mapped capture buffers. Return how many the driver gives. Raises OSError."""
    request = bytearray(struct.pack("<5I", count, BUF_TYPE_VIDEO_CAPTURE, MEMORY_MMAP, 0, 0))
    ioctl(handle, VIDIOC_REQBUFS, request)
    return int(struct.unpack_from("<I", request)[0])


def stream_on(handle: int, buffer_type: int) -> None:
    """Start a queue. Raises OSError."""
    ioctl(handle, VIDIOC_STREAMON, bytearray(struct.pack("<i", buffer_type)))


def stream_off(handle: int, buffer_type: int) -> None:
    """Stop a queue. Raises OSError."""
    ioctl(handle, VIDIOC_STREAMOFF, bytearray(struct.pack("<i", buffer_type)))


def new_buffer(index: int) -> bytearray:
    """Return a ``struct v4l2_buffer`` for a memory-mapped capture buffer."""
    buffer = bytearray(88)
    struct.pack_into("<2I", buffer, 0, index, BUF_TYPE_VIDEO_CAPTURE)
    struct.pack_into("<I", buffer, 60, MEMORY_MMAP)
    return buffer


def mapping_of(buffer: bytearray) -> tuple[int, int]:
    """Return the offset and the length at which a queried buffer can be mapped, in bytes."""
    offset, _, length = struct.unpack_from("<3I", buffer, 64)
    return offset, length


def read_buffer(buffer: bytearray) -> tuple[int, int, int, int]:
    """Return index, bytes used, flags and timestamp (ns, of the clock in the flags) of a dequeued buffer."""
    index, _, used, flags = struct.unpack_from("<4I", buffer)
    seconds, micros = struct.unpack_from("<2q", buffer, 24)
    return index, used, flags, seconds * 1_000_000_000 + micros * 1000


def negotiate_format(handle: int, request: int, fourcc: str, size: tuple[int, int]) -> Format:
    """Send VIDIOC_TRY_FMT or VIDIOC_S_FMT. Return the format that the driver answers. Raises OSError."""
    argument = bytearray(208)
    code = fourcc.encode("latin-1")
    struct.pack_into("<I4xII4sI", argument, 0, BUF_TYPE_VIDEO_CAPTURE, *size, code, FIELD_NONE)
    ioctl(handle, request, argument)
    width, height, given, _field, stride = struct.unpack_from("<II4sII", argument, 8)
    return Format(given.decode("latin-1"), width, height, stride)


def list_formats(handle: int) -> list[str]:
    """Return the capture formats of a device by their four-character codes."""
    answers = enumerate_answers(
        handle, VIDIOC_ENUM_FMT, 64, lambda index: struct.pack("<2I", index, BUF_TYPE_VIDEO_CAPTURE)
    )
    return [bytes(answer[44:48]).decode("latin-1") for answer in answers]


def list_sizes(handle: int, fourcc: str) -> list[tuple[int, int]]:
    """Return the frame sizes of a format, largest first; a range is given by its two ends."""
    code = fourcc.encode("latin-1")
    found: set[tuple[int, int]] = set()
    for answer in enumerate_answers(handle, VIDIOC_ENUM_FRAMESIZES, 44, lambda index: struct.pack("<I4s", index, code)):
        kind, *edges = struct.unpack_from("<7I", answer, 8)
        if kind == FRMSIZE_TYPE_DISCRETE:
            found.add((edges[0], edges[1]))
        else:
            found |= {(edges[0], edges[3]), (edges[1], edges[4])}
    return sorted(found, reverse=True)


def list_rates(handle: int, fourcc: str, size: tuple[int, int]) -> list[float]:
    """Return the frame rates of a format and size; empty if the driver does not enumerate them."""
    query = struct.pack("<4s2I", fourcc.encode("latin-1"), *size)
    rates = []
    for answer in enumerate_answers(
        handle, VIDIOC_ENUM_FRAMEINTERVALS, 52, lambda index: struct.pack("<I", index) + query
    ):
        numerator, denominator = struct.unpack_from("<2I", answer, 20)
        rates.append(denominator / max(1, numerator))
    return rates


def negotiate_rate(handle: int, request: int, fps: float) -> float | None:
    """Send VIDIOC_S_PARM or VIDIOC_G_PARM. Return the rate that the driver answers, if it does. Raises OSError."""
    parameters = bytearray(204)
    struct.pack_into("<I8xII", parameters, 0, BUF_TYPE_VIDEO_CAPTURE, 1000, round(1000 * fps))
    ioctl(handle, request, parameters)
    numerator, denominator = struct.unpack_from("<2I", parameters, 12)
    return float(denominator / numerator) if numerator and denominator else None


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode("utf-8", "replace").strip()
