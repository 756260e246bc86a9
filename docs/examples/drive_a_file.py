"""Drive a portrait with a video file, step by step, through the package's own interfaces.

    python drive_a_file.py speech.mp4 out.mp4 [portrait.jpg]

This is what ``reenact --camera speech.mp4 --pace max --sink file:out.mp4`` does, on one thread.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing
from pathlib import Path

import cv2
import numpy as np

from engines.errors import ReenactError, SourceEnded
from engines.registry import create
from realtime.capture.source import open_source
from realtime.core.frames import Frame, PixelFormat
from realtime.motion.motion_transfer import MotionTransfer
from realtime.portraits.portrait import load_portrait
from realtime.sinks.sink import open_sink
from realtime.tracking.tracker import open_tracker

SIZE = (512, 512)


def drive(video: Path, out: Path, portrait: Path | None = None) -> int:
    """Write ``out``, an MP4 file, and return the number of its frames. Raises ReenactError."""
    picture = load_portrait(portrait, SIZE)
    motion = MotionTransfer()
    count = 0
    with ExitStack() as stack:
        source = stack.enter_context(closing(open_source(str(video), size=None, fps=None, pace="max")))
        tracker = stack.enter_context(closing(open_tracker()))
        generator = stack.enter_context(closing(create("mesh")))
        sink = stack.enter_context(closing(open_sink(f"file:{out}", size=SIZE, fps=source.fps, sound_from=video)))
        prepared = generator.prepare(picture.name, picture.image, picture.face, picture.matte)
        while True:
            try:
                frame = source.read()
            except SourceEnded:
                return count
            face = tracker.track(frame)
            driving = None if face is None else frame.pixels
            image = generator.drive(prepared, motion.update(face, frame.time_ns), driving)
            pixels = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420), np.uint8)
            sink.send(Frame(pixels, PixelFormat.I420, frame.seq, frame.stamps, frame.time_ns))
            count += 1


if __name__ == "__main__":
    try:
        print(f"{drive(*map(Path, sys.argv[1:4]))} frames")
    except ReenactError as error:
        sys.exit(f"{error}. {error.cure}")
