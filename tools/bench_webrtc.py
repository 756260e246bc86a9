"""The delay that WebRTC adds on this machine, and what its connections leave behind.

    python -m tools.bench_webrtc [delay|path|drift|churn]... [--seconds N] [--drift-seconds N] [--publishers N]

delay   sender's frame to receiver's frame over loopback, H.264 and VP8 at 512x512 and 30 fps: unmodified aiortc
        alternating with the changes of realtime.webrtc in one run
path    a publisher's frame to the daemon's read, through HTTP, ICE, the media process and shared memory, with and
        without the changed jitter buffer, alternating
drift   the same while the reader takes 1.5 frame periods for each frame: the delay in the last tenth against the first
churn   publishers that connect and disconnect one after the other: the growth of threads, file descriptors, children,
        shared memory and memory of both processes
"""

from __future__ import annotations

import asyncio
import contextlib
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
from tools.support.files import check_writable, write_json
from tools.support.webrtc_client import Client, PatternTrack, read_number

SIZE = (512, 512)
FPS = 30.0
SLOW_READER = 1.5
"""How many frame periods the slow reader takes for each frame."""
_WARM_UP = 20
_REPEATS = 3
_CHURN_WARM_UP = 30
EMPTY_REPLY = b"{}"


class Benchmark(StrEnum):
    """The benchmarks that can be run by themselves."""

    DELAY = "delay"
    PATH = "path"
    DRIFT = "drift"
    CHURN = "churn"


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the result."""

    name: str
    target: str
    value: str
    met: bool | None
    """None where there is no target."""
    data: dict[str, float]


def percentiles(values: list[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile."""
    p50, p99 = np.percentile(values, (50, 99))
    return float(p50), float(p99)


@contextlib.contextmanager
def patched_aiortc(settings: ServerSettings) -> Iterator[None]:
    """Let aiortc create senders and receivers as in the media process while the block runs. Raises SinkMissing."""
    from aiortc import rtcrtpreceiver, rtcrtpsender

    originals = {module: dict(vars(module)) for module in (rtcrtpsender, rtcrtpreceiver)}
    Codecs(settings).install()
    aiortc_setup.check_version()
    jitter_buffer.install()
    try:
        yield
    finally:
        jitter_buffer.uninstall()
        for module, names in originals.items():
            vars(module).update(names)


async def loopback(codec: str, seconds: float) -> list[float]:
    """Return the delays in ms from one peer connection to another in this process, with a detailed picture."""
    from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender

    sender, receiver = (RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2))
    track: Any = PatternTrack(SIZE, FPS, busy=True)
    transceiver = sender.addTransceiver("video", "sendonly")
    transceiver.sender.replaceTrack(track)
    codecs = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences([each for each in codecs if each.name in (codec, "rtx")])
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
    """Compare unmodified aiortc with the changes of realtime.webrtc, alternating."""
    figures = []
    for codec, target in (("H264", "p50 at most 0.25x"), ("VP8", "")):
        unmodified: list[float] = []
        changed: list[float] = []
        for _ in range(_REPEATS):
            unmodified += asyncio.run(loopback(codec, seconds / _REPEATS))
            with patched_aiortc(ServerSettings()):
                changed += asyncio.run(loopback(codec, seconds / _REPEATS))
        (p50, p99), (p50_unmodified, p99_unmodified) = percentiles(changed), percentiles(unmodified)
        ratio = p50 / p50_unmodified
        reference = f"{p50_unmodified:.1f} / {p99_unmodified:.1f} ms with unmodified aiortc"
        value = f"{p50:.1f} / {p99:.1f} ms against {reference}: {ratio:.2f}x"
        data = {"p50": p50, "p99": p99, "unmodified_p50": p50_unmodified, "unmodified_p99": p99_unmodified}
        data["ratio"] = ratio
        name = f"delay added by WebRTC, {codec} {SIZE[0]}x{SIZE[1]} at {FPS:g} fps, p50 / p99"
        figures.append(Figure(name, target, value, ratio <= 0.25 if target else None, data))
    return figures


