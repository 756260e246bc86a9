"""A video jitter buffer for aiortc that returns a frame with its last packet.

aiortc's own (1.16) returns a frame when the first packet of the *next* one arrives, which adds a whole frame of delay.
RTP video marks the last packet of each frame (RFC 3550 section 5.1, RFC 6184 section 5.1, RFC 7741 section 4.1), so
that a frame is known to be complete as soon as everything up to a marked packet is there. Besides, this buffer

- returns all frames that a late packet completes at once, the others as ``following``; one at a time, they would stay
  a frame behind until more packets than frames arrive;
- gives up a gap after ``GIVE_UP_S`` instead of after 512 packets, and requests a key frame;
- never returns an empty frame, which is what padding behind a frame would become, and which ends a decoder;
- stops trusting markers when a packet with data follows under the timestamp of a frame already returned: RFC 6184
  warns not to rely on them, because old senders set them on every slice. Such frames are returned with the next one.

It has the interface of ``aiortc.jitterbuffer.JitterBuffer``; ``install`` makes aiortc use it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from realtime.webrtc.sound.packets import SoundBuffer

GIVE_UP_S = 0.4
"""Long enough for a lost packet to be requested and sent again."""
_CLOCK = 90_000
_MAX_MISORDER = 100
"""A packet that is older than this begins a new numbering."""


class Packet(Protocol):
    """The part of an ``aiortc.rtp.RtpPacket`` that is used here."""

    sequence_number: int
    timestamp: int
    marker: int
    _data: bytes


@dataclass(slots=True)
class ReceivedFrame:
    """An encoded frame, like ``aiortc.jitterbuffer.JitterFrame``."""

    data: bytes
    timestamp: int
    """At 90 kHz, 32 bits; the receiver replaces it by one that does not wrap around."""
    arrived_ns: int = 0
    """When it became complete (monotonic, ns)."""
    broken: bool = False
    """Whether something before it was lost, so that it can be decoded correctly only if it is a key frame."""
    following: tuple[ReceivedFrame, ...] = ()
    """Frames that became complete with the same packet, in order; their timestamps are relative to this one's."""


