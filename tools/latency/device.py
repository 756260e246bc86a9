"""The part ``device``: a code in the pixels, in by one virtual camera, through the whole program, out by another.

Three processes share nothing but the clock: one feeds camera A and draws the time into each picture just before it
sends it, the program captures A and feeds B, and one reads B and looks at the time as soon as it has a picture.

    python -m tools.latency.device feed|read DEVICE ...

is the first and the last of them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
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
from tools.latency.figures import Part, Round, summary
from tools.latency.rounds import ROOT, Say, record
from tools.support.command import new_app, run_app

TITLE = "device: a virtual camera in, the whole program, a virtual camera out"
MODPROBE = (
    "sudo modprobe -r v4l2loopback; sudo modprobe v4l2loopback devices=2 video_nr=10,11 "
    "card_label=reenact-in,reenact-out exclusive_caps=1,1"
)
_STAGE = "end to end"
BLOCKS = 6
_CLIP_S = 4.0
_SETTLE_S = 3.0
_ALONE_S = 3.0
_START_S = 60.0


def pair() -> tuple[v4l2_devices.Node, v4l2_devices.Node]:
    """Two virtual cameras that nobody feeds. Raises SourceMissing."""
    virtual = [node for node in v4l2_devices.list_nodes() if node.loopback]
    free = [node for node in virtual if not node.permission_denied and not node.has_producer]
    if len(free) < 2:
        found = "one" if free else "none"
        raise SourceMissing(f"two v4l2loopback cameras that no program feeds are needed, found {found}", cure=MODPROBE)
    return free[0], free[1]


def measure(config: Config, fps: float, seconds: float, say: Say) -> Part:
    """Measure on two virtual cameras. Raises SourceMissing where there are none, ReenactError."""
    first, second = pair()
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        clip = folder / "performer.mp4"
        say("rendering the clip")
        record(clip, config.size, fps, _CLIP_S)
        size = "{}x{}".format(*config.size)
        say(f"feeding {first}")
        stack.enter_context(_running("feed", first.path, str(clip), "--size", size, "--fps", f"{fps:g}"))
        alone = _read(first.path, _ALONE_S, folder)
        say(f"the program captures {first} and feeds {second}")
        report = folder / "report.json"
        program = stack.enter_context(_program(config, fps, first.path, second.path, report))
        found = _read(second.path, seconds, folder)
        _stop(program, signal.SIGINT)
        figures = json.loads(report.read_text()) if report.is_file() else None
    part = Part("device", TITLE, blocks(found), lacking="a code")
    if figures is None or not part.samples(_STAGE).size:
        raise ReenactError(f"no code came through {second}", cure="see what run.py says: " + _tail(program))
    part.figures.update(_over(part, alone, figures, config.size))
    return part


def _over(part: Part, alone: Round, figures: dict[str, Any], size: tuple[int, int]) -> dict[str, float | str]:
    """What of it the devices take, and how much of it is neither MediaPipe nor the warp."""
    age, lone = summary(part.samples(_STAGE)), summary(alone.whole)
    times = figures["latency_ms"]
    cost = code_cost_ms(size)
    work = {q: times["track"][q] + times["generate"][q] for q in ("p50", "p99")}
    drops = ", ".join(f"{place} {count}" for place, count in figures["dropped"].items() if place != "starting")
    return {
        "one virtual camera alone, fed and read, p50 ms": lone["p50"],
        "track + generate, as the program itself says, p50 ms": work["p50"],
        "captured to sent, as the program itself says, p50 ms": times["captured_to_sent"]["p50"],
        "all the rest, p50 ms": age["p50"] - work["p50"],
        "over track + generate": f"p50 {age['p50'] / work['p50']:.2f}x, p99 {age['p99'] / work['p50']:.2f}x of its p50",
        "dropped by the program": drops,
        "the code's own share": f"{cost:.2f} ms, {100 * cost / age['p50']:.1f} % (drawn, read and drawn again)",
    }


def code_cost_ms(size: tuple[int, int]) -> float:
    """What the code adds to a frame's way: drawn by the feeder, read and drawn again by the program; measured."""
    width, height = size
    planes, driving = np.zeros((height * 3 // 2, width), np.uint8), np.zeros((height, width, 3), np.uint8)
    spent = []
    for number in range(200):
        start = time.perf_counter()
        code = pixelcode.Code.now(number)
        pixelcode.draw_i420(planes, code)
        half = time.perf_counter()
        pixelcode.draw(driving, code)
        again = time.perf_counter()
        pixelcode.read(driving)
        pixelcode.draw_i420(planes, code)
        spent.append(time.perf_counter() - again + half - start)
    return 1000 * float(np.median(spent))


def blocks(found: Round) -> list[Round]:
    """One run cut into spans of time, so that its own unrest can be seen."""
    if not found.at_s:
        return [found]
    edges = np.linspace(found.at_s[0], found.at_s[-1] + 1e-6, BLOCKS + 1)
    where = np.digitize(found.at_s, edges) - 1
    blocks = []
    for number in range(BLOCKS):
        rows = np.flatnonzero(where == number)
        stages = {name: [values[row] for row in rows] for name, values in found.stages.items()}
        cadence = [found.cadence_ms[row] for row in rows if row < len(found.cadence_ms)]
        first = number == 0
        blocks.append(
            Round(
                stages,
                [found.at_s[row] for row in rows],
                found.frames - (len(found.at_s) - len(rows)) if first else len(rows),
                found.missed if first else 0,
                found.dropped if first else {},
                cadence,
            )
        )
    return [block for block in blocks if block.at_s]


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "tools.latency.device", *words]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "1"}


