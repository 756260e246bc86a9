"""The daemon's side of the media server: it starts the media process, and everything between the two passes here.

link = MediaLink(ServerSettings(), desk)
print(link.start())                             # http://127.0.0.1:8080/
sink = link.sink("main", (1280, 720), 30)       # POST /whep watches it
source = link.source(session, 30)               # after desk.open(session, watch) granted it
link.close()
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from engines.errors import ReenactError, SinkLost, SinkMissing, SourceEnded
from engines.install_hint import install
from realtime.capture.source import Source
from realtime.core import problem
from realtime.core.child_process import command, environment
from realtime.core.quiet_libraries import stderr_descriptor
from realtime.sinks.sink import Sink
from realtime.webrtc.callbacks import WATCHES, ApiReply, ApiRequest, ServerCallbacks
from realtime.webrtc.endpoints import LinkSink, LinkSource
from realtime.webrtc.ipc.frame_ring import RingReader, RingWriter, create_ring
from realtime.webrtc.ipc.messages import Message, Wire
from realtime.webrtc.listen import listen, shown
from realtime.webrtc.settings import ServerSettings
from realtime.webrtc.video.decoded_frames import MAX_PIXELS

__all__ = ["ApiReply", "ApiRequest", "MediaLink", "ServerCallbacks", "ServerSettings"]

_COMMAND = command("realtime.webrtc.process.main")
_START_S = 30.0
_SILENCE_S = 10.0
"""A media process that says nothing for so long hangs: its figures come every second."""
_DELAYS_S = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Before each new start of a media process that has died; after the last one it is not started again."""
_STEADY_S = 60.0
"""One that has lived for so long is started again as if it were the first to die."""
ANSWERERS = 8
"""Threads on which the desk answers, each started when it is first needed."""
_Json = dict[str, Any]
logger = logging.getLogger(__name__)


