"""The cost of the program on this machine, as a table.

    python -m tools.bench_costs [all|cost|throughput|live|memory|startup]... [--quick] [--driver CLIP] [--json OUT]

The *floor* is the work that no implementation can avoid: MediaPipe's Face Mesh with irises on the same frames, one
float32 ``cv2.remap`` and one conversion of RGB to I420 at the output's size, measured in the same run.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from rich.console import Console

from engines.errors import ReenactError, SourceEnded
from engines.types import Image
from realtime import report
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.core.quiet_libraries import quiet_libraries
from tools.support.command import new_app, run_app
from tools.support.files import check_writable, read_frames, write_json

ROOT = Path(__file__).parents[1]
FPS = 30.0
SMALL, LARGE = (512, 512), (1280, 720)
_WARM_UP = 30


class Benchmark(StrEnum):
    """The benchmarks that can be run by themselves."""

    ALL = "all"
    COST = "cost"
    THROUGHPUT = "throughput"
    LIVE = "live"
    MEMORY = "memory"
    STARTUP = "startup"


@dataclass(frozen=True, slots=True)
class Effort:
    """The number of frames and runs to measure."""

    cost_frames: int = 240
    clip_frames: int = 900
    memory_frames: int = 20_000
    memory_warm_up: int = 1_000
    starts: int = 3
    throughput_runs: int = 5


QUICK = Effort(cost_frames=60, clip_frames=150, memory_frames=2_000, memory_warm_up=300, starts=1, throughput_runs=1)


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of the table."""

    name: str
    target: str
    value: str
    met: bool
    data: dict[str, float] = field(default_factory=dict)


