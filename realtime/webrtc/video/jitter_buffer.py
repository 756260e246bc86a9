"""A video jitter buffer that gives a frame with its last packet, for aiortc.

aiortc's own (1.16) gives a frame when the first packet of the *next* one arrives, which adds a whole frame of delay.
RTP video marks the last packet of each frame (RFC 3550 section 5.1, RFC 6184 section 5.1, RFC 7741 section 4.1), so
that a frame is known to be complete as soon as everything up to a marked packet is there. Besides, this one

- gives all frames that a late packet completes at once, the others as ``following``; one at a time, they would stay
  a frame behind until more packets than frames come;
- gives up a gap after ``GIVE_UP_S`` instead of after 512 packets, and asks for a key frame;
- never gives an empty frame, which is what padding behind a frame would become, and which ends a decoder;
- stops believing marks when a packet with data follows under the timestamp of a frame already given: RFC 6184 forbids
  to rely on them, because old senders set them on every slice. Such frames come with the next one, as before.

It stands by itself, with the interface of ``aiortc.jitterbuffer.JitterBuffer``; ``mend`` puts it in place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

KNOWN_VERSIONS = ("1.16",)
"""Those that this was tested with."""
GIVE_UP_S = 0.4
"""Long enough for a lost packet to be asked for and sent again."""
_CLOCK = 90_000
_MAX_MISORDER = 100
"""A packet that is older than this is the beginning of a new numbering."""


class Packet(Protocol):
    """What of an ``aiortc.rtp.RtpPacket`` matters here."""

    sequence_number: int
    timestamp: int
    marker: int
    _data: bytes


@dataclass(slots=True)
class Encoded:
    """One frame as it was encoded, like ``aiortc.jitterbuffer.JitterFrame``."""

    data: bytes
    timestamp: int
    """At 90 kHz, 32 bits; the receiver replaces it by one that does not wrap around."""
    arrived_ns: int = 0
    """When it became complete, monotonic."""
    broken: bool = False
    """Whether something before it was lost, so that it shows what it should only if it is a key frame."""
    following: tuple[Encoded, ...] = ()
    """Frames that became complete with the same packet, in order; timestamps count from this one."""


class MarkerJitterBuffer:
    """Puts frames together from packets that come late, twice, out of order or not at all."""

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
        self.believes_marks = True
        self._clock = clock
        self._packets: list[Packet | None] = [None] * capacity
        self._origin: int | None = None
        """The sequence number that the next frame begins with."""
        self._broken = False
        """Whether packets were dropped since the last frame."""
        self._given: int | None = None
        """The timestamp of the frame given last, if that was because of its mark."""

    def add(self, packet: Packet) -> tuple[bool, Encoded | None]:
        """Take in a packet; whether to ask for a key frame, and the frame that is complete now, if any."""
        seq = packet.sequence_number
        ask = False
        if self._origin is None:
            self._origin = seq
        ahead = (seq - self._origin) & 0xFFFF
        if ahead >= 0x8000:
            if 0x10000 - ahead < _MAX_MISORDER:
                return False, None
            self._restart(seq)
            ahead, ask = 0, True
        if ahead >= self.capacity:
            self._make_room(ahead - self.capacity + 1, seq)
            ask = True
        if self._at(seq) is None:
            self._packets[seq % self.capacity] = packet
        if self._only_continues(packet):
            return ask, None
        frames = self._complete()
        if not frames and self._give_up(packet.timestamp):
            ask = True
            frames = self._complete()
        if not frames:
            return ask, None
        first, *later = frames
        for frame in later:
            frame.timestamp = (frame.timestamp - first.timestamp) & 0xFFFFFFFF
        first.following = tuple(later)
        return ask, first

    def _at(self, seq: int) -> Packet | None:
        return self._packets[seq % self.capacity]

    def _only_continues(self, packet: Packet) -> bool:
        """Whether the packet prolongs a frame at its end without ending it, as most do."""
        before = self._at(packet.sequence_number - 1)
        return (
            not packet.marker
            and before is not None
            and before.timestamp == packet.timestamp
            and self._at(packet.sequence_number + 1) is None
            and packet.sequence_number != self._origin
        )

    def _complete(self) -> list[Encoded]:
        """Take every complete frame off the front."""
        frames: list[Encoded] = []
        while (count := self._front()) > 0:
            frame = self._take(count)
            if frame is not None:
                frames.append(frame)
        return frames

    def _front(self) -> int:
        """How many packets the first frame has, if it is complete; else 0."""
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
            if packet.marker and self.believes_marks:
                return count + 1
        return 0

    def _take(self, count: int) -> Encoded | None:
        assert self._origin is not None
        packets = [packet for at in range(count) if (packet := self._at(self._origin + at)) is not None]
        timestamp = packets[0].timestamp
        data = b"".join(packet._data for packet in packets)
        if data and timestamp == self._given:
            self.believes_marks = False
        self._given = timestamp if packets[-1].marker and self.believes_marks else None
        self._drop(count)
        if not data:
            return None
        broken, self._broken = self._broken, False
        return Encoded(data, timestamp, self._clock(), broken)

    def _give_up(self, newest: int) -> bool:
        """Drop what waits behind a gap that has lasted too long; whether it did."""
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
        """Drop whole frames off the front, ``excess`` packets at least; everything if that is not enough."""
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
        self._given = None
        self._broken = True

    def _drop(self, count: int) -> None:
        assert self._origin is not None
        for at in range(count):
            self._packets[(self._origin + at) % self.capacity] = None
        self._origin = (self._origin + count) & 0xFFFF


def mend() -> str | None:
    """Have every receiver that aiortc makes from now on use this buffer for video; why not, where it cannot."""
    import aiortc
    from aiortc import jitterbuffer, rtcrtpreceiver

    if ".".join(aiortc.__version__.split(".")[:2]) not in KNOWN_VERSIONS:
        return (
            f"frames arrive one frame late: aiortc {aiortc.__version__} is not a version that the mend knows"
            f" ({', '.join(KNOWN_VERSIONS)})"
        )

    def make(capacity: int, prefetch: int = 0, is_video: bool = False) -> object:
        kind = MarkerJitterBuffer if is_video else jitterbuffer.JitterBuffer
        return kind(capacity, prefetch, is_video)

    vars(rtcrtpreceiver)["JitterBuffer"] = make
    return None


def unmend() -> None:
    """Have receivers use aiortc's own again."""
    from aiortc import jitterbuffer, rtcrtpreceiver

    vars(rtcrtpreceiver)["JitterBuffer"] = jitterbuffer.JitterBuffer
