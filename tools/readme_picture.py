"""The README's pictures: the performer above the default portrait that follows it, and a sheet of the gallery.

    python -m tools.readme_picture [--out docs]

All faces are rendered, and the result is the program's own: tracker, motion and mesh generator.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from PIL import Image as Pillow

from engines.registry import create
from engines.types import Image
from realtime.capture.performer import FPS, FRAMES, Performer, Truth, read_truth
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.motion.motion_transfer import MotionTransfer
from realtime.portraits.bundled import bundled_portraits
from realtime.portraits.image_file import read_image
from realtime.portraits.portrait import load_portrait
from realtime.tracking.tracker import open_tracker
from tools.support.command import new_app, run_app

TILE = (360, 300)
SMALL = (240, 200)
COLUMNS = 6


def moments(truth: Truth) -> list[int]:
    """Return the numbers of the frames to show: talking, a blink, a smile and a turned head."""
    turned, blink = np.abs(truth.turns[:, 1]), truth.of("eyeBlink")
    scores = (
        truth.of("jawOpen") - truth.of("mouthPucker") - turned - blink,
        blink - truth.of("jawOpen") - turned,
        truth.of("mouthSmile") - blink,
        turned - blink - truth.of("mouthPucker"),
    )
    return [int(np.argmax(score)) for score in scores]


def tile(image: Image, size: tuple[int, int] = TILE) -> Image:
    """Return the middle of a picture (H, W, 3) at the size of a tile."""
    width, height = size
    across = round(image.shape[0] * width / height)
    left = (image.shape[1] - across) // 2
    cut = np.ascontiguousarray(image[:, left : left + across])
    return np.asarray(cv2.resize(cut, size, interpolation=cv2.INTER_AREA), np.uint8)


def picture() -> Image:
    """Return the drivers above the portraits that follow them, (600, 1440, 3) uint8."""
    performer, tracker, motion, generator = Performer((640, 480)), open_tracker(None), MotionTransfer(), create("mesh")
    face = load_portrait(None, (640, 480))
    portrait = generator.prepare(face.name, face.image, face.face)
    motion.set_portrait(face.face)
    chosen = moments(read_truth())
    columns: dict[int, Image] = {}
    for number in range(FRAMES):
        driving = performer.picture(number / FPS)
        time_ns = round(number * 1e9 / FPS)
        tracked = tracker.track(Frame(driving, PixelFormat.RGB, number, Stamps(time_ns), time_ns))
        result = generator.drive(portrait, motion.update(tracked, time_ns), driving)
        if number in chosen:
            columns[number] = np.vstack([tile(driving), tile(result)])
    tracker.close()
    return np.hstack([columns[number] for number in chosen])


def gallery() -> Image:
    """Return a sheet of the bundled portraits, full rows of them, (H, 1440, 3) uint8."""
    tiles = [tile(read_image(portrait.path).image, SMALL) for portrait in bundled_portraits()]
    rows = [tiles[first : first + COLUMNS] for first in range(0, len(tiles) - COLUMNS + 1, COLUMNS)]
    return np.vstack([np.hstack(row) for row in rows])


app = new_app()


@app.command()
def picture_command(out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("docs")) -> None:
    """Render the README's pictures."""
    out.mkdir(parents=True, exist_ok=True)
    for name, image in (("reenact.jpg", picture()), ("gallery.jpg", gallery())):
        Pillow.fromarray(image).save(out / name, quality=88)
        print(f"wrote {out / name}")


def main(arguments: list[str] | None = None, prog: str = "python -m tools.readme_picture") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
