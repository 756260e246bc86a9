"""Bring a photograph to life: its faces do what a recorded motion does.

    python -m tools.animate PHOTO [--motion smile] [--out OUT.mp4]
    python -m tools.animate PHOTO --motion nod --motion laugh --seconds 6 --out family.gif
    python -m tools.animate --list

Every picture has the label and the watermark of generated pictures, as those of the program.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image as Pillow
from rich.console import Console
from rich.progress import track

from engines.errors import SinkLost, UsageError
from engines.marking.marks import FrameMarks
from engines.types import Image
from realtime.marking import LabelOption, new_marking
from realtime.motion.motion_file import bundled_motions, read_motion, with_bundled_motion
from realtime.portraits.bundled import with_bundled
from realtime.portraits.image_file import read_image
from realtime.tracking.still_faces import find_faces
from tools.animation.scene import chosen, fitted, frames
from tools.support.command import new_app, run_app

FORMATS = (".mp4", ".gif", ".webp", ".png")
FPS = {".mp4": 30, ".gif": 15, ".webp": 20, ".png": 15}
"""Pictures per second of each format."""

app = new_app()


@app.command()
def animate_command(
    photos: Annotated[list[Path] | None, typer.Argument(help="pictures, or names of bundled portraits")] = None,
    motion: Annotated[list[str] | None, typer.Option(help="a bundled motion or a recorded one; repeatable")] = None,
    out: Annotated[Path | None, typer.Option(help="the file to write: .mp4, .gif, .webp or .png")] = None,
    size: Annotated[str, typer.Option(help="the largest width and height")] = "1280x720",
    seconds: Annotated[float | None, typer.Option(min=0.5, max=600, help="how long; as the motion by default")] = None,
    faces: Annotated[str, typer.Option(help="all, largest, or the N-th from the left")] = "all",
    label: Annotated[str, typer.Option(help="language of the label: auto, en, zh, de, fr, es, or off")] = "auto",
    names: Annotated[bool, typer.Option("--list", help="list the bundled motions")] = False,
) -> None:
    """Bring photographs to life."""
    console = Console(stderr=True)
    if names:
        print("\n".join(bundled_motions()))
        return
    if not photos:
        raise UsageError("animate-no-photo", "no picture", "one at least", "give its file")
    motions = motion or ["smile"]
    limits = _limits(size, faces, label)
    for photo in photos:
        for name in motions:
            target = _target(photo, name, out, several=len(photos) * len(motions) > 1)
            _animate(photo, name, target, limits, faces, seconds, label, console)
            console.print(f"{target}")


def _limits(size: str, faces: str, label: str) -> tuple[int, int]:
    """Return the largest width and height. Raises UsageError for a bad option."""
    match = re.fullmatch(r"(\d{2,4})x(\d{2,4})", size)
    if match is None or not all(64 <= int(side) <= 4096 for side in match.groups()):
        raise UsageError("animate-bad-size", f"--size {size}", "64x64 to 4096x4096", "give WIDTHxHEIGHT")
    if not re.fullmatch(r"all|largest|[1-9]", faces):
        raise UsageError("animate-bad-faces", f"--faces {faces}", "all, largest or 1 to 9", "choose one of them")
    if label not in ("auto", "en", "zh", "de", "fr", "es", "off"):
        raise UsageError("animate-bad-label", f"--label {label}", "auto, en, zh, de, fr, es or off", "choose one")
    return int(match[1]), int(match[2])


def _target(photo: Path, motion: str, out: Path | None, *, several: bool) -> Path:
    """Return the file to write. Raises UsageError."""
    target = out or Path(f"{photo.stem}.mp4")
    if target.suffix.lower() not in FORMATS:
        raise UsageError("animate-bad-format", f"--out {target}", ", ".join(FORMATS), "choose one of these suffixes")
    if several:
        target = target.with_name(f"{photo.stem}-{Path(motion).stem}{target.suffix}")
    if target.resolve() == photo.resolve():
        raise UsageError("animate-overwrites", f"--out {target}, the picture itself", "another file", "name another")
    return target


def _animate(
    photo: Path, name: str, target: Path, limits: tuple[int, int], which: str, seconds: float | None, label: str,
    console: Console,
) -> None:  # fmt: skip
    """Write one take. Raises ReenactError."""
    motion = read_motion(with_bundled_motion(Path(name)))
    picture = fitted(read_image(with_bundled(photo)).image, limits)
    faces = chosen(find_faces(picture), which)
    suffix = target.suffix.lower()
    fps = FPS[suffix]
    count = max(2, round((seconds or motion.duration) * fps))
    marks = FrameMarks((picture.shape[1], picture.shape[0]), new_marking(_label(label)))
    shown = (marks.mark(image) for image in frames(picture, faces, motion, count, fps))
    progress = track(shown, f"{target.name}, {len(faces)} faces", count, console=console, transient=True)
    try:
        (_write_mp4 if suffix == ".mp4" else _write_pictures)(progress, target, fps)
    except OSError as error:
        found = f"{target} cannot be written: {error.strerror or error}"
        raise SinkLost("animate-not-written", found, cure="name another file") from None


def _label(text: str) -> LabelOption:
    known: dict[str, LabelOption] = {
        "auto": "auto", "en": "en", "zh": "zh", "de": "de", "fr": "fr", "es": "es", "off": "off",
    }  # fmt: skip
    return known[text]


def _write_mp4(images: Iterable[Image], target: Path, fps: int) -> None:
    import av

    iterator: Iterator[Image] = iter(images)
    first = next(iterator)
    with av.open(str(target), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "veryfast", "crf": "18"})
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = 6, 1
        for image in chain([first], iterator):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p", dst_colorspace=5)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _write_pictures(images: Iterable[Image], target: Path, fps: int) -> None:
    """Write an animated GIF, WebP or PNG that loops."""
    pictures = [Pillow.fromarray(np.ascontiguousarray(image).copy()) for image in images]
    pictures[0].save(target, save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0)


def main(arguments: list[str] | None = None, prog: str = "python -m tools.animate") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
