"""The part ``stages``: a recorded clip through the program's real threads, a time taken wherever a frame passes.

    python -m tools.latency.stages CLIP SECONDS OUT.json [--size WxH] [--generator NAME]

runs one round in this process. Each round has a process of its own, so that nothing warm carries over and versions of
the program can be measured in turn.

The stages are the whole way without a gap: what is slow is in one of them, wherever it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from engines.errors import ReenactError
from engines.generator import Generator
from engines.types import FaceState, Image, Motion, Portrait
from realtime.capture.source import Source
from realtime.config import Config, load
from realtime.core.frames import Frame, PixelFormat
from realtime.motion.relative import MotionTransfer
from realtime.sinks.sink import NullSink
from realtime.tracking.tracker import Tracker
from tools.latency.figures import Round
from tools.support.command import new_app, run_app

STAGES = ("capture", "wait", "track", "motion", "generate", "publish", "hand over", "send")
MEANING = {
    "capture": "from the moment a frame is due until the source has given it",
    "wait": "until the compute thread takes it up",
    "track": "the face is found in it",
    "motion": "out of the face becomes the portrait's motion",
    "generate": "the portrait is moved",
    "publish": "the picture is checked, converted and left for the sinks",
    "hand over": "until the sink's thread has it in hand",
    "send": "the sink takes it",
}
THREADS = {"capture": "capture", "send": "sink"} | dict.fromkeys(("track", "motion", "generate", "publish"), "compute")
"""Which thread a stage runs on, where it is work and not waiting."""
WARM_S = 1.0
"""So much of each round is left out: caches fill, the neutral settles."""
_PLACES = ("captured", "read", "track", "tracked", "generate", "generated", "published", "send", "sent")


class Marks:
    """Where a frame was when, by its number. Each place is written by one thread only."""

    def __init__(self) -> None:
        self.times: dict[str, dict[int, int]] = {place: {} for place in _PLACES}
        self.faces: set[int] = set()
        self.now = 0
        """The number of the frame that the compute thread works on."""

    def at(self, place: str, seq: int) -> None:
        """This frame is at this place now."""
        if not bare(seq):
            self.times[place][seq] = time.monotonic_ns()


def bare(seq: int) -> bool:
    """Whether only the first and the last time of this frame are taken: of one in four, at random."""
    return (seq * 2654435761 >> 13) % 4 == 0


class MarkedSource:
    """A source, timed."""

    def __init__(self, source: Source, marks: Marks) -> None:
        self._source, self._marks = source, marks
        self.name, self.size, self.fps, self.live = source.name, source.size, source.fps, source.live
        self.frames, self.notes = source.frames, source.notes

    @property
    def skipped(self) -> int:
        return self._source.skipped

    def read(self) -> Frame:
        frame = self._source.read()
        self._marks.times["captured"][frame.seq] = frame.stamps.captured
        self._marks.at("read", frame.seq)
        return frame

    def close(self) -> None:
        self._source.close()


class MarkedTracker:
    """A tracker, timed."""

    def __init__(self, tracker: Tracker, marks: Marks) -> None:
        self._tracker, self._marks = tracker, marks
        self.name = tracker.name

    def track(self, frame: Frame) -> FaceState | None:
        self._marks.now = frame.seq
        self._marks.at("track", frame.seq)
        face = self._tracker.track(frame)
        self._marks.at("tracked", frame.seq)
        if face is not None:
            self._marks.faces.add(frame.seq)
        return face

    def reset(self) -> None:
        self._tracker.reset()

    def close(self) -> None:
        self._tracker.close()


class MarkedGenerator:
    """A generator, timed."""

    def __init__(self, generator: Generator, marks: Marks) -> None:
        self._generator, self._marks = generator, marks
        self.name, self.label, self.random_weights = generator.name, generator.label, generator.random_weights
        self.regions, self.mouths = generator.regions, generator.mouths

    @property
    def mouth(self) -> str | None:
        return self._generator.mouth

    def set_mouth(self, mouth: str) -> None:
        self._generator.set_mouth(mouth)

    def prepare(self, name: str, image: Image, face: FaceState) -> Portrait:
        return self._generator.prepare(name, image, face)

    def drive(self, portrait: Portrait, motion: Motion, driving: Image | None) -> Image:
        seq = self._marks.now
        self._marks.at("generate", seq)
        image = self._generator.drive(portrait, motion, driving)
        self._marks.at("generated", seq)
        return image

    def close(self) -> None:
        self._generator.close()


class MarkedSink:
    """A sink, timed."""

    name = NullSink.name
    format = PixelFormat.I420
    notes: tuple[str, ...] = ()

    def __init__(self, sink: NullSink, marks: Marks) -> None:
        self._sink, self._marks = sink, marks

    def send(self, frame: Frame) -> None:
        seq = frame.seq
        self._marks.at("send", seq)
        if not bare(seq):
            self._marks.times["published"][seq] = frame.stamps.generated
        self._sink.send(frame)
        if frame.stamps.tracked:
            self._marks.times["sent"][seq] = time.monotonic_ns()

    def close(self) -> None:
        self._sink.close()


def run_round(clip: Path, seconds: float, config: Config) -> Round:
    """Play the clip through a run of the program in this process. Raises ReenactError."""
    from realtime.capture.video_file import VideoFile
    from realtime.core.protocol import DEFAULT_FPS
    from realtime.core.stop_signal import StopSignal
    from realtime.pipeline.delivery_thread import OpenedSink
    from realtime.pipeline.pipeline import Pipeline
    from realtime.pipeline.settings import Limits, RunHooks, RunSettings

    sys.setswitchinterval(0.001)
    marks, stop_signal = Marks(), StopSignal()
    source = MarkedSource(VideoFile(clip, pace="live"), marks)
    pipeline = Pipeline(
        _loader(config, stop_signal, marks),
        source,
        None,
        [OpenedSink("null", MarkedSink(NullSink(), marks))],
        RunSettings(config.size, source.fps or DEFAULT_FPS, limits=Limits(duration_ns=round((WARM_S + seconds) * 1e9))),
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
    return to_round(marks, {place: count for place, count in pipeline.dropped.items() if place != "starting"})


def _loader(config: Config, stop_signal: Any, marks: Marks) -> Any:
    """The parts that the program itself would take, timed."""
    from functools import partial

    from engines import generator as generators
    from realtime.pipeline.loader import PartFactories, PipelineLoader
    from realtime.portraits.portrait import load_portrait
    from realtime.tracking.tracker import open_tracker

    factories = PartFactories(
        lambda: MarkedTracker(open_tracker(config.model), marks),
        lambda: MarkedGenerator(generators.create(config.generator, mouth=config.mouth), marks),
        lambda: MotionTransfer(config.neutral, config.region, config.gain),
        [partial(load_portrait, None, config.size)],
    )
    parts = PipelineLoader(factories, mirror=False, failed=stop_signal.fail, notice=lambda _: None)
    parts.start()
    return parts


def to_round(marks: Marks, dropped: dict[str, int]) -> Round:
    """The samples out of the times, start-up and frames without a face left out."""
    sent = marks.times["sent"]
    if not sent:
        raise ReenactError("no frame came through", cure="measure for longer with --seconds")
    captured = marks.times["captured"]
    begin = captured[min(sent)] + round(WARM_S * 1e9)
    delivered = [seq for seq in sorted(sent) if captured[seq] >= begin]
    faces = [seq for seq in delivered if seq in marks.faces]
    rows = [seq for seq in faces if all(seq in marks.times[place] for place in _PLACES)]
    if not rows:
        raise ReenactError("no frame with a face came through", cure="measure for longer with --seconds")
    table = np.array([[marks.times[place][seq] for place in _PLACES] for seq in rows], np.int64)
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


def start_round(clip: Path, seconds: float, words: Iterable[str], folder: Path, root: Path | None = None) -> Round:
    """One round in a process of its own, of the program in ``root`` (None: this one). Raises ReenactError."""
    out = folder / "round.json"
    command = [sys.executable, "-m", "tools.latency.stages", str(clip), str(seconds), str(out), *words]
    here = root or Path(__file__).parents[2]
    ended = subprocess.run(
        command,
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(here)},
        capture_output=True,
        text=True,
        timeout=120 + 2 * seconds,
        check=False,
    )
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ReenactError(f"a round ended with {ended.returncode}: {last}")
    return Round(**json.loads(out.read_text()))


def clock_figures() -> dict[str, float]:
    """How fine the clock is and what a reading of it costs, in nanoseconds, measured."""
    times = np.array([time.monotonic_ns() for _ in range(20_000)], np.int64)
    steps = np.diff(times)
    moved = steps[steps > 0]
    return {
        "resolution_ns": float(moved.min()) if moved.size else 0.0,
        "reading_ns": float((times[-1] - times[0]) / len(steps)),
        "marks_us": _marks_cost_us(),
    }


def _marks_cost_us() -> float:
    """What taking a frame's times costs altogether, in microseconds."""
    marks = Marks()
    start = time.perf_counter_ns()
    for seq in range(2000):
        for place in _PLACES:
            marks.at(place, seq)
    return (time.perf_counter_ns() - start) / 2000 / 1000


def words_for(config: Config) -> list[str]:
    """The options of a round."""
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
    """Run one round and write its samples."""
    config = load({"camera": str(clip), "sink": ["null"], "size": size, "generator": generator})
    found = run_round(clip, seconds, config)
    out.write_text(json.dumps(asdict(found)))
    if threading.active_count() > 1:
        sys.stdout.flush()
        os._exit(0)


def main(arguments: list[str] | None = None, prog: str = "python -m tools.latency.stages") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