class Floor:
    """The work of the floor on one frame after the other."""

    def __init__(self, size: tuple[int, int]) -> None:
        """Raises ReenactError where this MediaPipe lacks the Face Mesh that defines the floor."""
        try:
            from mediapipe.python.solutions import face_mesh
        except ImportError as error:
            cure = "measure with Python 3.11 or 3.12, where mediapipe 0.10.21 is installed"
            found = "this mediapipe has no Face Mesh to measure the floor with"
            raise ReenactError("floor-needs-face-mesh", found, cure=cure) from error
        width, height = size
        ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
        self._maps = xs, ys
        self._warped = np.empty((height, width, 3), np.uint8)
        self._i420 = np.empty((height * 3 // 2, width), np.uint8)
        with quiet_libraries():
            self._mesh = face_mesh.FaceMesh(max_num_faces=1, refine_landmarks=True)
            self._mesh.process(np.zeros((height, width, 3), np.uint8))

    def warm_up(self, image: Image) -> None:
        """Process the first face, at which the libraries print messages once more."""
        with quiet_libraries():
            self(image)

    def __call__(self, image: Image) -> None:
        self._mesh.process(image)
        cv2.remap(image, *self._maps, cv2.INTER_LINEAR, dst=self._warped)
        cv2.cvtColor(self._warped, cv2.COLOR_RGB2YUV_I420, dst=self._i420)

    def close(self) -> None:
        """Release the Face Mesh."""
        self._mesh.close()


class ProgramWork:
    """The work of the program on one frame after the other, from tracking to I420, in the caller's thread."""

    def __init__(self, size: tuple[int, int]) -> None:
        from engines.registry import create
        from realtime.motion.motion_transfer import MotionTransfer
        from realtime.portraits.portrait import load_portrait
        from realtime.tracking.tracker import open_tracker

        picture = load_portrait(None, size)
        self._tracker = open_tracker(None)
        self._motion = MotionTransfer()
        self._generator = create("mesh")
        self._portrait = self._generator.prepare(picture.name, picture.image, picture.face, picture.matte)
        self._i420 = np.empty((size[1] * 3 // 2, size[0]), np.uint8)
        self._seq = 0
        self.missed = 0
        """Frames in which no face was found."""

    def __call__(self, image: Image) -> None:
        self._seq += 1
        time_ns = round(self._seq * 1e9 / FPS)
        face = self._tracker.track(Frame(image, PixelFormat.RGB, self._seq, Stamps(time_ns), time_ns))
        self.missed += face is None
        result = self._generator.drive(self._portrait, self._motion.update(face, time_ns), image)
        cv2.cvtColor(result, cv2.COLOR_RGB2YUV_I420, dst=self._i420)

    def close(self) -> None:
        """Release tracker and generator."""
        self._tracker.close()
        self._generator.close()


def driving_frames(driver: Path | None, size: tuple[int, int]) -> Iterator[Image]:
    """Yield frames of ``size`` without end: the performer's, or a clip's with bars where its shape differs."""
    if driver is None:
        from realtime.capture.performer import PerformerSource

        source = PerformerSource(size, FPS, paced=False)
        try:
            while True:
                yield source.read().pixels
        except SourceEnded:
            return
        finally:
            source.close()
    while True:
        for image in read_frames(driver):
            yield fitted(image, size)


def fitted(image: Image, size: tuple[int, int]) -> Image:
    """Return the whole picture inside ``size`` (width, height), centred, with black bars."""
    width, height = size
    scale = min(width / image.shape[1], height / image.shape[0])
    small = cv2.resize(image, (round(image.shape[1] * scale), round(image.shape[0] * scale)))
    result = np.zeros((height, width, 3), np.uint8)
    top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    result[top : top + small.shape[0], left : left + small.shape[1]] = small
    return result


def seconds(work: Callable[[Image], None], image: Image) -> float:
    """Return how long ``work`` takes on one frame, in seconds."""
    start = time.perf_counter()
    work(image)
    return time.perf_counter() - start


def cost(driver: Path | None, size: tuple[int, int], count: int) -> Figure:
    """Measure the cost of a frame relative to the floor, alternating between the two frame by frame."""
    frames = list(islice(driving_frames(driver, size), count))
    floor, work = Floor(size), ProgramWork(size)
    try:
        floor.warm_up(frames[0])
        for image in islice(cycle(frames), _WARM_UP):
            floor(image)
            work(image)
        work.missed = 0
        pairs = []
        for index, image in enumerate(frames):
            # the second of the two finds the frame in the cache
            if index % 2:
                spent = seconds(work, image)
                pairs.append((seconds(floor, image), spent))
            else:
                base = seconds(floor, image)
                pairs.append((base, seconds(work, image)))
    finally:
        floor.close()
        work.close()
    base_ms, spent_ms = 1e3 * np.array(pairs).T
    ratio = float(np.median(spent_ms / base_ms))
    data = {
        "ratio": ratio,
        "ratio_p95": float(np.percentile(spent_ms / base_ms, 95)),
        "floor_ms": float(np.median(base_ms)),
        "cost_ms": float(np.median(spent_ms)),
        "cost_p95_ms": float(np.percentile(spent_ms, 95)),
        "frames": float(len(frames)),
        "missed": float(work.missed),
    }
    value = f"{ratio:.2f} ({data['cost_ms']:.1f} ms over {data['floor_ms']:.1f} ms; p95 {data['cost_p95_ms']:.1f} ms)"
    name = f"cost of a frame, track to I420, over the floor, {size[0]}x{size[1]}"
    return Figure(name, "≤ 1.6", value, ratio <= 1.6, data)


def record_driver(driver: Path | None, path: Path, count: int) -> None:
    """Write a driving video of 512x512 at 30 fps, so that rendering the performer is not measured."""
    from realtime.sinks.sink import open_sink

    sink = open_sink(f"file:{path}", size=SMALL, fps=FPS)
    try:
        for index, image in enumerate(islice(driving_frames(driver, SMALL), count)):
            time_ns = round((index + 1) * 1e9 / FPS)
            i420 = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420), np.uint8)
            sink.send(Frame(i420, PixelFormat.I420, index, Stamps(time_ns), time_ns))
    finally:
        sink.close()


def run_daemon(*words: str) -> dict[str, Any]:
    """Run the program to the end and return its report.

    Raises ReenactError with the last line of its output when it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        command = [sys.executable, str(ROOT / "run.py"), *words, "--quiet", "--report", str(path)]
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
        if ended.returncode:
            last = (ended.stderr.strip().splitlines() or ["without a message"])[-1]
            found = f"run.py {' '.join(words)} ended with exit code {ended.returncode}: {last}"
            raise ReenactError("program-failed", found)
        figures: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return figures


def throughput(clip: Path, frames: int, runs: int) -> Figure:
    """Measure frames per second of a whole file relative to the floor alone.

    The result is the median run; the floor is measured between the runs.
    """
    sample = list(read_frames(clip, min(frames, 200)))
    floor = Floor(SMALL)
    floor.warm_up(sample[0])

    def floor_seconds() -> float:
        return float(np.median([seconds(floor, image) for image in sample]))

    floor_seconds()
    floors = [floor_seconds()]
    ratios, rates = [], []
    for _ in range(runs):
        run = run_daemon("--camera", str(clip), "--pace", "max", "--sink", "null", "--size", "512x512")
        floors.append(floor_seconds())
        rates.append(run["fps"])
        ratios.append(run["fps"] * (floors[-2] + floors[-1]) / 2)
    floor.close()
    ratio, fps, base = (float(np.median(values)) for values in (ratios, rates, floors))
    spread = f", {min(ratios):.2f} to {max(ratios):.2f} in {runs} runs" if runs > 1 else ""
    value = f"{ratio:.2f} ({fps:.0f} fps over {1 / base:.0f} fps{spread})"
    data = {"ratio": ratio, "fps": fps, "floor_ms": 1e3 * base, "frames": run["frames"], "runs": runs}
    return Figure("throughput, `--pace max --sink null`, over 1/floor, 512x512", "≥ 0.9", value, ratio >= 0.9, data)


def live(clip: Path) -> Figure:
    """Measure frame age at the sink and drops while a file is played at its own rate."""
    run = run_daemon("--camera", str(clip), "--pace", "live", "--sink", "null", "--size", "512x512")
    age = run["latency_ms"]["captured_to_sent"]
    drops = sum(count for place, count in run["dropped"].items() if place != "starting")
    value = f"p50 {age['p50']:.1f} ms, p99 {age['p99']:.1f} ms, {drops} dropped of {run['frames']}"
    data = {"p50_ms": age["p50"], "p99_ms": age["p99"], "dropped": drops, "frames": run["frames"]}
    met = age["p50"] <= 10 and age["p99"] <= 25 and drops == 0
    target = "p50 ≤ 10 ms, p99 ≤ 25 ms, no drop after start-up"
    return Figure("live at 30 fps, 512x512, captured to sent", target, value, met, data)


def memory(driver: Path | None, count: int, warm_up: int) -> Figure:
    """Measure how much the process grows over many frames after ``warm_up`` frames.

    Growth is measured from the lowest value before it, so that memory released early does not hide later growth.
    """
    frames = list(islice(driving_frames(driver, SMALL), 300))
    work = ProgramWork(SMALL)
    try:
        for image in islice(cycle(frames), warm_up):
            work(image)
        before = lowest = resident_mb()
        growth = 0.0
        for index, image in enumerate(islice(cycle(frames), count), 1):
            work(image)
            if index % 100 == 0 or index == count:
                current = resident_mb()
                lowest = min(lowest, current)
                growth = max(growth, current - lowest)
    finally:
        work.close()
    data = {"growth_mb": growth, "before_mb": before, "frames": float(count)}
    value = f"{growth:+.1f} MB (from {before:.0f} MB)"
    return Figure(f"memory growth over {count:,} frames after warm-up", "< 5 MB", value, growth < 5, data)


def resident_mb() -> float:
    """Return this process's own memory in MB, in RAM or swapped out. Raises ReenactError except on Linux."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError as error:
        found = "memory can be measured on Linux only"
        raise ReenactError("memory-needs-linux", found, cure="run the other benchmarks only") from error
    # pages of files come and go as the system decides and are not growth
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "VmSwap:"))) * 1024 / 1e6


