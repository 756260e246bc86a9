"""A media server to test against: callbacks that send every publisher's frames back."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import cv2
import numpy as np

from engines.errors import RequestError, ServerFull, SinkLost, SourceError, SourceLost
from realtime.core import problem
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.core.protocol import MAIN_STREAM, VERSION
from realtime.webrtc.callbacks import ApiReply, ApiRequest
from realtime.webrtc.link import MediaLink
from realtime.webrtc.settings import ServerSettings
from tools.support.webrtc_client import SIZE, Client, PatternTrack, numbered

__all__ = ["SIZE", "Client", "EchoCallbacks", "Pattern", "PatternTrack", "serve"]


class EchoCallbacks:
    """Opens up to ``limit`` sessions and sends back the frames of each, at their size."""

    def __init__(self, limit: int = 4, *, echo: bool = True, work_s: float = 0.0) -> None:
        self.link: MediaLink | None = None
        self.limit = limit
        self.opened: dict[str, str] = {}
        self.closed_sessions: list[str] = []
        self.messages: list[tuple[str | None, bytes]] = []
        self.requests: list[ApiRequest] = []
        self.lags_ms: list[float] = []
        """The time from capture to read of every frame."""
        self.read = threading.Event()
        """Set whenever a frame was read."""
        self._echo = echo
        self._work_s = work_s
        self._threads: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()

    def open(self, session: str, watch: str) -> None:
        with self._lock:
            if len(self.opened) >= self.limit:
                raise ServerFull("server-full", f"{self.limit} sessions are open already", retry_after_s=7.2)
            self.opened[session] = watch
            if self._echo:
                thread = threading.Thread(target=self._run, args=(session,), name="echo", daemon=True)
                self._threads[session] = thread
                thread.start()

    def closed(self, session: str) -> None:
        with self._lock:
            del self.opened[session]
            self.closed_sessions.append(session)
            self._threads.pop(session, None)

    def control(self, session: str | None, message: bytes) -> bytes:
        self.messages.append((session, message))
        try:
            values = json.loads(message)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            error = RequestError("control-bad-message", "no object", "a command", "send JSON")
            return json.dumps({"v": VERSION, "ok": False, "error": problem.fields(error)}).encode()
        return json.dumps(
            {"v": VERSION, "id": values.get("id"), "ok": True, "said": str(values.get("command"))}
        ).encode()

    def request(self, request: ApiRequest) -> ApiReply:
        self.requests.append(request)
        if request.path == "/metrics":
            return ApiReply(200, "text/plain; version=0.0.4; charset=utf-8", b"reenact_up 1\n")
        values = {"v": VERSION, "session": request.session, "path": request.path, "bytes": len(request.body)}
        return ApiReply(200, "application/json", json.dumps(values).encode())

    def _run(self, session: str) -> None:
        assert self.link is not None
        try:
            source = self.link.source(session, 30.0)
        except SourceError:
            return
        sink = self.link.sink(session, source.size)
        try:
            while True:
                try:
                    frame = source.read()
                except SourceLost:
                    continue
                self.lags_ms.append((time.monotonic_ns() - frame.stamps.captured) / 1e6)
                self.read.set()
                if self._work_s:
                    time.sleep(self._work_s)
                pixels = cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2YUV_I420)
                sink.send(Frame(np.asarray(pixels, np.uint8), PixelFormat.I420, frame.seq, frame.stamps, frame.time_ns))
        except SourceError:
            pass
        finally:
            sink.close()
            source.close()


class Pattern:
    """Sends numbered frames to the main stream until it is closed."""

    def __init__(self, link: MediaLink, size: tuple[int, int] = SIZE, fps: float = 30.0) -> None:
        self._over = threading.Event()
        self.failed = False
        """Whether the sink has raised SinkLost."""
        self._sink = link.sink(MAIN_STREAM, size)
        self._thread = threading.Thread(target=self._run, args=(size, fps), name="pattern", daemon=True)
        self._thread.start()

    def _run(self, size: tuple[int, int], fps: float) -> None:
        seq = 0
        while not self._over.wait(1 / fps):
            seq += 1
            now = time.monotonic_ns()
            pixels = numbered(size, seq & 0xFFFF)
            try:
                self._sink.send(Frame(pixels, PixelFormat.I420, seq, Stamps(captured=now), now))
            except SinkLost:
                self.failed = True
                return

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._sink.close()


def serve(callbacks: EchoCallbacks, **settings: Any) -> MediaLink:
    """Return a started link on a free port of loopback."""
    link = MediaLink(callbacks=callbacks, settings=ServerSettings(**{"port": 0, **settings}))
    callbacks.link = link
    link.start()
    return link