class NumberReader:
    """Server callbacks that read the number in each published picture, taking ``work_s`` for each."""

    def __init__(self, work_s: float = 0.0) -> None:
        self.link: MediaLink | None = None
        self.numbers: list[tuple[int, int]] = []
        """The number of each picture and when it was read (ns)."""
        self._work_s = work_s

    def open(self, session: str, watch: str) -> None:  # noqa: ARG002
        """Read the publisher's pictures on a thread."""
        threading.Thread(target=self._read, args=(session,), daemon=True).start()

    def closed(self, session: str) -> None:
        """Do nothing: the reader ends with its source."""

    def control(self, session: str | None, message: bytes) -> bytes:  # noqa: ARG002
        """Answer every command with success."""
        return b'{"v":1,"ok":true}'

    def request(self, request: ApiRequest) -> ApiReply:  # noqa: ARG002
        """Answer 404 after a moment, so that simultaneous requests occupy all threads that answer."""
        time.sleep(0.3)
        return ApiReply(404, "application/json", EMPTY_REPLY)

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
                    self.numbers.append((read_number(np.asarray(grey, np.uint8)), now))
                    time.sleep(max(0.0, self._work_s - (time.monotonic_ns() - now) / 1e9))
        source.close()


@contextlib.contextmanager
def server(callbacks: NumberReader, **settings: Any) -> Iterator[MediaLink]:
    """Run a media server on a free port of the loopback interface while the block runs."""
    link = MediaLink(ServerSettings(**{"port": 0, **settings}), callbacks, print)
    callbacks.link = link
    link.start()
    try:
        yield link
    finally:
        link.close()


async def publish(address: str, seconds: float) -> dict[int, int]:
    """Publish for ``seconds``. Return when each number was sent (ns)."""
    track = PatternTrack(SIZE, FPS, busy=True)
    async with Client(address) as client:
        await client.publish(track)
        await asyncio.sleep(seconds)
        await client.delete()
    return track.sent_ns


def through_server(seconds: float, work_s: float = 0.0, **settings: Any) -> list[tuple[float, float]]:
    """Return when each picture was read (s), and the delay from sending to reading (ms)."""
    callbacks = NumberReader(work_s)
    with server(callbacks, **settings) as link:
        sent = asyncio.run(publish(link.address, seconds))
    reads = [(number, read_ns) for number, read_ns in callbacks.numbers if number in sent][_WARM_UP:]
    return [(read_ns / 1e9, (read_ns - sent[number]) / 1e6) for number, read_ns in reads]


def path(seconds: float) -> list[Figure]:
    """Measure a publisher's frame to the daemon's read, with and without the changed jitter buffer."""
    delays: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(_REPEATS):
        for changed, samples in delays.items():
            samples += [ms for _, ms in through_server(seconds / _REPEATS + 2, marker_jitter_buffer=changed)]
    (p50, p99), (p50_off, p99_off) = percentiles(delays[True]), percentiles(delays[False])
    reference = f"{p50_off:.1f} / {p99_off:.1f} ms with aiortc's jitter buffer"
    value = f"{p50:.1f} / {p99:.1f} ms against {reference}: {p50 / p50_off:.2f}x"
    data = {"p50": p50, "p99": p99, "off_p50": p50_off, "off_p99": p99_off, "ratio": p50 / p50_off}
    return [Figure("publisher's frame to the daemon's read, p50 / p99", "", value, None, data)]


