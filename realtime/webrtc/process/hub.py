"""Who is connected: publishers, viewers and streams, what joins them, and their end."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from realtime.webrtc.ipc.frame_ring import RingReader, RingWriter
from realtime.webrtc.ipc.messages import Message
from realtime.webrtc.process.peers import Publisher, Viewer
from realtime.webrtc.process.sdp import Offer
from realtime.webrtc.settings import ServerSettings
from realtime.webrtc.video.codecs import Codecs
from realtime.webrtc.video.shared_encoding import Stream

MAIN = "main"
SWEEP_S = 1.0
MOST_PUBLISHERS = 64
"""Whatever the desk would grant."""
_OPEN_S = 10.0
_CONTROL_S = 5.0
_RETRY_S = 10.0
logger = logging.getLogger(__name__)


class FullError(Exception):
    """No room for another peer: when to try again (s), and why."""

    def __init__(self, retry_after_s: float, why: str) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


class CallbackError(Exception):
    """The daemon does not answer, or failed to."""


class Line(Protocol):
    """The way to the daemon."""

    async def ask(self, what: str, values: dict[str, Any], body: bytes = b"", *, timeout_s: float) -> Message:
        """Ask the desk and wait for its reply. Raises DeskError."""

    def tell(self, values: dict[str, Any]) -> None:
        """Say something that wants no answer."""


class Hub:
    """Every peer of this process. Belongs to the event loop's thread."""

    def __init__(self, settings: ServerSettings, line: Line, codecs: Codecs | None = None) -> None:
        self.settings = settings
        self.line = line
        self.codecs = codecs or Codecs(settings)
        self.publishers: dict[str, Publisher] = {}
        """By session."""
        self.viewers: dict[str, Viewer] = {}
        self.streams: dict[str, Stream] = {MAIN: Stream(MAIN)}
        """By session, and the main run's."""
        self._first: set[str] = set()
        """The sessions whose first viewer is being opened."""
        self.notes: list[str] = []
        self._stop_signal: set[asyncio.Task[None]] = set()
        self._failing: set[str] = set()
        """The peers that could not be looked after the last time, and "stats" where those failed."""
        self._opening = 0

    async def publish(self, offer: Offer) -> tuple[Publisher, str]:
        """Open a session for a publisher; it and the answer. Raises FullError, SdpError, DeskError."""
        if len(self.publishers) >= MOST_PUBLISHERS:
            raise FullError(_RETRY_S, f"{MOST_PUBLISHERS} publishers are here or coming")
        session, watch = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        publisher = Publisher(session, watch, self.settings, lambda: self.end(session), self.control)
        self.publishers[session] = publisher
        self.streams[session] = Stream(session)
        try:
            values = {"session": session, "watch": watch}
            await self.line.ask("open", values, timeout_s=_OPEN_S)
            return publisher, await publisher.answer(offer)
        except BaseException:
            await self._close_publisher(session)
            raise

    async def watch(self, watch: str | None, offer: Offer) -> tuple[str, Viewer, str]:
        """Open a viewer of a session's stream, or of the main run's; its id, it and the answer.

        Raises KeyError where there is nothing to watch, FullError, SdpError.
        """
        stream = self._stream(watch)
        watched = {viewer.stream.name for viewer in self.viewers.values()} - {MAIN}
        # a place is kept for whoever drives to see the result, and the first to watch a session has it
        first = stream.name not in watched | self._first | {MAIN}
        if not first and len(self.viewers) - len(watched) + self._opening >= self.settings.max_viewers:
            raise FullError(_RETRY_S, f"{self.settings.max_viewers} viewers are watching already")
        identity = secrets.token_urlsafe(16)
        if first:
            self._first.add(stream.name)
        else:
            self._opening += 1
        viewer = Viewer(stream, self.codecs, self.settings, lambda: self.end(identity))
        try:
            answer = await viewer.answer(offer)
            if self.streams.get(stream.name) is not stream:
                # it has ended meanwhile, and closed the viewers it knew of
                raise KeyError(watch)
        except BaseException:
            await viewer.close()
            raise
        finally:
            if first:
                self._first.discard(stream.name)
            else:
                self._opening -= 1
        self.viewers[identity] = viewer
        return identity, viewer, answer

    def end(self, identity: str) -> None:
        """Begin to close a publisher or viewer, if there is one of that name."""
        if identity in self.publishers:
            self._later(self._close_publisher(identity))
        elif identity in self.viewers:
            self._later(self._close_viewer(identity))

    async def control(self, session: str | None, message: bytes) -> bytes:
        """Pass a control message on; the reply, which tells if the daemon did not answer."""
        try:
            return (await self.line.ask("control", {"session": session}, message, timeout_s=_CONTROL_S)).body
        except CallbackError as error:
            problem = {"found": str(error), "expected": "an answer", "cure": "try again"}
            return json.dumps({"v": 1, "ok": False, "error": problem}).encode()

    def obey(self, message: Message) -> None:
        """Do what the daemon says; takes over the descriptors."""
        values = message.values
        match values["do"]:
            case "source" | "sink":
                self._attach(values, message.fds)
            case "push":
                publisher = self.publishers.get(values["session"])
                if publisher is not None:
                    publisher.push(json.dumps(values["message"], separators=(",", ":")))
            case "end":
                self.end(values["session"])

    async def sweep(self) -> None:
        """Close peers that have vanished, and tell the daemon the figures, every second, for ever.

        What fails is logged and harms nothing else: it is tried again the next time.
        """
        due = time.monotonic()
        while True:
            due += SWEEP_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            lag_ms = round(1000 * max(0.0, time.monotonic() - due), 2)
            due = max(due, time.monotonic() - SWEEP_S)
            self._failing &= {"stats", *self.publishers, *self.viewers}
            for identity, peer in (*self.publishers.items(), *self.viewers.items()):
                with self._logged(identity, "looking after a peer"):
                    if peer.lost(time.monotonic()):
                        self.end(identity)
                    else:
                        await peer.measure()
            with self._logged("stats", "telling the figures"):
                self.line.tell({"say": "stats", "stats": self.stats(lag_ms)})

    def stats(self, lag_ms: float) -> dict[str, Any]:
        """What ``MediaLink.stats`` gives."""
        watching = {name: [v.figures for v in self.viewers.values() if v.stream.name == name] for name in self.streams}
        sessions = {}
        for session, publisher in self.publishers.items():
            encoders = sorted({each["encoder"] for each in watching[session] if each.get("encoder")})
            sessions[session] = publisher.figures | {"viewers": len(watching[session]), "encoders": encoders}
        return {
            "sessions": sessions,
            "streams": {name: {"viewers": viewers} for name, viewers in watching.items()},
            "viewers": len(self.viewers),
            "max_viewers": self.settings.max_viewers,
            "h264_encoder": self.codecs.h264(),
            "jitter_mend": self.settings.jitter_mend and not self.notes,
            "loop_lag_ms": lag_ms,
            "cpu_s": round(time.process_time(), 2),
        }

    async def close(self) -> None:
        """Close every peer."""
        identities = [*self.viewers, *self.publishers]
        for identity in identities:
            self.end(identity)
        if self._stop_signal:
            await asyncio.wait(self._stop_signal)
        for stream in self.streams.values():
            stream.detach()

    def _stream(self, watch: str | None) -> Stream:
        if watch is None:
            if not self.streams[MAIN].live:
                raise KeyError(MAIN)
            return self.streams[MAIN]
        for session, publisher in self.publishers.items():
            if secrets.compare_digest(publisher.watch.encode(), watch.encode("utf-8", "surrogatepass")):
                return self.streams[session]
        raise KeyError(watch)

    def _attach(self, values: dict[str, Any], fds: tuple[int, ...]) -> None:
        """Join a ring. Where that fails the daemon finds that nobody has its other end."""
        try:
            if len(fds) != 2:
                for each in fds:
                    os.close(each)
                raise OSError("too many files are open")
            if values["do"] == "source":
                self._attach_source(values["session"], *fds)
            else:
                self._attach_sink(values["stream"], *fds)
        except OSError as error:
            logger.error("pictures cannot pass between the two processes: %s", error)

    def _attach_source(self, session: str, memory: int, wake: int) -> None:
        publisher = self.publishers.get(session)
        if publisher is None:
            os.close(memory)
            os.close(wake)
            return
        publisher.attach(RingWriter(memory, wake))

    def _attach_sink(self, name: str, memory: int, wake: int) -> None:
        stream = self.streams.get(name)
        if stream is None:
            os.close(memory)
            os.close(wake)
            return
        stream.attach(RingReader(memory, wake))

    @contextmanager
    def _logged(self, what: str, doing: str) -> Iterator[None]:
        """Log what fails in here, the first time of several in a row: it is done every second."""
        try:
            yield
        except Exception:
            if what not in self._failing:
                logger.exception("while %s", doing)
            self._failing.add(what)
        else:
            self._failing.discard(what)

    def _later(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._stop_signal.add(task)
        task.add_done_callback(self._stop_signal.discard)

    async def _close_publisher(self, session: str) -> None:
        publisher = self.publishers.pop(session, None)
        if publisher is None:
            return
        stream = self.streams.pop(session)
        try:
            for identity in [each for each, viewer in self.viewers.items() if viewer.stream is stream]:
                await self._close_viewer(identity)
            await publisher.close()
        finally:
            stream.detach()
            self.line.tell({"say": "closed", "session": session})

    async def _close_viewer(self, identity: str) -> None:
        viewer = self.viewers.pop(identity, None)
        if viewer is not None:
            await viewer.close()
