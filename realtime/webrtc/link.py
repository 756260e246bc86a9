"""The main process's side of the media server: starts the media process and connects it with the rest of the program.

link = MediaLink(ServerSettings(), callbacks)
print(link.start())                             # http://127.0.0.1:8080/
sink = link.sink("main", (1280, 720))           # viewers watch it at POST /whep
source = link.source(session, 30)               # once callbacks.open(session, watch) has returned
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
from engines.install_hint import install_command
from realtime.capture.source import Source
from realtime.core.child_process import command, passes_descriptors, start_process, wait_or_kill
from realtime.core.problem import internal_error
from realtime.core.protocol import MAIN_STREAM
from realtime.core.sound import SoundPacket
from realtime.sinks.sink import Sink
from realtime.webrtc.callbacks import MONITORING_PATHS, ApiReply, ApiRequest, ServerCallbacks
from realtime.webrtc.ipc.frame_ring import RingReader, RingWriter, create_ring
from realtime.webrtc.ipc.messages import Message, MessageSocket
from realtime.webrtc.link_streams import LinkSink, LinkSource
from realtime.webrtc.listen import listen, url_host
from realtime.webrtc.settings import MAX_PIXELS, ServerSettings

__all__ = ["ApiReply", "ApiRequest", "MediaLink", "ServerCallbacks", "ServerSettings"]

_COMMAND = command("realtime.webrtc.process.main")
_START_TIMEOUT_S = 30.0
_SILENCE_TIMEOUT_S = 10.0
"""A media process that sends nothing for this long hangs: it sends statistics every second."""
_RESTART_DELAYS_S = (0.0, 1.0, 2.0, 4.0, 8.0)
"""The back-off before each restart of a media process that died; after the last one it is not restarted."""
_STEADY_S = 60.0
"""After this long a media process counts as healthy, and the back-off starts again."""
CALLBACK_THREADS = 8
"""The most callbacks that run at the same time."""
_Json = dict[str, Any]
logger = logging.getLogger(__name__)


class MediaLink:
    """Owns the media process. Any thread may call any method; ``start`` comes first and ``close`` last.

    ``notice`` receives one line for the user when the media process died and is restarted. ``on_lost`` is called when
    it is not restarted: there is no media server any more, and its address is closed.
    """

    def __init__(
        self,
        settings: ServerSettings,
        callbacks: ServerCallbacks,
        notice: Callable[[str], None] = lambda _: None,
        on_lost: Callable[[SinkLost], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self.address = ""
        """The page's URL, once started."""
        self._callbacks = callbacks
        self._notice = notice
        self._on_lost = on_lost
        self._lock = threading.RLock()
        self._listener: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: MessageSocket | None = None
        self._ready = threading.Event()
        self._closing = threading.Event()
        self._spawned_s = 0.0
        self._restarts = 0
        """Restarts since a media process last ran for ``_STEADY_S``."""
        self._failure: ReenactError | None = None
        self._receiver: threading.Thread | None = None
        self._callback_threads = ThreadPoolExecutor(CALLBACK_THREADS, "media callback")
        self._monitoring_thread = ThreadPoolExecutor(1, "media monitoring")
        self._sessions: dict[str, bool] = {}
        """Maps each session to whether ``callbacks.open`` has returned."""
        self._closed_early: set[str] = set()
        """Sessions whose publisher left before ``callbacks.open`` returned."""
        self._sinks: dict[str, LinkSink] = {}
        self._sources: dict[str, list[LinkSource]] = {}
        """The open sources of each session."""
        self._dropped: dict[str, int] = {}
        """Frames of each session that its closed sources dropped."""
        self._heard: dict[str, Callable[[SoundPacket], None]] = {}
        """Called with the sound of each session for which there is one."""
        self._stats: _Json = {}

    @property
    def process_id(self) -> int:
        """The id of the media process, once started."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> str:
        """Start the media process, wait until it serves, and return its address, such as ``http://127.0.0.1:8080/``.

        Raises AddressInUse if another program listens there, SinkMissing if the address does not belong to this machine
        or the process does not start.
        """
        if not passes_descriptors():
            raise SinkMissing(
                "webrtc-unsupported-system",
                "a system that cannot pass sockets between processes",
                "Linux or macOS",
                "run it under WSL, or without WebRTC",
            )
        self._listener = listen(self.settings.host, self.settings.port)
        port = self._listener.getsockname()[1]
        self.address = f"{self.settings.scheme}://{url_host(self.settings.host)}:{port}/"
        try:
            self._spawn()
        except OSError as error:
            self.close()
            found = f"the media process cannot be started ({error.strerror})"
            raise SinkMissing("media-process-no-start", found, cure="close other programs, and start again") from None
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._ready.wait(0.1):
            if self._failure is not None or time.monotonic() > deadline:
                failure = self._failure or ReenactError(
                    "media-process-start-timeout", f"the media process is not ready after {_START_TIMEOUT_S:g} s"
                )
                self.close()
                raise SinkMissing(failure.code, failure.found, failure.expected, failure.cure or install_command())
        return self.address

    def source(self, session: str, fps: float, timeout_s: float = 15.0) -> Source:
        """Return a source of an open session's frames: RGB, in the size of its first frame, for which this waits.

        ``fps`` is the rate that the source announces. A later source of the same session replaces this one. The stamp
        ``captured`` is when the frame's last packet arrived. Reading raises SourceLost while no frame arrives for a
        second (open the source again), and SourceEnded once the publisher has left.

        Raises SourceMissing if no frame arrives within ``timeout_s``, SourceEnded if the session is over.
        """
        ring = create_ring(MAX_PIXELS * 3 // 2)
        with self._lock:
            known = session in self._sessions and self._connection is not None
            if known and self._connection is not None:
                self._connection.send({"kind": "source", "session": session}, fds=(ring.memory, ring.wake_write))
        os.close(ring.wake_write)
        reader = RingReader(ring.memory, ring.wake_read)
        try:
            if not known:
                raise SourceEnded("publisher-left", "the publisher has left")
            source = LinkSource(reader, fps, timeout_s, lambda closed: self._forget_source(session, closed))
            with self._lock:
                if session in self._sessions:
                    self._sources.setdefault(session, []).append(source)
            return source
        except BaseException:
            reader.close()
            raise

    def sink(self, stream: str, size: tuple[int, int]) -> Sink:
        """Return a sink for the viewers of ``stream``, ``"main"`` or a session: I420 frames of ``size`` (w, h).

        A stream has one sink: a later one replaces this one. Sending never waits; it raises SinkLost when the media
        process is gone for good.

        Raises SinkMissing if the media process is gone already.
        """
        if self._failure is not None:
            raise SinkMissing(self._failure.code, self._failure.found, cure="start the program again")

        def attach() -> RingWriter:
            ring = create_ring(size[0] * size[1] * 3 // 2)
            with self._lock:
                if self._connection is not None:
                    message = {"kind": "sink", "stream": stream, "size": list(size)}
                    self._connection.send(message, fds=(ring.memory, ring.wake_read))
            os.close(ring.wake_read)
            return RingWriter(ring.memory, ring.wake_write)

        def forget() -> None:
            with self._lock:
                if self._sinks.get(stream) is sink:
                    del self._sinks[stream]

        # a session's frames come from a publisher, and so does its sound
        sink = LinkSink(f"WebRTC at {self.address}", attach, forget, follows_sound=stream != MAIN_STREAM)
        with self._lock:
            self._sinks[stream] = sink
        return sink

    def push(self, session: str, message: _Json) -> None:
        """Send JSON on the session's data channel. It is dropped if there is none or it is congested."""
        self._send({"kind": "push", "session": session, "message": message})

    def mute(self, session: str, muted: bool) -> None:
        """Leave out the sound of a session's publisher, or not any more. It takes effect at once."""
        self._send({"kind": "mute", "session": session, "muted": muted})

    def hear(self, session: str, heard: Callable[[SoundPacket], None]) -> None:
        """Have ``heard`` called with the sound of a session's publisher until the session ends.

        It is called on the link's thread and must not wait.
        """
        with self._lock:
            if session not in self._sessions:
                return
            self._heard[session] = heard
        self._send({"kind": "hear", "session": session})

    def end(self, session: str) -> None:
        """Disconnect a publisher and its viewers; ``callbacks.closed`` follows."""
        self._send({"kind": "end", "session": session})

    def stats(self) -> _Json:
        """Return statistics of the network, at most a second old; ``{}`` until there are any.

            {"sessions": {SESSION: {"codec": "H264", "size": [640, 480], "frames": 123, "bitrate": 1.2e6, "lost": 0,
                                    "jitter_ms": 1.2, "rtt_ms": null, "dropped": 0, "viewers": 1,
                                    "encoders": ["libx264"], "connected": true, "control": true}},
             "streams": {"main" or SESSION: {"viewers": [{"codec": "H264", "encoder": "libx264",
                                    "target_bitrate": 2.5e6, "bitrate": 9e5, "frames": 99, "dropped": 3, "lost": 0,
                                    "rtt_ms": 4.1, "jitter_ms": 0.3, "connected": true}]}},
             "viewers": 1, "max_viewers": 8, "h264_encoder": "libx264", "marker_jitter_buffer": true,
             "loop_lag_ms": 0.4, "cpu_s": 12.0}

        Bit rates are in bit/s. A viewer's ``dropped`` counts frames that were not encoded for it, and ``encoder`` names
        the encoder of the others; a session's ``dropped`` counts frames that a newer one replaced before they were
        read. ``cpu_s`` is the processor time that the media process has used, in seconds.
        """
        stats = self._stats
        if not stats:
            return {}
        with self._lock:
            dropped = {key: self._count_dropped(key) for key in stats["sessions"]}
        sessions = {key: values | {"dropped": dropped[key]} for key, values in stats["sessions"].items()}
        return stats | {"sessions": sessions}

    def close(self, timeout: float = 1.5) -> None:
        """End the media process within ``timeout`` seconds; ``callbacks.closed`` follows. close() is idempotent."""
        deadline = time.monotonic() + timeout
        with self._lock:
            self._closing.set()
            process, connection = self._process, self._connection
            if self._listener is not None:
                self._listener.close()
        if connection is not None:
            connection.send({"kind": "stop"})
        if process is not None:
            wait_or_kill(process, timeout)
        if self._receiver is not None and self._receiver is not threading.current_thread():
            self._receiver.join(max(0.0, deadline - time.monotonic()))
        for pool in (self._callback_threads, self._monitoring_thread):
            pool.shutdown(wait=False, cancel_futures=True)

    def _send(self, values: _Json) -> None:
        with self._lock:
            connection = self._connection
        if connection is not None:
            connection.send(values)

    def _spawn(self) -> None:
        """Start a media process and the thread that receives its messages. Raises OSError."""
        assert self._listener is not None
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = start_process(_COMMAND, (theirs.fileno(), self._listener.fileno()))
            except BaseException:
                ours.close()
                raise
        self._spawned_s = time.monotonic()
        connection = MessageSocket(ours)
        connection.set_receive_timeout(_START_TIMEOUT_S)
        connection.send({"kind": "start", "settings": self.settings.to_json()})
        with self._lock:
            self._process, self._connection = process, connection
        self._receiver = threading.Thread(
            target=self._receive, args=(process, connection), name="media link", daemon=True
        )
        self._receiver.start()

    def _receive(self, process: subprocess.Popen[bytes], connection: MessageSocket) -> None:
        """Handle messages until the media process ends, and restart it if it was not told to end."""
        failure = None
        try:
            for message in connection.messages():
                self._handle_message(message, connection)
        except TimeoutError:
            failure = ReenactError(
                "media-process-silent", f"the media process has sent nothing for {_SILENCE_TIMEOUT_S:g} s"
            )
        except Exception as error:
            if not isinstance(error, ValueError):
                logger.exception("cannot handle a message of the media process")
            failure = ReenactError(
                "media-process-bad-message", f"the media process has sent an invalid message: {error}"
            )
        finally:
            with self._lock:
                self._connection = None
            connection.close()
            if failure is not None:
                process.kill()
            wait_or_kill(process, 1.0)
            self._close_all_sessions()
        if not self._closing.is_set():
            exited = f"the media process has ended (exit code {process.returncode})"
            self._restart(failure or self._failure or ReenactError("media-process-ended", exited))

    def _handle_message(self, message: Message, connection: MessageSocket) -> None:
        values = message.values
        match values.get("kind"):
            case "ready":
                self._ready.set()
                connection.set_receive_timeout(_SILENCE_TIMEOUT_S)
            case "failed":
                self._failure = ReenactError.from_dict(values["error"])
            case "stats":
                self._stats = values["stats"]
            case "sound":
                heard = self._heard.get(values["session"])
                if heard is not None:
                    heard(SoundPacket(message.body, values["time_ns"], values["pts"]))
            case "closed":
                self._submit(self._callback_threads, self._close_session, values["session"])
            case "call":
                monitoring = values.get("path") in MONITORING_PATHS
                pool = self._monitoring_thread if monitoring else self._callback_threads
                self._submit(pool, self._call, values, message.body, connection)

    def _submit(self, pool: ThreadPoolExecutor, work: Callable[..., None], *arguments: object) -> None:
        def run() -> None:
            try:
                work(*arguments)
            except Exception:
                logger.exception("a task of the media link failed")

        with contextlib.suppress(RuntimeError):
            # the pool is shut down while the link is closed: the answer is not wanted any more
            pool.submit(run)

    def _call(self, values: _Json, body: bytes, connection: MessageSocket) -> None:
        """Run a callback for the media process and send it the result or the error."""
        reply: _Json = {"kind": "reply", "id": values["id"]}
        content = b""
        callback = values["callback"]
        try:
            match callback:
                case "open":
                    self._open_session(values["session"], values["watch"], connection)
                case "control":
                    content = self._callbacks.control(values["session"], body)
                case "request":
                    answer = self._callbacks.request(_api_request(values, body))
                    reply |= {
                        "status": answer.status,
                        "content_type": answer.content_type,
                        "headers": dict(answer.headers),
                    }
                    content = answer.body
        except ReenactError as error:
            reply["error"] = error.to_dict()
        except Exception:
            logger.exception("the callback %r failed", callback)
            reply["error"] = internal_error().to_dict()
        if not connection.send(reply, content) and callback == "open" and "error" not in reply:
            self._close_session(values["session"])

    def _open_session(self, session: str, watch: str, connection: MessageSocket) -> None:
        with self._lock:
            # known before the callback runs, which may open the source at once
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
                closed_early = session in self._closed_early
                self._closed_early.discard(session)
        if closed_early or self._connection is not connection:
            # the publisher, or the media process, has gone meanwhile
            self._close_session(session)

    def _close_session(self, session: str) -> None:
        with self._lock:
            if not self._sessions.get(session, False):
                if session in self._sessions:
                    self._closed_early.add(session)
                return
            del self._sessions[session]
            self._heard.pop(session, None)
            self._sources.pop(session, None)
            self._dropped.pop(session, None)
        try:
            self._callbacks.closed(session)
        except Exception:
            logger.exception("the callback 'closed' failed")

    def _forget_source(self, session: str, source: LinkSource) -> None:
        """Keep nothing of a closed source but the count of frames it dropped."""
        with self._lock:
            if source in self._sources.get(session, ()):
                self._sources[session].remove(source)
                self._dropped[session] = self._dropped.get(session, 0) + source.dropped

    def _count_dropped(self, session: str) -> int:
        """Return how many frames of a session were replaced before they were read. Call it with the lock held."""
        return self._dropped.get(session, 0) + sum(each.dropped for each in self._sources.get(session, ()))

    def _close_all_sessions(self) -> None:
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            self._close_session(session)
        self._stats = {}

    def _restart(self, failure: ReenactError) -> None:
        """Start a new media process after a growing back-off, or give up after the last one."""
        if time.monotonic() - self._spawned_s >= _STEADY_S:
            self._restarts = 0
        if not self._ready.is_set() or self._restarts == len(_RESTART_DELAYS_S):
            self._give_up(failure)
            return
        delay = _RESTART_DELAYS_S[self._restarts]
        self._restarts += 1
        self._failure = None
        self._notice(f"{failure}; it is restarted, and publishers and viewers have to reconnect")
        self._closing.wait(delay)
        try:
            with self._lock:
                if self._closing.is_set():
                    return
                self._spawn()
                sinks = list(self._sinks.values())
        except OSError as error:
            reason = f"the media process cannot be started: {error.strerror}"
            self._restart(ReenactError("media-process-start-failed", reason))
            return
        for sink in sinks:
            sink.attach_again()

    def _give_up(self, failure: ReenactError) -> None:
        """Close the address and fail all sinks: the media process will not be restarted."""
        self._failure = failure
        with self._lock:
            sinks = list(self._sinks.values())
            if self._listener is not None:
                self._listener.close()
        for sink in sinks:
            sink.error = SinkLost(failure.code, failure.found)
        if self._ready.is_set():
            found = f"{failure.found}, after {self._restarts} restarts; WebRTC is not available any more"
            self._on_lost(SinkLost("media-process-lost", found, cure="start the program again"))


def _api_request(values: _Json, body: bytes) -> ApiRequest:
    return ApiRequest(
        method=values["method"],
        path=values["path"],
        query=values["query"],
        body=body,
        content_type=values["content_type"],
        session=values["session"],
    )
