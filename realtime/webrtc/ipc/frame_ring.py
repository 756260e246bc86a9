"""A ring buffer of frames in shared memory, from one process to another: three slots, newest wins, no waiting.

The memory has no name: it is a file descriptor passed over a socket, so that the kernel frees it with the last process
that holds it, however that process ended. A pipe wakes the reader. There is one writer and one reader.

Torn frames are detected as in a seqlock: a slot's header holds the sequence number of the frame that was begun in it
and of the one that was completed. The reader checks before copying that its frame was completed, and afterwards that
no other was begun. With three slots the writer reaches the slot being read only after two more frames.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SLOTS = 3
_WORDS = 8
"""8-byte words of a slot's header."""
_BEGUN, _COMPLETED, _SEQ, _WIDTH, _HEIGHT, _BYTES, _CAPTURED, _TIME = range(_WORDS)
_PAGE = 4096
_MAX_COPIES = 8
"""Attempts to copy a frame before the writer overwrites it."""
_MAX_PIPE_READS = 4
"""Reads to empty the pipe: a fast writer would keep the reader there for ever."""
_FENCE = threading.Lock()


def _fence() -> None:
    """Order loads and stores across this line, also on processors that reorder them."""
    with _FENCE:
        pass


@dataclass(frozen=True, slots=True)
class RingFrame:
    """A frame copied out of a ring buffer."""

    pixels: NDArray[np.uint8]
    """The planes in a row, one dimension; owned by the reader."""
    width: int
    height: int
    seq: int
    """Counts the written frames, from 1."""
    captured_ns: int
    """When it was captured, or when its last packet arrived; monotonic."""
    time_ns: int
    """When the scene looked like this; monotonic."""


@dataclass(frozen=True, slots=True)
class RingDescriptors:
    """The descriptors of a new ring buffer. Its creator passes each to a RingWriter or RingReader, or closes it."""

    memory: int
    wake_read: int
    wake_write: int

    def close(self) -> None:
        """Close all of them: for a ring buffer that gets no writer and no reader."""
        for each in (self.memory, self.wake_read, self.wake_write):
            os.close(each)


def create_ring(capacity: int) -> RingDescriptors:
    """Create a ring buffer for frames of up to ``capacity`` bytes. Memory is allocated as slots are written.

    Raises OSError.
    """
    size = _PAGE + SLOTS * _slot_size(capacity)
    memory = _anonymous_file()
    try:
        os.ftruncate(memory, size)
        wake_read, wake_write = os.pipe()
    except OSError:
        os.close(memory)
        raise
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    return RingDescriptors(memory, wake_read, wake_write)


class _Ring:
    """The mapped memory, common to both ends. Takes over the descriptors, also if it raises OSError."""

    def __init__(self, memory: int, wake: int) -> None:
        try:
            size = os.fstat(memory).st_size
            self._map = mmap.mmap(memory, size)
        except BaseException:
            os.close(wake)
            raise
        finally:
            os.close(memory)
        self._wake = wake
        stride = (size - _PAGE) // SLOTS
        self.capacity = stride - _PAGE
        self._head = np.frombuffer(self._map, np.int64, 1)
        starts = [_PAGE + slot * stride for slot in range(SLOTS)]
        self._headers = [np.frombuffer(self._map, np.int64, _WORDS, start) for start in starts]
        self._pixels = [np.frombuffer(self._map, np.uint8, self.capacity, start + _PAGE) for start in starts]

    @property
    def closed(self) -> bool:
        return self._wake < 0

    def close(self) -> None:
        """Release memory and pipe. close() is idempotent."""
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1
            del self._head, self._headers, self._pixels
            with contextlib.suppress(BufferError):
                # views of the memory still exist: it is freed with the last one
                self._map.close()


class RingWriter(_Ring):
    """The writing end; belongs to one thread."""

    def __init__(self, memory: int, wake_write: int) -> None:
        super().__init__(memory, wake_write)
        self._seq = int(self._head[0])

    def write(self, planes: Sequence[NDArray[np.uint8]], size: tuple[int, int], captured_ns: int, time_ns: int) -> bool:
        """Publish a frame, without waiting. Return False if the reader is gone.

        ``planes`` are 2-D, of any stride, and stored in a row; ``size`` is the frame's width and height.

        Raises ValueError if the frame is larger than the ring buffer's capacity.
        """
        count = sum(plane.size for plane in planes)
        if count > self.capacity:
            raise ValueError(f"a frame of {count} bytes, expected {self.capacity} at most")
        seq = self._seq + 1
        header, pixels = self._headers[seq % SLOTS], self._pixels[seq % SLOTS]
        header[_BEGUN] = seq
        _fence()
        at = 0
        for plane in planes:
            np.copyto(pixels[at : at + plane.size].reshape(plane.shape), plane)
            at += plane.size
        header[_SEQ : _TIME + 1] = (seq, *size, count, captured_ns, time_ns)
        _fence()
        header[_COMPLETED] = seq
        _fence()
        self._head[0] = self._seq = seq
        try:
            os.write(self._wake, b"\0")
        except BlockingIOError:
            pass
        except BrokenPipeError:
            return False
        return True


class RingReader(_Ring):
    """The reading end; belongs to one thread, or to one event loop that watches ``fileno``."""

    def __init__(self, memory: int, wake_read: int) -> None:
        super().__init__(memory, wake_read)
        self.dropped = 0
        """Frames that a newer one replaced before they were taken."""
        self.ended = False
        """Whether the writer is gone, closed or dead."""
        self._taken = max(0, int(self._head[0]) - 1)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable with a new frame, and when the writer is gone."""
        return self._wake

    def wait(self, timeout_s: float) -> bool:
        """Wait up to ``timeout_s`` for a new frame or the end. Return True if there is a new frame."""
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        while not self.has_new and not self.ended:
            # the byte in the pipe may be that of a frame taken just before it was written
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not poll.poll(remaining * 1000):
                break
            self.drain()
        self.drain()
        return self.has_new

    def drain(self) -> None:
        """Empty the pipe, so that the next byte means a new frame."""
        try:
            for _ in range(_MAX_PIPE_READS):
                if not os.read(self._wake, _PAGE):
                    self.ended = True
                    return
        except BlockingIOError:
            pass

    @property
    def has_new(self) -> bool:
        """Whether there is a frame that has not been taken."""
        return int(self._head[0]) > self._taken

    def take(self) -> RingFrame | None:
        """Copy the newest frame. Return None if it has been taken already."""
        for _ in range(_MAX_COPIES):
            seq = int(self._head[0])
            if seq <= self._taken:
                return None
            frame = self._copy(seq)
            if frame is not None:
                self.dropped += seq - self._taken - 1
                self._taken = seq
                return frame
        return None

    def _copy(self, seq: int) -> RingFrame | None:
        """Copy a frame, or return None if the writer overwrote it meanwhile."""
        header, pixels = self._headers[seq % SLOTS], self._pixels[seq % SLOTS]
        _fence()
        if int(header[_COMPLETED]) != seq:
            return None
        _, width, height, count, captured_ns, time_ns = (int(word) for word in header[_SEQ : _TIME + 1])
        copied = pixels[: min(max(count, 0), self.capacity)].copy()
        _fence()
        if int(header[_BEGUN]) != seq:
            return None
        return RingFrame(copied, width, height, seq, captured_ns, time_ns)


def _slot_size(capacity: int) -> int:
    return _PAGE + -(-capacity // _PAGE) * _PAGE


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("reenact-frames", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
