"""The method ``webrtc``: a code in the pixels from a publisher over WebRTC through the program and back to a viewer.

Once with unmodified aiortc as the peer, once with Chromium, which sends and shows on the program's own page.
"""

from __future__ import annotations

import asyncio
import fractions
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.errors import ReenactError, SourceMissing, UsageError
from realtime.config import Config
from realtime.core import pixelcode
from tools.bench_costs import driving_frames
from tools.latency.figures import WHOLE, Measurement, Round, summary
from tools.latency.readings import Reading, readings_to_round, split
from tools.latency.rounds import ROOT
from tools.support.command import Notice
from tools.support.webrtc_client import Client

PEER_TITLE = "webrtc: a peer sends, the whole program, a peer watches"
BROWSER_TITLE = "chromium: the page sends, the whole program, the page shows"
_CLIP_S = 4.0
_SETTLE_S = 5.0
_START_S = 40.0


def measure(config: Config, fps: float, seconds: float, notice: Notice) -> list[Measurement]:
    """Measure with a peer, and with Chromium where it is installed. Raises ReenactError."""
    notice("rendering the clip")
    pictures = list(islice(driving_frames(None, config.size), round(_CLIP_S * fps)))
    with TemporaryDirectory() as name:
        folder = Path(name)
        notice("a peer sends and watches")
        with program(config, folder) as address:
            measurements = [asyncio.run(_peer(address, pictures, fps, seconds))]
        try:
            notice("Chromium sends and shows")
            with program(config, folder) as address:
                measurements.append(_browser(address, pictures, round(fps), seconds, folder))
        except UsageError as error:
            notice(f"Chromium was left out: {error}; {error.cure}")
    return measurements


class CodedTrack:
    """A track of pictures forwards and backwards without end, with the time drawn into each before it is encoded."""

    kind = "video"

    def __init__(self, pictures: Sequence[NDArray[np.uint8]], fps: float) -> None:
        self.id = "coded"
        planes = [np.asarray(cv2.cvtColor(each, cv2.COLOR_RGB2YUV_I420), np.uint8) for each in pictures]
        self._planes = planes + planes[-2:0:-1]
        self._fps = fps
        self._number = 0
        self._start: float | None = None

    async def recv(self) -> Any:
        """Wait until the next picture is due and return it as a VideoFrame."""
        from av import VideoFrame

        loop = asyncio.get_running_loop()
        self._start = loop.time() if self._start is None else self._start
        self._number += 1
        await asyncio.sleep(max(0.0, self._start + self._number / self._fps - loop.time()))
        pixels = self._planes[self._number % len(self._planes)]
        pixelcode.draw_i420(pixels, pixelcode.Code.now(self._number))
        frame = VideoFrame.from_ndarray(pixels, "yuv420p")
        frame.pts = round(90_000 * self._number / self._fps)
        frame.time_base = fractions.Fraction(1, 90_000)
        return frame

    def stop(self) -> None:
        """Do nothing: the track holds no resources."""


class CodeViewer(Client):
    """A viewer that reads the codes in its pictures."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.readings: list[Reading] = []
        self.unread = 0
        """Pictures without a readable code."""

    async def _receive(self, track: Any) -> None:
        from aiortc.mediastreams import MediaStreamError

        with suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                now = time.monotonic_ns()
                code = pixelcode.read(np.asarray(frame.to_ndarray(format="gray"), np.uint8))
                if code is None:
                    self.unread += 1
                else:
                    self.readings.append(Reading(code.counter, code.age_ns(now), now))


async def _peer(address: str, pictures: Sequence[NDArray[np.uint8]], fps: float, seconds: float) -> Measurement:
    _use_loopback_only()
    async with Client(address) as publisher, CodeViewer(address) as viewer:
        await publisher.publish(CodedTrack(pictures, fps))
        await viewer.watch(publisher.watch_path)
        until = time.monotonic() + _START_S
        while not viewer.readings:
            if time.monotonic() > until:
                raise ReenactError(
                    "measure-no-code",
                    f"no code came back within {_START_S:g} s ({viewer.unread} pictures without one)",
                    cure="measure with a larger --size, in which the code can be read",
                )
            await asyncio.sleep(0.05)
        await asyncio.sleep(_SETTLE_S)
        viewer.readings.clear()
        viewer.unread = 0
        await asyncio.sleep(seconds)
        whole = readings_to_round(viewer.readings, viewer.unread)
        with suppress(OSError):
            await publisher.delete()
    measurement = Measurement("webrtc", PEER_TITLE, split(whole), lacking="a code")
    measurement.notes.append("Includes encoding and decoding at both ends; all of it ran on one machine.")
    return measurement


def _use_loopback_only() -> None:
    """Make aioice use the loopback interface, which it leaves out by default, and no other."""
    import aioice.ice

    aioice.ice.get_host_addresses = lambda *_, **__: ["127.0.0.1"]


def _browser(
    address: str, pictures: Sequence[NDArray[np.uint8]], fps: int, seconds: float, folder: Path
) -> Measurement:
    from tools.latency import chromium

    clip = chromium.write_camera(folder / "camera.mjpeg", [*pictures, *pictures[-2:0:-1]], fps)
    result = chromium.measure_ages(address, clip, seconds=seconds)
    ages = result.ages_ms
    at = np.linspace(0.0, seconds, ages.size)
    whole = Round({WHOLE: ages.tolist()}, at.tolist(), ages.size + result.unread, result.unread)
    measurement = Measurement("chromium", BROWSER_TITLE, split(whole), lacking="a code")
    received = summary(result.received_ms)
    measurement.figures["part of it, from the last packet to the frame callback"] = (
        f"p50 {received['p50']:.1f}, p99 {received['p99']:.1f} ms"
    )
    measurement.figures.update({f"getStats: {name}": value for name, value in result.stats.items()})
    measurement.figures["camera pictures drawn, results shown"] = f"{result.drawn}, {ages.size + result.unread}"
    return measurement


@contextmanager
def program(config: Config, folder: Path, options: Sequence[str] = ()) -> Iterator[str]:
    """Run the program as a server, with further ``options``, and yield its address.

    Raises SourceMissing with the last line of its output.
    """
    log = folder / "log.txt"
    words = ["--camera", "webrtc", "--sink", "webrtc:127.0.0.1:0", "--relay-code", "--generator", config.generator]
    words += ["--size", "{}x{}".format(*config.size), *options]
    with log.open("wb") as out:
        running = subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), *words], cwd=folder, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        yield _address(running, log)
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGINT)
            try:
                running.wait(5)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def _address(running: subprocess.Popen[bytes], log: Path) -> str:
    """Wait for the address that the program prints."""
    until = time.monotonic() + _START_S
    while True:
        output = log.read_text("utf-8", "replace")
        match = re.search(r"^page +(http\S+)", output, re.MULTILINE)
        if match is not None:
            return match[1]
        if running.poll() is not None or time.monotonic() > until:
            last = (output.strip().splitlines() or ["it printed nothing"])[-1]
            raise SourceMissing("program-failed", f"run.py serves no page: {last}")
        time.sleep(0.05)
