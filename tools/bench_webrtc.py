"""What WebRTC adds, keeps and leaves behind on this machine, as in the table of the README.

    python -m tools.bench_webrtc [delay|path|drift|churn]... [--seconds N] [--drift-seconds N] [--publishers N]

delay   sender's frame to receiver's frame over loopback, H.264 and VP8 at 512x512 and 30 fps: aiortc as it is shipped
        and with what realtime.webrtc changes, by turns in one run
path    a publisher's frame to the daemon's read, through HTTP, ICE, the media process and shared memory, with the
        jitter buffer mended and not, by turns
drift   the same while the reader takes 1.5 frame periods for each: the delay in the last tenth against the first
churn   publishers that come and go in turn: threads, descriptors, children, shared memory and memory of both processes
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import cv2
import numpy as np
import typer

from engines.errors import SourceError, SourceLost
from realtime.webrtc.callbacks import ApiReply, ApiRequest
from realtime.webrtc.link import CALLBACK_THREADS, MediaLink
from realtime.webrtc.process import aiortc_setup
from realtime.webrtc.settings import ServerSettings
from realtime.webrtc.video import jitter_buffer
from realtime.webrtc.video.codecs import Codecs
from tools.support.command import new_app, run_app
from tools.support.webrtc_client import Client, PatternTrack, read_number

SIZE = (512, 512)
FPS = 30.0
SLOWER = 1.5
_WARM_UP = 20
_TURNS = 3
_CHURN_WARM_UP = 30
NOTHING = b"{}"
"""What the reading desk replies."""


class Part(StrEnum):
    """What can be measured by itself."""

    DELAY = "delay"
    PATH = "path"
    DRIFT = "drift"
    CHURN = "churn"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    name: str
    reach: str
    value: str
    met: bool | None
    """None where nothing is asked."""
    data: dict[str, float]


def percentiles(values: list[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    p50, p99 = np.percentile(values, (50, 99))
    return float(p50), float(p99)


@contextlib.contextmanager
def ours(settings: ServerSettings) -> Iterator[None]:
    """Within it aiortc makes senders and receivers as the media process does."""
    from aiortc import rtcrtpreceiver, rtcrtpsender

    before = {module: dict(vars(module)) for module in (rtcrtpsender, rtcrtpreceiver)}
    Codecs(settings).install()
    aiortc_setup.check_version()
    jitter_buffer.install()
    try:
        yield
    finally:
        jitter_buffer.uninstall()
        for module, names in before.items():
            vars(module).update(names)


async def loopback(codec: str, seconds: float) -> list[float]:
    """Delays in ms from one peer connection to another in this process, with a busy picture."""
    from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender

    sender, receiver = (RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2))
    track: Any = PatternTrack(SIZE, FPS, busy=True)
    transceiver = sender.addTransceiver("video", "sendonly")
    transceiver.sender.replaceTrack(track)
    known = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences([each for each in known if each.name in (codec, "rtx")])
    incoming: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    receiver.on("track", incoming.set_result)
    await sender.setLocalDescription(await sender.createOffer())
    await receiver.setRemoteDescription(sender.localDescription)
    await receiver.setLocalDescription(await receiver.createAnswer())
    await sender.setRemoteDescription(receiver.localDescription)
    delays = []
    try:
        source = await incoming
        for _ in range(_WARM_UP + int(seconds * FPS)):
            frame = await source.recv()
            now = time.monotonic_ns()
            number = read_number(frame.to_ndarray(format="gray"))
            if number in track.sent_ns:
                delays.append((now - track.sent_ns[number]) / 1e6)
    finally:
        await sender.close()
        await receiver.close()
    return delays[_WARM_UP:]


def delay(seconds: float) -> list[Figure]:
    """aiortc as shipped against ours, by turns."""
    figures = []
    for codec, reach in (("H264", "p50 at most 0.25x"), ("VP8", "")):
        shipped: list[float] = []
        mended: list[float] = []
        for _ in range(_TURNS):
            shipped += asyncio.run(loopback(codec, seconds / _TURNS))
            with ours(ServerSettings()):
                mended += asyncio.run(loopback(codec, seconds / _TURNS))
        (p50, p99), (p50_shipped, p99_shipped) = percentiles(mended), percentiles(shipped)
        ratio = p50 / p50_shipped
        value = f"{p50:.1f} / {p99:.1f} ms against {p50_shipped:.1f} / {p99_shipped:.1f} ms as shipped: {ratio:.2f}x"
        data = {"p50": p50, "p99": p99, "shipped_p50": p50_shipped, "shipped_p99": p99_shipped, "ratio": ratio}
        name = f"delay added by WebRTC, {codec} {SIZE[0]}x{SIZE[1]} at {FPS:g} fps, p50 / p99"
        figures.append(Figure(name, reach, value, ratio <= 0.25 if reach else None, data))
    return figures


class ReadingDesk:
    """Reads each publisher's pictures, each taking ``work_s``, and notes number and moment."""

    def __init__(self, work_s: float = 0.0) -> None:
        self.link: MediaLink | None = None
        self.seen: list[tuple[int, int, int]] = []
        """Of each picture: its number, when it was captured and when it was read (ns)."""
        self._work_s = work_s

    def open(self, session: str, watch: str) -> None:  # noqa: ARG002
        """Grant it."""
        threading.Thread(target=self._read, args=(session,), daemon=True).start()

    def closed(self, session: str) -> None:
        """Nothing to do: the reader ends with its source."""

    def control(self, session: str | None, message: bytes) -> bytes:  # noqa: ARG002
        """There are no commands."""
        return b'{"v":1,"ok":true}'

    def request(self, request: ApiRequest) -> ApiReply:  # noqa: ARG002
        """There is nothing to ask; that takes a moment, so that askers at once meet as many answerers as there are."""
        time.sleep(0.3)
        return ApiReply(404, "application/json", NOTHING)

    def _read(self, session: str) -> None:
        assert self.link is not None
        try:
            source = self.link.source(session, FPS)
        except SourceError:
            return
        with contextlib.suppress(SourceError):
            while True:
                with contextlib.suppress(SourceLost):
                    frame = source.read()
                    now = time.monotonic_ns()
                    grey = cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2GRAY)
                    self.seen.append((read_number(np.asarray(grey, np.uint8)), frame.stamps.captured, now))
                    time.sleep(max(0.0, self._work_s - (time.monotonic_ns() - now) / 1e9))
        source.close()


