"""The sound of a publisher as it arrives: Opus is passed on as it is, anything else is encoded as Opus.

aiortc decodes each packet of sound and holds the first four back. Here sound is encoded nowhere but at its source:
viewers get the packets of the publisher, and who wants samples decodes them. Packets that are late are dropped; the
receivers of Opus conceal that.
"""

from __future__ import annotations

import fractions
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from realtime.core.sound import SAMPLE_RATE

if TYPE_CHECKING:
    from av import AudioFrame

TIME_BASE = fractions.Fraction(1, SAMPLE_RATE)
_FRAME_SAMPLES = 960
"""The samples of a packet that is encoded here: 20 ms."""
_BITRATE = 48_000


class RtpPacket(Protocol):
    """The part of an ``aiortc.rtp.RtpPacket`` that is used here."""

    sequence_number: int
    timestamp: int
    _data: bytes


@dataclass(slots=True)
class ArrivedSound:
    """The payload of a packet, like ``aiortc.jitterbuffer.JitterFrame``."""

    data: bytes
    timestamp: int
    """On the codec's clock, 32 bits; the receiver replaces it by one that does not wrap around."""
    arrived_ns: int


@dataclass(frozen=True, slots=True)
class OpusPacket:
    """A packet of Opus of a publisher."""

    data: bytes
    pts: int
    """At 48 kHz, on the publisher's clock."""
    arrived_ns: int
    """When it, or what it was encoded from, arrived (monotonic)."""


class SoundBuffer:
    """Returns each packet at once, in order: it has the interface of ``aiortc.jitterbuffer.JitterBuffer``."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._last: int | None = None

    def add(self, packet: RtpPacket) -> tuple[bool, ArrivedSound | None]:
        """Return False, as sound has no key frames, and the packet's payload; None for one that is late or empty."""
        seq = packet.sequence_number
        if self._last is not None and not 0 < (seq - self._last) & 0xFFFF < 0x8000:
            return False, None
        self._last = seq
        if not packet._data:
            return False, None
        return False, ArrivedSound(packet._data, packet.timestamp, self._clock())


class OpusPassage:
    """An ``aiortc.codecs.base.Decoder`` that decodes nothing."""

    def decode(self, encoded: Any) -> list[OpusPacket]:
        """Return the packet."""
        return [OpusPacket(encoded.data, encoded.timestamp, encoded.arrived_ns)]


class ToOpus:
    """An ``aiortc.codecs.base.Decoder`` that decodes with another one, and encodes the sound as Opus."""

    def __init__(self, decoder: Any) -> None:
        import av

        self._decoder = decoder
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE, frame_size=_FRAME_SAMPLES)
        self._encoder: Any = av.CodecContext.create("libopus", "w")
        self._encoder.bit_rate = _BITRATE
        self._encoder.format, self._encoder.layout = "s16", "mono"
        self._encoder.sample_rate = SAMPLE_RATE
        self._encoder.time_base = TIME_BASE
        self._encoder.options = {"application": "voip"}
        self._next_pts: int | None = None

    def decode(self, encoded: Any) -> list[OpusPacket]:
        """Return what has become complete. Raises av.FFmpegError."""
        packets: list[OpusPacket] = []
        for decoded in self._decoder.decode(encoded):
            self._place(decoded)
            for frame in self._resampler.resample(decoded):
                packets += self._encode(frame, encoded.arrived_ns)
        return packets

    def _place(self, decoded: AudioFrame) -> None:
        """Begin a new count of samples where the publisher's clock jumps, as after a loss."""
        assert decoded.pts is not None
        assert decoded.time_base is not None
        pts = round(decoded.pts * decoded.time_base * SAMPLE_RATE)
        if self._next_pts is None or abs(pts - self._next_pts) > SAMPLE_RATE // 10:
            self._next_pts = pts
        decoded.pts = None

    def _encode(self, frame: AudioFrame, arrived_ns: int) -> list[OpusPacket]:
        assert self._next_pts is not None
        pts = self._next_pts
        self._next_pts += frame.samples
        frame.pts = None
        return [OpusPacket(bytes(packet), pts, arrived_ns) for packet in self._encoder.encode(frame)]


def decoder_for(codec: Any) -> OpusPassage | ToOpus:
    """Return the decoder of a negotiated codec of sound (``RTCRtpCodecParameters``)."""
    if codec.name.upper() == "OPUS":
        return OpusPassage()
    from aiortc.codecs import get_decoder

    return ToOpus(get_decoder(codec))
