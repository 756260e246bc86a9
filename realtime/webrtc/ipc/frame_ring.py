"""Frames from one process to another through shared memory: three slots, the newest wins, nothing waits.

The memory has no name: it is a file descriptor that crosses over a socket, so that it is gone with the last process
that holds it, however that ended. A pipe wakes the reader. One process writes and one reads.

Torn frames are told apart as in a seqlock: a slot holds which frame was begun in it and which was ended, and a reader
that copies one looks before that it was ended, and after that no other was begun. With three slots the writer comes
back to the slot being read only after two more frames.
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
_BEGUN, _ENDED, _SEQ, _WIDTH, _HEIGHT, _BYTES, _CAPTURED, _TIME = range(_WORDS)
_PAGE = 4096
_TRIES = 8
_READS = 4
_FENCE = threading.Lock()


def _fence() -> None:
    """Keep loads and stores on their side of this line, also where the processor would reorder them."""
    with _FENCE:
        pass


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame out of a ring."""

    pixels: NDArray[np.uint8]
    """One dimension; the reader's own."""
    width: int
    height: int
    seq: int
    """Counts what was written, from 1."""
    captured_ns: int
    """Monotonic."""
    time_ns: int


@dataclass(frozen=True, slots=True)
class RingEnds:
    """The descriptors of a new ring. Whoever made it hands each to a RingWriter or RingReader, or closes it."""

    memory: int
    wake_read: int
    wake_write: int


def create_ring(capacity: int) -> RingEnds:
    """A ring for frames of up to ``capacity`` bytes. Memory is taken only as slots are written."""
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
    return RingEnds(memory, wake_read, wake_write)


class _Ring:
    """What both ends share: the mapped memory. Takes over the descriptors, also where it raises OSError."""

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
        """Let go of memory and pipe; may be called twice."""
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1
            del self._head, self._headers, self._pixels
            with contextlib.suppress(BufferError):
                # somebody still looks at the memory: it goes with the last view
                self._map.close()


class RingWriter(_Ring):
    """The end that gives frames; belongs to one thread."""

    def __init__(self, memory: int, wake_write: int) -> None:
        super().__init__(memory, wake_write)
        self._seq = int(self._head[0])

    def write(self, planes: Sequence[NDArray[np.uint8]], size: tuple[int, int], captured_ns: int, time_ns: int) -> bool:
        """Publish a frame made of planes in a row, each 2-D of any stride; ``size`` is its width and height.

        Never waits. False if nobody reads any more. Raises ValueError if it is larger than the ring takes.
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
        header[_ENDED] = seq
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
    """The end that takes frames; belongs to one thread, or one event loop that watches ``fileno``."""

    def __init__(self, memory: int, wake_read: int) -> None:
        super().__init__(memory, wake_read)
        self.dropped = 0
        """Frames that were pushed out by a newer one before they were taken."""
        self.ended = False
        """Whether the writer is gone, closed or dead."""
        self._taken = max(0, int(self._head[0]) - 1)

    def fileno(self) -> int:
        """Becomes readable with a frame, and when the writer is gone."""
        return self._wake

    def wait(self, timeout_s: float) -> bool:
        """Wait for a frame that was not taken yet, or the end; whether there is one."""
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        while not self.fresh and not self.ended:
            # what wakes may be of a frame taken already, which came just before its byte
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                break
            self.drain()
        self.drain()
        return self.fresh

    def drain(self) -> None:
        """Empty the pipe, so that it wakes for the next frame only."""
        try:
            # a few times: a writer in a hurry would keep it here for ever
            for _ in range(_READS):
                if not os.read(self._wake, _PAGE):
                    self.ended = True
                    return
        except BlockingIOError:
            pass

    @property
    def fresh(self) -> bool:
        """Whether there is a frame that was not taken yet."""
        return int(self._head[0]) > self._taken

    def take(self) -> Picture | None:
        """Copy the newest frame if it was not taken yet."""
        for _ in range(_TRIES):
            seq = int(self._head[0])
            if seq <= self._taken:
                return None
            picture = self._copy(seq)
            if picture is not None:
                self.dropped += seq - self._taken - 1
                self._taken = seq
                return picture
        return None

    def _copy(self, seq: int) -> Picture | None:
        header, pixels = self._headers[seq % SLOTS], self._pixels[seq % SLOTS]
        _fence()
        if int(header[_ENDED]) != seq:
            return None
        _, width, height, count, captured_ns, time_ns = (int(word) for word in header[_SEQ : _TIME + 1])
        copied = pixels[: min(max(count, 0), self.capacity)].copy()
        _fence()
        if int(header[_BEGUN]) != seq:
            return None
        return Picture(copied, width, height, seq, captured_ns, time_ns)


def _slot_size(capacity: int) -> int:
    return _PAGE + -(-capacity // _PAGE) * _PAGE


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("reenact-frames", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