def drift(seconds: float) -> list[Figure]:
    """Measure how the delay grows while a reader is 1.5 times too slow."""
    reads = through_server(seconds, work_s=SLOW_READER / FPS)
    tenth = max(1, len(reads) // 10)
    first, last = (percentiles([ms for _, ms in some])[0] for some in (reads[:tenth], reads[-tenth:]))
    worst = max(ms for _, ms in reads)
    value = f"{last - first:+.1f} ms over {seconds:g} s ({len(reads)} pictures read, the largest delay {worst:.0f} ms)"
    name = f"drift of the delay with a reader {SLOW_READER:g}x too slow"
    data = {"drift_ms": last - first, "first_ms": first, "last_ms": last, "worst_ms": worst, "seconds": seconds}
    return [Figure(name, "at most one frame (33 ms)", value, abs(last - first) <= 1000 / FPS, data)]


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """The resources of a process."""

    threads: int
    descriptors: int
    children: int
    memory_mb: float


def process_usage(pid: int) -> ProcessUsage:
    """Read the resources of a process from /proc. Raises FileNotFoundError without such a process or /proc."""
    root = Path("/proc") / str(pid)
    lines = (root / "status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines if ":" in line)
    tasks = [task.name for task in (root / "task").iterdir()]
    children = sum(len((root / "task" / task / "children").read_text().split()) for task in tasks)
    descriptors, memory_mb = len(list((root / "fd").iterdir())), int(status["VmRSS"].split()[0]) / 1024
    return ProcessUsage(len(tasks), descriptors, children, memory_mb)


async def _publish_in_turn(address: str, count: int) -> None:
    for number in range(count):
        async with Client(address) as client:
            track = PatternTrack((320, 240), FPS)
            await client.publish(track, control=number % 2 == 0)
            async with asyncio.timeout(15):
                while len(track.sent_ns) < 3:
                    await asyncio.sleep(0.01)
            if number % 4:  # each fourth only closes its connection
                await client.delete()


def publish_in_turn(address: str, count: int) -> None:
    """Publish ``count`` times one after the other, a few pictures each."""
    asyncio.run(_publish_in_turn(address, count))


def _publish_in_process(address: str, count: int) -> None:
    """Publish in another process, so that the client's resources are not counted."""
    code = f"from tools.bench_webrtc import publish_in_turn; publish_in_turn({address!r}, {count})"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True)


async def _request_at_once(address: str, count: int) -> None:
    """Send ``count`` simultaneous requests, so that all threads which start on demand are started."""

    async def request(session: aiohttp.ClientSession) -> None:
        async with session.get(f"{address}api/nothing") as response:
            if await response.read() != EMPTY_REPLY:
                raise RuntimeError(f"{response.url} does not reach the callbacks")

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(request(session))


def _settled_usage(pids: dict[str, int]) -> dict[str, ProcessUsage]:
    """Return the resources of the processes once the last connection was cleaned up."""
    time.sleep(3)
    return {name: process_usage(pid) for name, pid in pids.items()}


def churn(publishers: int) -> list[Figure]:
    """Measure the growth over publishers that connect and disconnect one after the other, after a warm-up."""
    callbacks = NumberReader()
    with server(callbacks) as link:
        pids = {"daemon": os.getpid(), "media process": link.process_id}
        asyncio.run(_request_at_once(link.address, CALLBACK_THREADS))
        _publish_in_process(link.address, _CHURN_WARM_UP)
        before, shared = _settled_usage(pids), len(os.listdir("/dev/shm"))
        _publish_in_process(link.address, publishers)
        after, shared = _settled_usage(pids), len(os.listdir("/dev/shm")) - shared
    data: dict[str, float] = {"publishers": publishers, "shared memory": shared}
    texts, met = [f"shared memory {shared:+d}"], shared <= 0
    for name in pids:
        earlier, later = asdict(before[name]), asdict(after[name])
        growth = {key: round(later[key] - earlier[key], 1) for key in earlier}
        met = met and growth["memory_mb"] < 10 and all(growth[key] <= 0 for key in growth if key != "memory_mb")
        data |= {f"{name} {key}": value for key, value in growth.items()}
        texts.append(f"{name}: " + ", ".join(f"{key} {value:+g}" for key, value in growth.items()))
    name = f"growth over {publishers} publishers in turn"
    return [Figure(name, "none; memory below 10 MB", "; ".join(texts), met, data)]


app = new_app()


@app.command()
def bench_command(
    benchmarks: Annotated[
        list[Benchmark] | None, typer.Argument(help="What to measure; all but drift by default.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long delay and path measure each side.")] = 30.0,
    drift_seconds: Annotated[float, typer.Option(help="How long the slow reader reads.")] = 600.0,
    publishers: Annotated[int, typer.Option(help="How many publishers churn uses.")] = 200,
    out: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Measure what WebRTC adds to the delay."""
    if out:
        check_writable(out, "--json")
    measures = {
        Benchmark.DELAY: lambda: delay(seconds),
        Benchmark.PATH: lambda: path(seconds),
        Benchmark.DRIFT: lambda: drift(drift_seconds),
        Benchmark.CHURN: lambda: churn(publishers),
    }
    figures: list[Figure] = []
    for benchmark in benchmarks or [Benchmark.DELAY, Benchmark.PATH, Benchmark.CHURN]:
        for figure in measures[benchmark]():
            figures.append(figure)
            result = {None: "", True: ", met", False: ", NOT met"}[figure.met]
            target = f" (target: {figure.target}{result})" if figure.target else ""
            print(f"{figure.name}: {figure.value}{target}")
    if out is not None:
        machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
        write_json(out, {"machine": machine, "figures": [asdict(each) for each in figures]}, "--json")


def main(arguments: list[str] | None = None, prog: str = "python -m tools.bench_webrtc") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