class MarkerJitterBuffer:
    """Assembles frames from packets that arrive late, twice, out of order or not at all."""

    def __init__(
        self,
        capacity: int,
        prefetch: int = 0,
        is_video: bool = True,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        if capacity & (capacity - 1) or prefetch or not is_video:
            raise ValueError("expected video, a capacity that is a power of 2, and no prefetch")
        self.capacity = capacity
        self.trusts_markers = True
        self._clock = clock
        self._packets: list[Packet | None] = [None] * capacity
        self._origin: int | None = None
        """The sequence number of the next frame's first packet."""
        self._broken = False
        """Whether packets were lost since the last frame."""
        self._returned: int | None = None
        """The timestamp of the last frame, if it was returned because of its marker."""

    def add(self, packet: Packet) -> tuple[bool, ReceivedFrame | None]:
        """Add a packet. Return whether to request a key frame, and the frame that is complete now, if any."""
        seq = packet.sequence_number
        request_key = False
        if self._origin is None:
            self._origin = seq
        ahead = (seq - self._origin) & 0xFFFF
        if ahead >= 0x8000:
            if 0x10000 - ahead < _MAX_MISORDER:
                return False, None
            self._restart(seq)
            ahead, request_key = 0, True
        if ahead >= self.capacity:
            self._make_room(ahead - self.capacity + 1, seq)
            request_key = True
        if self._at(seq) is None:
            self._packets[seq % self.capacity] = packet
        if self._only_extends(packet):
            return request_key, None
        frames = self._take_complete()
        if not frames and self._give_up(packet.timestamp):
            request_key = True
            frames = self._take_complete()
        if not frames:
            return request_key, None
        first, *later = frames
        for frame in later:
            frame.timestamp = (frame.timestamp - first.timestamp) & 0xFFFFFFFF
        first.following = tuple(later)
        return request_key, first

    def _at(self, seq: int) -> Packet | None:
        return self._packets[seq % self.capacity]

    def _only_extends(self, packet: Packet) -> bool:
        """Return whether the packet extends a frame at its end without completing it, as most do."""
        before = self._at(packet.sequence_number - 1)
        return (
            not packet.marker
            and before is not None
            and before.timestamp == packet.timestamp
            and self._at(packet.sequence_number + 1) is None
            and packet.sequence_number != self._origin
        )

    def _take_complete(self) -> list[ReceivedFrame]:
        """Remove and return every complete frame at the front."""
        frames: list[ReceivedFrame] = []
        while (count := self._count_complete()) > 0:
            frame = self._take(count)
            if frame is not None:
                frames.append(frame)
        return frames

    def _count_complete(self) -> int:
        """Return how many packets the first frame has if it is complete, else 0."""
        assert self._origin is not None
        first = self._at(self._origin)
        if first is None:
            return 0
        for count in range(self.capacity):
            packet = self._at(self._origin + count)
            if packet is None:
                return 0
            if packet.timestamp != first.timestamp:
                return count
            if packet.marker and self.trusts_markers:
                return count + 1
        return 0

    def _take(self, count: int) -> ReceivedFrame | None:
        """Remove the first ``count`` packets and return their frame, or None if it is empty."""
        assert self._origin is not None
        packets = [packet for at in range(count) if (packet := self._at(self._origin + at)) is not None]
        timestamp = packets[0].timestamp
        data = b"".join(packet._data for packet in packets)
        if data and timestamp == self._returned:
            self.trusts_markers = False
        self._returned = timestamp if packets[-1].marker and self.trusts_markers else None
        self._drop(count)
        if not data:
            return None
        broken, self._broken = self._broken, False
        return ReceivedFrame(data, timestamp, self._clock(), broken)

    def _give_up(self, newest: int) -> bool:
        """Drop a gap that has lasted too long, up to the next whole frame. Return whether there was one."""
        assert self._origin is not None
        packets = [self._at(self._origin + at) for at in range(self.capacity)]
        oldest = next((packet for packet in packets if packet is not None), None)
        waited = 0 if oldest is None else (newest - oldest.timestamp) & 0xFFFFFFFF
        if not _CLOCK * GIVE_UP_S < waited < 0x80000000 or None not in packets:
            return False
        for at in range(packets.index(None) + 1, self.capacity):
            before, packet = packets[at - 1], packets[at]
            if before is not None and packet is not None and (before.marker or before.timestamp != packet.timestamp):
                self._drop(at)
                self._broken = True
                return True
        return False

    def _make_room(self, excess: int, seq: int) -> None:
        """Drop whole frames at the front, at least ``excess`` packets, or everything if that is not enough."""
        assert self._origin is not None
        self._broken = True
        previous: Packet | None = None
        for at in range(self.capacity):
            packet = self._at(self._origin + at)
            if at >= excess and packet is not None and (previous is None or previous.timestamp != packet.timestamp):
                self._drop(at)
                return
            previous = packet if packet is not None else previous
        self._restart(seq)

    def _restart(self, seq: int) -> None:
        self._packets = [None] * self.capacity
        self._origin = seq
        self._returned = None
        self._broken = True

    def _drop(self, count: int) -> None:
        assert self._origin is not None
        for at in range(count):
            self._packets[(self._origin + at) % self.capacity] = None
        self._origin = (self._origin + count) & 0xFFFF


def install(*, video: bool = True) -> None:
    """Make every receiver of aiortc use this buffer for video from now on, and ``SoundBuffer`` for sound.

    Without ``video`` that keeps aiortc's own. install() is idempotent.
    """
    from aiortc import jitterbuffer, rtcrtpreceiver

    def make(capacity: int, prefetch: int = 0, is_video: bool = False) -> object:
        if not is_video:
            return SoundBuffer()
        kind = MarkerJitterBuffer if video else jitterbuffer.JitterBuffer
        return kind(capacity, prefetch, is_video)

    vars(rtcrtpreceiver)["JitterBuffer"] = make


def uninstall() -> None:
    """Make aiortc use its own buffer again."""
    from aiortc import jitterbuffer, rtcrtpreceiver

    vars(rtcrtpreceiver)["JitterBuffer"] = jitterbuffer.JitterBuffer
