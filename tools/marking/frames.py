"""The luma of what is checked for a watermark: a picture, a video, a camera, or an address."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.errors import PortraitError, ReenactError, SourceEnded, SourceMissing
from tools.marking.address import page_of, without_token

if TYPE_CHECKING:
    from realtime.capture.source import Source

Luma = NDArray[np.uint8]
"""(H, W) uint8."""
PERIOD_S = 0.12
"""At most one frame in this time is looked at: those between differ little."""
LIVE_S = 10.0
"""How long a camera or a stream is watched by default."""
_CAMERA = re.compile(r"\d+|/dev/.+|auto")
_CURE = "give a picture, a video, a camera's number or device, or an address"

Damaged = Callable[[float, str], None]
"""Is told from which second on a video could not be read, and why."""


def open_frames(what: str, seconds: float | None, damaged: Damaged) -> Iterator[tuple[float, Luma]]:
    """Yield times in seconds and frames of a file, a camera or an address. Raises ReenactError.

    ``seconds`` is how much of it is read; a live one ends after ``LIVE_S`` without it.
    """
    if _CAMERA.fullmatch(what) and not os.path.isfile(what):
        frames = _from_camera(what, seconds or LIVE_S)
    elif what.startswith(("http://", "https://")) and not Path(urlsplit(what).path).suffix:
        frames = _from_page(what, seconds or LIVE_S)
    elif "://" in what:
        frames = _from_video(what, seconds or LIVE_S, damaged)
    else:
        frames = _from_file(Path(what), seconds, damaged)
    due = -1.0
    for at, luma in frames:
        if seconds is not None and at > seconds:
            return
        if at >= due:
            due = at + PERIOD_S
            yield at, luma


def _from_file(path: Path, seconds: float | None, damaged: Damaged) -> Iterator[tuple[float, Luma]]:
    from realtime.portraits.image_file import read_image

    if not os.path.isfile(path):  # which is False for a name that is too long, where Path raises OSError
        raise SourceMissing("verify-missing", f"there is no file {path}", cure=_CURE)
    try:
        image = read_image(path).image
    except PortraitError:
        yield from _from_video(str(path), seconds, damaged)
        return
    yield 0.0, np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def _from_video(what: str, seconds: float | None, damaged: Damaged) -> Iterator[tuple[float, Luma]]:
    """Yield the frames of a file or a stream that FFmpeg reads.

    Packets that cannot be decoded are left out; ``damaged`` is told of the first, and of an end that is an error.
    """
    import av

    count, first, last = 0, 0.0, 0.0
    reason: Exception | None = None
    try:
        with av.open(what, timeout=10.0) as container:
            for packet in container.demux(video=0):
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError as error:
                    if reason is None and count:
                        damaged(last, str(error))
                    reason = error
                    continue
                for frame in frames:
                    at = count / 25 if frame.time is None else float(frame.time)
                    first = at if count == 0 else first
                    if seconds is not None and at - first > seconds:
                        return
                    count, last = count + 1, at - first
                    yield last, np.asarray(frame.to_ndarray(format="gray"), np.uint8)
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        if count and reason is None:
            damaged(last, str(error))
        reason = error
    if not count and reason is not None:
        found = f"{what} cannot be read as a picture or a video: {reason}"
        raise SourceMissing("verify-unreadable", found, cure=_CURE)
    if not count:
        raise SourceMissing("verify-unreadable", f"{what} holds no picture", cure=_CURE)


def _from_camera(camera: str, seconds: float) -> Iterator[tuple[float, Luma]]:
    with closing(_open_camera(camera)) as source:
        started = time.monotonic()
        while (at := time.monotonic() - started) < seconds:
            try:
                frame = source.read()
            except SourceEnded:
                return
            yield at, np.asarray(cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def _open_camera(camera: str) -> Source:
    """Open a camera; ``auto`` is the first one, and never the performer instead. Raises SourceMissing."""
    from realtime.capture.source import open_source
    from realtime.capture.webcam import open_first_webcam

    if camera != "auto":
        return open_source(camera, size=None, fps=None, pace="live")
    webcam = open_first_webcam()
    if webcam is None:
        raise SourceMissing("verify-no-camera", "there is no camera", cure=_CURE)
    return webcam


def _from_page(address: str, seconds: float) -> Iterator[tuple[float, Luma]]:
    """Yield what a page of this program shows, or any WHEP server; a token follows as in the page's own address."""
    loop = asyncio.new_event_loop()
    stream = _watch(address, seconds)
    try:
        while True:
            try:
                yield loop.run_until_complete(anext(stream))
            except StopAsyncIteration:
                return
    finally:
        loop.run_until_complete(stream.aclose())
        loop.close()


async def _watch(address: str, seconds: float) -> AsyncGenerator[tuple[float, Luma], None]:
    """Watch a WHEP stream. Raises SourceMissing."""
    import aiohttp
    from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
    from aiortc.mediastreams import MediaStreamError

    connection: Any = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    receiver = connection.addTransceiver("video", "recvonly").receiver
    try:
        async with asyncio.timeout(15.0):
            await connection.setLocalDescription(await connection.createOffer())
            url, headers = _endpoint(address)
            async with (
                aiohttp.ClientSession(headers=headers) as http,
                http.post(url, data=connection.localDescription.sdp.encode()) as reply,
            ):
                reply.raise_for_status()
                answer = await reply.text()
            await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
            track = receiver.track  # there is none before the answer
            frame: Any = await track.recv()
        started = time.monotonic()
        while (at := time.monotonic() - started) < seconds:
            yield at, frame.to_ndarray(format="gray")
            frame = await asyncio.wait_for(track.recv(), 15.0)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise _no_stream(address, error) from None
    except MediaStreamError:
        return
    finally:
        await connection.close()


def _no_stream(address: str, error: Exception) -> ReenactError:
    reason = str(error) or "it sends no video"
    cure = "give the address of the page, with its token if it has one, or of a WHEP endpoint"
    return SourceMissing("verify-no-stream", f"{without_token(address)} cannot be watched: {reason}", cure=cure)


def _endpoint(address: str) -> tuple[str, dict[str, str]]:
    """Return the URL to which a WHEP client posts, and its headers."""
    page, token = page_of(address)
    headers = {"Content-Type": "application/sdp"} | ({"Authorization": f"Bearer {token}"} if token else {})
    return page if "whep" in urlsplit(page).path else f"{page}/whep", headers
