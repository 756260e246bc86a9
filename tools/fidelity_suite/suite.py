"""A fixed list of drivers and portraits, end to end in one process, and what the judge says about each."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.progress import track as progress
from rich.table import Table

from engines.errors import SourceMissing, UsageError
from engines.generator import Generator
from engines.types import Image
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.tracking.face_mesh import available as facemesh_available
from realtime.tracking.tracker import FaceMeshTracker, LandmarkerTracker, Tracker
from tools.fidelity import SIX, Background, Fidelity, compare, default_model, jitter, plot
from tools.fidelity_suite.judge import Judge, Track, frames_of, judge_clip
from tools.fidelity_suite.sheet import Sheet, moments, write

PAIRS = (
    ("lp__d6.mp4", "lp__s9.jpg"),
    ("lp__d10.mp4", "lp__s3.jpg"),
    ("lp__d0.mp4", "lp__s8.jpg"),
    ("lp__d3.mp4", "sadtalker__art_10.png"),
    ("lp__d12.mp4", "lp__s6.jpg"),
    ("lp__d20.mp4", "hellomeme__show1.jpg"),
    ("personalive__driving_video.mp4", "anitalker__aiface4.png"),
    ("pyfeat__WolfgangLanger_Pexels.mp4", "echomimic__a.png"),
    ("vrt__1.mp4", "fantasyportrait__man.jpeg"),
    ("lp__d9.mp4", "ipadapter__woman.png"),
    ("lp__d10.mp4", "lp__s10.jpg"),
    ("lp__d6.mp4", "vhuman__stock-emotions-b-2.jpg"),
)
"""Driver and portrait, as files under ``clips`` and ``portraits``."""


class Tracking(StrEnum):
    """What follows the driver's face."""

    FACEMESH = "facemesh"
    LANDMARKER = "landmarker"

    def open(self, model: Path) -> Tracker:
        """A new tracker; ``model`` is the landmarker's bundle. Raises TrackerError."""
        return FaceMeshTracker() if self is Tracking.FACEMESH else LandmarkerTracker(model)


FRAME_NS = 33_333_333
STILL_FRAMES = 150
STILL_NOISE = 3.0
"""Standard deviation of the noise that makes one frame held still into a camera's picture, in grey levels."""


@dataclass(frozen=True, slots=True)
class PairResult:
    """What one pair came to."""

    driver: str
    portrait: str
    fidelity: Fidelity
    background: Background
    jitter: float
    """Pixels (std) that the output's landmarks move for a still driver."""
    ms: float
    """Mean time of a frame, track to picture, in milliseconds."""

    def summary(self) -> dict[str, Any]:
        psnr = self.background.psnr
        return self.fidelity.summary() | {
            "driver": self.driver,
            "portrait": self.portrait,
            "background_psnr": psnr if np.isfinite(psnr) else None,
            "background_worst": self.background.worst if np.isfinite(self.background.worst) else None,
            "jitter_px": self.jitter,
            "ms": self.ms,
        }


def reenact(
    frames: Iterator[Image],
    picture: Any,
    generator: Generator,
    tracker: Tracker,
    spent: Callable[[float], None] = lambda _: None,
) -> Iterator[Image]:
    """Drive a portrait (a ``PortraitPicture``) with frames taken at 30 fps.

    Yields the generator's own picture: copy it before asking for the next. Closes the tracker. ``spent`` gets seconds.
    """
    from realtime.motion.relative import MotionTransfer

    motion = MotionTransfer()
    portrait = generator.prepare(picture.name, picture.image, picture.face)
    try:
        for index, image in enumerate(frames):
            time_ns = (index + 1) * FRAME_NS
            start = time.perf_counter()
            face = tracker.track(Frame(image, PixelFormat.RGB, index, Stamps(time_ns), time_ns))
            result = generator.drive(portrait, motion.update(face, time_ns), image)
            spent(time.perf_counter() - start)
            yield result
    finally:
        tracker.close()


def still_frames(image: Image, count: int) -> Iterator[Image]:
    """One picture held still, with a camera's noise: the same noise on every machine."""
    noise = np.random.default_rng(1)
    for _ in range(count):
        grain = noise.normal(0, STILL_NOISE, image.shape).astype(np.float32)
        yield np.clip(np.rint(image + grain), 0, 255).astype(np.uint8)


def run_pair(
    clip: Path, portrait: Path, model: Path, size: tuple[int, int], limit: int | None, tracking: Tracking
) -> tuple[PairResult, Sheet]:
    """Drive one portrait with one clip and judge it, without a codec between."""
    from engines.generator import create
    from realtime.portraits.portrait import load_portrait

    driver = judge_clip(clip, model).first(limit)
    picture = load_portrait(portrait, size)
    background = Background(picture.image, picture.face.pixels()[:, :2])
    sheet = Sheet(moments(driver))
    times: list[float] = []
    generator = create("mesh")
    try:
        with Judge(model) as judge:
            made = reenact(frames_of(clip, limit), picture, generator, tracking.open(model), times.append)
            for index, (driving, image) in enumerate(zip(frames_of(clip, limit), made, strict=True)):
                _, landmarks = judge.look(image)
                background.add(image, landmarks)
                sheet.add(index, driving, image)
            output = judge.track()
        calm = _calm_frame(clip, driver)
        moved = _judge_still(calm, picture, generator, tracking.open(model), model)
    finally:
        generator.close()
    found = compare(driver, output)
    return PairResult(clip.name, portrait.name, found, background, moved, 1e3 * float(np.mean(times))), sheet


def _calm_frame(clip: Path, driver: Track) -> Image:
    """The first frame in which the driver has a face."""
    index = int(np.argmax(driver.found))
    return list(frames_of(clip, index + 1))[-1]


