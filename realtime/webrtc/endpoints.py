"""The daemon's ends of the rings: a publisher's pictures as a Source, a stream for viewers as a Sink."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import cv2
import numpy as np

from engines.errors import SinkLost, SourceEnded, SourceLost, SourceMissing
from engines.types import Image
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.webrtc.ipc.frame_ring import Picture, RingReader, RingWriter

READ_S = 1.0
"""A read waits this long for a picture."""


class LinkSource:
    """A Source of what one publisher sends. ``SourceEnded`` when it has left, ``SourceLost`` while it stalls.

    Every frame has the size of the first; where the publisher changes it, as browsers do when the network is slow
    or a phone is turned, pictures are scaled to fit and centred on black.
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
        detach: Callable[[LinkSource], None] = lambda _: None,
    ) -> None:
        """``detach`` is told when it is closed."""
        self.fps = fps
        self._detach = detach
        self._reader = reader
        self._seq = 0
        self._first: Picture | None = None
        deadline = time.monotonic() + timeout_s
        while self._first is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise SourceMissing(
                    f"the publisher has sent no picture for {timeout_s:g} s",
                    cure="see that its camera is on and that UDP gets through between the two machines",
                )
            self._first = self._next(min(left, READ_S))
        self.size = self._first.width, self._first.height
        self.name = f"WebRTC publisher, {self.size[0]}x{self.size[1]}"

    @property
    def dropped(self) -> int:
        """Pictures that a newer one replaced before they were read."""
        return self._reader.dropped

    def read(self) -> Frame:
        """The newest picture, RGB; ``stamps.captured`` is when its last packet came. Waits a second at most."""
        picture, self._first = self._first or self._next(READ_S), None
        if picture is None:
            raise SourceLost(f"the publisher has sent no picture for {READ_S:g} s")
        self._seq += 1
        stamps = Stamps(captured=picture.captured_ns)
        return Frame(to_rgb(picture, self.size), PixelFormat.RGB, self._seq, stamps, picture.time_ns)

    def close(self) -> None:
        """Let go of the ring; may be called twice."""
        if not self._reader.closed:
            self._reader.close()
            self._detach(self)

    def _next(self, timeout_s: float) -> Picture | None:
        deadline = time.monotonic() + timeout_s
        while True:
            if self._reader.wait(max(0.0, deadline - time.monotonic())) and (picture := self._reader.take()):
                return picture
            if self._reader.ended:
                raise SourceEnded("the publisher has left")
            if time.monotonic() >= deadline:
                return None


def to_rgb(picture: Picture, size: tuple[int, int]) -> Image:
    """An I420 picture in RGB, (height, width, 3), scaled to fit ``size`` and centred on black where it differs."""
    planes = picture.pixels.reshape(picture.height * 3 // 2, picture.width)
    image = cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420)
    if (picture.width, picture.height) == size:
        return np.asarray(image, np.uint8)
    scale = min(size[0] / picture.width, size[1] / picture.height)
    width, height = (max(1, round(side * scale)) for side in (picture.width, picture.height))
    fitted = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    framed = np.zeros((size[1], size[0], 3), np.uint8)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    framed[top : top + height, left : left + width] = fitted
    return framed


class LinkSink:
    """A Sink that viewers watch. Never waits for them; frames in I420."""

    format = PixelFormat.I420
    notes: tuple[str, ...] = ()

    def __init__(self, name: str, attach: Callable[[], RingWriter], detach: Callable[[], None]) -> None:
        self.name = name
        self.error: str | None = None
        """Why there is no media process any more."""
        self._attach = attach
        self._detach = detach
        self._lock = threading.Lock()
        self._writer: RingWriter | None = attach()

    def send(self, frame: Frame) -> None:
        """Leave the frame for whoever watches. Raises SinkLost when the media process is gone for good."""
        if self.error is not None:
            raise SinkLost(self.error)
        rows, width = frame.pixels.shape[:2]
        with self._lock:
            if self._writer is not None:
                size = width, rows * 2 // 3
                self._writer.write((frame.pixels,), size, frame.stamps.captured, time.monotonic_ns())

    def attach_again(self) -> None:
        """Meet a new media process, after the first one has died."""
        with self._lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = self._attach()

    def close(self) -> None:
        """Tell the viewers that it is over; may be called twice."""
        with self._lock:
            if self._writer is None:
                return
            self._writer.close()
            self._writer = None
        self._detach()
