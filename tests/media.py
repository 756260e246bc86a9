"""A media server to test against: a desk that sends every publisher's pictures back, and a foreign WebRTC client."""

from __future__ import annotations

import asyncio
import fractions
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import cv2
import numpy as np
from numpy.typing import NDArray

from engines.errors import SourceError, SourceLost
from realtime.frames import Frame, PixelFormat, Stamps
from realtime.webrtc.desk import ApiReply, ApiRequest, Granted, Refused
from realtime.webrtc.link import MediaLink

SIZE = (320, 240)


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

    def open(self, session: str, watch: str) -> Granted | Refused:
        with self._lock:
            if len(self.opened) >= self.limit:
                return Refused(7.2, f"{self.limit} sessions are open already")
            self.opened[session] = watch
            if self._echo:
                thread = threading.Thread(target=self._run, args=(session,), name="echo", daemon=True)
                self._threads[session] = thread
                thread.start()
        return Granted()

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
    """Sends a moving picture to the main stream until closed; ``busy`` of it is noise, which is hard to encode."""

    def __init__(self, link: MediaLink, size: tuple[int, int] = SIZE, fps: float = 30.0) -> None:
        self._over = threading.Event()
        self._sink = link.sink("main", size, fps)
        self._thread = threading.Thread(target=self._run, args=(size, fps), name="pattern", daemon=True)
        self._thread.start()

    def _run(self, size: tuple[int, int], fps: float) -> None:
        seq = 0
        while not self._over.wait(1 / fps):
            seq += 1
            now = time.monotonic_ns()
            pixels = i420(size, seq)
            self._sink.send(Frame(pixels, PixelFormat.I420, seq, Stamps(captured=now), now))

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._sink.close()


def i420(size: tuple[int, int], seq: int) -> NDArray[np.uint8]:
    """A grey picture, its brightness by its number, with the number in blocks of black and white above."""
    width, height = size
    pixels = np.full((height * 3 // 2, width), 128, np.uint8)
    pixels[:height] = 60 + seq * 7 % 100
    block = width // 16
    for bit in range(16):
        pixels[:block, bit * block : (bit + 1) * block] = 235 if seq >> bit & 1 else 16
    return pixels


def read_number(grey: NDArray[np.uint8]) -> int:
    """The number in a picture of ``i420``, out of its brightness (h, w)."""
    block = grey.shape[1] // 16
    middles = [grey[block // 2, bit * block + block // 2] for bit in range(16)]
    return sum(1 << bit for bit, value in enumerate(middles) if value > 128)


class PatternTrack:
    """A video track of numbered pictures, at 30 fps or as fast as ``pace`` says. Duck-typed for aiortc."""

    kind = "video"

    def __init__(self, size: tuple[int, int] = SIZE, fps: float = 30.0) -> None:
        self.id = "pattern"
        self.sent_ns: dict[int, int] = {}
        self._size = size
        self._fps = fps
        self._seq = 0
        self._start: float | None = None

    async def recv(self) -> Any:
        from av import VideoFrame

        loop = asyncio.get_running_loop()
        if self._start is None:
            self._start = loop.time()
        self._seq += 1
        await asyncio.sleep(max(0.0, self._start + self._seq / self._fps - loop.time()))
        frame = VideoFrame.from_ndarray(i420(self._size, self._seq & 0xFFFF), "yuv420p")
        frame.pts = round(90_000 * self._seq / self._fps)
        frame.time_base = fractions.Fraction(1, 90_000)
        self.sent_ns[self._seq] = time.monotonic_ns()
        return frame

    def stop(self) -> None:
        pass


class Client:
    """A foreign WHIP or WHEP client: aiortc as it is shipped, over HTTP."""

    def __init__(self, address: str, headers: dict[str, str] | None = None) -> None:
        from aiortc import RTCConfiguration, RTCPeerConnection

        self.address = address.rstrip("/")
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.http = aiohttp.ClientSession(headers=headers)
        self.location = ""
        self.etag = ""
        self.links = ""
        self.numbers: list[tuple[int, int]] = []
        """Of every picture received: its number, and when (ns)."""
        self.sizes: set[tuple[int, int]] = set()
        self.replies: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def publish(self, track: Any = None, *, control: bool = False, sound: bool = False) -> Any:
        """POST /whip; the channel if asked for one. Raises aiohttp.ClientResponseError."""
        if sound:
            self.connection.addTransceiver("audio", "sendonly")
        video: Any = track or PatternTrack()
        self.connection.addTransceiver("video", "sendonly").sender.replaceTrack(video)
        channel = None
        if control:
            channel = self.connection.createDataChannel("control")
            channel.on("message", lambda text: self.replies.put_nowait(json.loads(text)))
        await self.exchange("/whip")
        return channel

    async def watch(self, path: str = "/whep", *, sound: bool = False) -> None:
        """POST /whep; pictures are noted as they come."""
        if sound:
            self.connection.addTransceiver("audio", "recvonly")
        transceiver = self.connection.addTransceiver("video", "recvonly")
        await self.exchange(path)
        self._task = asyncio.create_task(self._receive(transceiver.receiver.track))

    async def exchange(self, path: str, edit: Callable[[str], str] = lambda text: text) -> str:
        """Offer, answer; the answer."""
        from aiortc import RTCSessionDescription

        await self.connection.setLocalDescription(await self.connection.createOffer())
        offer = edit(self.connection.localDescription.sdp)
        headers = {"Content-Type": "application/sdp"}
        async with self.http.post(self.address + path, data=offer.encode(), headers=headers) as reply:
            answer = await reply.text()
            reply.raise_for_status()
            assert reply.status == 201
            self.location, self.etag = reply.headers["Location"], reply.headers["ETag"]
            self.links = ", ".join(reply.headers.getall("Link", []))
        await self.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        return answer

    @property
    def watch_path(self) -> str:
        """Where others watch what this client publishes."""
        return next(link.split(">")[0][1:] for link in self.links.split(", ") if 'rel="watch"' in link)

    async def until(self, count: int, timeout_s: float = 15.0) -> None:
        """Wait until so many pictures have come."""
        async with asyncio.timeout(timeout_s):
            while len(self.numbers) < count:
                await asyncio.sleep(0.02)

    async def delete(self) -> int:
        """DELETE the session."""
        async with self.http.delete(self.address + self.location) as reply:
            return reply.status

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        await self.connection.close()
        await self.http.close()

    async def _receive(self, track: Any) -> None:
        from aiortc.mediastreams import MediaStreamError

        try:
            while True:
                frame = await track.recv()
                self.sizes.add((frame.width, frame.height))
                grey = frame.to_ndarray(format="gray")
                self.numbers.append((read_number(grey), time.monotonic_ns()))
        except MediaStreamError:
            pass


def serve(desk: EchoDesk, **settings: Any) -> MediaLink:
    """A started link on a free port of loopback."""
    from realtime.webrtc.settings import ServerSettings

    link = MediaLink(desk=desk, settings=ServerSettings(**{"port": 0, **settings}))
    desk.link = link
    link.start()
    return link
