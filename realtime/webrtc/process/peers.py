"""The two kinds of peers: publishers, whose frames go to the main process, and viewers, who watch a stream."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from engines.errors import BusyError, RequestError, one_of
from realtime.core.sound import SAMPLE_RATE, SoundPacket
from realtime.webrtc.ipc.frame_ring import RingWriter
from realtime.webrtc.process.background_tasks import BackgroundTasks
from realtime.webrtc.process.control_channel import ControlChannel
from realtime.webrtc.process.guests.links import GuestLink
from realtime.webrtc.process.ice import heard_s
from realtime.webrtc.process.sdp import MAX_CANDIDATES, SOUND_CODECS, Candidate, Offer, with_bitrates
from realtime.webrtc.settings import ServerSettings
from realtime.webrtc.sound.clock import SoundClock
from realtime.webrtc.sound.reports import read_reports, write_reports
from realtime.webrtc.sound.stream import SoundTrack
from realtime.webrtc.video.codecs import Codecs
from realtime.webrtc.video.decoded_frames import SenderClock, planes_of
from realtime.webrtc.video.decoder import CLOCK as VIDEO_CLOCK
from realtime.webrtc.video.shared_encoding import Stream, StreamTrack, target_bitrate

if TYPE_CHECKING:
    from aiortc import RTCDataChannel, RTCPeerConnection, RTCRtpTransceiver
    from av import VideoFrame

    from realtime.webrtc.sound.packets import OpusPacket

_CLOSE_TIMEOUT_S = 3.0
_TIMEOUT_MARGIN_S = 3.0
_ANSWER_MARGIN_S = 5.0
_ANSWER_RETRY_S = 1.0
_CANDIDATE_CURE = "send the candidates as ICE found them"
logger = logging.getLogger(__name__)
Control = Callable[[str, bytes], Awaitable[bytes]]


class Peer(ABC):
    """One peer connection, from its offer to its end. Belongs to the event loop's thread.

    ``on_gone`` is called when the connection has closed or failed by itself.
    """

    direction = ""
    """The direction of this side: recvonly or sendonly."""
    sound_codecs: tuple[str, ...] = ()
    """The codecs of sound to negotiate, the preferred one first."""

    def __init__(self, settings: ServerSettings, on_gone: Callable[[], None]) -> None:
        from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection

        servers = []
        for server in settings.ice_servers:
            username, credential = server.credentials() or (None, None)
            servers.append(RTCIceServer(server.url, username, credential))
        # an empty list, not None: that would contact a public STUN server
        self.connection: RTCPeerConnection = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self.etag = f'"{secrets.token_urlsafe(9)}"'
        self.ufrags: frozenset[str] = frozenset()
        self.figures: dict[str, Any] = {}
        """The statistics of the last ``measure``."""
        self._candidate_count = 0
        self._settings = settings
        self._on_gone = on_gone
        self._opened_s = time.monotonic()
        self._measured: tuple[float, int] = (self._opened_s, 0)
        self._tasks = BackgroundTasks()
        self._closed = False
        self._transceiver = self.connection.addTransceiver("video", self.direction)
        self._transceiver.setCodecPreferences(_codec_preferences("video", settings.codecs))
        self._sound: RTCRtpTransceiver | None = None
        """Carries the sound; None where the peer has not offered any."""
        self.connection.on("connectionstatechange", self._on_state_change)

    async def answer(self, offer: Offer) -> str:
        """Accept an offer and return the answer, with all candidates of this side.

        Raises RequestError, BusyError if there is no answer in time.
        """
        from aiortc import RTCSessionDescription
        from aiortc.exceptions import OperationError

        self.ufrags = offer.ufrags
        try:
            if offer.sound:
                self._sound = self.connection.addTransceiver("audio", self.direction)
                self._sound.setCodecPreferences(_codec_preferences("audio", self.sound_codecs))
                self._connect_sound(self._sound)
            async with asyncio.timeout(self._settings.gather_timeout_s + _ANSWER_MARGIN_S):
                await self.connection.setRemoteDescription(RTCSessionDescription(offer.text, "offer"))
                for each in self.connection.getTransceivers():
                    if each not in (self._transceiver, self._sound):
                        # further sound and video are accepted, and not used
                        each.direction = "inactive"
                await self.connection.setLocalDescription(await self.connection.createAnswer())
        except OperationError:
            names = one_of(self._settings.codecs)
            expected, cure = f"{names} (packetization-mode=1)", "offer one of these codecs"
            raise RequestError("sdp-no-common-codec", "no codec in common", expected, cure, status=422) from None
        except TimeoutError:
            raise BusyError(
                "sdp-answer-timeout",
                "an offer that could not be answered in time",
                cure="try again",
                retry_after_s=_ANSWER_RETRY_S,
            ) from None
        except Exception as error:
            # aiortc raises what its parser fails with, of any type
            logger.debug("cannot use an offer", exc_info=error)
            raise RequestError(
                "sdp-unusable",
                f"an offer that cannot be used ({error or type(error).__name__})",
                "an offer",
                "send the offer of a WHIP or WHEP client",
            ) from None
        if self._transceiver.currentDirection != self.direction:
            found, expected = "an offer without usable video", f"video for a peer that is {self.direction}"
            raise RequestError("sdp-no-usable-video", found, expected, "offer a video section")
        self.add_candidates(offer.candidates)
        return str(self.connection.localDescription.sdp)

    def add_candidates(self, candidates: tuple[Candidate, ...]) -> None:
        """Pass the peer's candidates to ICE, without waiting for the names among them to resolve.

        The end of candidates is not passed on: ICE would fail at once if they are all wrong, though the peer may still
        reach this side. A peer that does not is closed by the timeout.

        Raises RequestError.
        """
        from aiortc.sdp import candidate_from_sdp

        for each in candidates:
            try:
                candidate = candidate_from_sdp(each.text)
            except (AssertionError, ValueError, IndexError):
                found = f"a candidate that cannot be parsed: {each.text[:80]!r}"
                raise RequestError("ice-bad-candidate", found, "an ICE candidate", _CANDIDATE_CURE) from None
            if not 0 <= candidate.port <= 65535:
                # sending there raises an error that ends the socket
                found = f"a candidate at port {candidate.port}"
                raise RequestError("ice-bad-candidate", found, "0 to 65535", _CANDIDATE_CURE)
            if candidate.component != 1 or candidate.protocol.lower() != "udp":
                continue
            if self._candidate_count == MAX_CANDIDATES:
                # ICE checks all pairs again for each new candidate
                found, expected = "too many candidates", f"{MAX_CANDIDATES} at most in all"
                raise RequestError("ice-too-many-candidates", found, expected, "send fewer", status=422)
            self._candidate_count += 1
            candidate.sdpMid, candidate.sdpMLineIndex = each.mid, each.section
            self._tasks.spawn(self._add_candidate(candidate))

    async def _add_candidate(self, candidate: Any) -> None:
        with contextlib.suppress(ValueError, OSError):
            # no multicast on this machine, or ICE has ended
            await self.connection.addIceCandidate(candidate)

    @property
    def connected(self) -> bool:
        """Whether media can flow."""
        return bool(self.connection.connectionState == "connected")

    def is_lost(self, now_s: float) -> bool:
        """Return whether the connection has failed, or nothing was received for ``peer_timeout_s``."""
        if self.connection.connectionState in ("closed", "failed"):
            return True
        heard = heard_s(self._transceiver.receiver.transport.transport._connection)
        return now_s - max(heard, self._opened_s) > self._settings.peer_timeout_s - _TIMEOUT_MARGIN_S

    async def close(self) -> None:
        """Close the connection and release everything, even if a part of it fails. close() is idempotent."""
        if self._closed:
            return
        self._closed = True
        self._release()
        self._tasks.cancel()
        if not await self._try_close(self.connection.close):
            # aiortc stops at the first failure: close the rest part by part
            for transceiver in self.connection.getTransceivers():
                await self._try_close(transceiver.stop)
                await self._close_transport(transceiver.receiver.transport)
            if self.connection.sctp is not None:
                await self._try_close(self.connection.sctp.stop)
                await self._close_transport(self.connection.sctp.transport)
        self.connection.remove_all_listeners()

    async def _close_transport(self, transport: Any) -> None:
        if transport is not None:
            await self._try_close(transport.stop)
            await self._try_close(transport.transport.stop)

    async def _try_close(self, close: Callable[[], Awaitable[None]]) -> bool:
        """Close one part. Return False, and log a bug, if that fails."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await close()
        except (TimeoutError, ConnectionError):
            return False
        except Exception:
            logger.exception("cannot close a peer")
            return False
        return True

    @abstractmethod
    async def measure(self) -> None:
        """Update ``figures``."""

    @abstractmethod
    def _connect_sound(self, transceiver: RTCRtpTransceiver) -> None:
        """Connect the sound, before it is negotiated."""

    @abstractmethod
    def _release(self) -> None:
        """Release what a subclass holds."""

    def _on_state_change(self) -> None:
        if self.connection.connectionState in ("closed", "failed") and not self._closed:
            self._on_gone()

    def _bitrate(self, count: int) -> float:
        """Return the bit/s since the last call, given the total of bytes."""
        now = time.monotonic()
        (before, bytes_before), self._measured = self._measured, (now, count)
        return round(8 * (count - bytes_before) / max(now - before, 0.1))

    async def _stats_by_type(self) -> dict[str, dict[str, Any]]:
        """Return aiortc's statistics, without those of the sound."""
        stats = (await self.connection.getStats()).values()
        return {each.type: vars(each) for each in stats if getattr(each, "kind", "video") == "video"}

    def _codec(self) -> str | None:
        codecs = self._transceiver._codecs
        return codecs[0].name if codecs else None