@contextlib.contextmanager
def server(callbacks: ReadingDesk, **settings: Any) -> Iterator[MediaLink]:
    """A media server on a free port of loopback."""
    link = MediaLink(ServerSettings(**{"port": 0, **settings}), callbacks, print)
    callbacks.link = link
    link.start()
    try:
        yield link
    finally:
        link.close()


async def publish(address: str, seconds: float) -> dict[int, int]:
    """Publish for so long; when each number was sent."""
    track = PatternTrack(SIZE, FPS, busy=True)
    async with Client(address) as client:
        await client.publish(track)
        await asyncio.sleep(seconds)
        await client.delete()
    return track.sent_ns


def through_server(seconds: float, work_s: float = 0.0, **settings: Any) -> list[tuple[float, float]]:
    """Of each picture read: when (s), and the delay from sending to reading (ms)."""
    callbacks = ReadingDesk(work_s)
    with server(callbacks, **settings) as link:
        sent = asyncio.run(publish(link.address, seconds))
    seen = [(read, (read - sent[number]) / 1e6) for number, _, read in callbacks.seen if number in sent][_WARM_UP:]
    return [(read / 1e9, delay_ms) for read, delay_ms in seen]


def path(seconds: float) -> list[Figure]:
    """A publisher to the daemon's read, mended against not."""
    by_mend: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(_TURNS):
        for mended, delays in by_mend.items():
            delays += [ms for _, ms in through_server(seconds / _TURNS + 2, marker_jitter_buffer=mended)]
    (p50, p99), (p50_off, p99_off) = percentiles(by_mend[True]), percentiles(by_mend[False])
    value = f"{p50:.1f} / {p99:.1f} ms against {p50_off:.1f} / {p99_off:.1f} ms without the mend: {p50 / p50_off:.2f}x"
    data = {"p50": p50, "p99": p99, "off_p50": p50_off, "off_p99": p99_off, "ratio": p50 / p50_off}
    return [Figure("publisher's frame to the daemon's read, p50 / p99", "", value, None, data)]


