"""Capture straight from V4L2: the choice of format, few buffers, the driver's own timestamps, the newest frame.

OpenCV guesses the format, converts by itself and hides the flags of a buffer; here each of these is a decision. Linux
only.
"""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from mmap import mmap

import cv2
import numpy as np

from engines.errors import NoReadableFormat, one_of
from engines.types import Bytes, Image
from realtime.capture import v4l2_abi
from realtime.core.latency import Durations

_NS = 1_000_000_000
_BUFFERS = 2
"""Few, so that a frame cannot grow old in the driver; with one, many drivers halve their rate."""


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
        raise ValueError("not a JPEG")
    return np.asarray(image, np.uint8)


CONVERTERS: dict[str, Callable[[Bytes, int, int], Image]] = {
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
"""By format: a function of the raw bytes, the bytes a row and the rows, which returns RGB. In order of preference."""

READABLE_FORMATS = frozenset(CONVERTERS)
"""The formats that can be converted, by their four-character codes."""


@dataclass(frozen=True, slots=True)
class FormatOption:
    """A format, size and frame rate at most that a driver offers."""

    fourcc: str
    size: tuple[int, int]
    fps: float

    def __str__(self) -> str:
        return f"{self.size[0]}x{self.size[1]} {self.fourcc} at {self.fps:g} fps"


def choose_format(options: Sequence[FormatOption], size: tuple[int, int], fps: float) -> FormatOption | None:
    """Return the option closest to what was requested; None if none of them can be converted.

    The size counts first, then the rate, then the format: Motion JPEG from 720 rows at 30 fps upwards, because USB 2
    carries that many uncompressed frames only where the driver's promise cannot be relied on; uncompressed below,
    which is faster to convert and lossless.
    """
    large = size[1] >= 720 and fps >= 29
    preference = list(CONVERTERS)

    def cost(option: FormatOption) -> tuple[int, float, int, int]:
        size_error = abs(option.size[0] - size[0]) + abs(option.size[1] - size[1])
        missing_fps = max(0.0, 0.98 * fps - option.fps)
        jpeg = option.fourcc in ("MJPG", "JPEG")
        return size_error, missing_fps, int(jpeg != large), preference.index(option.fourcc)

    return min((option for option in options if option.fourcc in CONVERTERS), key=cost, default=None)


def list_options(handle: int, size: tuple[int, int]) -> list[FormatOption]:
    """Return what an open device offers for a size, for each format that can be converted."""
    found = []
    for fourcc in v4l2_abi.list_formats(handle):
        if fourcc in CONVERTERS:
            with suppress(OSError):
                given = v4l2_abi.negotiate_format(handle, v4l2_abi.VIDIOC_TRY_FMT, fourcc, size)
                if given.fourcc == fourcc:
                    given_size = (given.width, given.height)
                    fps = max(v4l2_abi.list_rates(handle, fourcc, given_size), default=math.inf)
                    found.append(FormatOption(fourcc, given_size, fps))
    return found


def list_sizes(handle: int) -> dict[str, list[tuple[int, int]]]:
    """Return the frame sizes of every format of an open device, largest first; a range is given by its two ends."""
    return {fourcc: v4l2_abi.list_sizes(handle, fourcc) for fourcc in v4l2_abi.list_formats(handle)}


class V4l2Stream:
    """A streaming camera. ``size`` and ``fps`` are requests; the attributes say what the driver agreed to.

    Raises NoReadableFormat if the camera has no format that can be converted, and OSError as the driver answers, such
    as EBUSY if another program captures from it.
    """

    def __init__(self, path: str, size: tuple[int, int], fps: float) -> None:
        self.driver_delay = Durations()
        """From the driver's timestamp to having the frame; empty if its timestamps are not of the monotonic clock."""
        self.conversion = Durations()
        """The time of the conversion to RGB."""
        self.broken = 0
        """Frames that the driver marked as broken, or that could not be decoded."""
        self.stale = 0
        """Frames that a newer one replaced, or that are not newer than the last one returned."""
        self.timestamp_source = "this program's clock"
        """What sets the timestamps of frames, and at which moment."""
        self._path = path
        self._maps: list[mmap] = []
        self._handle = os.open(path, os.O_RDWR | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            self._start(size, fps)
        except BaseException:
            self.close()
            raise
        self._last_ns = 0

    @property
    def skipped(self) -> int:
        """The number of frames that the driver delivered and ``grab`` did not return."""
        return self.broken + self.stale

    def grab(self) -> tuple[Image, int, int] | None:
        """Return the newest frame as a new RGB array, the driver's timestamp (0 for none) and when it was received.

        Waits up to a second. Returns None if no frame came or the camera failed.
        """
        until = time.monotonic_ns() + _NS
        while self._handle >= 0 and (remaining := until - time.monotonic_ns()) > 0:
            try:
                buffer = self._dequeue_newest(remaining)
                if buffer is None:
                    continue
                try:
                    frame = self._convert_buffer(buffer)
                finally:
                    v4l2_abi.ioctl(self._handle, v4l2_abi.VIDIOC_QBUF, buffer)
            except OSError:
                return None
            if frame is not None:
                return frame
        return None

    def close(self) -> None:
        """Stop streaming and release the camera. close() is idempotent."""
        if self._handle < 0:
            return
        with suppress(OSError):
            v4l2_abi.stream_off(self._handle, v4l2_abi.BUF_TYPE_VIDEO_CAPTURE)
        for each in self._maps:
            each.close()
        self._maps = []
        os.close(self._handle)
        self._handle = -1

    def _start(self, size: tuple[int, int], fps: float) -> None:
        chosen = choose_format(list_options(self._handle, size), size, fps)
        if chosen is None:
            raise self._no_readable_format(v4l2_abi.list_formats(self._handle))
        given = v4l2_abi.negotiate_format(self._handle, v4l2_abi.VIDIOC_S_FMT, chosen.fourcc, chosen.size)
        if given.fourcc not in CONVERTERS:
            raise self._no_readable_format([given.fourcc])
        self.fourcc = given.fourcc
        self.size = (given.width, given.height)
        self._stride = given.stride
        self._convert = CONVERTERS[self.fourcc]
        self.fps = _set_rate(self._handle, min(fps, chosen.fps) if chosen.fps else fps)
        for index in range(v4l2_abi.request_buffers(self._handle, _BUFFERS)):
            buffer = v4l2_abi.new_buffer(index)
            v4l2_abi.ioctl(self._handle, v4l2_abi.VIDIOC_QUERYBUF, buffer)
            offset, length = v4l2_abi.mapping_of(buffer)
            self._maps.append(mmap(self._handle, length, offset=offset))
            v4l2_abi.ioctl(self._handle, v4l2_abi.VIDIOC_QBUF, buffer)
        v4l2_abi.stream_on(self._handle, v4l2_abi.BUF_TYPE_VIDEO_CAPTURE)

    def _no_readable_format(self, formats: Sequence[str]) -> NoReadableFormat:
        return NoReadableFormat(
            "camera-no-readable-format",
            f"{self._path} sends {', '.join(formats) or 'no format'} only",
            one_of(CONVERTERS),
            "choose another --camera",
        )

    def _dequeue_newest(self, timeout_ns: int) -> bytearray | None:
        """Wait for a filled buffer and give older ones back to the driver. Return None if there is none."""
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        events = poll.poll(timeout_ns / 1e6)
        newest: bytearray | None = None
        for _ in self._maps if events else ():
            buffer = v4l2_abi.new_buffer(0)
            try:
                v4l2_abi.ioctl(self._handle, v4l2_abi.VIDIOC_DQBUF, buffer)
            except BlockingIOError:
                break
            if newest is not None:
                self.stale += 1
                v4l2_abi.ioctl(self._handle, v4l2_abi.VIDIOC_QBUF, newest)
            newest = buffer
        if newest is None and any(event & select.POLLERR for _, event in events):
            raise OSError(5, "the stream has failed")
        return newest

    def _convert_buffer(self, buffer: bytearray) -> tuple[Image, int, int] | None:
        """Return what ``grab`` does; None if the buffer is broken or not newer than the last one."""
        now = time.monotonic_ns()
        index, used, flags, stamped = v4l2_abi.read_buffer(buffer)
        if flags & v4l2_abi.BUF_FLAG_TIMESTAMP_MASK != v4l2_abi.BUF_FLAG_TIMESTAMP_MONOTONIC:
            stamped = 0
        if flags & v4l2_abi.BUF_FLAG_ERROR or not used:
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
            self.driver_delay.record(max(0, now - stamped), now)
            at_start = flags & v4l2_abi.BUF_FLAG_TSTAMP_SRC_MASK == v4l2_abi.BUF_FLAG_TSTAMP_SRC_SOE
            self.timestamp_source = f"the driver, at the {'start of the exposure' if at_start else 'end of a frame'}"
        done = time.monotonic_ns()
        self.conversion.record(done - now, done)
        return image, stamped, now


def _set_rate(handle: int, fps: float) -> float:
    """Request a frame rate. Return the one that the driver sets, or ``fps`` if it does not report one."""
    for request in (v4l2_abi.VIDIOC_S_PARM, v4l2_abi.VIDIOC_G_PARM):
        with suppress(OSError):
            given = v4l2_abi.negotiate_rate(handle, request, fps)
            if given is not None:
                return given
    return fps