def _judge_still(image: Image, picture: Any, generator: Generator, tracker: Tracker, model: Path) -> float:
    """The jitter once the filters have settled: the second half of the frames."""
    with Judge(model) as judge:
        for made in reenact(still_frames(image, STILL_FRAMES), picture, generator, tracker):
            judge.look(made)
        seen = judge.track()
    half = STILL_FRAMES // 2
    return jitter(Track(seen.values[half:], seen.landmarks[half:], seen.size))


def pair_table(results: list[PairResult], tracking: Tracking) -> Table:
    """One line a pair: r and gain of the six channels, faces, background and jitter; the averages last."""
    table = Table(
        title=(
            f"r / gain by pair, tracked by the {tracking}"
            " (still channels in brackets, left out of means; background: the worst pair)"
        ),
        title_justify="left",
    )
    table.box = box.SIMPLE
    table.add_column("driver > portrait", no_wrap=True, max_width=34)
    for name in (*SIX, "gazeX", "mean r", "no face", "bg dB", "jitter", "ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        found = result.fidelity
        cells = [
            ("[{:.2f}/{:.2f}]" if found[name].still else "{:.2f}/{:.2f}").format(found[name].r, found[name].gain)
            for name in (*SIX, "gazeX")
        ]
        table.add_row(
            f"{Path(result.driver).stem} > {Path(result.portrait).stem}",
            *(cell.replace("[", r"\[") for cell in cells),
            f"{found.mean_r:.3f}",
            str(found.frames - found.output_found),
            _decibels(result.background.psnr),
            f"{result.jitter:.2f}",
            f"{result.ms:.1f}",
        )
    averages = channel_means(results)
    table.add_section()
    table.add_row(
        "mean",
        *("{:.3f}/{:.2f}".format(*averages[name]) for name in (*SIX, "gazeX")),
        f"{np.nanmean([result.fidelity.mean_r for result in results]):.3f}",
        str(sum(result.fidelity.frames - result.fidelity.output_found for result in results)),
        _decibels(min(result.background.psnr for result in results)),
        f"{np.mean([result.jitter for result in results]):.2f}",
        f"{np.mean([result.ms for result in results]):.1f}",
    )
    return table


def channel_means(results: list[PairResult]) -> dict[str, tuple[float, float]]:
    """Mean r and gain of each channel over the pairs whose driver moves it; NaN where none does."""
    means = {}
    for channel in results[0].fidelity.channels:
        moving = [found for result in results if not (found := result.fidelity[channel.name]).still]
        means[channel.name] = (
            float(np.mean([np.nan_to_num(found.r) for found in moving])) if moving else float("nan"),
            float(np.mean([found.gain for found in moving])) if moving else float("nan"),
        )
    return means


def _decibels(value: float) -> str:
    return "same" if np.isposinf(value) else "none" if np.isnan(value) else f"{value:.1f}"


def parse_size(text: str) -> tuple[int, int]:
    """Width and height out of ``512x512``. Raises UsageError."""
    width, cross, height = text.partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError(f"{text!r} is not a size", cure="give it as WIDTHxHEIGHT, such as 512x512")
    return int(width), int(height)


def suite_command(
    faces: Annotated[Path, typer.Option(help="The folder with clips and portraits.")],
    out: Annotated[Path | None, typer.Option(help="Write plots, sheets and suite.json here.")] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Only the first so many pairs.")] = len(PAIRS),
    only: Annotated[str, typer.Option(help="Only pairs with this text in driver or portrait.")] = "",
    frames: Annotated[int, typer.Option(min=2, help="At most so many frames of each driver.")] = 300,
    size: Annotated[str, typer.Option(help="The output's size.")] = "512x512",
    model: Annotated[Path | None, typer.Option(help="The bundle face_landmarker.task.")] = None,
    tracker: Annotated[
        Tracking | None, typer.Option(help="What follows the driver; Face Mesh where MediaPipe has it.")
    ] = None,
) -> None:
    """Run the pairs and print the table."""
    console = Console()
    shape = parse_size(size)
    # never by whether the bundle happens to be cached: figures would not compare
    tracking = tracker or (Tracking.FACEMESH if facemesh_available() else Tracking.LANDMARKER)
    bundle = model or default_model()
    chosen = [pair for pair in PAIRS[:pairs] if only in " ".join(pair)]
    if not chosen:
        raise UsageError(f"no pair has {only!r} in its names", cure="leave --only out to see them all")
    for name in {
        str(Path(folder, file)) for pair in chosen for folder, file in zip(("clips", "portraits"), pair, strict=True)
    }:
        if not (faces / name).is_file():
            raise SourceMissing(f"there is no {name} in {faces}", cure="give the folder with clips and portraits")
    if out:
        out.mkdir(parents=True, exist_ok=True)
    results = []
    for clip, portrait in progress(chosen, description="pairs", console=console, transient=True):
        result, sheet = run_pair(
            faces / "clips" / clip, faces / "portraits" / portrait, bundle, shape, frames, tracking
        )
        results.append(result)
        if out:
            name = f"{Path(clip).stem}-{Path(portrait).stem}"
            plot(result.fidelity, out / f"{name}-plot.png", f"{clip} -> {portrait}")
            write(sheet, out / f"{name}-sheet.png")
    Console(width=max(console.width, 190)).print(pair_table(results, tracking))
    if out:
        figures = {
            "size": size,
            "tracker": tracking,
            "pairs": [result.summary() for result in results],
            "channels": {name: {"r": r, "gain": gain} for name, (r, gain) in channel_means(results).items()},
        }
        (out / "suite.json").write_text(json.dumps(figures, indent=2) + "\n")