@contextmanager
def _running(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """One of this file's processes, ended with the block."""
    process = subprocess.Popen(_command(*words), cwd=ROOT, env=_environment(), stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        _stop(process, signal.SIGTERM)


@contextmanager
def _program(config: Config, fps: float, camera: str, sink: str, report: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The program itself, as a person starts it."""
    words = ["--camera", camera, "--sink", f"virtualcam:{sink}", "--size", "{}x{}".format(*config.size)]
    words += ["--fps", f"{fps:g}", "--generator", config.generator, "--relay-code", "--quiet", "--report", str(report)]
    log = report.with_suffix(".log").open("wb")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *words], cwd=ROOT, env=_environment(), stderr=log, stdout=log
    )
    process.said = report.with_suffix(".log")  # type: ignore[attr-defined]
    try:
        yield process
    finally:
        _stop(process, signal.SIGINT)
        log.close()


def _stop(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            process.send_signal(how)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _tail(process: subprocess.Popen[bytes]) -> str:
    said: Path | None = getattr(process, "said", None)
    lines = said.read_text(errors="replace").strip().splitlines() if said is not None and said.is_file() else []
    return lines[-1] if lines else "it said nothing"


def _read(device: str, seconds: float, folder: Path) -> Round:
    """Let another process read codes. Raises ReenactError."""
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
        last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ReenactError(f"reading {device} failed: {last}", cure="is a program feeding it?")
    return Round(**json.loads(out.read_text()))


def codes_to_round(seen: Sequence[tuple[int, int, int]], blank: int) -> Round:
    """The samples of (counter, age in ns, when in ns), in order, those read twice left out."""
    fresh = [item for i, item in enumerate(seen) if i == 0 or item[0] != seen[i - 1][0]]
    if not fresh:
        return Round({_STAGE: []}, [], missed=blank)
    counters = np.array([item[0] for item in fresh])
    skipped = int((((np.diff(counters) & 0xFFFF) - 1) & 0x7FFF).sum())
    sent = np.array([when - age for _, age, when in fresh], np.int64)
    return Round(
        {_STAGE: [age / 1e6 for _, age, _ in fresh]},
        ((sent - sent[0]) / 1e9).tolist(),
        frames=len(fresh) + blank,
        missed=blank,
        dropped={"on the way": skipped},
        cadence_ms=(np.diff([when for _, _, when in fresh]) / 1e6).tolist(),
    )


def feed(device: str, clip: Path, size: tuple[int, int], fps: float) -> None:
    """Send the clip to and fro without end, the time in each picture, until a signal ends it."""
    from realtime.sinks.sink import open_sink
    from tools.support.files import read_frames

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
    """Read codes off a camera for so long, after some seconds of settling. Raises SourceMissing."""
    cv2.setLogLevel(0)
    camera = cv2.VideoCapture(device, cv2.CAP_V4L2)
    until = time.monotonic() + _START_S
    while not camera.isOpened():
        if time.monotonic() > until:
            raise SourceMissing(f"{device} did not become a camera within {_START_S:g} s")
        time.sleep(0.05)
        camera.open(device, cv2.CAP_V4L2)
    camera.set(cv2.CAP_PROP_CONVERT_RGB, 0)
    width, height = int(camera.get(cv2.CAP_PROP_FRAME_WIDTH)), int(camera.get(cv2.CAP_PROP_FRAME_HEIGHT))
    seen: list[tuple[int, int, int]] = []
    blank, begin = 0, 0.0
    try:
        while not begin or time.monotonic() < begin + seconds:
            came, picture = camera.read()
            now = time.monotonic_ns()
            luma = picture.reshape(-1)[: width * height].astype(np.uint8, copy=False) if came else None
            code = pixelcode.read(luma.reshape(height, width)) if luma is not None else None
            if not begin and code is not None:
                begin = now / 1e9 + min(_SETTLE_S, seconds)
            if not begin and now / 1e9 > until:
                raise SourceMissing(f"no code was seen on {device} within {_START_S:g} s")
            if begin and now / 1e9 >= begin and came:
                if code is None:
                    blank += 1
                else:
                    seen.append((code.counter, code.age_ns(now), now))
    finally:
        camera.release()
    return codes_to_round(seen, blank)


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
    """Read codes off a camera and write how old they were."""
    out.write_text(json.dumps(asdict(read(device, seconds))))


def main(arguments: list[str] | None = None, prog: str = "python -m tools.latency.device") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