class MediaLink:
    """Owns the media process. Any thread may call anything; ``start`` comes first and ``close`` last.

    ``notice`` gets one line for the person: that the media process died and is started again. ``lost`` is called when
    it is not: there is no media server any more, and nobody listens at its address.
    """

    def __init__(
        self,
        settings: ServerSettings,
        callbacks: ServerCallbacks,
        notice: Callable[[str], None] = lambda _: None,
        lost: Callable[[SinkLost], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self.address = ""
        """Where the page is, once started."""
        self._callbacks = callbacks
        self._notice = notice
        self._tell_lost = lost
        self._lock = threading.RLock()
        self._listener: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._wire: Wire | None = None
        self._ready = threading.Event()
        self._closing = threading.Event()
        self._spawned_s = 0.0
        self._restarts = 0
        """Of media processes in succession none of which lived for long."""
        self._failure: str | None = None
        self._receiver: threading.Thread | None = None
        self._answerers = ThreadPoolExecutor(ANSWERERS, "media desk")
        self._watchman = ThreadPoolExecutor(1, "media health")
        self._sessions: dict[str, bool] = {}
        """Whether each is granted; False while the desk is asked."""
        self._left: set[str] = set()
        """Those that have left while the desk was asked."""
        self._sinks: dict[str, LinkSink] = {}
        self._sources: dict[str, list[LinkSource]] = {}
        """Those of each session that are open."""
        self._dropped: dict[str, int] = {}
        """How many pictures those of each session that are closed have missed."""
        self._stats: _Json = {}

    @property
    def process_id(self) -> int:
        """The media process. Only once started."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> str:
        """Start the media process and wait until it serves; its address, such as ``http://127.0.0.1:8080/``.

        Raises SinkMissing where the address is taken or none of ours, or the process does not start.
        """
        if not hasattr(socket, "send_fds"):
            raise SinkMissing("WebRTC needs Linux or macOS", cure="run it under WSL, or leave WebRTC out")
        self._listener = listen(self.settings.host, self.settings.port)
        port = self._listener.getsockname()[1]
        self.address = f"http://{shown(self.settings.host)}:{port}/"
        self._spawn()
        deadline = time.monotonic() + _START_S
        while not self._ready.wait(0.1):
            if self._failure is not None or time.monotonic() > deadline:
                why = self._failure or f"the media process is not ready after {_START_S:g} s"
                self.close()
                raise SinkMissing(why, cure=install())
        return self.address

    def source(self, session: str, fps: float, timeout_s: float = 15.0) -> Source:
        """What a granted session's publisher sends; RGB in the size of its first frame, for which this waits.

        ``fps`` is what the source announces. A later source of the same session takes over. Stamps: ``captured`` is
        when the frame's last packet came. Reading raises SourceLost while no pictures come for a second (open it
        again) and SourceEnded once the publisher has left.

        Raises SourceMissing if no picture comes within ``timeout_s``, SourceEnded if the session is over.
        """
        ends = create_ring(MAX_PIXELS * 3 // 2)
        with self._lock:
            known = session in self._sessions and self._wire is not None
            if known and self._wire is not None:
                self._wire.send({"do": "source", "session": session}, fds=(ends.memory, ends.wake_write))
        os.close(ends.wake_write)
        reader = RingReader(ends.memory, ends.wake_read)
        try:
            if not known:
                raise SourceEnded("the publisher has left")
            source = LinkSource(reader, fps, timeout_s, lambda closed: self._forget_source(session, closed))
            with self._lock:
                if session in self._sessions:
                    self._sources.setdefault(session, []).append(source)
            return source
        except BaseException:
            reader.close()
            raise

    def sink(self, stream: str, size: tuple[int, int], fps: float) -> Sink:
        """Where pictures for the viewers of ``stream`` go: ``"main"`` or a session; I420 of ``size`` (w, h).

        One sink a stream: a later one takes over. Sending never waits; it raises SinkLost when the media process is
        gone for good.

        Raises SinkMissing when it is gone already.
        """
        if self._failure is not None:
            raise SinkMissing(self._failure, cure="start the program again")

        def attach() -> RingWriter:
            ends = create_ring(size[0] * size[1] * 3 // 2)
            with self._lock:
                if self._wire is not None:
                    message = {"do": "sink", "stream": stream, "size": list(size), "fps": fps}
                    self._wire.send(message, fds=(ends.memory, ends.wake_read))
            os.close(ends.wake_read)
            return RingWriter(ends.memory, ends.wake_write)

        def detach() -> None:
            with self._lock:
                if self._sinks.get(stream) is sink:
                    del self._sinks[stream]

        sink = LinkSink(f"WebRTC at {self.address}", attach, detach)
        with self._lock:
            self._sinks[stream] = sink
        return sink

    def push(self, session: str, message: _Json) -> None:
        """Send JSON on the session's data channel; dropped if it has none or does not keep up."""
        self._tell({"do": "push", "session": session, "message": message})

    def end(self, session: str) -> None:
        """Send a publisher and its viewers away; ``callbacks.closed`` follows."""
        self._tell({"do": "end", "session": session})

    def stats(self) -> _Json:
        """Figures of the network, at most a second old; ``{}`` before there are any.

            {"sessions": {SID: {"codec": "H264", "size": [640, 480], "frames": 123, "bitrate": 1.2e6, "lost": 0,
                                "jitter_ms": 1.2, "rtt_ms": null, "dropped": 0, "viewers": 1,
                                "encoders": ["libx264"], "connected": true, "control": true}},
             "streams": {"main" or SID: {"viewers": [{"codec": "H264", "encoder": "libx264", "target_bitrate": 2.5e6,
                                "bitrate": 9e5, "frames": 99, "dropped": 3, "lost": 0, "rtt_ms": 4.1,
                                "jitter_ms": 0.3, "connected": true}]}},
             "viewers": 1, "max_viewers": 8, "h264_encoder": "libx264", "jitter_mend": true, "loop_lag_ms": 0.4,
             "cpu_s": 12.0}

        Bit rates in bit/s. A viewer's ``dropped`` counts pictures that were not encoded for it, ``encoder`` says by
        what the others were; a session's counts those that a newer one replaced before they were read. ``cpu_s`` is
        the processor time that the media process has used.
        """
        stats = self._stats
        if not stats:
            return {}
        with self._lock:
            dropped = {key: self._missed(key) for key in stats["sessions"]}
        sessions = {key: values | {"dropped": dropped[key]} for key, values in stats["sessions"].items()}
        return stats | {"sessions": sessions}

    def close(self, timeout: float = 1.5) -> None:
        """End the media process, within ``timeout`` seconds, and tell the desk; may be called twice."""
        deadline = time.monotonic() + timeout
        with self._lock:
            self._closing.set()
            process, wire = self._process, self._wire
            if self._listener is not None:
                self._listener.close()
        if wire is not None:
            wire.send({"do": "stop"})
        if process is not None:
            _end(process, timeout)
        if self._receiver is not None and self._receiver is not threading.current_thread():
            self._receiver.join(max(0.0, deadline - time.monotonic()))
        for pool in (self._answerers, self._watchman):
            pool.shutdown(wait=False, cancel_futures=True)

    def _tell(self, values: _Json) -> None:
        with self._lock:
            wire = self._wire
        if wire is not None:
            wire.send(values)

    def _spawn(self) -> None:
        assert self._listener is not None
        ours, theirs = socket.socketpair()
        fds = (theirs.fileno(), self._listener.fileno())
        with theirs, stderr_descriptor() as errors:
            process = subprocess.Popen(
                [*_COMMAND, *map(str, fds)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment(),
                pass_fds=fds,
                start_new_session=True,  # a terminal's Ctrl-C is for the program, which then ends this
            )
        self._spawned_s = time.monotonic()
        wire = Wire(ours)
        wire.expect(_START_S)
        wire.send({"do": "start", "settings": self.settings.to_json(), "address": self.address})
        with self._lock:
            self._process, self._wire = process, wire
        self._receiver = threading.Thread(target=self._receive, args=(process, wire), name="media link", daemon=True)
        self._receiver.start()

    def _receive(self, process: subprocess.Popen[bytes], wire: Wire) -> None:
        why = None
        try:
            for message in wire.messages():
                self._hear(message, wire)
        except TimeoutError:
            why = f"the media process hangs: it has said nothing for {_SILENCE_S:g} s"
            process.kill()
        except ValueError as error:
            why = f"the media process has sent no message but {error}"
            process.kill()
        finally:
            with self._lock:
                self._wire = None
            wire.close()
            _end(process, 1.0)
            self._forget_sessions()
        if not self._closing.is_set():
            self._lost(why or self._failure or f"the media process has ended (exit code {process.returncode})")

    def _hear(self, message: Message, wire: Wire) -> None:
        values = message.values
        match values.get("say"):
            case "ready":
                self._ready.set()
                wire.expect(_SILENCE_S)
            case "failed":
                self._failure = values["why"]
            case "stats":
                self._stats = values["stats"]
            case "note":
                self._notice(values["text"])
            case "closed":
                self._submit(self._answerers, self._close_session, values["session"])
            case "ask":
                pool = self._watchman if values.get("path") in WATCHES else self._answerers
                self._submit(pool, self._answer, values, message.body, wire)

    def _submit(self, pool: ThreadPoolExecutor, work: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):
            # shut down meanwhile: nobody waits for the answer
            pool.submit(work, *arguments)

    def _answer(self, values: _Json, body: bytes, wire: Wire) -> None:
        reply: _Json = {"do": "reply", "id": values["id"]}
        content = b""
        try:
            match values["what"]:
                case "open":
                    self._open_session(values["session"], values["watch"], wire)
                case "control":
                    content = self._callbacks.control(values["session"], body)
                case "request":
                    answer = self._callbacks.request(_request(values, body))
                    reply |= {"status": answer.status, "type": answer.content_type}
                    content = answer.body
        except ReenactError as error:
            reply["error"] = error.to_dict()
        except Exception:
            logger.exception("cannot answer the media process")
            reply["error"] = problem.internal_error().to_dict()
        if not wire.send(reply, content) and values["what"] == "open" and "error" not in reply:
            self._close_session(values["session"])

    def _open_session(self, session: str, watch: str, wire: Wire) -> None:
        with self._lock:
            # known before the desk is asked: it may open the source at once
            self._sessions[session] = False
        opened = False
        try:
            self._callbacks.open(session, watch)
            opened = True
        finally:
            with self._lock:
                if opened:
                    self._sessions[session] = True
                else:
                    del self._sessions[session]
                left = session in self._left
                self._left.discard(session)
        if left or self._wire is not wire:
            # the publisher, or the process that asked, has gone meanwhile
            self._close_session(session)

    def _close_session(self, session: str) -> None:
        with self._lock:
            if not self._sessions.get(session, False):
                if session in self._sessions:
                    self._left.add(session)
                return
            del self._sessions[session]
            self._sources.pop(session, None)
            self._dropped.pop(session, None)
        self._callbacks.closed(session)

    def _forget_source(self, session: str, source: LinkSource) -> None:
        """Keep of a source that is closed what it has counted, and nothing else."""
        with self._lock:
            if source in self._sources.get(session, ()):
                self._sources[session].remove(source)
                self._dropped[session] = self._dropped.get(session, 0) + source.dropped

    def _missed(self, session: str) -> int:
        """How many pictures of a session were replaced before they were read; within the lock."""
        return self._dropped.get(session, 0) + sum(each.dropped for each in self._sources.get(session, ()))

    def _forget_sessions(self) -> None:
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            self._close_session(session)
        self._stats = {}

    def _lost(self, why: str) -> None:
        """The media process has died by itself: start it again, later each time, until that is of no use."""
        if time.monotonic() - self._spawned_s >= _STEADY_S:
            self._restarts = 0
        if not self._ready.is_set() or self._restarts == len(_DELAYS_S):
            self._give_up(why)
            return
        delay = _DELAYS_S[self._restarts]
        self._restarts += 1
        self._failure = None
        self._notice(f"{why}; it is started again, and publishers and viewers have to come back")
        self._closing.wait(delay)
        try:
            with self._lock:
                if self._closing.is_set():
                    return
                self._spawn()
                sinks = list(self._sinks.values())
        except OSError as error:
            self._lost(f"the media process cannot be started: {error.strerror}")
            return
        for sink in sinks:
            sink.attach_again()

    def _give_up(self, why: str) -> None:
        """Let nobody wait for what does not come any more."""
        self._failure = why
        with self._lock:
            sinks = list(self._sinks.values())
            if self._listener is not None:
                self._listener.close()
        for sink in sinks:
            sink.error = why
        if self._ready.is_set():
            self._tell_lost(SinkLost(f"{why}, as it has again and again; there is no WebRTC any more"))


def _request(values: _Json, body: bytes) -> ApiRequest:
    return ApiRequest(
        method=values["method"],
        path=values["path"],
        query=values["query"],
        body=body,
        content_type=values["type"],
        session=values["session"],
    )


def _end(process: subprocess.Popen[bytes], timeout: float) -> None:
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
