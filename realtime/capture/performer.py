"""The performer: a rendered face that talks, for machines without a camera, and ground truth for tests.

It is a clip that loops without a seam, rendered from a face model by ``tools.render_assets``. Beside it lies a file
with
the ARKit coefficients and the turn of the head in every frame.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

import engines
from engines.types import Image
from realtime.core.frames import Frame, PixelFormat, Stamps

if TYPE_CHECKING:
    import av

PERFORMER = Path(engines.__file__).parent / "assets" / "performer.mp4"
TRUTH = PERFORMER.with_suffix(".npz")
FRAMES, FPS = 360, 30
"""The frames of the clip, and how many of them are shown in a second."""
_AHEAD = 45
"""As many frames are decoded to get to a later one. Beyond, it is quicker to start again at the key frame before it."""
_MIDDLE = 0.45
"""The height of the middle of the face, as a fraction of the clip's: what is cut off is cut around it."""


class Truth(NamedTuple):
    """What the performer does in each frame of the clip."""

    names: tuple[str, ...]
    """The 52 ARKit coefficients, in the order of ``engines.face.coefficients.NAMES``."""
    coefficients: NDArray[np.float32]
    """(FRAMES, 52), 0 to 1."""
    turns: NDArray[np.float32]
    """(FRAMES, 3): rotation vectors in radians, image axes: the first lowers the nose, the second turns it to the left
    in the picture, the third tilts the head clockwise."""

    def of(self, name: str) -> NDArray[np.float32]:
        """Return a coefficient in each frame, (FRAMES,). A name without its side is the mean of both sides."""
        sides = [self.names.index(each) for each in (name, f"{name}Left", f"{name}Right") if each in self.names]
        return np.asarray(self.coefficients[:, sides].mean(axis=1), np.float32)


def read_truth() -> Truth:
    """Return what the performer does in each frame."""
    with np.load(TRUTH, allow_pickle=False) as data:
        return Truth(tuple(data["names"].tolist()), data["coefficients"].astype(np.float32), data["turns"])


class Performer:
    """The clip, decoded frame by frame and scaled."""

    def __init__(self, size: tuple[int, int]) -> None:
        """Open the clip; ``size`` is the width and height of the pictures, which are cut to its shape."""
        import av

        self._size = size
        self._container: av.container.InputContainer | None = av.open(str(PERFORMER))
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "SLICE"
        width, height = self._stream.width, self._stream.height
        across, down = min(width, round(height * size[0] / size[1])), min(height, round(width * size[1] / size[0]))
        left = (width - across) // 2
        top = min(max(round(height * _MIDDLE - down / 2), 0), height - down)
        self._cut = slice(top, top + down), slice(left, left + across)
        self._enlarged = size[0] > across
        self._decoded: Iterator[av.VideoFrame] = iter(())
        self._number = FRAMES
        self._pixels: Image = np.empty((0, 0, 3), np.uint8)

    def picture(self, seconds: float) -> Image:
        """Return the picture at a time of the loop as a new RGB array (H, W, 3) uint8."""
        number = int(seconds * FPS + 1e-6) % FRAMES
        if number != self._number:
            self._decode(number)
        method = cv2.INTER_LINEAR if self._enlarged else cv2.INTER_AREA
        return np.asarray(cv2.resize(self._pixels[self._cut], self._size, interpolation=method), np.uint8)

    def _decode(self, number: int) -> None:
        """Decode frame ``number`` of the clip."""
        assert self._container is not None, "the performer is closed"
        base = self._stream.time_base
        assert base is not None
        if not 0 < number - self._number <= _AHEAD:
            self._container.seek(round(number / FPS / base), stream=self._stream)
            self._decoded = self._container.decode(self._stream)
        for frame in self._decoded:
            assert frame.pts is not None
            self._number = round(frame.pts * base * FPS)
            if self._number >= number:
                self._pixels = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
                return

    def close(self) -> None:
        """Close the clip. close() is idempotent."""
        self._decoded = iter(())
        if self._container is not None:
            self._container.close()
            self._container = None


class PerformerSource:
    """A Source that plays the performer: frame i shows the clip at i / fps, and comes when a camera would send it."""

    live = True
    frames: int | None = None
    skipped = 0

    def __init__(
        self,
        size: tuple[int, int],
        fps: float,
        *,
        paced: bool = True,
        now_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open the clip.

        With ``paced`` each frame comes at its time, as with a camera; otherwise as fast as it is read. ``now_ns`` and
        ``sleep`` are the clock, which tests replace.
        """
        self.size = size
        self.fps = fps
        self.live = paced
        self.name = f"performer, a scripted face, {size[0]}x{size[1]} {fps:g} fps"
        self.notes: tuple[str, ...] = ()
        self._performer = Performer(size)
        self._now_ns, self._sleep = now_ns, sleep
        self._start_ns = 0
        self._seq = 0

    def read(self) -> Frame:
        """Return the next frame. If paced, frames whose time has passed are left out."""
        period = 1e9 / self.fps
        if not self._start_ns:
            self._start_ns = self._now_ns()
        elif self.live:
            late = self._now_ns() - self._start_ns
            self._seq = max(self._seq, int(late / period))
            wait = self._seq * period - late
            if wait > 0:
                self._sleep(wait / 1e9)
        shown_ns = round(self._seq * period)
        pixels = self._performer.picture(self._seq / self.fps)
        captured = self._now_ns()
        frame = Frame(pixels, PixelFormat.RGB, self._seq, Stamps(captured), captured if self.live else shown_ns)
        self._seq += 1
        return frame

    def close(self) -> None:
        """Close the clip. close() is idempotent."""
        self._performer.close()
