"""Decoders for aiortc without delay, which skip frames that are damaged or late."""

from __future__ import annotations

import fractions
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av import VideoFrame

CLOCK = 90_000
"""The clock rate of RTP video, in Hz."""
TIME_BASE = fractions.Fraction(1, CLOCK)
MAX_DECODED_PIXELS = 4096 * 2304
"""A stream of larger frames cannot be decoded."""
LATE_S = 0.5
"""A frame that has waited for this long is skipped, with all up to the next key frame."""
REPEAT_REQUEST_S = 1.0
"""How often a key frame is requested while frames are skipped."""
MAX_SKIP_S = 4.0
"""After this long frames are shown again: some senders send no key frames, but refresh the picture in parts."""


class Decoder:
    """An ``aiortc.codecs.base.Decoder`` of H.264 or VP8 that returns each frame at once.

    A frame's ``opaque`` is a tuple of when its last packet arrived (monotonic, ns). Frames that became complete
    together, see ``jitter_buffer.ReceivedFrame.following``, are all decoded, and all but the last are dropped as late.
    """

    def __init__(self, name: str, clock: Callable[[], int] = time.monotonic_ns) -> None:
        import av
        from av.codec.context import Flags

        self._codec: Any = av.CodecContext.create({"H264": "h264", "VP8": "libvpx"}[name], "r")
        self._codec.options = {"max_pixels": str(MAX_DECODED_PIXELS)}
        self._codec.flags |= Flags.low_delay
        self._codec.thread_count = 1
        self._is_key = _is_h264_key if name == "H264" else _is_vp8_key
        self._clock = clock
        self._skipping = False
        self._skipping_since_ns = self._requested_ns = 0

    def decode(self, encoded: Any) -> list[VideoFrame]:
        """Return the decoded frames, oldest first.

        Frames after a loss are skipped up to the next key frame. So are frames that have waited for ``LATE_S``:
        aiortc's queue of them is unbounded, and a machine that falls behind would stay behind.

        Raises av.FFmpegError for what cannot be decoded, and to make the receiver request a key frame.
        """
        arrived_ns = getattr(encoded, "arrived_ns", 0) or self._clock()
        self._update_skipping(encoded, self._clock() - arrived_ns)
        if self._skipping:
            return []
        frames = self._decode(encoded.data, encoded.timestamp, arrived_ns)
        for later in getattr(encoded, "following", ()):
            frames = self._decode(later.data, encoded.timestamp + later.timestamp, later.arrived_ns) or frames
        return frames

    def _update_skipping(self, encoded: Any, waited_ns: int) -> None:
        """Decide whether to skip this frame. Raises av.FFmpegError when a key frame is to be requested."""
        import av

        late = waited_ns > LATE_S * 1e9
        # after a loss the jitter buffer has requested one already
        requested = getattr(encoded, "broken", False) and not self._skipping
        if requested or (late and not self._skipping):
            self._skipping = True
            self._skipping_since_ns = self._clock()
            self._requested_ns = self._skipping_since_ns if requested else 0
        expired = self._clock() - self._skipping_since_ns > MAX_SKIP_S * 1e9
        if self._skipping and not late and (expired or self._is_key(encoded.data)):
            self._skipping = False
        if self._skipping and self._clock() - self._requested_ns > REPEAT_REQUEST_S * 1e9:
            self._requested_ns = self._clock()
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


def _is_h264_key(data: bytes) -> bool:
    """Return whether a frame's first slice belongs to an IDR picture (NAL unit type 5), which needs no other frame."""
    at = data.find(b"\0\0\1")
    while 0 <= at < len(data) - 3:
        kind = data[at + 3] & 0x1F
        if kind in (1, 5):
            return kind == 5
        at = data.find(b"\0\0\1", at + 3)
    return False


def _is_vp8_key(data: bytes) -> bool:
    """Return whether a frame is a key frame: its lowest bit is 0 (RFC 6386 section 9.1)."""
    return bool(data) and not data[0] & 1
