"""The method ``stages``: a recorded clip through the program's threads, with a timestamp at each point of the pipeline.

    python -m tools.latency.stages CLIP SECONDS OUT.json [--size WxH] [--generator NAME]

runs one round in this process. Each round has its own process, so that all start cold and versions of the program can
alternate.

The stages cover the pipeline without a gap, so a slowdown anywhere shows in one of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from engines.errors import ReenactError
from engines.generator import Generator
from engines.types import FaceState, Image, Mask, Motion, Portrait
from realtime.capture.source import Source
from realtime.config import Config, load
from realtime.core.frames import Frame, PixelFormat
from realtime.motion.motion_transfer import MotionTransfer
from realtime.sinks.sink import NullSink
from realtime.tracking.settings import Driver
from realtime.tracking.tracker import Tracker
from tools.latency.figures import Round
from tools.latency.wrapped_source import WrappedSource
from tools.support.command import new_app, run_app
from tools.support.files import write_json

STAGES = ("capture", "wait", "track", "motion", "generate", "publish", "hand over", "send")
MEANING = {
    "capture": "from the time a frame is due until the source returns it",
    "wait": "until the compute thread takes it",
    "track": "the face is found in the frame",
    "motion": "the motion is computed from the face",
    "generate": "the portrait is drawn with that motion",
    "publish": "the picture is checked, converted and published to the sinks",
    "hand over": "until the sink's thread takes it",
    "send": "the sink delivers it",
}
THREADS = {"capture": "capture", "send": "sink"} | dict.fromkeys(("track", "motion", "generate", "publish"), "compute")
"""The thread of each stage that is work, not waiting."""
WARM_UP_S = 1.0
"""The start of each round that is left out: caches fill, the neutral expression settles."""
_POINTS = ("captured", "read", "track", "tracked", "generate", "generated", "published", "send", "sent")


class Timestamps:
    """When each frame was at each point of the pipeline. Each point is written by one thread only."""

    def __init__(self) -> None:
        self.times: dict[str, dict[int, int]] = {point: {} for point in _POINTS}
        """By point and frame number, monotonic nanoseconds."""
        self.faces: set[int] = set()
        """The numbers of the frames with a face."""
        self.current = 0
        """The number of the frame that the compute thread works on."""

    def take(self, point: str, seq: int) -> None:
        """Record that the frame is at this point now."""
        if not bare(seq):
            self.times[point][seq] = time.monotonic_ns()


def bare(seq: int) -> bool:
    """Return whether only the first and the last timestamp of this frame are taken: of one in four, at random."""
    return (seq * 2654435761 >> 13) % 4 == 0


class TimedSource(WrappedSource):
    """A source with a timestamp after each read."""

    def __init__(self, source: Source, times: Timestamps) -> None:
        super().__init__(source)
        self._times = times

    def read(self) -> Frame:
        frame = self._source.read()
        self._times.times["captured"][frame.seq] = frame.stamps.captured
        self._times.take("read", frame.seq)
        return frame


class TimedTracker:
    """A tracker with timestamps before and after each frame."""

    driver: Driver = "auto"

    def __init__(self, tracker: Tracker, times: Timestamps) -> None:
        self._tracker, self._times = tracker, times
        self.name = tracker.name

    def track(self, frame: Frame) -> FaceState | None:
        self._times.current = frame.seq
        self._times.take("track", frame.seq)
        face = self._tracker.track(frame)
        self._times.take("tracked", frame.seq)
        if face is not None:
            self._times.faces.add(frame.seq)
        return face

    def reset(self) -> None:
        self._tracker.reset()

    def close(self) -> None:
        self._tracker.close()


class TimedGenerator:
    """A generator with timestamps before and after each frame."""

    def __init__(self, generator: Generator, times: Timestamps) -> None:
        self._generator, self._times = generator, times
        self.name, self.label, self.random_weights = generator.name, generator.label, generator.random_weights
        self.regions, self.mouths = generator.regions, generator.mouths

    @property
    def mouth(self) -> str | None:
        return self._generator.mouth

    def set_mouth(self, mouth: str) -> None:
        self._generator.set_mouth(mouth)

    @property
    def refined(self) -> bool | None:
        return self._generator.refined

    def set_refined(self, on: bool) -> None:
        self._generator.set_refined(on)

    def prepare(
        self, name: str, image: Image, face: FaceState, matte: Mask | None = None, behind: Image | None = None
    ) -> Portrait:
        return self._generator.prepare(name, image, face, matte, behind)

    def alpha(self) -> Mask | None:
        return self._generator.alpha()

    def drive(self, portrait: Portrait, motion: Motion, driving: Image | None) -> Image:
        seq = self._times.current
        self._times.take("generate", seq)
        image = self._generator.drive(portrait, motion, driving)
        self._times.take("generated", seq)
        return image

    def close(self) -> None:
        self._generator.close()


class TimedSink:
    """A sink with timestamps before and after each frame."""

    name = NullSink.name
    format = PixelFormat.I420
    notes: tuple[str, ...] = ()

    def __init__(self, sink: NullSink, times: Timestamps) -> None:
        self._sink, self._times = sink, times

    def send(self, frame: Frame) -> None:
        seq = frame.seq
        self._times.take("send", seq)
        if not bare(seq):
            self._times.times["published"][seq] = frame.stamps.generated
        self._sink.send(frame)
        if frame.stamps.tracked:
            self._times.times["sent"][seq] = time.monotonic_ns()

    def close(self) -> None:
        self._sink.close()


def run_round(clip: Path, seconds: float, config: Config) -> Round:
    """Run the program on the clip in this process and return its samples. Raises ReenactError."""
    from realtime.capture.video_file import VideoFile
    from realtime.core.protocol import DEFAULT_FPS
    from realtime.core.stop_signal import StopSignal
    from realtime.marking import new_marking
    from realtime.pipeline.delivery_thread import OpenedSink
    from realtime.pipeline.pipeline import Pipeline
    from realtime.pipeline.settings import Limits, RunHooks, RunSettings

    sys.setswitchinterval(0.001)
    times, stop_signal = Timestamps(), StopSignal()
    source = TimedSource(VideoFile(clip, pace="live"), times)
    limits = Limits(duration_ns=round((WARM_UP_S + seconds) * 1e9))
    pipeline = Pipeline(
        _loader(config, stop_signal, times),
        source,
        None,
        [OpenedSink("null", TimedSink(NullSink(), times))],
        RunSettings(config.size, source.fps or DEFAULT_FPS, limits=limits, marking=new_marking(config.label)),
        RunHooks(lambda _: None),
        stop_signal,
    )
    pipeline.start()
    try:
        stop_signal.over.wait(60 + seconds)
    finally:
        pipeline.close()
    if stop_signal.error is not None:
        raise stop_signal.error
    return timestamps_to_round(
        times, {place: count for place, count in pipeline.dropped.items() if place != "starting"}
    )


def _loader(config: Config, stop_signal: Any, times: Timestamps) -> Any:
    """Return a started loader of the program's own tracker and generator, with timestamps."""
    from functools import partial

    from engines import registry as generators
    from realtime.pipeline.loader import PartFactories, PipelineLoader
    from realtime.portraits.portrait import load_portrait
    from realtime.tracking.tracker import open_tracker

    factories = PartFactories(
        lambda: TimedTracker(open_tracker(config.model), times),
        lambda: TimedGenerator(generators.create(config.generator, mouth=config.mouth), times),
        lambda: MotionTransfer(config.neutral, config.region, config.gain),
        [partial(load_portrait, None, config.size)],
    )
    parts = PipelineLoader(factories, mirror=False, failed=stop_signal.fail, notice=lambda _: None)
    parts.start()
    return parts


