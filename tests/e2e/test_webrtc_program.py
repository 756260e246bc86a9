"""The whole program with aiortc clients: one publishes like a browser, others watch."""

from __future__ import annotations

import asyncio
import contextlib
import fractions
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import numpy as np
import pytest

from engines.types import Image
from realtime.capture.performer import PerformerSource
from realtime.tracking.still_faces import FaceFinder
from tests.support.program import ROOT, program
from tools.support.webrtc_client import Client

pytestmark = pytest.mark.usefixtures("only_loopback")
FACE = (640, 480)


class PerformerTrack:
    """The performer as a browser's camera."""

    kind = "video"

    def __init__(self) -> None:
        self.id = "performer"
        self._source = PerformerSource(FACE, 30.0, paced=False)
        self._start: float | None = None
        self._seq = 0
        self.shown: Image | None = None

    async def recv(self) -> Any:
        from av import VideoFrame

        loop = asyncio.get_running_loop()
        self._start = self._start or loop.time()
        self._seq += 1
        pixels = await loop.run_in_executor(None, lambda: self._source.read().pixels)
        await asyncio.sleep(max(0.0, self._start + self._seq / 30 - loop.time()))
        self.shown = pixels
        frame = VideoFrame.from_ndarray(pixels, "rgb24")
        frame.pts, frame.time_base = self._seq * 3000, fractions.Fraction(1, 90_000)
        return frame

    def stop(self) -> None:
        self._source.close()


async def until(condition: Any, what: str, timeout_s: float = 20.0) -> Any:
    """Wait until an awaitable returns something true, and return that."""
    deadline = time.monotonic() + timeout_s
    while not (found := await condition()):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.1)
    return found


@contextlib.asynccontextmanager
async def watching(client: Client, path: str) -> AsyncIterator[list[Image]]:
    """Watch a stream, and return the list of its newest frames, RGB."""
    transceiver = client.connection.addTransceiver("video", "recvonly")
    await client.exchange(path)
    track: Any = transceiver.receiver.track
    pictures: list[Image] = []

    async def receive() -> None:
        with contextlib.suppress(Exception):
            while True:
                frame = await track.recv()
                pictures.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
                del pictures[:-30]

    task = asyncio.create_task(receive())
    try:
        yield pictures
    finally:
        task.cancel()


async def get(client: Client, path: str) -> Any:
    async with client.http.get(client.address + path) as reply:
        return await reply.json()


def largest_change(pictures: list[Image]) -> float:
    """Return the largest mean difference of one of the pictures to the newest one, in levels."""
    *earlier, newest = (picture.astype(int) for picture in list(pictures))
    return max(float(np.abs(picture - newest).mean()) for picture in earlier)


def face_found(picture: Image) -> bool:
    with FaceFinder() as finder:
        return bool(finder.find(picture))


def test_a_browser_drives_and_others_watch(tmp_path: Path) -> None:
    async def scene(address: str) -> None:
        track = PerformerTrack()
        async with Client(address) as publisher, Client(address) as viewer:
            channel = await publisher.publish(track, control=True)
            session = publisher.location.rpartition("/")[2]
            watch = publisher.watch_path
            state: Any = {}

            async def found() -> bool:
                nonlocal state
                state = await get(viewer, f"/api/state?session={session}")
                return bool(state.get("face") == "found")

            await until(found, "no face was found")
            assert state["size"] == [320, 240]
            async with watching(viewer, watch) as pictures:

                async def enough() -> bool:
                    return len(pictures) >= 20

                await until(enough, "no pictures came")
                assert pictures[-1].shape == (240, 320, 3)
                assert face_found(np.asarray(cv2.resize(pictures[-1], (640, 480)), np.uint8))
                # what is shown is the portrait: its corner, not the performer's background
                portrait = await (await viewer.http.get(f"{address}api/portraits/0.jpg?session={session}")).read()
                still = cv2.cvtColor(cv2.imdecode(np.frombuffer(portrait, np.uint8), 1), cv2.COLOR_BGR2RGB)
                corner = pictures[-1][:20, :20].astype(int) - still[:20, :20]
                assert np.abs(corner).mean() < 10

                async def moving() -> bool:
                    return largest_change(pictures) > 3

                await until(moving, "the picture does not move")
                channel.send(json.dumps({"v": 1, "id": 1, "command": "set_frozen", "value": True}))

                async def frozen() -> bool:
                    return bool((await get(viewer, f"/api/state?session={session}"))["frozen"])

                await until(frozen, "it did not freeze")

                # the encoder goes on refining a picture that stands still, for as long as its bitrate makes it
                async def at_rest() -> bool:
                    pictures.clear()
                    await until(enough, "a frozen picture is still sent")
                    return largest_change(pictures) < 1.5

                await until(at_rest, "the picture goes on moving")
            replies = []
            while not publisher.replies.empty():
                replies.append(publisher.replies.get_nowait())
            assert any(reply.get("id") == 1 and reply["ok"] for reply in replies)
            assert any("state" in reply for reply in replies)
            # one more than there is room for
            async with Client(address) as late:
                with pytest.raises(aiohttp.ClientResponseError) as caught:
                    await late.publish(PerformerTrack())
                assert caught.value.status == 503
            # without DELETE: the session ends with the connection
        async with Client(address) as watcher:

            async def empty() -> bool:
                return bool((await get(watcher, "/api/state"))["sessions"]["open"] == 0)

            await until(empty, "the session did not end")

    with program(tmp_path, "--camera", "webrtc", "--sink", "webrtc:0", "--size", "320x240", "--sessions", "1") as (
        running,
        address,
    ):
        asyncio.run(scene(address))
        running.send_signal(signal.SIGINT)
        assert running.wait(4) == 0


