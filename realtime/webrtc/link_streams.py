"""The main process's ends of the ring buffers: a publisher's frames as a Source, a stream for viewers as a Sink."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import cv2
import numpy as np

from engines.errors import SinkLost, SourceEnded, SourceLost, SourceMissing
from engines.types import Image
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.webrtc.ipc.frame_ring import RingFrame, RingReader, RingWriter

READ_TIMEOUT_S = 1.0
"""How long ``LinkSource.read`` waits for a frame."""


class LinkSource:
    """A Source of the frames that one publisher sends.

    Every frame has the size of the first. Browsers change the size when the network is slow or a phone is turned; such
    frames are scaled to fit and centred on black.
    """

    live = True
    frames: int | None = None
    notes: tuple[str, ...] = ()
    skipped = 0

    def __init__(
        self,
        reader: RingReader,
        fps: float,
        timeout_s: float,
        on_close: Callable[[LinkSource], None] = lambda _: None,
    ) -> None:
        """Wait up to ``timeout_s`` for the first frame. ``on_close`` is called once, when the source is closed.

        Raises SourceMissing if no frame arrives in time, SourceEnded if the publisher leaves before.
        """
        self.fps = fps
        self._on_close = on_close
        self._reader = reader
        self._seq = 0
        self._first = self._wait_for_frame(timeout_s)
        if self._first is None:
            raise SourceMissing(
                "publisher-no-frame",
                f"the publisher has sent no frame for {timeout_s:g} s",
                "a first frame",
                "check that its camera is on and that UDP gets through between the two machines",
            )
        self.size = self._first.width, self._first.height
        self.name = f"WebRTC publisher, {self.size[0]}x{self.size[1]}"

    @property
    def dropped(self) -> int:
        """The number of frames that a newer one replaced before they were read."""
        return self._reader.dropped

    def read(self) -> Frame:
        """Return the newest frame, RGB; ``stamps.captured`` is when its last packet arrived.

        Raises SourceLost if none arrives for ``READ_TIMEOUT_S``, SourceEnded if the publisher has left.
        """
        frame, self._first = self._first or self._wait_for_frame(READ_TIMEOUT_S), None
        if frame is None:
            raise SourceLost("publisher-stalled", f"the publisher has sent no frame for {READ_TIMEOUT_S:g} s")
        self._seq += 1
        stamps = Stamps(captured=frame.captured_ns)
        return Frame(to_rgb(frame, self.size), PixelFormat.RGB, self._seq, stamps, frame.time_ns)

    def close(self) -> None:
        """Release the ring buffer. close() is idempotent."""
        if not self._reader.closed:
            self._reader.close()
            self._on_close(self)

    def _wait_for_frame(self, timeout_s: float) -> RingFrame | None:
        """Return the next frame, or None if there is none within ``timeout_s``. Raises SourceEnded."""
        deadline = time.monotonic() + timeout_s
        while True:
            if self._reader.wait(max(0.0, deadline - time.monotonic())) and (frame := self._reader.take()):
                return frame
            if self._reader.ended:
                raise SourceEnded("publisher-left", "the publisher has left")
            if time.monotonic() >= deadline:
                return None


def to_rgb(frame: RingFrame, size: tuple[int, int]) -> Image:
    """Return an I420 frame as RGB, (height, width, 3), scaled to fit ``size`` (w, h) and centred on black."""
    planes = frame.pixels.reshape(frame.height * 3 // 2, frame.width)
    image = cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420)
    if (frame.width, frame.height) == size:
        return np.asarray(image, np.uint8)
    scale = min(size[0] / frame.width, size[1] / frame.height)
    width, height = (max(1, round(side * scale)) for side in (frame.width, frame.height))
    scaled = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    canvas[top : top + height, left : left + width] = scaled
    return canvas


class LinkSink:
    """A Sink that viewers watch: I420 frames, newest wins. Sending never waits for a viewer."""

    format = PixelFormat.I420
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        attach: Callable[[], RingWriter],
        on_close: Callable[[], None],
        *,
        follows_sound: bool = False,
    ) -> None:
        """``attach`` makes a ring buffer and gives its reader to the media process. ``on_close`` is called once.

        With ``follows_sound`` a frame's moment is its ``time_ns``, the clock of the sound; otherwise that of its
        capture.
        """
        self.name = name
        self._follows_sound = follows_sound
        self.error: SinkLost | None = None
        """Set once the media process is gone and will not be restarted."""
        self._attach = attach
        self._on_close = on_close
        self._lock = threading.Lock()
        self._writer: RingWriter | None = attach()

    def send(self, frame: Frame) -> None:
        """Publish the frame. Raises SinkLost when the media process is gone for good."""
        if self.error is not None:
            raise SinkLost(*self.error.args)
        rows, width = frame.pixels.shape[:2]
        with self._lock:
            if self._writer is not None:
                size = width, rows * 2 // 3
                moment_ns = frame.time_ns if self._follows_sound else frame.stamps.captured
                self._writer.write((frame.pixels,), size, moment_ns, time.monotonic_ns())

    def attach_again(self) -> None:
        """Attach to a new media process, after the one before has died."""
        with self._lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = self._attach()

    def close(self) -> None:
        """End the stream for its viewers. close() is idempotent."""
        with self._lock:
            if self._writer is None:
                return
            self._writer.close()
            self._writer = None
        self._on_close()
