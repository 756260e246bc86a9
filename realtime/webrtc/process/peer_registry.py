"""All peers of the media process: publishers, viewers, and the streams that connect them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from engines.errors import BusyError, NotFoundError, ReenactError, ServerFull
from realtime.core.protocol import MAIN_STREAM
from realtime.core.sound import SoundPacket
from realtime.webrtc.ipc.frame_ring import RingReader, RingWriter
from realtime.webrtc.ipc.messages import Message
from realtime.webrtc.process.background_tasks import BackgroundTasks
from realtime.webrtc.process.control_channel import error_reply
from realtime.webrtc.process.guests.links import GuestLink, GuestLinks
from realtime.webrtc.process.main_process_connection import MainProcess
from realtime.webrtc.process.peers import Publisher, Viewer
from realtime.webrtc.process.sdp import Offer
from realtime.webrtc.settings import ServerSettings
from realtime.webrtc.video.codecs import Codecs
from realtime.webrtc.video.shared_encoding import Stream

SWEEP_S = 1.0
MAX_PUBLISHERS = 64
"""The most publishers, even if the main process would open more sessions."""
_OPEN_TIMEOUT_S = 10.0
_CONTROL_TIMEOUT_S = 5.0
_FULL_RETRY_S = 10.0
_NOT_STARTED_RETRY_S = 1.0
logger = logging.getLogger(__name__)

_Ring = TypeVar("_Ring")
_Ring_contra = TypeVar("_Ring_contra", contravariant=True)


class PeerRegistry:
    """All peers of this process. Belongs to the event loop's thread."""

    def __init__(self, settings: ServerSettings, main_process: MainProcess, codecs: Codecs | None = None) -> None:
        self.settings = settings
        self.main_process = main_process
        self.codecs = codecs or Codecs(settings)
        self.guests = GuestLinks()
        self.publishers: dict[str, Publisher] = {}
        """By session."""
        self.viewers: dict[str, Viewer] = {}
        """By id."""
        self.streams: dict[str, Stream] = {MAIN_STREAM: Stream(MAIN_STREAM)}
        """The main run's stream, and those of sessions."""
        self._heard: set[str] = set()
        """The sessions whose sound goes to the main process as well."""
        self._opening_first: set[str] = set()
        """The streams of sessions whose first viewer is being opened."""
        self._opening = 0
        """The number of other viewers that are being opened."""
        self._tasks = BackgroundTasks()
        self._failing: set[str] = set()
        """What failed in the last sweep: peers by id, and "stats"."""

    async def publish(self, offer: Offer) -> tuple[Publisher, str]:
        """Open a session for a publisher. Return the publisher and the answer.

        Raises ServerFull, RequestError, BusyError, and what ``ServerCallbacks.open`` raises.
        """
        if len(self.publishers) >= MAX_PUBLISHERS:
            raise ServerFull(
                "publishers-full",
                f"{MAX_PUBLISHERS} publishers are connected",
                cure="try again later",
                retry_after_s=_FULL_RETRY_S,
            )
        session, watch = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        stream = Stream(session)

        def on_sound(packet: SoundPacket) -> None:
            stream.sound.push(packet)
            if session in self._heard:
                times = {"time_ns": packet.time_ns, "pts": packet.pts}
                self.main_process.send({"kind": "sound", "session": session, **times}, packet.data)

        publisher = Publisher(session, watch, self.settings, lambda: self.end(session), self.control, on_sound)
        self.publishers[session] = publisher
        self.streams[session] = stream
        try:
            values = {"session": session, "watch": watch}
            await self.main_process.call("open", values, timeout_s=_OPEN_TIMEOUT_S)
            return publisher, await publisher.answer(offer)
        except BaseException:
            await self._close_publisher(session)
            raise

    async def watch(self, watch: str | None, offer: Offer) -> tuple[str, Viewer, str]:
        """Open a viewer of a session's stream, or of the main run's. Return its id, the viewer and the answer.

        Raises NotFoundError if there is no such stream, BusyError if the main run has not started, ServerFull,
        RequestError.
        """
        return await self._watch(self._find_stream(watch), offer)

    async def watch_as_guest(
        self, link: GuestLink, offer: Offer, *, from_local_network: bool
    ) -> tuple[str, Viewer, str]:
        """Open a viewer of what a guest's link allows. Raises as ``watch``, and AccessDenied if it ended meanwhile."""
        stream = self._main_stream() if link.stream == MAIN_STREAM else self.streams[link.stream]
        identity, viewer, answer = await self._watch(stream, offer, link)
        viewer.from_local_network = from_local_network
        return identity, viewer, answer

    def end_guests(self, which: Callable[[Viewer], bool] = lambda _: False) -> None:
        """Begin to close the viewers whose link is not valid any more, and those guests that ``which`` names."""
        for identity, viewer in self.viewers.items():
            if viewer.link is not None and (not self.guests.is_valid(viewer.link) or which(viewer)):
                self.end(identity)

    async def _watch(self, stream: Stream, offer: Offer, link: GuestLink | None = None) -> tuple[str, Viewer, str]:
        own = {viewer.stream.name for viewer in self.viewers.values() if viewer.link is None}
        watched = own - {MAIN_STREAM}
        # the first viewer of a session is not counted, so that its driver can always see the result
        first = link is None and stream.name not in watched | self._opening_first | {MAIN_STREAM}
        if not first and len(self.viewers) - len(watched) + self._opening >= self.settings.max_viewers:
            raise ServerFull(
                "viewers-full",
                f"{self.settings.max_viewers} viewers are watching already",
                cure="try again later",
                retry_after_s=_FULL_RETRY_S,
            )
        identity = secrets.token_urlsafe(16)
        if first:
            self._opening_first.add(stream.name)
        else:
            self._opening += 1
        viewer = Viewer(stream, self.codecs, self.settings, lambda: self.end(identity))
        viewer.link = link
        try:
            answer = await viewer.answer(offer)
            if self.streams.get(stream.name) is not stream or (link is not None and not self.guests.is_valid(link)):
                # the stream, or the link, ended meanwhile, and closed the viewers it knew of
                raise _stream_not_found()
        except BaseException:
            await viewer.close()
            raise
        finally:
            if first:
                self._opening_first.discard(stream.name)
            else:
                self._opening -= 1
        self.viewers[identity] = viewer
        return identity, viewer, answer

    def end(self, identity: str) -> None:
        """Begin to close a publisher or viewer, if it exists."""
        if identity in self.publishers:
            self._tasks.spawn(self._close_publisher(identity))
        elif identity in self.viewers:
            self._tasks.spawn(self._close_viewer(identity))

    async def control(self, session: str | None, message: bytes) -> bytes:
        """Pass a control message to the main process and return its reply, or one that carries the error."""
        try:
            values = {"session": session}
            return (await self.main_process.call("control", values, message, timeout_s=_CONTROL_TIMEOUT_S)).body
        except ReenactError as error:
            return error_reply(error, message)

    def handle(self, message: Message) -> None:
        """Handle a message of the main process. Takes over its descriptors."""
        values = message.values
        match values["kind"]:
            case "source":
                _attach(message.fds, self.publishers.get(values["session"]), RingWriter)
            case "sink":
                _attach(message.fds, self.streams.get(values["stream"]), RingReader)
            case "push":
                publisher = self.publishers.get(values["session"])
                if publisher is not None:
                    publisher.push(json.dumps(values["message"], separators=(",", ":")))
            case "mute":
                publisher = self.publishers.get(values["session"])
                if publisher is not None:
                    publisher.muted = values["muted"]
            case "hear":
                if values["session"] in self.publishers:
                    self._heard.add(values["session"])
            case "end":
                self.end(values["session"])

    async def sweep(self) -> None:
        """Close lost peers and send statistics to the main process, every second, for ever.

        A failure is logged and affects nothing else; the next sweep tries again.
        """
        due = time.monotonic()
        while True:
            due += SWEEP_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            lag_ms = round(1000 * max(0.0, time.monotonic() - due), 2)
            due = max(due, time.monotonic() - SWEEP_S)
            self.end_guests()
            self._failing &= {"stats", *self.publishers, *self.viewers}
            for identity, peer in (*self.publishers.items(), *self.viewers.items()):
                with self._log_failure(identity, "cannot sweep a peer"):
                    if peer.is_lost(time.monotonic()):
                        self.end(identity)
                    else:
                        await peer.measure()
            with self._log_failure("stats", "cannot send statistics"):
                self.main_process.send({"kind": "stats", "stats": self.stats(lag_ms)})

    def stats(self, lag_ms: float) -> dict[str, Any]:
        """Return the statistics, see ``MediaLink.stats``."""
        viewers = {name: [v.figures for v in self.viewers.values() if v.stream.name == name] for name in self.streams}
        sessions = {}
        for session, publisher in self.publishers.items():
            encoders = sorted({each["encoder"] for each in viewers[session] if each.get("encoder")})
            sessions[session] = publisher.figures | {"viewers": len(viewers[session]), "encoders": encoders}
        return {
            "sessions": sessions,
            "streams": {name: {"viewers": each} for name, each in viewers.items()},
            "viewers": len(self.viewers),
            "max_viewers": self.settings.max_viewers,
            "h264_encoder": self.codecs.h264_encoder(),
            "marker_jitter_buffer": self.settings.marker_jitter_buffer,
            "loop_lag_ms": lag_ms,
            "cpu_s": round(time.process_time(), 2),
        }

    async def close(self) -> None:
        """Close every peer."""
        for identity in [*self.viewers, *self.publishers]:
            self.end(identity)
        await self._tasks.wait()
        for stream in self.streams.values():
            stream.detach()

    def _find_stream(self, watch: str | None) -> Stream:
        """Return the main run's stream, or the one of the session whose ``watch`` secret this is."""
        if watch is None:
            return self._main_stream()
        for session, publisher in self.publishers.items():
            if secrets.compare_digest(publisher.watch.encode(), watch.encode("utf-8", "surrogatepass")):
                return self.streams[session]
        raise _stream_not_found()

    def _main_stream(self) -> Stream:
        if self.streams[MAIN_STREAM].live:
            return self.streams[MAIN_STREAM]
        if self.settings.main_run:
            raise BusyError(
                "stream-not-started",
                "the run has not started",
                "a stream that is live",
                "try again in a moment",
                retry_after_s=_NOT_STARTED_RETRY_S,
            )
        raise _stream_not_found()

    @contextmanager
    def _log_failure(self, what: str, text: str) -> Iterator[None]:
        """Log an exception of the block, the first of several sweeps in a row."""
        try:
            yield
        except Exception:
            if what not in self._failing:
                logger.exception(text)
            self._failing.add(what)
        else:
            self._failing.discard(what)

    async def _close_publisher(self, session: str) -> None:
        publisher = self.publishers.pop(session, None)
        if publisher is None:
            return
        stream = self.streams.pop(session)
        self.guests.revoke_all(session)
        self._heard.discard(session)
        try:
            for identity in [each for each, viewer in self.viewers.items() if viewer.stream is stream]:
                await self._close_viewer(identity)
            await publisher.close()
        finally:
            stream.detach()
            self.main_process.send({"kind": "closed", "session": session})

    async def _close_viewer(self, identity: str) -> None:
        viewer = self.viewers.pop(identity, None)
        if viewer is not None:
            await viewer.close()


class _RingEnd(Protocol[_Ring_contra]):
    """A publisher, which writes to a ring buffer, or a stream, which reads from one."""

    def attach(self, ring: _Ring_contra, /) -> None: ...


def _attach(fds: tuple[int, ...], end: _RingEnd[_Ring] | None, ring: Callable[[int, int], _Ring]) -> None:
    """Attach a ring buffer to what has not ended meanwhile. Takes over its descriptors, for memory and for waking.

    If that fails, the main process finds that its other end is closed.
    """
    try:
        if end is not None and len(fds) == 2:
            end.attach(ring(*fds))
            return
        for each in fds:
            os.close(each)
        if len(fds) != 2:
            raise OSError("too many files are open")
    except OSError as error:
        logger.error("cannot exchange frames between the two processes: %s", error)


def _stream_not_found() -> NotFoundError:
    return NotFoundError(
        "stream-not-found", "no stream at this address", "a stream that is live", "start it, or ask for a new link"
    )
