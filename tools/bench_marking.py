"""Measures the marks: what they cost, how faint they are, what they survive, how often they are seen by mistake.

    python -m tools.bench_marking cost|visible|video|still|false|all --faces DIR

DIR holds ``clips`` and ``portraits``: real faces, which are not part of the project.
"""

from __future__ import annotations

import datetime
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer

from engines.errors import UsageError, one_of
from engines.marking import mark_raster
from engines.marking.detector import CHECKSUM_CHANCE, FOUND, SUSPECTED, Detector, tail_probability
from engines.marking.marks import FrameMarks, Marking
from engines.marking.payload import SESSION_BITS, Payload
from engines.types import Image
from tools.marking.attacks import ATTACKS, FPS
from tools.marking.frames import Luma
from tools.support.command import new_app, run_app
from tools.support.files import read_frames, write_json
from tools.support.similarity import ssim_map

SIZE = (1280, 720)
SECONDS = 2
JPEG_QUALITY = 60
EVERY = 3
"""Of a video every third frame is given to the detector, as tools.verify does."""


def filled(image: Image, size: tuple[int, int] = SIZE) -> Image:
    """Return an image enlarged or reduced and cut to fill a size, (H, W, 3) uint8."""
    width, height = size
    scale = max(width / image.shape[1], height / image.shape[0])
    inner = max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale))
    scaled = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    left, top = (inner[0] - width) // 2, (inner[1] - height) // 2
    return np.ascontiguousarray(scaled[top : top + height, left : left + width], np.uint8)


