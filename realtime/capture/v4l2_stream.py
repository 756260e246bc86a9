"""Capture straight from V4L2: which format, few buffers, the driver's own time, the newest picture.

OpenCV asks for a format by guessing, converts on its own, and hides the buffer's flags; here each is a decision. Linux
only. Numbers and layouts (64 bit) are those of <linux/videodev2.h>,
https://docs.kernel.org/userspace-api/media/v4l/.
"""

from __future__ import annotations

import math
import os
import select
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from mmap import mmap

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.types import Image
from realtime.core.latency import Durations

_ENUM_FMT = 0xC0405602
_S_FMT = 0xC0D05605
_TRY_FMT = 0xC0D05640
_REQBUFS = 0xC0145608
_QUERYBUF = 0xC0585609
_QBUF = 0xC058560F
_DQBUF = 0xC0585611
_STREAMON = 0x40045612
_STREAMOFF = 0x40045613
_G_PARM = 0xC0CC5615
_S_PARM = 0xC0CC5616
_ENUM_SIZES = 0xC02C564A
_ENUM_RATES = 0xC034564B
_CAPTURE, _MMAP = 1, 1
_BROKEN = 0x40
_CLOCK, _MONOTONIC = 0xE000, 0x2000
_POINT, _START_OF_EXPOSURE = 0x70000, 0x10000
_BUFFERS = 2
"""Few, so that a picture cannot grow old in the driver; with one, many drivers halve their rate."""

Bytes = NDArray[np.uint8]


