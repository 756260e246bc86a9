"""The method ``device``: a code in the pixels, in through one virtual camera and out through another.

Three processes share nothing but the clock: one feeds camera A and draws the time into each picture just before it
sends it, the program captures A and feeds B, and one reads B and takes the time as soon as it has a picture.

    python -m tools.latency.device feed|read DEVICE ...

are the first and the last of them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import cv2
import numpy as np
import typer

from engines.errors import ReenactError, SourceMissing
from realtime.capture import v4l2_devices
from realtime.config import Config
from realtime.core import pixelcode
from realtime.core.frames import Frame, PixelFormat, Stamps
from tools.latency.figures import WHOLE, Measurement, Round, summary
from tools.latency.readings import Reading, readings_to_round, split
from tools.latency.rounds import ROOT, record
from tools.support.command import Notice, new_app, run_app
from tools.support.files import read_frames, write_json

TITLE = "device: a virtual camera in, the whole program, a virtual camera out"
MODPROBE = (
    "sudo modprobe -r v4l2loopback; sudo modprobe v4l2loopback devices=2 video_nr=10,11 "
    "card_label=reenact-in,reenact-out exclusive_caps=1,1"
)
_CLIP_S = 4.0
_SETTLE_S = 3.0
_CAMERA_ALONE_S = 3.0
_START_S = 60.0


@dataclass(frozen=True, slots=True)
class LoggedProcess:
    """A process, and the file that its output goes to."""

    process: subprocess.Popen[bytes]
    log: Path

    def last_line(self) -> str:
        """Return the last line of its output."""
        lines = self.log.read_text("utf-8", "replace").strip().splitlines() if self.log.is_file() else []
        return lines[-1] if lines else "it printed nothing"


def find_cameras() -> tuple[v4l2_devices.Node, v4l2_devices.Node]:
    """Return two virtual cameras that no program feeds. Raises SourceMissing."""
    virtual = [node for node in v4l2_devices.list_nodes() if node.loopback]
    free = [node for node in virtual if not node.permission_denied and not node.has_producer]
    if len(free) < 2:
        found = f"{len(free) or 'no'} v4l2loopback camera{'' if len(free) == 1 else 's'} that no program feeds"
        raise SourceMissing("virtualcam-two-needed", found, "two", MODPROBE)
    return free[0], free[1]


def measure(config: Config, fps: float, seconds: float, notice: Notice) -> Measurement:
    """Measure through two virtual cameras. Raises SourceMissing where there are none, ReenactError."""
    first, second = find_cameras()
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        clip = folder / "performer.mp4"
        notice("rendering the clip")
        record(clip, config.size, fps, _CLIP_S)
        size = "{}x{}".format(*config.size)
        notice(f"feeding {first}")
        stack.enter_context(_feeder(first.path, str(clip), "--size", size, "--fps", f"{fps:g}"))
        alone = _read_in_process(first.path, _CAMERA_ALONE_S, folder)
        notice(f"the program captures {first} and feeds {second}")
        report = folder / "report.json"
        program = stack.enter_context(_program(config, fps, first.path, second.path, report))
        whole = _read_in_process(second.path, seconds, folder)
        _stop(program.process, signal.SIGINT)
        own_figures = json.loads(report.read_text("utf-8")) if report.is_file() else None
        last_line = program.last_line()
    measurement = Measurement("device", TITLE, split(whole), lacking="a code")
    if own_figures is None or not measurement.samples(WHOLE).size:
        raise ReenactError("measure-no-code", f"no code arrived on {second}", cure=f"run.py printed: {last_line}")
    measurement.figures.update(_extra_figures(measurement, alone, own_figures, config.size))
    return measurement


def _extra_figures(
    measurement: Measurement, alone: Round, own_figures: dict[str, Any], size: tuple[int, int]
) -> dict[str, float | str]:
    """Return the share of the devices, and of everything that is neither MediaPipe nor the generator."""
    age, camera = summary(measurement.samples(WHOLE)), summary(alone.whole)
    times = own_figures["latency_ms"]
    cost = code_cost_ms(size)
    work = {q: times["track"][q] + times["generate"][q] for q in ("p50", "p99")}
    drops = ", ".join(f"{place} {count}" for place, count in own_figures["dropped"].items() if place != "starting")
    return {
        "one virtual camera alone, fed and read, p50 ms": camera["p50"],
        "track + generate, from the program's report, p50 ms": work["p50"],
        "captured to sent, from the program's report, p50 ms": times["captured_to_sent"]["p50"],
        "everything else, p50 ms": age["p50"] - work["p50"],
        "over track + generate": f"p50 {age['p50'] / work['p50']:.2f}x, p99 {age['p99'] / work['p50']:.2f}x of its p50",
        "dropped by the program": drops,
        "share of the code": f"{cost:.2f} ms, {100 * cost / age['p50']:.1f} % (drawn, read and drawn again)",
    }


def code_cost_ms(size: tuple[int, int]) -> float:
    """Measure what the code adds to a frame's delay: drawn by the feeder, read and drawn again by the program."""
    width, height = size
    planes, driving = np.zeros((height * 3 // 2, width), np.uint8), np.zeros((height, width, 3), np.uint8)
    costs = []
    for number in range(200):
        start = time.perf_counter()
        code = pixelcode.Code.now(number)
        pixelcode.draw_i420(planes, code)
        drawn = time.perf_counter()
        pixelcode.draw(driving, code)
        begin = time.perf_counter()
        pixelcode.read(driving)
        pixelcode.draw_i420(planes, code)
        costs.append(time.perf_counter() - begin + drawn - start)
    return 1000 * float(np.median(costs))


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "tools.latency.device", *words]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "1"}


