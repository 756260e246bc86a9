"""Push a stream over WHIP (RFC 9725): aiortc is the client, H.264 or VP8 and Opus.

Encoders, clocks and reports are those of the viewers of this program's own server: the stream has no more delay than a
viewer. Sound is passed on as Opus without being decoded.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urljoin, urlsplit

from engines.errors import ReenactError
from realtime.streams.backoff import Backoff
from realtime.streams.main_process import ALIVE, ALIVE_S, start_receiving
from realtime.streams.target import Target
from realtime.webrtc.ipc.frame_ring import RingReader
from realtime.webrtc.ipc.messages import Message, MessageSocket
from realtime.webrtc.process import aiortc_setup
from realtime.webrtc.process.ice import heard_s
from realtime.webrtc.settings import ServerSettings, is_loopback
from realtime.webrtc.sound.reports import write_reports
from realtime.webrtc.sound.stream import SoundTrack
from realtime.webrtc.video.codecs import Codecs
from realtime.webrtc.video.shared_encoding import Stream, StreamTrack, target_bitrate

_ANSWER_S = 5.0
_CONNECT_S = 8.0
_LOST_S = 4.0
"""A server that has sent nothing for this long is gone: reports come about once a second."""
_CHECK_S = 0.2
_MAX_REDIRECTS = 3
_MAX_ANSWER = 128 << 10
_SDP = "application/sdp"


class WhipPush:
    """Publishes until the main process says ``stop``, and connects again whenever the stream breaks."""

    def __init__(self, target: Target, settings: ServerSettings, messages: MessageSocket) -> None:
        host = urlsplit(target.url).hostname or ""
        # a server on this machine is reached over loopback; the token only satisfies a check for servers
        self._settings = replace(settings, host="127.0.0.1" if is_loopback(host) else "0.0.0.0", token="-")
        self._target = target
        self._messages = messages
        self._stop = asyncio.Event()

    def run(self, reader: RingReader, incoming: Iterator[Message]) -> None:
        """Publish the frames of a ring buffer and the sound among the messages."""
        asyncio.run(self._run(reader, incoming))

    async def _run(self, reader: RingReader, incoming: Iterator[Message]) -> None:
        codecs = aiortc_setup.install(self._settings)
        stream = Stream("stream")
        stream.attach(reader)
        loop = asyncio.get_running_loop()
        start_receiving(
            incoming,
            lambda packet: loop.call_soon_threadsafe(stream.sound.push, packet),
            lambda: loop.call_soon_threadsafe(self._stop.set),
        )
        alive = asyncio.ensure_future(self._tell_alive())
        backoff = Backoff()
        while not self._stop.is_set():
            connection = WhipConnection(self._target, stream, codecs, self._settings)
            try:
                await connection.open()
                backoff.succeed()
                self._messages.send({"kind": "up"})
                await connection.watch(self._stop)
            except ReenactError as error:
                self._messages.send({"kind": "down", "error": error.to_dict()})
                await connection.close()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), backoff.fail(refused=error.code in _REFUSED))
            else:
                await connection.close()
        alive.cancel()
        stream.detach()

    async def _tell_alive(self) -> None:
        while True:
            await asyncio.sleep(ALIVE_S)
            self._messages.send(ALIVE)


_REFUSED = (
    "stream-unauthorized",
    "stream-not-found",
    "stream-redirected",
    "stream-bad-answer",
    "stream-no-common-codec",
)


class WhipConnection:
    """One connection to a WHIP server, from the offer to the DELETE. Belongs to the event loop's thread."""

    def __init__(self, target: Target, stream: Stream, codecs: Codecs, settings: ServerSettings) -> None:
        from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCRtpSender
        from aiortc.mediastreams import MediaStreamError

        self._target = target
        self._settings = settings
        self._location: str | None = None
        servers = []
        for server in settings.ice_servers:
            username, credential = server.credentials() or (None, None)
            servers.append(RTCIceServer(server.url, username, credential))
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        sound = self._connection.addTransceiver("audio", "sendonly")
        known = RTCRtpSender.getCapabilities("audio").codecs
        sound.setCodecPreferences([each for each in known if each.name.lower() == "opus"])
        self._video = self._connection.addTransceiver("video", "sendonly")
        self._track = StreamTrack(
            stream,
            lambda: codecs.encoder_name(self._video._codecs[0].name if self._video._codecs else "H264"),
            lambda: target_bitrate(self._video.sender, settings.start_bitrate),
            MediaStreamError,
        )
        self._sound_track = SoundTrack(stream.sound, MediaStreamError)
        sender: Any = self._video.sender
        sender.replaceTrack(self._track)
        sender._send_keyframe = self._track.request_key_frame
        write_reports(sender, self._track)
        sound_sender: Any = sound.sender
        sound_sender.replaceTrack(self._sound_track)
        write_reports(sound_sender, self._sound_track)

    async def open(self) -> None:
        """Publish, and return once media can flow. Raises ReenactError."""
        from aiortc import RTCSessionDescription

        await self._connection.setLocalDescription(await self._connection.createOffer())
        answer = await self._exchange(self._connection.localDescription.sdp)
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        except Exception as error:
            # aiortc raises what its parser fails with, of any type
            found = f"{self._target.shown} has sent an answer that cannot be used ({type(error).__name__})"
            raise ReenactError("stream-bad-answer", found, "an SDP answer", "check the address") from None
        until_s = time.monotonic() + _CONNECT_S
        while self._connection.connectionState != "connected":
            if self._connection.connectionState in ("failed", "closed") or time.monotonic() > until_s:
                found = f"{self._target.shown} has answered, and no media gets through"
                raise ReenactError("stream-no-media", found, cure="check that UDP gets through, or name a TURN server")
            await asyncio.sleep(0.02)

    async def watch(self, stop: asyncio.Event) -> None:
        """Return when told to stop. Raises ReenactError once the server is gone."""
        opened_s = time.monotonic()
        while not stop.is_set():
            heard = heard_s(self._video.sender.transport.transport._connection)
            if self._connection.connectionState != "connected" or time.monotonic() - max(heard, opened_s) > _LOST_S:
                raise ReenactError("stream-lost", f"the connection to {self._target.shown} was lost")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _CHECK_S)

    async def close(self) -> None:
        """End the stream, also at the server."""
        self._track.stop()
        self._sound_track.stop()
        if self._location is not None:
            await self._delete(self._location)
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(1.0):
                await self._connection.close()

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._target.token}"} if self._target.token else {}

    async def _delete(self, location: str) -> None:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=1.0)
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError, ValueError):
            async with (
                aiohttp.ClientSession(timeout=timeout) as http,
                http.delete(location, headers=self._headers(), allow_redirects=False),
            ):
                pass

    async def _exchange(self, offer: str) -> str:
        """Post the offer and return the answer. Raises ReenactError."""
        import aiohttp

        url, shown = self._target.url, self._target.shown
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ANSWER_S)) as http:
                for _ in range(_MAX_REDIRECTS + 1):
                    headers = self._headers() | {"Content-Type": _SDP, "Accept": _SDP}
                    async with http.post(url, data=offer.encode(), headers=headers, allow_redirects=False) as reply:
                        if reply.status in (307, 308):
                            url = self._redirected(url, reply.headers.get("Location"))
                            continue
                        body = await reply.content.read(_MAX_ANSWER)
                        answer = _read_answer(reply.status, reply.content_type, body, shown)
                        location = reply.headers.get("Location")
                        if location and _origin(urljoin(url, location)) == _origin(url):
                            self._location = urljoin(url, location)
                        return answer
        except TimeoutError:
            found = f"{shown} has not answered within {_ANSWER_S:g} s"
            raise ReenactError("stream-no-answer", found, cure="check the address and the server") from None
        except aiohttp.ClientConnectorError as error:
            found = f"{shown} cannot be reached ({error.strerror or 'no connection'})"
            raise ReenactError("stream-unreachable", found, cure="check the address, and that it is running") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            found = f"{shown} does not answer as a WHIP server ({type(error).__name__})"
            raise ReenactError("stream-bad-answer", found, "a WHIP server", "check the address") from None
        raise ReenactError(
            "stream-redirected", f"{shown} redirects too often", cure="give the address that it leads to"
        )

    def _redirected(self, url: str, location: str | None) -> str:
        """Return where a redirect leads. The token is sent to the server that was named, and to no other."""
        to = urljoin(url, location or "")
        if location is None or _origin(to) != _origin(url):
            found = f"{self._target.shown} redirects to another server"
            raise ReenactError("stream-redirected", found, "one on the same server", "give the address it leads to")
        return to


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _read_answer(status: int, content_type: str, body: bytes, shown: str) -> str:
    """Return the SDP of an answer. Raises ReenactError."""
    if status in (401, 403):
        found, cure = f"{shown} does not accept the token ({status})", "check --stream-key-file or REENACT_STREAM_KEY"
        raise ReenactError("stream-unauthorized", found, cure=cure)
    if status in (404, 405, 410):
        found = f"there is no WHIP endpoint at {shown} ({status})"
        raise ReenactError("stream-not-found", found, cure="check the path of the address")
    if status >= 500:
        raise ReenactError("stream-server-error", f"{shown} has answered {status}", cure="check the server's log")
    if status in (406, 415, 422):
        found, expected = f"{shown} has refused the offer ({status})", "one that takes H.264 or VP8"
        raise ReenactError("stream-no-common-codec", found, expected, "check the server's codecs")
    if status not in (200, 201) or not body.startswith(b"v=0"):
        found = f"{shown} has answered {status} with {content_type[:60]}"
        raise ReenactError("stream-bad-answer", found, "201 with an SDP answer", "check the address")
    return body.decode("utf-8", "replace")
