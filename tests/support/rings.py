"""Both ends of a ring buffer in one process, and numbered frames for it."""

from __future__ import annotations

import os

from realtime.webrtc.ipc.frame_ring import RingReader, RingWriter, create_ring
from tools.support.webrtc_client import numbered

SIZE = (64, 48)


def ring_pair(capacity: int = 64 * 48 * 2) -> tuple[RingWriter, RingReader]:
    """Return both ends of a new ring buffer."""
    ring = create_ring(capacity)
    return RingWriter(os.dup(ring.memory), ring.wake_write), RingReader(ring.memory, ring.wake_read)


def write_number(writer: RingWriter, number: int, at_ns: int, size: tuple[int, int] = SIZE) -> None:
    """Write a frame that shows its number."""
    assert writer.write((numbered(size, number),), size, at_ns, at_ns)