def _packed(code: int) -> Callable[[Bytes, int, int], Image]:
    def convert(raw: Bytes, stride: int, height: int) -> Image:
        rows = raw[: stride * height].reshape(height, stride // 2, 2)
        return np.asarray(cv2.cvtColor(rows, code), np.uint8)

    return convert


def _planar(code: int) -> Callable[[Bytes, int, int], Image]:
    def convert(raw: Bytes, stride: int, height: int) -> Image:
        rows = raw[: stride * height * 3 // 2].reshape(height * 3 // 2, stride)
        return np.asarray(cv2.cvtColor(rows, code), np.uint8)

    return convert


def _triples(swap: bool) -> Callable[[Bytes, int, int], Image]:
    def convert(raw: Bytes, stride: int, height: int) -> Image:
        rows = raw[: stride * height].reshape(height, stride)
        image = rows[:, : stride // 3 * 3].reshape(height, stride // 3, 3)
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8) if swap else image.copy()

    return convert


def _jpeg(raw: Bytes, _stride: int, _height: int) -> Image:
    image = cv2.imdecode(raw, cv2.IMREAD_COLOR_RGB) if raw.size else None
    if image is None:
        raise ValueError("a broken JPEG")
    return np.asarray(image, np.uint8)


_CONVERT: dict[str, Callable[[Bytes, int, int], Image]] = {
    "YUYV": _packed(cv2.COLOR_YUV2RGB_YUYV),
    "UYVY": _packed(cv2.COLOR_YUV2RGB_UYVY),
    "NV12": _planar(cv2.COLOR_YUV2RGB_NV12),
    "YU12": _planar(cv2.COLOR_YUV2RGB_I420),
    "YV12": _planar(cv2.COLOR_YUV2RGB_YV12),
    "RGB3": _triples(swap=False),
    "BGR3": _triples(swap=True),
    "MJPG": _jpeg,
    "JPEG": _jpeg,
}
"""Raw bytes, bytes a row and rows to RGB; the ones first in the list are taken first."""

READABLE = frozenset(_CONVERT)
"""The formats that can be read here, by their four letters."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a driver would give when asked for one format: its size, and the most pictures a second."""

    fourcc: str
    size: tuple[int, int]
    fps: float

    def __str__(self) -> str:
        return f"{self.size[0]}x{self.size[1]} {self.fourcc} at {self.fps:g} fps"


def pick(offers: Sequence[Offer], size: tuple[int, int], fps: float) -> Offer | None:
    """The best offer for a wish; None where there is no offer in a format that can be read here.

    The size counts first, then the rate, then the format: Motion JPEG from 720 rows at 30 a second upwards, because
    USB 2 carries that many uncompressed pictures only where the driver's promise is not to be trusted; below,
    uncompressed, which costs less to convert and loses nothing.
    """
    large = size[1] >= 720 and fps >= 29

    def cost(offer: Offer) -> tuple[int, float, int, int]:
        off = abs(offer.size[0] - size[0]) + abs(offer.size[1] - size[1])
        late = max(0.0, 0.98 * fps - offer.fps)
        jpeg = offer.fourcc in ("MJPG", "JPEG")
        return off, late, int(jpeg != large), list(_CONVERT).index(offer.fourcc)

    return min((offer for offer in offers if offer.fourcc in _CONVERT), key=cost, default=None)


def offers(handle: int, size: tuple[int, int]) -> list[Offer]:
    """What an open device would give for a size, for each format that can be read here. Raises OSError."""
    found = []
    for fourcc in _formats(handle):
        if fourcc in _CONVERT:
            form = _form(fourcc, size)
            with suppress(OSError):
                _ioctl(handle, _TRY_FMT, form)
                given, width, height, _stride = _read_form(form)
                if given == fourcc:
                    found.append(Offer(fourcc, (width, height), _most(handle, fourcc, (width, height))))
    return found


def sizes(handle: int) -> dict[str, list[tuple[int, int]]]:
    """The picture sizes of every format of an open device, largest first; a range is its two ends."""
    found: dict[str, list[tuple[int, int]]] = {}
    for fourcc in _formats(handle):
        each: set[tuple[int, int]] = set()
        for answer in _each(handle, _ENUM_SIZES, 44, partial(_size_question, fourcc)):
            kind, *edges = struct.unpack_from("<7I", answer, 8)
            each |= {(edges[0], edges[1])} if kind == 1 else {(edges[0], edges[3]), (edges[1], edges[4])}
        found[fourcc] = sorted(each, reverse=True)
    return found


class Stream:
    """A camera that streams; ``size`` and ``fps`` are wishes, its attributes what the driver agreed to.

    Raises OSError as the driver answers: EBUSY where another program captures, EINVAL where it has no format
    that can be read here.
    """

    def __init__(self, path: str, size: tuple[int, int], fps: float) -> None:
        self.waited = Durations()
        """From the driver's own time to having the picture; empty where it gives no time of our clock."""
        self.converted = Durations()
        """How long the conversion to RGB takes."""
        self.broken = 0
        """Pictures that the driver called broken, or that could not be decoded."""
        self.stale = 0
        """Pictures passed over because a newer one was there, or came before one already given."""
        self.stamping = "this program's clock"
        """Whose time a picture carries."""
        self._maps: list[mmap] = []
        self._handle = os.open(path, os.O_RDWR | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            self._begin(size, fps)
        except BaseException:
            self.close()
            raise
        self._last_ns = 0

    @property
    def skipped(self) -> int:
        """Pictures that the driver gave and ``grab`` did not."""
        return self.broken + self.stale

    def grab(self) -> tuple[Image, int, int] | None:
        """The newest picture as a new RGB array, the driver's time (0 for none) and when it was had.

        Waits a second at most; None where none came, or the camera failed.
        """
        until = time.monotonic_ns() + 1_000_000_000
        while self._handle >= 0 and (left := until - time.monotonic_ns()) > 0:
            try:
                buffer = self._newest(left)
                if buffer is None:
                    continue
                try:
                    got = self._picture(buffer)
                finally:
                    _ioctl(self._handle, _QBUF, buffer)
            except OSError:
                return None
            if got is not None:
                return got
        return None

    def close(self) -> None:
        """Stop and let go of the camera; may be called twice."""
        if self._handle < 0:
            return
        with suppress(OSError):
            _ioctl(self._handle, _STREAMOFF, bytearray(struct.pack("<i", _CAPTURE)))
        for each in self._maps:
            each.close()
        self._maps = []
        os.close(self._handle)
        self._handle = -1

    def _begin(self, size: tuple[int, int], fps: float) -> None:
        chosen = pick(offers(self._handle, size), size, fps)
        if chosen is None:
            raise OSError(22, f"only {', '.join(_formats(self._handle)) or 'no format'}")
        form = _form(chosen.fourcc, chosen.size)
        _ioctl(self._handle, _S_FMT, form)
        self.fourcc, width, height, self._stride = _read_form(form)
        self.size = (width, height)
        if self.fourcc not in _CONVERT:
            raise OSError(22, f"only {self.fourcc}")
        self._convert = _CONVERT[self.fourcc]
        self.fps = _agree_rate(self._handle, min(fps, chosen.fps) if chosen.fps else fps)
        request = bytearray(struct.pack("<5I", _BUFFERS, _CAPTURE, _MMAP, 0, 0))
        _ioctl(self._handle, _REQBUFS, request)
        for index in range(struct.unpack_from("<I", request)[0]):
            buffer = _buffer(index)
            _ioctl(self._handle, _QUERYBUF, buffer)
            offset, _, length = struct.unpack_from("<3I", buffer, 64)
            self._maps.append(mmap(self._handle, length, offset=offset))
            _ioctl(self._handle, _QBUF, buffer)
        _ioctl(self._handle, _STREAMON, bytearray(struct.pack("<i", _CAPTURE)))

    def _newest(self, left_ns: int) -> bytearray | None:
        """Wait for a filled buffer; older ones go back to the driver. None where none came."""
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        events = poll.poll(left_ns / 1e6)
        newest: bytearray | None = None
        for _ in self._maps if events else ():
            buffer = _buffer(0)
            try:
                _ioctl(self._handle, _DQBUF, buffer)
            except BlockingIOError:
                break
            if newest is not None:
                self.stale += 1
                _ioctl(self._handle, _QBUF, newest)
            newest = buffer
        if newest is None and any(event & select.POLLERR for _, event in events):
            raise OSError(5, "the stream has failed")
        return newest

    def _picture(self, buffer: bytearray) -> tuple[Image, int, int] | None:
        """Convert a buffer; None where it is broken, or older than the last one."""
        now = time.monotonic_ns()
        index, _, used, flags = struct.unpack_from("<4I", buffer)
        seconds, micros = struct.unpack_from("<2q", buffer, 24)
        stamped = seconds * 1_000_000_000 + micros * 1000 if flags & _CLOCK == _MONOTONIC else 0
        if flags & _BROKEN or not used:
            self.broken += 1
            return None
        if stamped and stamped <= self._last_ns:
            self.stale += 1
            return None
        raw = np.frombuffer(self._maps[index], np.uint8, used)
        try:
            image = self._convert(raw, self._stride or self.size[0], self.size[1])
        except (ValueError, cv2.error):
            self.broken += 1
            return None
        finally:
            del raw
        if image.shape[1] > self.size[0]:
            image = np.ascontiguousarray(image[:, : self.size[0]])
        if stamped:
            self._last_ns = stamped
            self.waited.record(max(0, now - stamped), now)
            start = flags & _POINT == _START_OF_EXPOSURE
            self.stamping = f"the driver's, at the {'start of the exposure' if start else 'end of a picture'}"
        done = time.monotonic_ns()
        self.converted.record(done - now, done)
        return image, stamped, now


def _ioctl(handle: int, request: int, argument: bytearray) -> None:
    """Ask the driver; the answer is written over the argument. Raises OSError."""
    if sys.platform == "linux":
        import fcntl

        fcntl.ioctl(handle, request, argument)


def _each(handle: int, request: int, length: int, ask: Callable[[int], bytes]) -> Iterator[bytearray]:
    """The answers to a numbered question, until the driver has no more."""
    for index in range(256):
        argument = bytearray(ask(index).ljust(length, b"\0"))
        try:
            _ioctl(handle, request, argument)
        except OSError:
            return
        yield argument


def _formats(handle: int) -> list[str]:
    answers = _each(handle, _ENUM_FMT, 64, lambda index: struct.pack("<2I", index, _CAPTURE))
    return [bytes(answer[44:48]).decode("latin-1") for answer in answers]


def _most(handle: int, fourcc: str, size: tuple[int, int]) -> float:
    """The most pictures a second of a format and size; infinite where the driver does not say."""
    ask = struct.pack("<4s2I", fourcc.encode("latin-1"), *size)
    rates = []
    for answer in _each(handle, _ENUM_RATES, 52, lambda index: struct.pack("<I", index) + ask):
        numerator, denominator = struct.unpack_from("<2I", answer, 20)
        rates.append(denominator / max(1, numerator))
    return max(rates, default=math.inf)


def _form(fourcc: str, size: tuple[int, int]) -> bytearray:
    form = bytearray(208)
    struct.pack_into("<I4xII4sI", form, 0, _CAPTURE, *size, fourcc.encode("latin-1"), 1)
    return form


def _size_question(fourcc: str, index: int) -> bytes:
    return struct.pack("<I4s", index, fourcc.encode("latin-1"))


def _read_form(form: bytearray) -> tuple[str, int, int, int]:
    width, height, fourcc, _field, stride = struct.unpack_from("<II4sII", form, 8)
    return fourcc.decode("latin-1"), width, height, stride


def _agree_rate(handle: int, fps: float) -> float:
    """Ask for a rate; what the driver says it gives, or the wish where it does not say."""
    parameters = bytearray(204)
    struct.pack_into("<I8xII", parameters, 0, _CAPTURE, 1000, round(1000 * fps))
    for request in (_S_PARM, _G_PARM):
        with suppress(OSError):
            _ioctl(handle, request, parameters)
            numerator, denominator = struct.unpack_from("<2I", parameters, 12)
            if numerator and denominator:
                return float(denominator / numerator)
    return fps


def _buffer(index: int) -> bytearray:
    buffer = bytearray(88)
    struct.pack_into("<2I", buffer, 0, index, _CAPTURE)
    struct.pack_into("<I", buffer, 60, _MMAP)
    return buffer
