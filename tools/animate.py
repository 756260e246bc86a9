"""Bring a photograph to life: its faces do what a recorded motion does.

    python -m tools.animate PHOTO [--motion smile] [--out OUT.mp4]
    python -m tools.animate PHOTO --motion nod --motion laugh --seconds 6 --out family.gif
    python -m tools.animate --list

Every picture has the label and the watermark of generated pictures, as those of the program.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
import typer
from PIL import Image as Pillow
from rich.console import Console
from rich.progress import track

from engines.errors import SinkLost, UsageError, one_of
from engines.marking.marks import FrameMarks, Marking
from engines.types import Image
from realtime.marking import LabelOption, new_marking
from realtime.motion.motion_file import Recorded, bundled_motions, read_motion, with_bundled_motion
from realtime.portraits.bundled import with_bundled
from realtime.portraits.consent import RIGHTS, require, right_named, terminal_ask
from realtime.portraits.image_file import read_image
from tools.animation.scene import Scene, fitted
from tools.support.command import new_app, run_app
from tools.support.files import check_writable, whole_file, write_mp4

FORMATS = (".mp4", ".gif", ".webp", ".png")
FPS = {".mp4": 30, ".gif": 15, ".webp": 20, ".png": 15}
"""Pictures per second of each format."""
MOST_PIXELS = 300_000_000
"""Of all pictures of a GIF, WebP or PNG together, which are in memory at once: 0.9 GB. MP4 is written as it comes."""
LABELS: tuple[LabelOption, ...] = get_args(LabelOption)

app = new_app()


@app.command()
def animate_command(
    photos: Annotated[list[Path] | None, typer.Argument(help="pictures, or names of bundled portraits")] = None,
    motion: Annotated[list[str] | None, typer.Option(help="a bundled motion or a recorded one; repeatable")] = None,
    out: Annotated[Path | None, typer.Option(help="the file to write: .mp4, .gif, .webp or .png")] = None,
    size: Annotated[str, typer.Option(help="the largest width and height")] = "1280x720",
    seconds: Annotated[float | None, typer.Option(min=0.5, max=600, help="how long; as the motion by default")] = None,
    faces: Annotated[str, typer.Option(help="all, largest, or the N-th from the left")] = "all",
    label: Annotated[str, typer.Option(help=f"language of the label: {one_of(LABELS)}")] = "auto",
    consent: Annotated[str | None, typer.Option(help=f"what right you have to the pictures: {one_of(RIGHTS)}")] = None,
    names: Annotated[bool, typer.Option("--list", help="list the bundled motions")] = False,
) -> None:
    """Bring photographs to life."""
    if names:
        print("\n".join(bundled_motions()))
        return
    if not photos:
        raise UsageError("animate-no-photo", "no picture", "one at least", "give its file")
    limits = _limits(size, faces)
    marking = new_marking(_label(label))
    motions = {name: read_motion(with_bundled_motion(Path(name))) for name in motion or ["smile"]}
    several = len(photos) * len(motions) > 1
    targets = {(photo, name): _target(photo, name, out, several=several) for photo in photos for name in motions}
    _check_targets(photos, list(targets.values()))
    _require_consent(photos, consent)
    console = Console(stderr=True)
    for photo in photos:
        picture = fitted(read_image(with_bundled(photo)).image, limits)
        with closing(Scene(picture, faces)) as scene:
            for name, recorded in motions.items():
                target = targets[photo, name]
                _animate(scene, recorded, target, seconds or recorded.duration, marking, console)
                console.print(f"{target}")


def _limits(size: str, faces: str) -> tuple[int, int]:
    """Return the largest width and height. Raises UsageError for a bad option."""
    match = re.fullmatch(r"(\d{2,4})x(\d{2,4})", size)
    if match is None or not all(64 <= int(side) <= 4096 for side in match.groups()):
        raise UsageError("animate-bad-size", f"--size {size}", "64x64 to 4096x4096", "give WIDTHxHEIGHT")
    if not re.fullmatch(r"all|largest|[1-9]", faces):
        raise UsageError("animate-bad-faces", f"--faces {faces}", "all, largest or 1 to 9", "choose one of them")
    return int(match[1]), int(match[2])


def _label(text: str) -> LabelOption:
    """Return the option of that name. Raises UsageError."""
    for label in LABELS:
        if label == text:
            return label
    raise UsageError("animate-bad-label", f"--label {text}", one_of(LABELS), "choose one")


def _target(photo: Path, motion: str, out: Path | None, *, several: bool) -> Path:
    """Return the file to write. Raises UsageError."""
    target = out or Path(f"{photo.stem}.mp4")
    if target.suffix.lower() not in FORMATS:
        raise UsageError("animate-bad-format", f"--out {target}", ", ".join(FORMATS), "choose one of these suffixes")
    if several:
        target = target.with_name(f"{photo.stem}-{Path(motion).stem}{target.suffix}")
    return target


def _check_targets(photos: Sequence[Path], targets: Sequence[Path]) -> None:
    """Raise UsageError where a file to write is a picture, is written twice, or cannot be written."""
    pictures = {with_bundled(photo).resolve() for photo in photos}
    written = set[Path]()
    for target in targets:
        place = target.resolve()
        if place in pictures:
            raise UsageError(
                "animate-overwrites", f"--out {target}, a picture that is read", "another file", "name another"
            )
        if place in written:
            found = f"{target} for two pictures or motions of the same name"
            raise UsageError(
                "animate-same-file", found, "a file for each", "animate them one at a time, each with --out"
            )
        written.add(place)
        check_writable(target, "--out")


def _require_consent(photos: Sequence[Path], given: str | None) -> None:
    """Have the user say what right there is to pictures that are used for the first time. Raises ConsentError."""
    right = None if given is None else right_named(given, f"--consent {given}")
    own = [with_bundled(photo) for photo in photos]
    require(own, right, terminal_ask(), lambda text: print(text, file=sys.stderr))


def _animate(scene: Scene, motion: Recorded, target: Path, seconds: float, marking: Marking, console: Console) -> None:
    """Write one take. Raises ReenactError."""
    suffix = target.suffix.lower()
    fps = FPS[suffix]
    count = max(2, round(seconds * fps))
    if suffix != ".mp4":
        _check_memory(scene.picture, target, count, fps)
    marks = FrameMarks((scene.picture.shape[1], scene.picture.shape[0]), marking)
    shown = (marks.mark(image) for image in scene.frames(motion, count, fps))
    progress = track(shown, f"{target.name}, {len(scene.faces)} faces", count, console=console, transient=True)
    try:
        if suffix == ".mp4":
            write_mp4(progress, target, fps, {"preset": "veryfast", "crf": "18"})
        else:
            _write_pictures(progress, target, fps)
    except OSError as error:
        found = f"{target} cannot be written: {error.strerror or error}"
        raise SinkLost("animate-not-written", found, cure="name another file") from None


def _check_memory(picture: Image, target: Path, count: int, fps: int) -> None:
    """Raise UsageError for more pictures than the memory for a format that is written as a whole."""
    height, width = picture.shape[:2]
    most = MOST_PIXELS // (width * height)
    if count > most:
        found = f"{count} pictures of {width}x{height} for {target}"
        cure = "give fewer --seconds or a smaller --size, or write .mp4"
        raise UsageError("animate-too-long", found, f"at most {most}, which are {most / fps:.1f} s", cure)


def _write_pictures(images: Iterable[Image], target: Path, fps: int) -> None:
    """Write an animated GIF, WebP or PNG that loops."""
    pictures = [Pillow.fromarray(np.ascontiguousarray(image).copy()) for image in images]
    kind = Pillow.registered_extensions()[target.suffix.lower()]
    with whole_file(target) as partial:
        pictures[0].save(partial, kind, save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0)


def main(arguments: list[str] | None = None, prog: str = "python -m tools.animate") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
