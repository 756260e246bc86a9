"""A media server to test against: a desk that sends every publisher's pictures back."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import cv2
import numpy as np

from engines.errors import ServerFull, SinkLost, SourceError, SourceLost
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.webrtc.callbacks import ApiReply, ApiRequest
from realtime.webrtc.link import MediaLink
from realtime.webrtc.settings import ServerSettings
from tools.support.webrtc_client import SIZE, Client, PatternTrack, numbered

__all__ = ["SIZE", "Client", "EchoDesk", "Pattern", "PatternTrack", "serve"]


class EchoDesk:
    """Grants up to ``limit`` sessions and sends back what each publishes, at the size it came in."""

    def __init__(self, limit: int = 4, *, echo: bool = True, work_s: float = 0.0) -> None:
        self.link: MediaLink | None = None
        self.limit = limit
        self.opened: dict[str, str] = {}
        self.closed_sessions: list[str] = []
        self.messages: list[tuple[str | None, bytes]] = []
        self.requests: list[ApiRequest] = []
        self.lags_ms: list[float] = []
        """From capture to read, of every picture read."""
        self.read = threading.Event()
        """Set whenever a picture was read."""
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
            error = {"found": "no object", "expected": "a command", "cure": "send JSON"}
            return json.dumps({"v": 1, "ok": False, "error": error}).encode()
        return json.dumps({"v": 1, "id": values.get("id"), "ok": True, "said": str(values.get("command"))}).encode()

    def request(self, request: ApiRequest) -> ApiReply:
        self.requests.append(request)
        if request.path == "/metrics":
            return ApiReply(200, "text/plain; version=0.0.4; charset=utf-8", b"reenact_up 1\n")
        values = {"v": 1, "session": request.session, "path": request.path, "bytes": len(request.body)}
        return ApiReply(200, "application/json", json.dumps(values).encode())

    def _run(self, session: str) -> None:
        assert self.link is not None
        try:
            source = self.link.source(session, 30.0)
        except SourceError:
            return
        sink = self.link.sink(session, source.size, 30.0)
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
    """Sends numbered pictures to the main stream until closed."""

    def __init__(self, link: MediaLink, size: tuple[int, int] = SIZE, fps: float = 30.0) -> None:
        self._over = threading.Event()
        self.failed = False
        """Whether the sink has said that it is lost."""
        self._sink = link.sink("main", size, fps)
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


def serve(desk: EchoDesk, **settings: Any) -> MediaLink:
    """A started link on a free port of loopback."""
    link = MediaLink(callbacks=desk, settings=ServerSettings(**{"port": 0, **settings}))
    desk.link = link
    link.start()
    return link
