"""Sender reports of RTCP (RFC 3550 section 6.4.1), which tell how the clocks of two tracks belong together.

A report says which time of a track is which moment of the sender's wall clock. aiortc reads those of a publisher for
its statistics only, and in its own names the moment at which a packet was sent: picture and sound of one moment are
sent at different ones. Here they are read, and those to viewers name the moment that a packet shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

_NTP_EPOCH_S = 2_208_988_800
"""From 1900 to 1970."""
_NS = 1_000_000_000
_WALL_NS = time.time_ns() - time.monotonic_ns()
"""Read once: a wall clock that is set must not move sound against picture."""


@dataclass(frozen=True, slots=True)
class Report:
    """A time of a track, in seconds without wrap-around, and the sender's wall clock at that moment, in seconds."""

    track_s: float
    wall_s: float


def read_reports(receiver: Any, clock_rate: Callable[[], int], on_report: Callable[[Report], None]) -> None:
    """Call ``on_report`` for each report on what an ``RTCRtpReceiver`` receives, retransmission left out."""
    from aiortc.rtp import RtcpSrPacket

    handle = receiver._handle_rtcp_packet

    async def handle_and_read(packet: Any) -> None:
        if isinstance(packet, RtcpSrPacket) and packet.ssrc not in receiver._RTCRtpReceiver__rtx_ssrc:
            mapper = receiver._RTCRtpReceiver__timestamp_mapper
            info = packet.sender_info
            if mapper._origin is not None and info.ntp_timestamp:
                # the nearest time to that of the last packet
                ahead = (info.rtp_timestamp - mapper._last) & 0xFFFFFFFF
                ahead -= 1 << 32 if ahead >= 1 << 31 else 0
                on_report(
                    Report((mapper._last - mapper._origin + ahead) / clock_rate(), info.ntp_timestamp / (1 << 32))
                )
        await handle(packet)

    receiver._handle_rtcp_packet = handle_and_read


class TimedTrack(Protocol):
    """A track of a sender."""

    @property
    def sent_time_ns(self) -> int:
        """When what was returned last was recorded (monotonic ns); 0 before."""


def write_reports(sender: Any, track: TimedTrack) -> None:
    """Have the reports of an ``RTCRtpSender`` name the moment at which its last packet was recorded.

    None is sent before the first packet.
    """
    from aiortc.rtp import RtcpSrPacket

    next_frame, send_rtcp = sender._next_encoded_frame, sender._send_rtcp
    known: tuple[int, int] | None = None
    """The RTP timestamp and the NTP time of the last frame that was sent completely."""

    async def note_and_take(codec: Any) -> Any:
        nonlocal known
        if track.sent_time_ns:
            # whatever the track returned before has been sent by now
            known = sender._RTCRtpSender__rtp_timestamp, to_ntp(track.sent_time_ns)
        return await next_frame(codec)

    async def send(packets: list[Any]) -> None:
        for packet in packets:
            if isinstance(packet, RtcpSrPacket):
                if known is None:
                    return
                packet.sender_info.rtp_timestamp, packet.sender_info.ntp_timestamp = known
                # by which the receiver's answer is recognized
                sender._RTCRtpSender__lsr = (known[1] >> 16) & 0xFFFFFFFF
        await send_rtcp(packets)

    sender._next_encoded_frame, sender._send_rtcp = note_and_take, send


def to_ntp(monotonic_ns: int) -> int:
    """Return a moment as the 64 bits of an NTP timestamp."""
    seconds, rest_ns = divmod(monotonic_ns + _WALL_NS, _NS)
    return (seconds + _NTP_EPOCH_S) << 32 | (rest_ns << 32) // _NS
