"""A WHIP and WHEP client made with unmodified aiortc, and a track of numbered pictures."""

from __future__ import annotations

import asyncio
import fractions
import json
import time
from collections.abc import Callable
from functools import cache
from typing import Any, Self
from urllib.parse import urljoin

import aiohttp
import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = (320, 240)
_BITS = 16


def numbered(size: tuple[int, int], number: int, *, busy: bool = False) -> NDArray[np.uint8]:
    """Return an I420 picture, (h * 3 / 2, w) uint8, with its number (16 bits) in black and white blocks at the top.

    The rest is grey, or with ``busy`` a moving texture that takes an encoder as long as a real picture.
    """
    width, height = size
    pixels = np.full((height * 3 // 2, width), 128, np.uint8)
    if busy:
        at = number % 256
        pixels[:height] = _texture()[at : at + height, at : at + width]
    else:
        pixels[:height] = 60 + number * 7 % 100
    block = width // _BITS
    for bit in range(_BITS):
        pixels[:block, bit * block : (bit + 1) * block] = 235 if number >> bit & 1 else 16
    return pixels


def read_number(grey: NDArray[np.uint8]) -> int:
    """Return the number in a picture of ``numbered`` from its brightness (h, w)."""
    block = grey.shape[1] // _BITS
    middles = [grey[block // 2, bit * block + block // 2] for bit in range(_BITS)]
    return sum(1 << bit for bit, value in enumerate(middles) if value > 128)


@cache
def _texture() -> NDArray[np.uint8]:
    coarse = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    return np.asarray(cv2.resize(coarse, (2304, 2304), interpolation=cv2.INTER_CUBIC), np.uint8)


class PatternTrack:
    """A video track of numbered pictures; aiortc does not need a MediaStreamTrack."""

    kind = "video"

    def __init__(self, size: tuple[int, int] = SIZE, fps: float = 30.0, *, busy: bool = False) -> None:
        self.id = "pattern"
        self.sent_ns: dict[int, int] = {}
        """By number: when the picture was handed to the encoder, monotonic."""
        self._busy = busy
        self._size = size
        self._fps = fps
        self._seq = 0
        self._start: float | None = None

    async def recv(self) -> Any:
        """Wait until the next picture is due and return it as a VideoFrame."""
        from av import VideoFrame

        loop = asyncio.get_running_loop()
        if self._start is None:
            self._start = loop.time()
        self._seq += 1
        await asyncio.sleep(max(0.0, self._start + self._seq / self._fps - loop.time()))
        number = self._seq & 0xFFFF
        frame = VideoFrame.from_ndarray(numbered(self._size, number, busy=self._busy), "yuv420p")
        frame.pts = round(90_000 * self._seq / self._fps)
        frame.time_base = fractions.Fraction(1, 90_000)
        self.sent_ns[number] = time.monotonic_ns()
        return frame

    def stop(self) -> None:
        """Do nothing: the track holds no resources."""


class Client:
    """A WHIP or WHEP client: unmodified aiortc over HTTP."""

    def __init__(self, address: str, headers: dict[str, str] | None = None) -> None:
        from aiortc import RTCConfiguration, RTCPeerConnection

        self.address = address.rstrip("/")
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.http = aiohttp.ClientSession(headers=headers)
        self.location = ""
        """The path of the session at the server."""
        self._path = ""
        self.etag = ""
        self.links = ""
        self.numbers: list[tuple[int, int]] = []
        """The number of each received picture, and when it was received (monotonic ns)."""
        self.sizes: set[tuple[int, int]] = set()
        self.keys = 0
        """How many received pictures were key frames."""
        self.replies: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def publish(self, track: Any = None, *, control: bool = False, sound: bool = False) -> Any:
        """Publish with POST /whip. Return the data channel where ``control`` asks for one.

        Raises aiohttp.ClientResponseError.
        """
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
        """Watch with POST /whep and record the number of each picture in ``numbers``."""
        if sound:
            self.connection.addTransceiver("audio", "recvonly")
        transceiver = self.connection.addTransceiver("video", "recvonly")
        await self.exchange(path)
        self._task = asyncio.create_task(self._receive(transceiver.receiver.track))

    async def exchange(self, path: str, edit: Callable[[str], str] = lambda text: text) -> str:
        """Exchange offer and answer with the server and return the answer. ``edit`` may change the offer."""
        from aiortc import RTCSessionDescription

        await self.connection.setLocalDescription(await self.connection.createOffer())
        offer = edit(self.connection.localDescription.sdp)
        headers = {"Content-Type": "application/sdp"}
        async with self.http.post(self.address + path, data=offer.encode(), headers=headers) as reply:
            answer = await reply.text()
            reply.raise_for_status()
            assert reply.status == 201
            self.location, self.etag = urljoin(path, reply.headers["Location"]), reply.headers["ETag"]
            self.links = ", ".join(reply.headers.getall("Link", []))
            self._path = path
        await self.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        return answer

    @property
    def watch_path(self) -> str:
        """The path at which others watch what this client publishes."""
        return next(
            urljoin(self._path, link.split(">")[0][1:]) for link in self.links.split(", ") if 'rel="watch"' in link
        )

    async def until(self, count: int, timeout_s: float = 15.0) -> None:
        """Wait until ``count`` pictures were received. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while len(self.numbers) < count:
                await asyncio.sleep(0.02)

    async def delete(self) -> int:
        """End the session with DELETE and return the HTTP status."""
        async with self.http.delete(self.address + self.location) as reply:
            return reply.status

    async def close(self) -> None:
        """Close the connection without a DELETE."""
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
                self.keys += bool(frame.key_frame)
                grey = frame.to_ndarray(format="gray")
                self.numbers.append((read_number(grey), time.monotonic_ns()))
        except MediaStreamError:
            pass
