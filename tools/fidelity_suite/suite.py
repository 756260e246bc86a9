"""A fixed list of drivers and portraits, reenacted end to end in one process and measured."""

from __future__ import annotations

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
from tools.fidelity_suite.measures import SCORED, Background, Fidelity, compare, finite, jitter
from tools.fidelity_suite.plot import plot
from tools.fidelity_suite.reference_tracker import ReferenceTracker, Track, default_model, track_clip
from tools.fidelity_suite.sheet import Sheet, moments, write
from tools.support.files import check_writable, read_frames, write_json

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


FRAME_NS = 33_333_333
"""The interval of the frames, in nanoseconds."""
STILL_FRAMES = 150
STILL_NOISE = 3.0
"""Standard deviation of the noise added to a still frame, as a camera's picture has, in grey levels."""
COLUMNS = (*SCORED, "gazeX")
"""The channels that the table shows."""


class DriverTracker(StrEnum):
    """The trackers that can follow the driver's face."""

    FACEMESH = "facemesh"
    LANDMARKER = "landmarker"

    def open(self, model: Path) -> Tracker:
        """Return a new tracker; ``model`` is the landmarker's bundle. Raises TrackerError."""
        return FaceMeshTracker() if self is DriverTracker.FACEMESH else LandmarkerTracker(model)


