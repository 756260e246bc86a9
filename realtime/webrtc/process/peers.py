"""The two kinds of peers: publishers, whose pictures go to the daemon, and viewers, who watch a stream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from realtime.webrtc.ipc.frame_ring import RingWriter
from realtime.webrtc.process.ice import heard_s
from realtime.webrtc.process.sdp import MOST_CANDIDATES, Candidate, Offer, SdpError, with_rates
from realtime.webrtc.settings import ServerSettings
from realtime.webrtc.video.codecs import Codecs
from realtime.webrtc.video.decoded_frames import PictureTimes, planes_of
from realtime.webrtc.video.shared_encoding import Stream, StreamTrack, step_of

if TYPE_CHECKING:
    from aiortc import RTCDataChannel, RTCPeerConnection
    from av import VideoFrame

CHANNEL = "control"
MAX_MESSAGE = 4096
MAX_BUFFERED = 1 << 16
"""A channel with more than this still to send gets no more until it has caught up."""
_MESSAGES_PER_S, _BURST = 30.0, 60.0
_CLOSE_S = 3.0
_MARGIN_S = 3.0
logger = logging.getLogger(__name__)
Control = Callable[[str, bytes], Awaitable[bytes]]


class Peer(ABC):
    """One peer connection, from its offer to its end. Belongs to the event loop's thread."""

    direction = ""
    """Of our side: recvonly or sendonly."""

    def __init__(self, settings: ServerSettings, gone: Callable[[], None]) -> None:
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
        """What the last ``measure`` found."""
        self._candidates = 0
        """How many ICE was told of."""
        self._settings = settings
        self._gone = gone
        self._begun_s = time.monotonic()
        self._measured: tuple[float, int] = (self._begun_s, 0)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._transceiver = self.connection.addTransceiver("video", self.direction)
        self._transceiver.setCodecPreferences(_preferences(settings.codecs))
        self.connection.on("connectionstatechange", self._state_changed)

    async def answer(self, offer: Offer) -> str:
        """Agree to an offer; the answer, with all candidates of this side. Raises SdpError."""
        from aiortc import RTCSessionDescription
        from aiortc.exceptions import OperationError

        self.ufrags = offer.ufrags
        try:
            async with asyncio.timeout(self._settings.gather_timeout_s + 5):
                await self.connection.setRemoteDescription(RTCSessionDescription(offer.text, "offer"))
                for each in self.connection.getTransceivers():
                    if each is not self._transceiver:
                        # sound and further pictures: understood, and not wanted
                        each.direction = "inactive"
                await self.connection.setLocalDescription(await self.connection.createAnswer())
        except OperationError:
            names = " or ".join(self._settings.codecs)
            raise SdpError(f"found no codec in common, expected {names} (packetization-mode=1)", 422) from None
        except TimeoutError:
            raise SdpError("found an offer that could not be answered in time", 503) from None
        except Exception as error:
            # aiortc raises whatever its parser stumbles over
            logger.debug("offer refused", exc_info=error)
            raise SdpError(f"found an offer that cannot be used ({error or type(error).__name__})") from None
        if self._transceiver.currentDirection != self.direction:
            raise SdpError(f"found an offer without video for a peer that is {self.direction}")
        self.trickle(offer.candidates)
        return str(self.connection.localDescription.sdp)

    def trickle(self, candidates: tuple[Candidate, ...]) -> None:
        """Tell ICE of the peer's addresses, without waiting: names among them are looked up. Raises SdpError.

        The end of candidates is not told: ICE would fail at once where they are all wrong, though the peer may still
        reach us. A peer that does not is closed in time anyway.
        """
        from aiortc.sdp import candidate_from_sdp

        for each in candidates:
            try:
                candidate = candidate_from_sdp(each.text)
            except (AssertionError, ValueError, IndexError):
                raise SdpError(f"found a candidate that cannot be read: {each.text[:80]!r}") from None
            if not 0 <= candidate.port <= 65535:
                # to send there is an error that ends the socket
                raise SdpError(f"found a candidate at port {candidate.port}, expected 0 to 65535")
            if candidate.component != 1 or candidate.protocol.lower() != "udp":
                continue
            if self._candidates == MOST_CANDIDATES:
                # ICE looks at every pair again for each that comes
                raise SdpError(f"found more candidates, expected {MOST_CANDIDATES} at most in all", 422)
            self._candidates += 1
            candidate.sdpMid, candidate.sdpMLineIndex = each.mid, each.section
            self._spawn(self._add(candidate))

    async def _add(self, candidate: Any) -> None:
        with contextlib.suppress(ValueError, OSError):
            # no multicast here, or ICE is over
            await self.connection.addIceCandidate(candidate)

    @property
    def connected(self) -> bool:
        """Whether media can flow."""
        return bool(self.connection.connectionState == "connected")

    def lost(self, now_s: float) -> bool:
        """Whether it never came, has gone without a word, or has failed."""
        if self.connection.connectionState in ("closed", "failed"):
            return True
        heard = heard_s(self._transceiver.receiver.transport.transport._connection)
        return now_s - max(heard, self._begun_s) > self._settings.vanish_s - _MARGIN_S

    async def close(self) -> None:
        """End it and let go of everything, whatever a part of it raises; may be called twice."""
        if self._closed:
            return
        self._closed = True
        self._released()
        for task in self._tasks:
            task.cancel()
        if not await self._closes(self.connection.close):
            # aiortc stops at what fails first: what comes after that is closed one by one
            for transceiver in self.connection.getTransceivers():
                await self._closes(transceiver.stop)
                await self._close_transport(transceiver.receiver.transport)
            if self.connection.sctp is not None:
                await self._closes(self.connection.sctp.stop)
                await self._close_transport(self.connection.sctp.transport)
        self.connection.remove_all_listeners()

    async def _close_transport(self, transport: Any) -> None:
        if transport is not None:
            await self._closes(transport.stop)
            await self._closes(transport.transport.stop)

    async def _closes(self, close: Callable[[], Awaitable[None]]) -> bool:
        """Close one part, or log why it cannot be; whether that is done."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                await close()
        except (TimeoutError, ConnectionError):
            return False
        except Exception:
            logger.exception("while closing a peer")
            return False
        return True

    @abstractmethod
    async def measure(self) -> None:
        """Renew ``figures``."""

    @abstractmethod
    def _released(self) -> None:
        """Let go of what a subclass holds."""

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _state_changed(self) -> None:
        if self.connection.connectionState in ("closed", "failed") and not self._closed:
            self._gone()

    def _rate(self, count: int) -> float:
        """Bit/s since the last call, for a count of bytes."""
        now = time.monotonic()
        (before, bytes_before), self._measured = self._measured, (now, count)
        return round(8 * (count - bytes_before) / max(now - before, 0.1))

    async def _report(self) -> dict[str, dict[str, Any]]:
        return {each.type: vars(each) for each in (await self.connection.getStats()).values()}

    def _codec(self) -> str | None:
        codecs = self._transceiver._codecs
        return codecs[0].name if codecs else None


class Publisher(Peer):
    """A peer whose pictures go into a ring, newest wins, and whose control channel goes to the desk."""

    direction = "recvonly"

    def __init__(
        self, session: str, watch: str, settings: ServerSettings, gone: Callable[[], None], control: Control
    ) -> None:
        super().__init__(settings, gone)
        self.session = session
        self.watch = watch
        self.frames = 0
        self.size: tuple[int, int] | None = None
        self._writer: RingWriter | None = None
        self._times = PictureTimes()
        self._control = control
        self._channel: RTCDataChannel | None = None
        self._messages: asyncio.Queue[bytes] = asyncio.Queue(32)
        self._allowance, self._allowed_s = _BURST, time.monotonic()
        self.connection.on("track", self._track)
        self.connection.on("datachannel", self._open_channel)

    async def answer(self, offer: Offer) -> str:
        """See Peer; besides, tells at which rates to send."""
        answer = await super().answer(offer)
        rates = self._settings
        return with_rates(answer, rates.start_bitrate, rates.min_bitrate, rates.max_bitrate)

    def attach(self, writer: RingWriter) -> None:
        """Write pictures here from now on, and not where they went before."""
        if self._closed:
            writer.close()
            return
        if self._writer is not None:
            self._writer.close()
        self._writer = writer

    def push(self, text: str) -> None:
        """Send on the control channel, unless there is none or it does not keep up."""
        channel = self._channel
        if channel is not None and channel.readyState == "open" and channel.bufferedAmount < MAX_BUFFERED:
            with contextlib.suppress(ConnectionError):
                channel.send(text)

    async def measure(self) -> None:
        """See Peer."""
        report = await self._report()
        inbound, transport = report.get("inbound-rtp", {}), report.get("transport", {})
        self.figures = {
            "codec": self._codec(),
            "size": self.size,
            "frames": self.frames,
            "bitrate": self._rate(transport.get("bytesReceived", 0)),
            "lost": inbound.get("packetsLost", 0),
            "jitter_ms": round(inbound.get("jitter", 0) / 90, 2),
            "rtt_ms": None,
            "connected": self.connected,
            "control": self._channel is not None and self._channel.readyState == "open",
        }

    def _released(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _track(self, track: Any) -> None:
        if track.kind == "video":
            self._spawn(self._read(track))

    async def _read(self, track: Any) -> None:
        from aiortc.mediastreams import MediaStreamError
        from av import FFmpegError

        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                try:
                    self._show(frame)
                except (FFmpegError, ValueError) as error:
                    # a picture of a kind that cannot be converted: the next one may be
                    logger.debug("picture dropped", exc_info=error)

    def _show(self, frame: VideoFrame) -> None:
        """Leave a picture for the daemon; nothing waits for it to be taken."""
        planes = planes_of(frame)
        if planes is None:
            return
        height, width = planes[0].shape
        self.frames += 1
        self.size = width, height
        arrived_ns = frame.opaque[0] if isinstance(frame.opaque, tuple) else time.monotonic_ns()
        shown_ns = self._times.shown(frame.pts or 0, arrived_ns)
        if self._writer is not None and not self._writer.write(planes, (width, height), arrived_ns, shown_ns):
            # nobody reads any more; a new reader may come
            self._released()

    def _open_channel(self, channel: RTCDataChannel) -> None:
        if channel.label != CHANNEL or self._channel is not None:
            channel.close()
            return
        self._channel = channel
        channel.on("message", self._hear)
        self._spawn(self._obey())

    def _hear(self, message: str | bytes) -> None:
        data = message.encode() if isinstance(message, str) else message
        now = time.monotonic()
        self._allowance = min(_BURST, self._allowance + (now - self._allowed_s) * _MESSAGES_PER_S)
        self._allowed_s = now
        if self._allowance < 1 or self._messages.full():
            self._refuse("too many messages", f"{_MESSAGES_PER_S:g} a second at most", "send fewer")
            return
        self._allowance -= 1
        if len(data) > MAX_MESSAGE:
            self._refuse(f"a message of {len(data)} bytes", f"{MAX_MESSAGE} at most", "send a shorter one")
            return
        self._messages.put_nowait(data)

    def _refuse(self, found: str, expected: str, cure: str) -> None:
        error = {"found": found, "expected": expected, "cure": cure}
        self.push(json.dumps({"v": 1, "ok": False, "error": error}))

    async def _obey(self) -> None:
        """Pass messages on one by one, in order."""
        while True:
            reply = await self._control(self.session, await self._messages.get())
            if reply:
                self.push(reply.decode("utf-8", "replace"))


class Viewer(Peer):
    """A peer that watches a stream."""

    direction = "sendonly"

    def __init__(self, stream: Stream, codecs: Codecs, settings: ServerSettings, gone: Callable[[], None]) -> None:
        from aiortc.mediastreams import MediaStreamError

        super().__init__(settings, gone)
        self.stream = stream
        self.track = StreamTrack(
            stream, lambda: codecs.name(self._codec() or "VP8"), self._rate_wanted, MediaStreamError
        )
        sender: Any = self._transceiver.sender
        sender.replaceTrack(self.track)
        # aiortc tells its own encoder, and ours is shared
        sender._send_keyframe = self.track.ask_key

    async def measure(self) -> None:
        """See Peer."""
        report = await self._report()
        remote, transport = report.get("remote-inbound-rtp", {}), report.get("transport", {})
        round_trip = remote.get("roundTripTime")
        encoding = self.track.encoding
        self.figures = {
            "codec": self._codec(),
            "encoder": None if encoding is None else encoding.name,
            "target_bitrate": self._rate_wanted(),
            "bitrate": self._rate(transport.get("bytesSent", 0)),
            "frames": self.track.frames,
            "dropped": self.track.dropped,
            "lost": remote.get("packetsLost", 0),
            "rtt_ms": None if round_trip is None else round(1000 * round_trip, 2),
            "jitter_ms": round(remote.get("jitter", 0) / 90, 2),
            "connected": self.connected,
        }

    def _rate_wanted(self) -> int:
        """What the receiver's estimates come to; aiortc passes them to the encoder it asked for."""
        encoder = getattr(self._transceiver.sender, "_RTCRtpSender__encoder", None)
        return step_of(int(getattr(encoder, "target_bitrate", self._settings.start_bitrate)))

    def lost(self, now_s: float) -> bool:
        """See Peer; also when its pictures cannot be encoded."""
        return self.track.readyState == "ended" or super().lost(now_s)

    def _released(self) -> None:
        self.track.stop()


def _preferences(names: tuple[str, ...]) -> list[Any]:
    """The capabilities of these codecs, in this order, and retransmission."""
    from aiortc import RTCRtpSender

    known = RTCRtpSender.getCapabilities("video").codecs
    chosen = [each for name in names for each in known if each.name.upper() == name]
    return chosen + [each for each in known if each.name.lower() == "rtx"]
