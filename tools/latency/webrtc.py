"""The part ``webrtc``: a code in the pixels from a publisher over the network through the program and back to a viewer.

Once with a foreign peer (aiortc as it is shipped), once with Chromium, which sends and shows on the program's own page.
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
from tools.latency.device import blocks, codes_to_round
from tools.latency.figures import Part, Round, summary
from tools.latency.rounds import ROOT, Say
from tools.support.webrtc_client import Client

PEER_TITLE = "webrtc: a foreign peer sends, the whole program, a foreign peer watches"
BROWSER_TITLE = "chromium: the page sends, the whole program, the page shows"
_CLIP_S = 4.0
_SETTLE_S = 5.0
_START_S = 40.0


def measure(config: Config, fps: float, seconds: float, say: Say) -> list[Part]:
    """Measure with a peer, and with Chromium where it is installed. Raises ReenactError."""
    say("rendering the clip")
    pictures = list(islice(driving_frames(None, config.size), round(_CLIP_S * fps)))
    with TemporaryDirectory() as name:
        folder = Path(name)
        say("a peer sends and watches")
        with _program(config, folder) as address:
            parts = [asyncio.run(_peer(address, pictures, fps, seconds))]
        try:
            say("Chromium sends and shows")
            with _program(config, folder) as address:
                parts.append(_browser(address, pictures, round(fps), seconds, folder))
        except UsageError as error:
            say(f"Chromium is left out: {error}; {error.cure}")
    return parts


class CodedTrack:
    """Pictures to and fro without end, the time drawn into each when it is given to be encoded."""

    kind = "video"

    def __init__(self, pictures: Sequence[NDArray[np.uint8]], fps: float) -> None:
        self.id = "coded"
        planes = [np.asarray(cv2.cvtColor(each, cv2.COLOR_RGB2YUV_I420), np.uint8) for each in pictures]
        self._planes = planes + planes[-2:0:-1]
        self._fps = fps
        self._number = 0
        self._start: float | None = None

    async def recv(self) -> Any:
        """The next picture, when its time has come."""
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
        """Nothing to let go of."""


class CodeWatcher(Client):
    """A viewer that reads codes."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.seen: list[tuple[int, int, int]] = []
        """Counter, age (ns) and when (monotonic ns) of each picture with a code."""
        self.blank = 0

    async def _receive(self, track: Any) -> None:
        from aiortc.mediastreams import MediaStreamError

        with suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                now = time.monotonic_ns()
                code = pixelcode.read(np.asarray(frame.to_ndarray(format="gray"), np.uint8))
                if code is None:
                    self.blank += 1
                else:
                    self.seen.append((code.counter, code.age_ns(now), now))


async def _peer(address: str, pictures: Sequence[NDArray[np.uint8]], fps: float, seconds: float) -> Part:
    _stay_here()
    async with Client(address) as publisher, CodeWatcher(address) as viewer:
        await publisher.publish(CodedTrack(pictures, fps))
        await viewer.watch(publisher.watch_path)
        until = time.monotonic() + _START_S
        while not viewer.seen:
            if time.monotonic() > until:
                raise ReenactError(
                    f"no code came back within {_START_S:g} s ({viewer.blank} pictures without one)",
                    cure="measure with a larger --size, in which the code can be read",
                )
            await asyncio.sleep(0.05)
        await asyncio.sleep(_SETTLE_S)
        viewer.seen.clear()
        viewer.blank = 0
        await asyncio.sleep(seconds)
        found = codes_to_round(viewer.seen, viewer.blank)
        with suppress(OSError):
            await publisher.delete()
    part = Part("webrtc", PEER_TITLE, blocks(found), lacking="a code")
    part.notes.append("Of it, encoding and decoding at both ends; sent, watched and measured on one machine.")
    return part


def _stay_here() -> None:
    """Let nothing leave this machine: aioice leaves the loopback out by itself, and takes every other address."""
    import aioice.ice

    aioice.ice.get_host_addresses = lambda *_, **__: ["127.0.0.1"]


def _browser(address: str, pictures: Sequence[NDArray[np.uint8]], fps: int, seconds: float, folder: Path) -> Part:
    from tools.latency import chromium

    clip = chromium.write_camera(folder / "camera.mjpeg", [*pictures, *pictures[-2:0:-1]], fps)
    found = chromium.measure_ages(address, clip, seconds=seconds)
    ages = found.ages_ms
    at = np.linspace(0.0, seconds, ages.size)
    whole = Round({"end to end": ages.tolist()}, at.tolist(), ages.size + found.unread, found.unread)
    part = Part("chromium", BROWSER_TITLE, blocks(whole), lacking="a code")
    late = summary(found.received_ms)
    part.figures["of it, from its last packet to the screen's callback"] = (
        f"p50 {late['p50']:.1f}, p99 {late['p99']:.1f} ms"
    )
    part.figures.update({f"getStats: {name}": value for name, value in found.stats.items()})
    part.figures["camera pictures drawn, results shown"] = f"{found.drawn}, {ages.size + found.unread}"
    return part


@contextmanager
def _program(config: Config, folder: Path) -> Iterator[str]:
    """The program as a server, and its address. Raises ReenactError with its last words."""
    log = folder / "log.txt"
    words = ["--camera", "webrtc", "--sink", "webrtc:127.0.0.1:0", "--relay-code", "--generator", config.generator]
    words += ["--size", "{}x{}".format(*config.size)]
    with log.open("w") as out:
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
    until = time.monotonic() + _START_S
    while True:
        said = log.read_text(errors="replace")
        found = re.search(r"^page +(http\S+)", said, re.MULTILINE)
        if found is not None:
            return found[1]
        if running.poll() is not None or time.monotonic() > until:
            raise SourceMissing(f"run.py serves no page: {(said.strip().splitlines() or ['it said nothing'])[-1]}")
        time.sleep(0.05)