class Publisher(Peer):
    """A peer whose frames go into a ring buffer, and whose control channel goes to the main process."""

    direction = "recvonly"
    sound_codecs = SOUND_CODECS

    def __init__(
        self,
        session: str,
        watch: str,
        settings: ServerSettings,
        on_gone: Callable[[], None],
        control: Control,
        on_sound: Callable[[SoundPacket], None] = lambda _: None,
    ) -> None:
        """``on_sound`` is called with each packet of sound."""
        super().__init__(settings, on_gone)
        self.session = session
        self.muted = False
        """Whether the publisher's sound is left out."""
        self.sounds = 0
        """The packets of sound that have arrived."""
        self.watch = watch
        self.frames = 0
        self.size: tuple[int, int] | None = None
        self._writer: RingWriter | None = None
        self._clock = SenderClock()
        self._sound_clock = SoundClock(self._clock)
        self._on_sound = on_sound
        read_reports(self._transceiver.receiver, lambda: VIDEO_CLOCK, self._sound_clock.picture_report)
        self._control = ControlChannel(lambda message: control(session, message))
        self.connection.on("track", self._on_track)
        self.connection.on("datachannel", self._on_data_channel)

    async def answer(self, offer: Offer) -> str:
        """See Peer. The answer also names the bit rates to send at."""
        answer = await super().answer(offer)
        rates = self._settings
        return with_bitrates(answer, rates.start_bitrate, rates.min_bitrate, rates.max_bitrate)

    def attach(self, writer: RingWriter) -> None:
        """Write frames to this ring buffer from now on, instead of to the one before."""
        if self._closed:
            writer.close()
            return
        if self._writer is not None:
            self._writer.close()
        self._writer = writer

    def push(self, text: str) -> None:
        """Send a message on the control channel, unless there is none or it is congested."""
        self._control.push(text)

    async def measure(self) -> None:
        """See Peer."""
        stats = await self._stats_by_type()
        inbound, transport = stats.get("inbound-rtp", {}), stats.get("transport", {})
        self.figures = {
            "codec": self._codec(),
            "size": self.size,
            "frames": self.frames,
            "bitrate": self._bitrate(transport.get("bytesReceived", 0)),
            "lost": inbound.get("packetsLost", 0),
            "jitter_ms": round(inbound.get("jitter", 0) / 90, 2),
            "rtt_ms": None,
            "connected": self.connected,
            "control": self._control.open,
            "sounds": self.sounds,
        }

    def _release(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _on_track(self, track: Any) -> None:
        if track is self._transceiver.receiver.track:
            self._tasks.spawn(self._read(track))
        elif self._sound is not None and track is self._sound.receiver.track:
            self._tasks.spawn(self._read_sound(track))

    def _connect_sound(self, transceiver: RTCRtpTransceiver) -> None:
        read_reports(transceiver.receiver, lambda: _sound_clock_rate(transceiver), self._sound_clock.sound_report)

    async def _read_sound(self, track: Any) -> None:
        from aiortc.mediastreams import MediaStreamError

        with contextlib.suppress(MediaStreamError):
            while True:
                packet: OpusPacket = await track.recv()
                self.sounds += 1
                time_ns = self._sound_clock.to_monotonic(packet.pts, packet.arrived_ns)
                if not self.muted:
                    self._on_sound(SoundPacket(packet.data, time_ns, packet.pts))

    async def _read(self, track: Any) -> None:
        from aiortc.mediastreams import MediaStreamError
        from av import FFmpegError

        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                try:
                    self._write(frame)
                except (FFmpegError, ValueError) as error:
                    # this frame cannot be converted; the next one may
                    logger.debug("frame dropped", exc_info=error)

    def _write(self, frame: VideoFrame) -> None:
        """Publish a frame to the main process, without waiting."""
        planes = planes_of(frame)
        if planes is None:
            return
        height, width = planes[0].shape
        self.frames += 1
        self.size = width, height
        arrived_ns = frame.opaque[0] if isinstance(frame.opaque, tuple) else time.monotonic_ns()
        time_ns = self._clock.to_monotonic(frame.pts or 0, arrived_ns)
        if self._writer is not None and not self._writer.write(planes, (width, height), arrived_ns, time_ns):
            # the reader is gone; another one may attach
            self._release()

    def _on_data_channel(self, channel: RTCDataChannel) -> None:
        if self._control.attach(channel):
            self._tasks.spawn(self._control.run())


class Viewer(Peer):
    """A peer that watches a stream."""

    direction = "sendonly"
    sound_codecs = SOUND_CODECS[:1]

    def __init__(self, stream: Stream, codecs: Codecs, settings: ServerSettings, on_gone: Callable[[], None]) -> None:
        from aiortc.mediastreams import MediaStreamError

        super().__init__(settings, on_gone)
        self.stream = stream
        self.link: GuestLink | None = None
        """What a guest came through; None for those who have access themselves."""
        self.from_local_network = False
        self.sound_track: SoundTrack | None = None
        self.track = StreamTrack(
            stream, lambda: codecs.encoder_name(self._codec() or "VP8"), self._target_bitrate, MediaStreamError
        )
        sender: Any = self._transceiver.sender
        sender.replaceTrack(self.track)
        # aiortc would ask its own encoder, and viewers share one
        sender._send_keyframe = self.track.request_key_frame
        write_reports(sender, self.track)

    def _connect_sound(self, transceiver: RTCRtpTransceiver) -> None:
        from aiortc.mediastreams import MediaStreamError

        sender: Any = transceiver.sender
        self.sound_track = SoundTrack(self.stream.sound, MediaStreamError)
        sender.replaceTrack(self.sound_track)
        write_reports(sender, self.sound_track)

    async def measure(self) -> None:
        """See Peer."""
        stats = await self._stats_by_type()
        remote, transport = stats.get("remote-inbound-rtp", {}), stats.get("transport", {})
        round_trip = remote.get("roundTripTime")
        encoding = self.track.encoding
        self.figures = {
            "codec": self._codec(),
            "encoder": None if encoding is None else encoding.encoder_name,
            "target_bitrate": self._target_bitrate(),
            "bitrate": self._bitrate(transport.get("bytesSent", 0)),
            "frames": self.track.frames,
            "dropped": self.track.dropped,
            "lost": remote.get("packetsLost", 0),
            "rtt_ms": None if round_trip is None else round(1000 * round_trip, 2),
            "jitter_ms": round(remote.get("jitter", 0) / 90, 2),
            "connected": self.connected,
        }

    def _target_bitrate(self) -> int:
        """Return the bit rate for this viewer."""
        return target_bitrate(self._transceiver.sender, self._settings.start_bitrate)

    def is_lost(self, now_s: float) -> bool:
        """See Peer. A viewer is also lost if its frames cannot be encoded."""
        return self.track.readyState == "ended" or super().is_lost(now_s)

    def _release(self) -> None:
        self.track.stop()
        if self.sound_track is not None:
            self.sound_track.stop()


def _sound_clock_rate(transceiver: RTCRtpTransceiver) -> int:
    """Return the rate of the negotiated codec's timestamps in Hz."""
    codecs = transceiver._codecs
    return codecs[0].clockRate if codecs else SAMPLE_RATE


def _codec_preferences(kind: str, names: tuple[str, ...]) -> list[Any]:
    """Return the capabilities of these codecs of video or audio, in this order, and retransmission."""
    from aiortc import RTCRtpSender

    known = RTCRtpSender.getCapabilities(kind).codecs
    chosen = [each for name in names for each in known if each.name.upper() == name.upper()]
    return chosen + [each for each in known if each.name.lower() == "rtx"]