def timestamps_to_round(times: Timestamps, dropped: dict[str, int]) -> Round:
    """Return the samples, without start-up and frames without a face. Raises ReenactError where there are none."""
    sent = times.times["sent"]
    if not sent:
        raise ReenactError("measure-no-frame", "no frame was delivered", cure="give more --seconds")
    captured = times.times["captured"]
    begin = captured[min(sent)] + round(WARM_UP_S * 1e9)
    delivered = [seq for seq in sorted(sent) if captured[seq] >= begin]
    faces = [seq for seq in delivered if seq in times.faces]
    rows = [seq for seq in faces if all(seq in times.times[point] for point in _POINTS)]
    if not rows:
        raise ReenactError("measure-no-face", "no frame with a face was delivered", cure="give more --seconds")
    table = np.array([[times.times[point][seq] for point in _POINTS] for seq in rows], np.int64)
    steps = np.diff(table, axis=1) / 1e6
    return Round(
        stages={name: steps[:, i].tolist() for i, name in enumerate(STAGES)},
        at_s=((table[:, 0] - begin) / 1e9).tolist(),
        frames=len(delivered),
        missed=len(delivered) - len(faces),
        dropped=dropped,
        cadence_ms=(np.diff([sent[seq] for seq in delivered]) / 1e6).tolist(),
        bare_ms=[(sent[seq] - captured[seq]) / 1e6 for seq in faces if bare(seq)],
        bare_at_s=[(captured[seq] - begin) / 1e9 for seq in faces if bare(seq)],
    )


