"""Decoders for aiortc: every frame at once, and none that shows what was lost or has waited."""

from __future__ import annotations

import fractions
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av import VideoFrame

CLOCK = 90_000
"""Of RTP video, in Hz."""
TIME_BASE = fractions.Fraction(1, CLOCK)
LARGEST = 4096 * 2304
"""Decoded pictures have at most so many pixels; a stream of larger ones fails."""
LATE_S = 0.5
ASK_AGAIN_S = 1.0
GIVE_IN_S = 4.0


class Decoder:
    """An ``aiortc.codecs.base.Decoder`` of H.264 or VP8 whose frames come at once.

    A frame's ``opaque`` is a tuple of when its last packet came (monotonic, ns). Frames that became complete
    together, see ``jitter.Encoded.following``, are all decoded and all but the last dropped: the rest is late.
    """

    def __init__(self, name: str, clock: Callable[[], int] = time.monotonic_ns) -> None:
        import av
        from av.codec.context import Flags

        self._codec: Any = av.CodecContext.create({"H264": "h264", "VP8": "libvpx"}[name], "r")
        self._codec.options = {"max_pixels": str(LARGEST)}
        self._codec.flags |= Flags.low_delay
        self._codec.thread_count = 1
        self._is_key = _h264_key if name == "H264" else _vp8_key
        self._clock = clock
        self._skips = False
        self._asked_ns = self._since_ns = 0

    def decode(self, encoded: Any) -> list[VideoFrame]:
        """The frames that came out, oldest first.

        Raises av.FFmpegError for what cannot be decoded, upon which the receiver asks for a key frame. The same where
        frames have waited for ``LATE_S``: they are skipped up to the next key frame, because aiortc's queue of them
        has no end and whatever the machine falls behind would stay. Frames after a loss are skipped too.
        """
        arrived_ns = getattr(encoded, "arrived_ns", 0) or self._clock()
        self._wait_for_key(encoded, self._clock() - arrived_ns)
        if self._skips:
            return []
        frames = self._decode(encoded.data, encoded.timestamp, arrived_ns)
        for later in getattr(encoded, "following", ()):
            frames = self._decode(later.data, encoded.timestamp + later.timestamp, later.arrived_ns) or frames
        return frames

    def _wait_for_key(self, encoded: Any, waited_ns: int) -> None:
        """Find out whether to skip this frame, and ask again and again for one that ends it."""
        import av

        late = waited_ns > LATE_S * 1e9
        # for what is broken the jitter buffer has asked already
        asked = getattr(encoded, "broken", False) and not self._skips
        if asked or (late and not self._skips):
            self._skips = True
            self._since_ns = self._clock()
            self._asked_ns = self._since_ns if asked else 0
        # some senders have no key frames, but renew the picture bit by bit
        enough = self._clock() - self._since_ns > GIVE_IN_S * 1e9
        if self._skips and not late and (enough or self._is_key(encoded.data)):
            self._skips = False
        if self._skips and self._clock() - self._asked_ns > ASK_AGAIN_S * 1e9:
            self._asked_ns = self._clock()
            raise av.FFmpegError(0, f"waiting for a key frame; this one has waited for {waited_ns / 1e9:.1f} s")

    def _decode(self, data: bytes, timestamp: int, arrived_ns: int) -> list[VideoFrame]:
        import av

        packet = av.Packet(data)
        packet.pts = timestamp
        packet.time_base = TIME_BASE
        frames: list[VideoFrame] = self._codec.decode(packet)
        for frame in frames:
            # a new object each: PyAV keeps them by identity
            frame.opaque = (arrived_ns,)
        return frames


def _h264_key(data: bytes) -> bool:
    """Whether a picture can be decoded by itself: its first slice is of an IDR picture (NAL unit type 5)."""
    at = data.find(b"\0\0\1")
    while 0 <= at < len(data) - 3:
        kind = data[at + 3] & 0x1F
        if kind in (1, 5):
            return kind == 5
        at = data.find(b"\0\0\1", at + 3)
    return False


def _vp8_key(data: bytes) -> bool:
    """RFC 6386 section 9.1: the lowest bit of a frame is 0 in a key frame."""
    return bool(data) and not data[0] & 1