def startup(clip: Path, starts: int) -> Figure:
    """Measure the time from starting the process to its end after one frame: the worst of the warm starts."""
    times = []
    for _ in range(1 + starts):
        start = time.perf_counter()
        run_daemon("--camera", str(clip), "--sink", "null", "--size", "512x512", "--frames", "1")
        times.append(time.perf_counter() - start)
    worst = max(times[1:])
    data = {"worst_s": worst, "first_s": times[0]}
    name = "start, first generated frame and exit (caches warm)"
    return Figure(name, "≤ 3 s", f"{worst:.2f} s", worst <= 3, data)


def machine_line() -> str:
    """Return a description of this machine in one line."""
    machine = report.machine()
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    system = f"{machine['cores']} cores, {platform.system()}, Python {machine['python']}"
    return f"{machine['processor']}, {system}, {packages}"


def measure(
    benchmarks: set[Benchmark], effort: Effort, driver: Path | None, done: Callable[[Figure], None]
) -> list[Figure]:
    """Run the benchmarks in the order of the table. ``done`` is called with each figure."""
    figures: list[Figure] = []

    def keep(figure: Figure) -> None:
        figures.append(figure)
        done(figure)

    if Benchmark.COST in benchmarks:
        for size in (SMALL, LARGE):
            keep(cost(driver, size, effort.cost_frames))
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "driver.mp4"
        if benchmarks & {Benchmark.THROUGHPUT, Benchmark.LIVE, Benchmark.STARTUP}:
            record_driver(driver, clip, effort.clip_frames)
        if Benchmark.THROUGHPUT in benchmarks:
            keep(throughput(clip, effort.clip_frames, effort.throughput_runs))
        if Benchmark.LIVE in benchmarks:
            keep(live(clip))
        if Benchmark.STARTUP in benchmarks:
            keep(startup(clip, effort.starts))
    if Benchmark.MEMORY in benchmarks:
        keep(memory(driver, effort.memory_frames, effort.memory_warm_up))
    return figures