def drift(seconds: float) -> list[Figure]:
    """A reader that is 1.5 times too slow, for a long time."""
    seen = through_server(seconds, work_s=SLOWER / FPS)
    tenth = max(1, len(seen) // 10)
    first, last = (percentiles([ms for _, ms in part])[0] for part in (seen[:tenth], seen[-tenth:]))
    worst = max(ms for _, ms in seen)
    value = f"{last - first:+.1f} ms over {seconds:g} s ({len(seen)} pictures read, the oldest {worst:.0f} ms)"
    name = f"drift of the delay with a reader {SLOWER:g}x too slow"
    data = {"drift_ms": last - first, "first_ms": first, "last_ms": last, "worst_ms": worst, "seconds": seconds}
    return [Figure(name, "at most one frame (33 ms)", value, abs(last - first) <= 1000 / FPS, data)]


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds at a moment."""

    threads: int
    descriptors: int
    children: int
    memory_mb: float


def held(pid: int) -> Held:
    """Read out of /proc. Raises FileNotFoundError for a process that is gone, or where there is no /proc."""
    root = Path("/proc") / str(pid)
    lines = (root / "status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines if ":" in line)
    tasks = [task.name for task in (root / "task").iterdir()]
    children = sum(len((root / "task" / task / "children").read_text().split()) for task in tasks)
    return Held(len(tasks), len(list((root / "fd").iterdir())), children, int(status["VmRSS"].split()[0]) / 1024)


async def _visits(address: str, count: int) -> None:
    for visit in range(count):
        async with Client(address) as client:
            track = PatternTrack((320, 240), FPS)
            await client.publish(track, control=visit % 2 == 0)
            async with asyncio.timeout(15):
                while len(track.sent_ns) < 3:
                    await asyncio.sleep(0.01)
            if visit % 4:
                # each fourth only hangs up
                await client.delete()


def visits(address: str, count: int) -> None:
    """Publish so many times in turn, a few pictures each."""
    asyncio.run(_visits(address, count))


def _visits_elsewhere(address: str, count: int) -> None:
    """In a process of its own: what the client leaves behind is its own affair."""
    code = f"from tools.bench_webrtc import visits; visits({address!r}, {count})"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True)


async def _ask_at_once(address: str, count: int) -> None:
    """So many requests at the same time: threads that are started when they are first needed then all are."""

    async def ask(session: aiohttp.ClientSession) -> None:
        async with session.get(f"{address}api/nothing") as answer:
            if await answer.read() != NOTHING:
                raise RuntimeError(f"{answer.url} does not lead to the desk")

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(ask(session))


def _settled(pids: dict[str, int]) -> dict[str, Held]:
    """What they hold once the last visitor was seen off."""
    time.sleep(3)
    return {name: held(pid) for name, pid in pids.items()}


def churn(publishers: int) -> list[Figure]:
    """Publishers that come and go in turn; the first are to warm up."""
    callbacks = ReadingDesk()
    with server(callbacks) as link:
        pids = {"daemon": os.getpid(), "media process": link.process_id}
        asyncio.run(_ask_at_once(link.address, CALLBACK_THREADS))
        _visits_elsewhere(link.address, _CHURN_WARM_UP)
        before, shared = _settled(pids), len(os.listdir("/dev/shm"))
        _visits_elsewhere(link.address, publishers)
        after, shared = _settled(pids), len(os.listdir("/dev/shm")) - shared
    data: dict[str, float] = {"publishers": publishers, "shared memory": shared}
    words, met = [f"shared memory {shared:+d}"], shared <= 0
    for name in pids:
        earlier, later = asdict(before[name]), asdict(after[name])
        growth = {key: round(later[key] - earlier[key], 1) for key in earlier}
        met = met and growth["memory_mb"] < 10 and all(growth[key] <= 0 for key in growth if key != "memory_mb")
        data |= {f"{name} {key}": value for key, value in growth.items()}
        words.append(f"{name}: " + ", ".join(f"{key} {value:+g}" for key, value in growth.items()))
    name = f"growth over {publishers} publishers in turn"
    return [Figure(name, "none; memory below 10 MB", "; ".join(words), met, data)]


app = new_app()


@app.command()
def bench(
    parts: Annotated[list[Part] | None, typer.Argument(help="What to measure; all but drift by default.")] = None,
    seconds: Annotated[float, typer.Option(help="How long each side of delay and path is measured.")] = 30.0,
    drift_seconds: Annotated[float, typer.Option(help="How long the slow reader reads.")] = 600.0,
    publishers: Annotated[int, typer.Option(help="How many come and go.")] = 200,
    out: Annotated[Path | None, typer.Option("--json", help="Where to write the figures as JSON.")] = None,
) -> None:
    """Measure, and print the table."""
    measures = {
        Part.DELAY: lambda: delay(seconds),
        Part.PATH: lambda: path(seconds),
        Part.DRIFT: lambda: drift(drift_seconds),
        Part.CHURN: lambda: churn(publishers),
    }
    figures: list[Figure] = []
    for part in parts or [Part.DELAY, Part.PATH, Part.CHURN]:
        for figure in measures[part]():
            figures.append(figure)
            verdict = {None: "", True: " - met", False: " - NOT met"}[figure.met]
            print(f"{figure.name}: {figure.value}" + (f" (reach: {figure.reach}{verdict})" if figure.reach else ""))
    if out is not None:
        machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
        out.write_text(json.dumps({"machine": machine, "figures": [asdict(each) for each in figures]}, indent=1))


def main(arguments: list[str] | None = None, prog: str = "python -m tools.bench_webrtc") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