@dataclass(frozen=True, slots=True)
class PairResult:
    """The measures of one pair."""

    driver: str
    portrait: str
    fidelity: Fidelity
    background: Background
    jitter: float
    """Standard deviation of the output's landmarks for a still driver, in pixels."""
    ms: float
    """Mean time of a frame from tracking to picture, in milliseconds."""

    def summary(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return self.fidelity.summary() | {
            "driver": self.driver,
            "portrait": self.portrait,
            "background_psnr": finite(self.background.psnr),
            "background_worst": finite(self.background.worst),
            "jitter_px": finite(self.jitter),
            "ms": self.ms,
        }


def reenact(
    frames: Iterator[Image],
    picture: Any,
    generator: Generator,
    tracker: Tracker,
    timed: Callable[[float], None] = lambda _: None,
) -> Iterator[Image]:
    """Drive a portrait (a ``PortraitPicture``) with frames of 30 fps and yield the output.

    The picture belongs to the generator: copy it before the next one. ``timed`` is called with the seconds that each
    frame took. The tracker is closed at the end.
    """
    from realtime.motion.motion_transfer import MotionTransfer

    motion = MotionTransfer()
    motion.set_portrait(picture.face)
    portrait = generator.prepare(picture.name, picture.image, picture.face, picture.matte)
    try:
        for index, image in enumerate(frames):
            time_ns = (index + 1) * FRAME_NS
            start = time.perf_counter()
            face = tracker.track(Frame(image, PixelFormat.RGB, index, Stamps(time_ns), time_ns))
            result = generator.drive(portrait, motion.update(face, time_ns), image)
            timed(time.perf_counter() - start)
            yield result
    finally:
        tracker.close()


def still_frames(image: Image, count: int) -> Iterator[Image]:
    """Yield one picture ``count`` times with a camera's noise, which is the same on every machine."""
    noise = np.random.default_rng(1)
    for _ in range(count):
        grain = noise.normal(0, STILL_NOISE, image.shape).astype(np.float32)
        yield np.clip(np.rint(image + grain), 0, 255).astype(np.uint8)


def run_pair(
    clip: Path, portrait: Path, model: Path, size: tuple[int, int], limit: int | None, kind: DriverTracker
) -> tuple[PairResult, Sheet]:
    """Drive one portrait with one clip, without a codec in between, and measure the output."""
    from engines.registry import create
    from realtime.portraits.portrait import load_portrait

    driver = track_clip(clip, model).first(limit)
    picture = load_portrait(portrait, size)
    background = Background(picture.image, picture.face.pixels()[:, :2])
    sheet = Sheet(moments(driver))
    times: list[float] = []
    generator = create("mesh")
    try:
        with ReferenceTracker(model) as reference:
            made = reenact(read_frames(clip, limit), picture, generator, kind.open(model), times.append)
            for index, (driving, image) in enumerate(zip(read_frames(clip, limit), made, strict=True)):
                _, landmarks = reference.read(image)
                background.add(image, landmarks)
                sheet.add(index, driving, image)
            output = reference.track()
        still = _first_face(clip, driver)
        moved = _still_jitter(still, picture, generator, kind.open(model), model)
    finally:
        generator.close()
    fidelity = compare(driver, output)
    return PairResult(clip.name, portrait.name, fidelity, background, moved, 1e3 * float(np.mean(times))), sheet


def _first_face(clip: Path, driver: Track) -> Image:
    """Return the first frame in which the driver has a face."""
    index = int(np.argmax(driver.found))
    return list(read_frames(clip, index + 1))[-1]


def _still_jitter(image: Image, picture: Any, generator: Generator, tracker: Tracker, model: Path) -> float:
    """Return the jitter for a still driver over the second half of the frames, once the filters have settled."""
    with ReferenceTracker(model) as reference:
        for made in reenact(still_frames(image, STILL_FRAMES), picture, generator, tracker):
            reference.read(made)
        track = reference.track()
    half = STILL_FRAMES // 2
    return jitter(Track(track.values[half:], track.landmarks[half:], track.size))


def pair_table(results: list[PairResult], kind: DriverTracker) -> Table:
    """Return the table: a row for each pair with r and gain, faces, background and jitter; the means last."""
    table = Table(
        title=(
            f"r / gain by pair, tracked by the {kind}"
            " (still channels in brackets, left out of means; background: the worst pair)"
        ),
        title_justify="left",
    )
    table.box = box.SIMPLE
    table.add_column("driver > portrait", no_wrap=True, max_width=34)
    for name in (*COLUMNS, "mean r", "no face", "bg dB", "jitter", "ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        fidelity = result.fidelity
        channels = [fidelity[name] for name in COLUMNS]
        cells = [
            f"[{each.r:.2f}/{each.gain:.2f}]" if each.still else f"{each.r:.2f}/{each.gain:.2f}" for each in channels
        ]
        table.add_row(
            f"{Path(result.driver).stem} > {Path(result.portrait).stem}",
            *(cell.replace("[", r"\[") for cell in cells),
            f"{fidelity.mean_r:.3f}",
            str(fidelity.frames - fidelity.output_found),
            _decibels(result.background.psnr),
            f"{result.jitter:.2f}",
            f"{result.ms:.1f}",
        )
    averages = channel_means(results)
    table.add_section()
    table.add_row(
        "mean",
        *("{:.3f}/{:.2f}".format(*averages[name]) for name in COLUMNS),
        f"{np.nanmean([result.fidelity.mean_r for result in results]):.3f}",
        str(sum(result.fidelity.frames - result.fidelity.output_found for result in results)),
        _decibels(min(result.background.psnr for result in results)),
        f"{np.mean([result.jitter for result in results]):.2f}",
        f"{np.mean([result.ms for result in results]):.1f}",
    )
    return table


def channel_means(results: list[PairResult]) -> dict[str, tuple[float, float]]:
    """Return mean r and gain of each channel over the pairs whose driver moves it; NaN where none does."""
    means = {}
    for channel in results[0].fidelity.channels:
        moving = [each for result in results if not (each := result.fidelity[channel.name]).still]
        means[channel.name] = (
            float(np.mean([np.nan_to_num(each.r) for each in moving])) if moving else float("nan"),
            float(np.mean([each.gain for each in moving])) if moving else float("nan"),
        )
    return means


def _decibels(value: float) -> str:
    return "same" if np.isposinf(value) else "none" if np.isnan(value) else f"{value:.1f}"


def parse_size(text: str) -> tuple[int, int]:
    """Return width and height of a text such as ``512x512``. Raises UsageError."""
    width, cross, height = text.partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError("fidelity-bad-size", f"--size {text!r}", "WIDTHxHEIGHT", "for example --size 512x512")
    return int(width), int(height)


def chosen_pairs(faces: Path, count: int, text: str) -> list[tuple[Path, Path]]:
    """Return the files of the first ``count`` pairs that have ``text`` in a name.

    Raises UsageError when no pair has, SourceMissing for a file that is not in ``faces``.
    """
    pairs = [
        (faces / "clips" / clip, faces / "portraits" / portrait)
        for clip, portrait in PAIRS[:count]
        if text in f"{clip} {portrait}"
    ]
    if not pairs:
        found = f"no pair has {text!r} in its names"
        raise UsageError("fidelity-pair-unknown", found, cure="leave --only out to run all")
    for path in sorted({path for pair in pairs for path in pair}):
        if not path.is_file():
            name = path.relative_to(faces)
            raise SourceMissing(
                "suite-file-missing", f"there is no {name} in {faces}", cure="give the folder with clips and portraits"
            )
    return pairs


def suite_command(
    faces: Annotated[Path, typer.Option(help="The folder with clips and portraits.")],
    out: Annotated[Path | None, typer.Option(help="Write plots, sheets and suite.json to this folder.")] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Run the first N pairs only.")] = len(PAIRS),
    only: Annotated[str, typer.Option(help="Run only pairs with this text in a name.")] = "",
    frames: Annotated[int, typer.Option(min=2, help="Use at most N frames of each driver.")] = 300,
    size: Annotated[str, typer.Option(help="The output's size.")] = "512x512",
    model: Annotated[Path | None, typer.Option(help="The bundle face_landmarker.task.")] = None,
    tracker: Annotated[
        DriverTracker | None, typer.Option(help="The driver's tracker; by default Face Mesh where MediaPipe has it.")
    ] = None,
) -> None:
    """Run the pairs and print the table."""
    console = Console()
    shape = parse_size(size)
    # The default does not depend on what is cached: figures would not compare.
    kind = tracker or (DriverTracker.FACEMESH if facemesh_available() else DriverTracker.LANDMARKER)
    bundle = model or default_model()
    chosen = chosen_pairs(faces, pairs, only)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        check_writable(out / "suite.json", "--out")
    results = []
    for clip, portrait in progress(chosen, description="pairs", console=console, transient=True):
        result, sheet = run_pair(clip, portrait, bundle, shape, frames, kind)
        results.append(result)
        if out:
            name = f"{clip.stem}-{portrait.stem}"
            plot(result.fidelity, out / f"{name}-plot.png", f"{clip.name} -> {portrait.name}")
            write(sheet, out / f"{name}-sheet.png")
    Console(width=max(console.width, 190)).print(pair_table(results, kind))
    if out:
        means = {name: {"r": finite(r), "gain": finite(gain)} for name, (r, gain) in channel_means(results).items()}
        summaries = [result.summary() for result in results]
        figures = {"size": size, "tracker": kind, "pairs": summaries, "channels": means}
        write_json(out / "suite.json", figures, "--out")
