"""The sound of a stream for its viewers: each packet is sent when the picture of its moment is."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable

from realtime.core.sound import SAMPLE_RATE, SoundPacket
from realtime.webrtc.sound.packets import TIME_BASE
from realtime.webrtc.video.codecs import EncodedFrame

_NS = 1_000_000_000
MAX_LATE_NS = _NS
"""Sound is held back for this long at most."""
MAX_WAITING = 100
"""Packets that may wait, for their time or for a sender that hangs; the oldest are dropped."""
_FOLLOWING = 0.05
"""The share by which each picture changes the delay: it follows within a second."""


class StreamSound:
    """Delays a stream's sound by what its pictures are late. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self.tracks: set[SoundTrack] = set()
        self.late_ns = 0.0
        """How late the pictures are: from the moment that they show to the encoder."""
        self._waiting: deque[tuple[SoundPacket, float]] = deque()
        """Each with the time of the loop until which it may wait, whatever its own time is."""
        self._timer: asyncio.TimerHandle | None = None

    def picture_sent(self, time_ns: int, now_ns: int) -> None:
        """Note that a picture of the moment ``time_ns`` goes to the encoder now."""
        if not time_ns:
            return
        late_ns = min(max(0, now_ns - time_ns), MAX_LATE_NS)
        self.late_ns += (_FOLLOWING if self.late_ns else 1.0) * (late_ns - self.late_ns)

    def push(self, packet: SoundPacket) -> None:
        """Pass on a packet once it is due."""
        if not self.tracks:
            return
        if len(self._waiting) == MAX_WAITING:
            self._waiting.popleft()
        self._waiting.append((packet, asyncio.get_running_loop().time() + MAX_LATE_NS / _NS))
        if self._timer is None:
            self._send_due()

    def close(self) -> None:
        """Drop what waits. close() is idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting.clear()

    def _send_due(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._waiting:
            packet, latest_s = self._waiting[0]
            # the loop's clock is the monotonic one
            due_s = min((packet.time_ns + self.late_ns) / _NS, latest_s)
            if due_s > loop.time():
                self._timer = loop.call_at(due_s, self._send_due)
                return
            self._waiting.popleft()
            for track in self.tracks:
                track.put(packet)


class SoundTrack:
    """A track of sound for one sender, as aiortc uses it; its packets are encoded already."""

    kind = "audio"

    def __init__(self, sound: StreamSound, ended: Callable[[], Exception]) -> None:
        """``ended`` returns the exception that ``recv`` raises at the end."""
        self.id = str(uuid.uuid4())
        self.readyState = "live"
        self.sent_time_ns = 0
        """When what was returned last was recorded (monotonic ns); 0 before."""
        self._sound = sound
        self._ended = ended
        self._queue: deque[EncodedFrame] = deque(maxlen=MAX_WAITING)
        self._changed = asyncio.Event()
        self._offset: int | None = None
        """What is added to the times of packets, in samples."""
        self._last = SoundPacket(b"", 0)
        sound.tracks.add(self)

    async def recv(self) -> EncodedFrame:
        """Wait for the next packet and return it. Raises MediaStreamError when the track has ended."""
        while not self._queue:
            if self.readyState == "ended":
                raise self._ended()
            self._changed.clear()
            await self._changed.wait()
        encoded = self._queue.popleft()
        self.sent_time_ns = encoded.time_ns
        return encoded

    def put(self, packet: SoundPacket) -> None:
        """Add the next packet. Where another recording begins, its times continue those of the one before."""
        passed = (packet.time_ns - self._last.time_ns) * SAMPLE_RATE // _NS
        if self._offset is None:
            self._offset = SAMPLE_RATE - packet.pts
        elif abs(packet.pts - self._last.pts - passed) > SAMPLE_RATE:
            self._offset += self._last.pts + max(passed, 1) - packet.pts
        self._last = packet
        encoded = EncodedFrame(packet.data, packet.pts + self._offset, True, TIME_BASE, packet.time_ns)
        self._queue.append(encoded)
        self._changed.set()

    def stop(self) -> None:
        """End the track. stop() is idempotent."""
        self.readyState = "ended"
        self._sound.tracks.discard(self)
        self._changed.set()