def luma_of(image: Image) -> Luma:
    """Return the luma of an RGB image."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def pictures(folder: Path, most: int) -> Iterator[Image]:
    """Yield up to ``most`` portraits of a folder, evenly chosen, filled to ``SIZE``."""
    for path in chosen(folder / "portraits", most):
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is not None:
            yield filled(np.asarray(image[..., ::-1], np.uint8))


def videos(folder: Path, most: int) -> Iterator[list[Image]]:
    """Yield the first two seconds of up to ``most`` clips, evenly chosen, filled to ``SIZE``."""
    for path in chosen(folder / "clips", most):
        frames = [filled(each) for each in read_frames(path, SECONDS * FPS)]
        if len(frames) == SECONDS * FPS:
            yield frames


def chosen(folder: Path, most: int) -> list[Path]:
    """Return up to ``most`` files of a folder, evenly spread over their names. Raises UsageError."""
    found = sorted(each for each in folder.glob("*") if each.is_file())
    if not found:
        raise UsageError("bench-no-faces", f"no files in {folder}", "real faces", "name their folder with --faces")
    count = min(most, len(found))
    return [found[at * len(found) // count] for at in range(count)]


def payloads(seed: int = 0) -> Iterator[Payload]:
    """Yield payloads at random."""
    random = np.random.default_rng(seed)
    while True:
        yield Payload.on(int(random.integers(1 << SESSION_BITS)), datetime.date(2026, 11, 30))


def measure_cost(faces: Path, count: int) -> dict[str, Any]:
    """Return the processor time of label and watermark a frame, in ms: processor time, as others use the machine."""
    mark_raster.compile_all()
    marks = FrameMarks(SIZE, Marking(next(payloads())))
    taken = []
    for image in pictures(faces, max(1, count // 4)):
        for _ in range(20):
            started = time.thread_time_ns()
            marks.mark(image)
            taken.append((time.thread_time_ns() - started) / 1e6)
    return {"median_ms": round(statistics.median(taken), 3), "p90_ms": round(float(np.percentile(taken, 90)), 3)}


def measure_visible(faces: Path, count: int) -> dict[str, Any]:
    """Return PSNR and SSIM of the watermark, and the largest change between two frames of a still picture."""
    noise, alike, flicker = [], [], 0
    for image, payload in zip(pictures(faces, count), payloads(), strict=False):
        marks = FrameMarks(SIZE, Marking(payload, None))
        marked = marks.mark(image).copy()
        noise.append(20 * math.log10(255 / math.sqrt(float(((marked.astype(np.float64) - image) ** 2).mean()))))
        alike.append(float(ssim_map(*(luma_of(each).astype(np.float32) for each in (image, marked))).mean()))
        flicker = max(flicker, int(np.abs(marks.mark(image).astype(int) - marked).max()))
    return {
        "pictures": len(noise),
        "psnr_db": {"mean": round(statistics.mean(noise), 1), "least": round(min(noise), 1)},
        "ssim": {"mean": round(statistics.mean(alike), 4), "least": round(min(alike), 4)},
        "flicker": flicker,
    }


def measure_video(faces: Path, count: int) -> dict[str, Any]:
    """Return in how many clips the payload is read exactly after each of the attacks."""
    right: dict[str, list[bool]] = {name: [] for name in ATTACKS}
    least = dict.fromkeys(ATTACKS, math.inf)
    for frames, payload in zip(videos(faces, count), payloads(), strict=False):
        marks = FrameMarks(SIZE, Marking(payload))
        marked = [marks.mark(each).copy() for each in frames]
        for name, attack in ATTACKS.items():
            detector = Detector()
            for each in attack(marked)[::EVERY]:
                detector.add(each)
            found = detector.detect()
            right[name].append(found.payload == payload and found.marked)
            least[name] = min(least[name], found.statistic)
        print(f"  {len(right[name])} clips", file=sys.stderr, flush=True)
    return {
        name: {"read": sum(hits), "of": len(hits), "least_statistic": round(least[name], 1)}
        for name, hits in right.items()
    }


def measure_still(faces: Path, count: int) -> dict[str, Any]:
    """Return in how many single frames as JPEG the payload is read exactly, at full and at half size."""
    result = {}
    for name, size in (("1280x720", SIZE), ("640x360", (640, 360))):
        right = []
        for image, payload in zip(pictures(faces, count), payloads(), strict=False):
            marked = FrameMarks(SIZE, Marking(payload)).mark(image)
            small = cv2.resize(marked, size, interpolation=cv2.INTER_AREA)
            _, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            detector = Detector()
            detector.add(np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8))
            found = detector.detect()
            right.append(found.payload == payload and found.marked)
        result[name] = {"read": sum(right), "of": len(right)}
    return result


def unmarked(faces: Path, count: int) -> Iterator[tuple[str, list[Luma]]]:
    """Yield pictures and clips without a watermark: faces, noise as a camera's, and drawn ones."""
    random = np.random.default_rng(7)
    for image in pictures(faces, count):
        yield "portraits", [luma_of(image)]
    for frames in videos(faces, max(1, count // 2)):
        yield "clips", [luma_of(each) for each in frames[::EVERY]]
    for level in range(max(1, count // 4)):
        noise = random.normal(60 + level, 2 + level % 9, (720, 1280))
        yield "noise", [np.clip(cv2.GaussianBlur(noise, (0, 0), 0.4 + level % 5 / 2), 0, 255).astype(np.uint8)]
    for step in range(max(1, count // 4)):
        across = np.arange(1280) % (8 + 3 * step)
        down = np.arange(720)[:, None] % (11 + 2 * step)
        yield "drawn", [np.asarray(90 + 9 * across % 80 + 7 * down % 60, np.uint8)]


def measure_false(faces: Path, count: int) -> dict[str, Any]:
    """Return the fitted tail of the statistic at one scale, and the probability of a false alarm that follows.

    Peaks over threshold: the excess over the threshold that one in a hundred exceeds has a generalized Pareto
    distribution (Coles, An Introduction to Statistical Modeling of Extreme Values, 2001, chapter 4), once with shape 0,
    an exponential, and once with the shape that its moments have. The statistic at all scales is at most as often too
    large as the sum over them.
    """
    values, highest, by_kind = [], 0.0, dict[str, list[float]]()
    for kind, frames in unmarked(faces, count):
        detector = Detector()
        for each in frames:
            detector.add(each)
        profile = detector.profile()
        values.append(profile)
        highest = max(highest, float(profile.max()))
        by_kind.setdefault(kind, []).append(float(profile.max()))
        if len(values) % 20 == 0:
            print(f"  {len(values)} pictures", file=sys.stderr, flush=True)
    every = np.concatenate(values)
    threshold = float(np.percentile(every, 99))
    excess = every[every > threshold] - threshold
    mean, spread = float(excess.mean()), float(excess.std())
    scales = len(values[0])

    def probability(statistic: float) -> float:
        return scales * 0.01 * math.exp((threshold - statistic) / mean)

    shape = max(1e-3, 0.5 * (1 - (mean / spread) ** 2))

    def shaped(statistic: float) -> float:
        excess = (statistic - threshold) / (mean * (1 - shape))
        return scales * 0.01 * math.pow(1 + shape * excess, -1 / shape)

    return {
        "pictures": len(values),
        "correlations_with_scale": len(every),
        "highest": round(highest, 2),
        "highest_by_kind": {kind: round(max(each), 2) for kind, each in by_kind.items()},
        "tail": {"threshold": round(threshold, 3), "share": 0.01, "mean_excess": round(mean, 4)},
        "shape": round(shape, 3),
        "false_alarm_without_payload": probability(FOUND),
        "false_alarm_with_payload": probability(SUSPECTED) * CHECKSUM_CHANCE,
        "false_alarm_exponential": probability(FOUND) + probability(SUSPECTED) * CHECKSUM_CHANCE,
        "false_alarm_with_shape": shaped(FOUND) + shaped(SUSPECTED) * CHECKSUM_CHANCE,
        "false_alarm_as_built_in": tail_probability(FOUND) + tail_probability(SUSPECTED) * CHECKSUM_CHANCE,
    }


MEASURES: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "cost": measure_cost,
    "visible": measure_visible,
    "video": measure_video,
    "still": measure_still,
    "false": measure_false,
}


def bench_command(
    faces: Annotated[Path, typer.Option(help="A folder with clips and portraits.")],
    what: Annotated[str, typer.Argument(help=f"What to measure: {one_of((*MEASURES, 'all'))}.")] = "all",
    count: Annotated[int, typer.Option(min=1, help="How many clips or portraits, at most.")] = 1000,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Measure label and watermark."""
    if what not in (*MEASURES, "all"):
        raise typer.BadParameter(f"{what}: expected {one_of((*MEASURES, 'all'))}")
    results = {}
    for name in MEASURES if what == "all" else (what,):
        results[name] = MEASURES[name](faces, count)
        print(name)
        _print(results[name], 1)
    if json_path is not None:
        write_json(json_path, results, "--json")


def _print(values: dict[str, Any], depth: int) -> None:
    for name, value in values.items():
        if isinstance(value, dict) and any(isinstance(each, dict) for each in value.values()):
            print(f"{'  ' * depth}{name}")
            _print(value, depth + 1)
        else:
            shown = ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else value
            print(f"{'  ' * depth}{name:<48}{shown}", flush=True)


def main(arguments: Sequence[str] | None = None, prog: str = "python -m tools.bench_marking") -> int:
    """Run the command line and return its exit code."""
    app = new_app()
    app.command()(bench_command)
    return run_app(app, prog, None if arguments is None else list(arguments))


if __name__ == "__main__":
    sys.exit(main())