def test_a_plain_run_shows_itself_on_the_page(tmp_path: Path) -> None:
    async def scene(address: str) -> None:
        async with Client(address) as viewer:

            async def begun() -> bool:
                main = (await get(viewer, "/api/state"))["main"]
                return bool(main and main["frames"])

            await until(begun, "the run did not begin")
            await shown(viewer, address)

    async def shown(viewer: Client, address: str) -> None:
        async with watching(viewer, "/whep") as pictures:

            async def enough() -> bool:
                return len(pictures) >= 10

            await until(enough, "no pictures came")
            assert face_found(pictures[-1])
            page = await viewer.http.get(address)
            assert page.status == 200
            assert "default-src" in page.headers["Content-Security-Policy"]
            metrics = await (await viewer.http.get(f"{address}metrics")).text()
            assert 'reenact_frames_total{run="main"}' in metrics

    options = ("--camera", "performer", "--size", "640x480", "--report", "report.json")
    with program(tmp_path, *options) as (running, address):
        asyncio.run(scene(address))
        begin = time.monotonic()
        running.send_signal(signal.SIGINT)
        assert running.wait(4) == 0
        assert time.monotonic() - begin < 2.5
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["faces"] > 10
    assert report["sessions"]["opened"] == 0
    assert "token" not in report["config"]
    assert not (tmp_path / "reenact.mp4").exists()


def test_an_address_that_others_can_reach_requires_a_token(tmp_path: Path) -> None:
    arguments = [sys.executable, str(ROOT / "run.py"), "--camera", "performer", "--sink", "webrtc:0.0.0.0:0"]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "there is no token" in done.stderr


def test_a_port_in_use_is_an_error_if_it_was_requested(tmp_path: Path) -> None:
    options = ("--camera", "performer", "--sink", "webrtc:0", "--size", "64x64")
    with program(tmp_path, *options) as (_, address):
        port = address.rstrip("/").rpartition(":")[2]
        arguments = [sys.executable, str(ROOT / "run.py"), "--camera", "performer", "--sink", f"webrtc:{port}"]
        done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, timeout=30, check=False)
        assert done.returncode == 1
        assert f"port {port} of 127.0.0.1" in done.stderr
        assert "choose another address" in done.stderr


def test_the_page_is_served_over_https(tmp_path: Path) -> None:
    async def scene(address: str, fingerprint: bytes) -> None:
        trusted = aiohttp.Fingerprint(fingerprint)
        async with aiohttp.ClientSession() as http, http.get(address, ssl=trusted) as reply:
            assert reply.status == 200
            assert "<title>" in await reply.text()

    options = ("--camera", "webrtc", "--sink", "webrtc:127.0.0.1:0", "--https", "auto")
    data = {"XDG_DATA_HOME": str(tmp_path / "data")}
    with program(tmp_path, *options, **data) as (_, address):
        assert address.startswith("https://127.0.0.1:")
        log = tmp_path / "log.txt"
        asyncio.run(until(lambda: asyncio.to_thread(lambda: "SHA-256" in log.read_text()), "no fingerprint", 60))
        fingerprint = bytes.fromhex(log.read_text().partition("SHA-256 is ")[2].split()[0].replace(":", ""))
        asyncio.run(scene(address, fingerprint))
