"""Run reenact with a generator of your own: a line drawing of the driver's expression on the portrait's head.

    python own_generator.py out.mp4 [frames]

The generator has every member of ``engines.generator.Generator``. The rest is the program itself: the performer drives,
and the threads, the frame publisher and the recording are those of ``reenact``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from engines.errors import CommandError, ReenactError
from engines.face import topology
from engines.face.head import Pose, own_pose
from engines.types import FaceState, Image, Mask, Motion, Portrait
from realtime.capture.source import open_source
from realtime.core.stop_signal import StopSignal
from realtime.motion.motion_transfer import MotionTransfer
from realtime.pipeline.delivery_thread import OpenedSink
from realtime.pipeline.loader import PartFactories, PipelineLoader
from realtime.pipeline.pipeline import Pipeline
from realtime.pipeline.settings import Limits, RunHooks, RunSettings
from realtime.portraits.portrait import load_portrait
from realtime.sinks.sink import open_sink
from realtime.tracking.tracker import open_tracker

SIZE = (512, 512)
OPEN_LINES = (*topology.UPPER_LIDS, *topology.LOWER_LIDS, topology.INNER_UPPER_LIP, topology.INNER_LOWER_LIP)


class LineDrawing:
    """Draws lids, lips and the outline of the face."""

    name = "drawing"
    label = "line drawing"
    random_weights = False
    regions: tuple[str, ...] = ("all",)
    mouths: tuple[str, ...] = ()
    mouth = None

    def prepare(
        self,
        name: str,
        image: Image,
        face: FaceState,
        matte: Mask | None = None,  # noqa: ARG002
        behind: Image | None = None,  # noqa: ARG002
    ) -> Portrait:
        """Keep where the portrait's head is, in an image of (H, W, 3)."""
        return Portrait(name, (image.shape[1], image.shape[0]), own_pose(face.pixels()))

    def drive(self, portrait: Portrait, motion: Motion, driving: Image | None) -> Image:  # noqa: ARG002
        """Return a new drawing, (H, W, 3) RGB. ``driving`` is not used: no pixel of the camera may leave."""
        head: Pose = portrait.features
        pose = Pose((motion.rotation @ head.rotation).astype(np.float32), head.origin, head.scale * motion.scale)
        points = pose.project(motion.expression)[:, :2].round().astype(np.int32)
        image = np.full((portrait.size[1], portrait.size[0], 3), (250, 246, 238), np.uint8)
        cv2.polylines(image, [points[topology.OVAL]], True, (40, 40, 60), 3, cv2.LINE_AA)
        cv2.polylines(image, [points[line] for line in OPEN_LINES], False, (150, 60, 50), 2, cv2.LINE_AA)
        return image

    def alpha(self) -> Mask | None:
        """Return None: the drawing covers the whole image."""
        return None

    def set_mouth(self, mouth: str) -> None:  # noqa: ARG002
        """Raise CommandError: there is no choice."""
        raise CommandError("mouth-not-available", "the line drawing, which has no choice of mouth", "mesh")

    @property
    def refined(self) -> bool | None:
        """Return None: no network refines a drawing."""
        return None

    def set_refined(self, on: bool) -> None:  # noqa: ARG002
        """Raise CommandError: there is no network to switch."""
        raise CommandError("refiner-not-available", "the line drawing, which no network refines", "the generator mesh")

    def close(self) -> None:
        """Release nothing. close() is idempotent."""


def run(out: Path, frames: int = 60) -> None:
    """Record that many frames. Raises ReenactError."""
    stop_signal = StopSignal()
    factories = PartFactories(
        tracker=open_tracker,
        generator=LineDrawing,
        motion=MotionTransfer,
        portraits=[lambda: load_portrait(None, SIZE)],
    )
    loader = PipelineLoader(factories, mirror=False, failed=stop_signal.fail, notice=print)
    source = open_source("performer", size=None, fps=None, pace="max")
    sink = open_sink(f"file:{out}", size=SIZE, fps=source.fps)
    pipeline = Pipeline(
        loader,
        source,
        None,
        [OpenedSink("file", sink, recording=True)],
        RunSettings(SIZE, source.fps, lossless=True, limits=Limits(frames)),
        RunHooks(print),
        stop_signal,
    )
    loader.start()
    pipeline.start()
    try:
        while not pipeline.finished(0.2):
            pass
    finally:
        pipeline.close()
    if stop_signal.error is not None:
        raise stop_signal.error


if __name__ == "__main__":
    try:
        run(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
    except ReenactError as error:
        sys.exit(f"{error}. {error.cure}")