@contextmanager
def _feeder(*words: str) -> Iterator[None]:
    """Feed a camera in another process while the block runs."""
    process = subprocess.Popen(_command("feed", *words), cwd=ROOT, env=_environment(), stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        _stop(process, signal.SIGTERM)


@contextmanager
def _program(config: Config, fps: float, camera: str, sink: str, report: Path) -> Iterator[LoggedProcess]:
    """Run the program as a user starts it while the block runs."""
    words = ["--camera", camera, "--sink", f"virtualcam:{sink}", "--size", "{}x{}".format(*config.size)]
    words += ["--fps", f"{fps:g}", "--generator", config.generator, "--relay-code", "--quiet", "--report", str(report)]
    log = report.with_suffix(".log")
    with log.open("wb") as file:
        command = [sys.executable, str(ROOT / "run.py"), *words]
        process = subprocess.Popen(command, cwd=ROOT, env=_environment(), stderr=file, stdout=file)
        try:
            yield LoggedProcess(process, log)
        finally:
            _stop(process, signal.SIGINT)


def _stop(process: subprocess.Popen[bytes], with_signal: signal.Signals) -> None:
    """End a process and wait for it; kill it after 5 s."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            process.send_signal(with_signal)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _read_in_process(device: str, seconds: float, folder: Path) -> Round:
    """Read codes in another process. Raises ReenactError."""
    out = folder / "read.json"
    ended = subprocess.run(
        _command("read", device, str(out), "--seconds", f"{seconds:g}"),
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=seconds + 2 * _START_S,
        check=False,
    )
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["without a message"])[-1]
        raise ReenactError("device-read-failed", f"reading {device} failed: {last}", cure="check that it is fed")
    return Round(**json.loads(out.read_text("utf-8")))


def feed(device: str, clip: Path, size: tuple[int, int], fps: float) -> None:
    """Send the clip forwards and backwards without end, with the time in each picture, until SIGTERM."""
    from realtime.sinks.sink import open_sink

    planes = [np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420), np.uint8) for image in read_frames(clip)]
    planes += planes[-2:0:-1]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sink = open_sink(f"virtualcam:{device}", size=size, fps=fps)
    try:
        start, number = time.monotonic(), 0
        while True:
            time.sleep(max(0.0, start + number / fps - time.monotonic()))
            pixels = planes[number % len(planes)]
            now = time.monotonic_ns()
            pixelcode.draw_i420(pixels, pixelcode.Code.at(number, now))
            sink.send(Frame(pixels, PixelFormat.I420, number, Stamps(now), now))
            number += 1
    finally:
        sink.close()


def read(device: str, seconds: float) -> Round:
    """Read codes from a camera for ``seconds``, after some seconds of settling. Raises SourceMissing."""
    camera = _open_camera(device)
    width, height = int(camera.get(cv2.CAP_PROP_FRAME_WIDTH)), int(camera.get(cv2.CAP_PROP_FRAME_HEIGHT))
    until = time.monotonic() + _START_S
    readings: list[Reading] = []
    unread, begin = 0, 0.0
    try:
        while not begin or time.monotonic() < begin + seconds:
            success, picture = camera.read()
            now = time.monotonic_ns()
            luma = picture.reshape(-1)[: width * height].astype(np.uint8, copy=False) if success else None
            code = pixelcode.read(luma.reshape(height, width)) if luma is not None else None
            if not begin and code is not None:
                begin = now / 1e9 + min(_SETTLE_S, seconds)
            if not begin and now / 1e9 > until:
                raise SourceMissing("measure-no-code", f"no code was seen on {device} within {_START_S:g} s")
            if begin and now / 1e9 >= begin and success:
                if code is None:
                    unread += 1
                else:
                    readings.append(Reading(code.counter, code.age_ns(now), now))
    finally:
        camera.release()
    return readings_to_round(readings, unread)


def _open_camera(device: str) -> cv2.VideoCapture:
    """Open a virtual camera for its raw pictures, once a program feeds it. Raises SourceMissing."""
    cv2.setLogLevel(0)
    camera = cv2.VideoCapture(device, cv2.CAP_V4L2)
    until = time.monotonic() + _START_S
    while not camera.isOpened():
        if time.monotonic() > until:
            found = f"{device} did not become a camera within {_START_S:g} s"
            raise SourceMissing("virtualcam-not-fed", found, cure="check that a program feeds it")
        time.sleep(0.05)
        camera.open(device, cv2.CAP_V4L2)
    camera.set(cv2.CAP_PROP_CONVERT_RGB, 0)
    return camera


app = new_app()


@app.command("feed")
def feed_command(
    device: str,
    clip: Path,
    size: Annotated[str, typer.Option(metavar="WxH")] = "640x480",
    fps: Annotated[float, typer.Option()] = 30.0,
) -> None:
    """Feed a virtual camera."""
    width, _, height = size.partition("x")
    feed(device, clip, (int(width), int(height)), fps)


@app.command("read")
def read_command(device: str, out: Path, seconds: Annotated[float, typer.Option()] = 10.0) -> None:
    """Read codes from a camera and write their ages as JSON."""
    write_json(out, asdict(read(device, seconds)), "OUT", indent=None)


def main(arguments: list[str] | None = None, prog: str = "python -m tools.latency.device") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
