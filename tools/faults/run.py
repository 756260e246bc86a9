"""Injects faults and checks what leaves the program: no picture of the camera, and every frame marked or a slate.

    python -m tools.faults.run --json faults.json

Each run is the program's own pipeline with one fault: a stage raises, hangs, or returns rubbish or the camera's picture
itself. Frames are judged by their pixels alone, by the colour of the camera's picture and by the watermark.
"""

from __future__ import annotations

import errno
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer

from engines.errors import GeneratorError, SinkLost, SourceLost, TrackerError
from engines.marking.detector import Detector
from engines.marking.marks import Marking
from engines.marking.payload import Payload
from engines.types import Image
from realtime.pipeline import slate
from tools.faults.parts import (
    SIZE,
    CameraSource,
    FaceTracker,
    Fault,
    PictureGenerator,
    Place,
    WatchedSink,
    no_fault,
    portrait_picture,
)
from tools.support.command import new_app, run_app
from tools.support.files import write_json

PAYLOAD = Payload(0xFA17, 2500)
PLACES = ("capture", "track", "generate", "send")
WHEN = (1, 2, 3, 4, 5)
"""At which passage of its place a fault begins."""
HANG_S = 0.4
CLOSE_S = 1.0
END_S = 20.0
"""How long a run may take: it is over in less than a second, or when its fault ends it."""
LEAK = 0.001
"""The share of pixels as magenta as the camera's from which a frame counts as showing it."""
ERRORS: dict[str, BaseException] = {
    "bug": RuntimeError("injected"),
    "value": ValueError("injected"),
    "index": IndexError("injected"),
    "memory": MemoryError(),
    "disk full": OSError(errno.ENOSPC, "injected"),
    "device lost": OSError(errno.ENODEV, "injected"),
    "source lost": SourceLost("injected", "injected"),
    "tracker error": TrackerError("injected", "injected"),
    "generator error": GeneratorError("injected", "injected"),
    "sink lost": SinkLost("injected", "injected"),
    "exit": SystemExit(3),
}
RUBBISH: dict[str, Fault] = {
    "nothing": lambda *_: None,
    "text": lambda *_: "rubbish",
    "camera": lambda _, __, camera: camera,
    "camera as a view": lambda _, __, camera: camera[:],
    "camera upside down": lambda _, __, camera: camera[::-1],
    "camera mirrored": lambda _, __, camera: camera[:, ::-1],
    "part of the camera": lambda _, __, camera: camera[: SIZE[1] // 2],
    "camera by its memory": lambda _, __, camera: np.frombuffer(camera.data, np.uint8).reshape(camera.shape),
    "noise": lambda *_: np.random.default_rng(0).integers(0, 24, (SIZE[1], SIZE[0], 3), np.uint8),
    "black": lambda *_: np.zeros((SIZE[1], SIZE[0], 3), np.uint8),
    "white": lambda *_: np.full((SIZE[1], SIZE[0], 3), 255, np.uint8),
    "floats": lambda *_: np.full((SIZE[1], SIZE[0], 3), np.nan, np.float32),
    "another size": lambda *_: np.zeros((10, 10, 3), np.uint8),
    "empty": lambda *_: np.zeros((0, 0, 3), np.uint8),
    "four channels": lambda *_: np.zeros((SIZE[1], SIZE[0], 4), np.uint8),
}


@dataclass(frozen=True, slots=True)
class Injection:
    """One fault."""

    place: str
    kind: str
    first: int
    """At which passage of the place it begins."""
    lasting: bool
    """Whether it stays from then on."""
    lossless: bool
    """Whether the pipeline takes every frame, as with ``--pace max``."""
    fault: Fault


@dataclass(slots=True)
class Outcome:
    """What left the program during one fault."""

    injection: Injection
    frames: int
    marked: int
    leaked: int
    """Frames that show the camera."""
    unmarked: int
    """Frames that are neither marked nor a slate."""
    hung: bool = False
    """Whether the run did not end by itself, or left a thread."""

    @property
    def bad(self) -> bool:
        """Whether anything happened that must not."""
        return bool(self.leaked or self.unmarked or self.hung)


def injections(most: int) -> list[Injection]:
    """Return up to ``most`` faults, evenly chosen."""
    found = []
    for place, first, lasting, lossless in product(PLACES, WHEN, (False, True), (False, True)):
        for kind, fault in _faults(place):
            chosen = _from(fault, first, lasting)
            found.append(Injection(place, kind, first, lasting, lossless, chosen))
    count = min(most, len(found))
    return [found[at * len(found) // count] for at in range(count)]


def _faults(place: str) -> Iterator[tuple[str, Fault]]:
    for kind, error in ERRORS.items():
        yield f"raises: {kind}", _raising(error)
    if place == "capture":
        # what a camera returns is the camera's picture in any case
        yield from ((f"returns: {kind}", fault) for kind, fault in RUBBISH.items() if "camera" not in kind)
    elif place != "send":
        yield from ((f"returns: {kind}", fault) for kind, fault in RUBBISH.items())
    yield "hangs", _hang


def _raising(error: BaseException) -> Fault:
    def fault(*_: Any) -> Any:
        raise error

    return fault


def _hang(_: int, value: Any, __: Image) -> Any:
    threading.Event().wait(HANG_S)
    return value


def _from(fault: Fault, first: int, lasting: bool) -> Fault:
    """Return a fault that begins at a passage."""

    def chosen(count: int, value: Any, camera: Image) -> Any:
        return fault(count, value, camera) if count == first or (lasting and count > first) else value

    return chosen


class Judge:
    """Says of a frame, by its pixels alone, whether it shows the camera, and whether it is marked or a slate."""

    def __init__(self) -> None:
        self._ground = slate.draw(SIZE, "")[: SIZE[1] // 5]
        self._known: dict[bytes, bool] = {}
        self._detector = Detector()

    def leaked(self, frame: Image) -> bool:
        """Whether pixels of the camera are in it."""
        few = frame.astype(np.int16)
        magenta = np.minimum(few[..., 0], few[..., 2]) - few[..., 1] > 120
        return bool(magenta.mean() > LEAK)

    def slate(self, frame: Image) -> bool:
        """Whether it is a slate, whatever is written on it."""
        return bool((frame[: SIZE[1] // 5] == self._ground).all())

    def marked(self, frame: Image) -> bool:
        """Whether the watermark is in it."""
        key = frame.tobytes()
        if key not in self._known:
            self._detector.clear()
            self._detector.add(np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8))
            self._known[key] = self._detector.detect().payload == PAYLOAD
        return self._known[key]


def inject(injection: Injection, judge: Judge) -> Outcome:
    """Run the program with a fault, and judge every frame that reached a sink."""
    from realtime.core.stop_signal import StopSignal
    from realtime.motion.motion_transfer import MotionTransfer
    from realtime.pipeline.delivery_thread import OpenedSink
    from realtime.pipeline.loader import PartFactories, PipelineLoader
    from realtime.pipeline.pipeline import Pipeline
    from realtime.pipeline.settings import RunHooks, RunSettings

    places = {name: Place(injection.fault if name == injection.place else no_fault) for name in PLACES}
    stop_signal = StopSignal()
    tracker, generator = FaceTracker(places["track"]), PictureGenerator(places["generate"])
    factories = PartFactories(lambda: tracker, lambda: generator, MotionTransfer, [portrait_picture])
    loader = PipelineLoader(factories, mirror=False, failed=stop_signal.fail, notice=lambda _: None)
    sinks = [WatchedSink("faulty", places["send"]), WatchedSink("other", Place())]
    pipeline = Pipeline(
        loader,
        CameraSource(places["capture"]),
        None,
        [OpenedSink(each.name, each) for each in sinks],
        RunSettings(SIZE, 200, lossless=injection.lossless, marking=Marking(PAYLOAD, "en")),
        RunHooks(lambda _: None),
        stop_signal,
    )
    loader.start()
    pipeline.start()
    ended = stop_signal.over.wait(END_S)
    pipeline.finished(CLOSE_S)
    # a part that hangs on purpose may outlast the close, not its own hang
    ended &= pipeline.close(CLOSE_S) or pipeline.close(END_S)
    frames = [frame for sink in sinks for frame in sink.got]
    shown = [frame for frame in frames if not judge.slate(frame)]
    marked = sum(judge.marked(frame) for frame in shown)
    leaked = sum(judge.leaked(frame) for frame in frames)
    return Outcome(injection, len(frames), marked, leaked, len(shown) - marked, not ended)


def faults_command(
    count: Annotated[int, typer.Option(min=1, help="How many faults to inject, at most.")] = 10_000,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the outcome to this file.")] = None,
) -> None:
    """Inject faults, and say what left the program. Exits with 1 if anything did that must not."""
    judge, outcomes = Judge(), []
    for injection in injections(count):
        outcome = inject(injection, judge)
        outcomes.append(outcome)
        if outcome.bad:
            where = f"{injection.place} {injection.kind} from {injection.first}"
            hung = ", hung" if outcome.hung else ""
            print(f"{where}: {outcome.leaked} frames of the camera, {outcome.unmarked} unmarked{hung}", flush=True)
    found = summary(outcomes)
    done = found["faults"]
    print(f"{len(outcomes)} faults ({', '.join(f'{place} {number}' for place, number in done.items())})")
    print(f"{found['frames']} frames left, {found['marked']} of them marked, the others slates, unless stated")
    print(
        f"faults with a frame of the camera: {found['faults_with_camera']}, with an unmarked one: "
        f"{found['faults_with_unmarked']}, with a run that hung: {found['faults_with_hang']}"
    )
    if json_path is not None:
        write_json(json_path, found, "--json")
    raise typer.Exit(1 if any(outcome.bad for outcome in outcomes) else 0)


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the sums over all faults, for a file."""
    return {
        "faults": dict(Counter(outcome.injection.place for outcome in outcomes)),
        "frames": sum(outcome.frames for outcome in outcomes),
        "marked": sum(outcome.marked for outcome in outcomes),
        "faults_with_unmarked": sum(outcome.unmarked > 0 for outcome in outcomes),
        "faults_with_camera": sum(outcome.leaked > 0 for outcome in outcomes),
        "faults_with_hang": sum(outcome.hung for outcome in outcomes),
    }


def main(arguments: list[str] | None = None, prog: str = "python -m tools.faults.run") -> int:
    """Run the command line and return its exit code."""
    app = new_app()
    app.command()(faults_command)
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