def run_in_process(root: Path, module: str, clip: Path, seconds: float, out: Path, options: Sequence[str]) -> Round:
    """Run one round in a new process, of the program in ``root``, and return its samples. Raises ReenactError."""
    ended = subprocess.run(
        [sys.executable, "-m", module, str(clip), str(seconds), str(out), *options],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120 + 2 * seconds,
        check=False,
    )
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["without a message"])[-1]
        raise ReenactError("round-failed", f"a round of {module} ended with exit code {ended.returncode}: {last}")
    return Round(**json.loads(out.read_text("utf-8")))


def clock_figures() -> dict[str, float]:
    """Measure the resolution of the clock and the cost of a reading (ns), and of all timestamps of a frame (µs)."""
    times = np.array([time.monotonic_ns() for _ in range(20_000)], np.int64)
    steps = np.diff(times)
    ticks = steps[steps > 0]
    return {
        "resolution_ns": float(ticks.min()) if ticks.size else 0.0,
        "reading_ns": float((times[-1] - times[0]) / len(steps)),
        "timestamps_us": _timestamps_cost_us(),
    }


def _timestamps_cost_us() -> float:
    """Return what taking all timestamps of a frame costs, in microseconds."""
    times = Timestamps()
    start = time.perf_counter_ns()
    for seq in range(2000):
        for point in _POINTS:
            times.take(point, seq)
    return (time.perf_counter_ns() - start) / 2000 / 1000


def round_options(config: Config) -> list[str]:
    """Return the command line options of a round."""
    return ["--size", "{}x{}".format(*config.size), "--generator", config.generator]


app = new_app()


@app.command()
def round_command(
    clip: Path,
    seconds: float,
    out: Path,
    size: Annotated[str, typer.Option(metavar="WxH")] = "640x480",
    generator: Annotated[str, typer.Option(metavar="NAME")] = "mesh",
) -> None:
    """Run one round and write its samples as JSON."""
    config = load({"camera": str(clip), "sink": ["null"], "size": size, "generator": generator})
    samples = run_round(clip, seconds, config)
    write_json(out, asdict(samples), "OUT.json", indent=None)
    if threading.active_count() > 1:
        sys.stdout.flush()
        os._exit(0)


def main(arguments: list[str] | None = None, prog: str = "python -m tools.latency.stages") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