def markdown(figures: list[Figure], driver: Path | None) -> str:
    """Return the table and the machine as Markdown."""
    rows = [f"| {figure.name} | {figure.target} | {figure.value} |" for figure in figures]
    head = ["| figure | target | here |", "| --- | --- | --- |"]
    name = "the performer" if driver is None else driver.name
    return "\n".join([*head, *rows, "", f"Driven by {name} on {machine_line()}."])


app = new_app()


@app.command()
def bench_command(
    benchmarks: Annotated[list[Benchmark] | None, typer.Argument(help="What to measure; all by default.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Use fewer frames, for a first impression.")] = False,
    driver: Annotated[Path | None, typer.Option(help="Use a driving video instead of the performer.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Measure what the program costs on this machine."""
    if json_path:
        check_writable(json_path, "--json")
    chosen = set(benchmarks or [Benchmark.ALL])
    if Benchmark.ALL in chosen:
        chosen = set(Benchmark)
    progress = Console(stderr=True, highlight=False, soft_wrap=True)
    figures = measure(
        chosen,
        QUICK if quick else Effort(),
        driver,
        lambda figure: progress.print(f"{'ok  ' if figure.met else 'MISS'} {figure.name}: {figure.value}"),
    )
    print(markdown(figures, driver))
    if json_path:
        values = {"machine": report.machine(), "figures": [asdict(figure) for figure in figures]}
        write_json(json_path, values, "--json")


def main(arguments: list[str] | None = None, prog: str = "python -m tools.bench_costs") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
