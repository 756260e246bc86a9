"""The one way out. Nothing reaches a sink but what is published here: generated pictures and slates.

Sinks take ``PublishedFrame`` and only the publisher makes one, out of memory of its own: a picture of the camera has
no path to them. Whatever marks synthetic pictures belongs into ``FramePublisher.show``, ahead of the conversion.
"""

from __future__ import annotations

import enum
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.errors import GeneratorError
from engines.types import Image
from realtime.core import pixelcode
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.core.mailbox import Mailbox
from realtime.pipeline import slate


class Kind(enum.Enum):
    """What a published picture is."""

    GENERATED = "generated"
    HELD = "held"
    """The last generated picture once more."""
    SLATE = "slate"
    """The card, because the person asked for it."""
    NOTICE = "notice"
    """The card at start-up or after a failure: for whoever watches, not for a recording."""


class FramePool:
    """Memory for pictures in every wanted format, used again once nobody holds it. Any thread may let go."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._formats: set[PixelFormat] = set()
        self._free: list[FrameBuffer] = []
        self._lock = threading.Lock()
        self.made = 0
        """How many were ever made: stays small, or somebody does not let go."""

    def want(self, pixel_format: PixelFormat) -> None:
        """Have every plate hold this format too; called before the first ``take``."""
        self._formats.add(pixel_format)

    def take(self) -> FrameBuffer:
        """A plate that nobody else holds, to be written and in the end released by the caller."""
        with self._lock:
            if self._free:
                buffer = self._free.pop()
                buffer.holders = 1
                return buffer
            self.made += 1
        width, height = self._size
        shapes = {PixelFormat.RGB: (height, width, 3), PixelFormat.I420: (height * 3 // 2, width)}
        return FrameBuffer(self, {kind: np.empty(shapes[kind], np.uint8) for kind in self._formats})

    def hold(self, buffer: FrameBuffer) -> None:
        """Count one more holder."""
        with self._lock:
            buffer.holders += 1

    def release(self, buffer: FrameBuffer) -> None:
        """Count one holder less; the last one gives the memory back."""
        with self._lock:
            buffer.holders -= 1
            if buffer.holders == 0:
                self._free.append(buffer)


class FrameBuffer:
    """The memory of one picture, in one or more formats."""

    def __init__(self, home: FramePool, pixels: dict[PixelFormat, NDArray[np.uint8]]) -> None:
        self.home = home
        self.pixels = pixels
        self.holders = 1
        self.views = {kind: array.view() for kind, array in pixels.items()}
        for view in self.views.values():
            view.flags.writeable = False

    def fill(self, image: Image) -> None:
        """Write an RGB picture in every format."""
        for kind, pixels in self.pixels.items():
            if kind is PixelFormat.I420:
                cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420, dst=pixels)
            else:
                np.copyto(pixels, image)

    def draw(self, code: pixelcode.Code) -> None:
        """Draw a code over the picture in every format."""
        for kind, pixels in self.pixels.items():
            if kind is PixelFormat.I420:
                pixelcode.draw_i420(pixels, code)
            else:
                pixelcode.draw(pixels, code)


@dataclass(frozen=True, slots=True)
class PublishedFrame:
    """A published picture. Whoever takes one from its mailbox calls ``release`` once, when done with it."""

    kind: Kind
    seq: int
    time_ns: int
    stamps: Stamps
    face: bool
    """Whether a face in the driving picture drove it."""
    _plate: FrameBuffer = field(repr=False)

    def frame(self, pixel_format: PixelFormat) -> Frame:
        """The picture in a format that some sink asked for; read-only, and good until ``release``."""
        return Frame(self._plate.views[pixel_format], pixel_format, self.seq, self.stamps, self.time_ns)

    def hold(self) -> PublishedFrame:
        """Count one more holder."""
        self._plate.home.hold(self._plate)
        return self

    def release(self) -> None:
        """Let go of the memory."""
        self._plate.home.release(self._plate)


class FrameRelay(ABC):
    """What stands in a Sink's place and publishes pictures anew: it has to know what each is, not how it looks only."""

    name: str
    format = PixelFormat.RGB
    notes: tuple[str, ...] = ()

    @abstractmethod
    def relay(self, shown: PublishedFrame) -> None:
        """Pass a picture on; it stays the caller's."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything; may be called twice."""


class FramePublisher:
    """Publishes pictures to every attached mailbox. One thread publishes; ``attach`` comes before that.

    With ``lossless`` it waits for each mailbox to have room; otherwise the newest picture wins in each. With
    ``relay_code`` the number that ``realtime.core.pixelcode`` reads in a driving picture is drawn anew on the generated
    one, to measure delays from outside.
    """

    def __init__(
        self,
        size: tuple[int, int],
        *,
        lossless: bool = False,
        relay_code: bool = False,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.pool = FramePool(size)
        self._relay_code = relay_code
        self._size = size
        self._lossless = lossless
        self._clock = clock
        self._boxes: list[tuple[Mailbox[PublishedFrame], bool]] = []
        self._last: PublishedFrame | None = None
        self._card: tuple[str, FrameBuffer] | None = None
        self._time_ns = -1

    def attach(self, pixel_format: PixelFormat, *, recording: bool) -> Mailbox[PublishedFrame]:
        """A mailbox that gets all that is published, in that format; a recording gets no notices."""
        self.pool.want(pixel_format)
        box: Mailbox[PublishedFrame] = Mailbox()
        self._boxes.append((box, recording))
        return box

    def show(
        self, image: Image, driving: Image | None, *, seq: int, time_ns: int, stamps: Stamps, face: bool
    ) -> Stamps:
        """Publish a generated picture; it is copied. Returns its stamps, ``generated`` among them.

        ``driving`` is the picture that drove it. Raises GeneratorError for a picture of another size or
        type, and for one that is the driving picture itself: that one never leaves the program.
        """
        width, height = self._size
        if image.shape != (height, width, 3) or image.dtype != np.uint8:
            raise GeneratorError(
                f"the generator made a picture of shape {image.shape} and type {image.dtype}, "
                f"expected {(height, width, 3)} and uint8"
            )
        if driving is not None and np.may_share_memory(image, driving):
            raise GeneratorError("the generator handed back the driving picture, which never leaves the program")
        buffer = self.pool.take()
        buffer.fill(image)
        if self._relay_code and driving is not None and (code := pixelcode.read(driving)) is not None:
            buffer.draw(code)
        stamps = replace(stamps, generated=self._clock())
        shown = PublishedFrame(Kind.GENERATED, seq, self._tick(time_ns), stamps, face, buffer)
        self._publish(shown)
        if self._last is not None:
            self._last.release()
        self._last = shown
        return stamps

    def hold(self, time_ns: int) -> None:
        """Publish the last generated picture once more; a slate when there is none yet."""
        if self._last is None:
            self.slate("reenact: nothing to show yet", time_ns)
            return
        self._publish(replace(self._last, kind=Kind.HELD, time_ns=self._tick(time_ns)))

    def slate(self, text: str, time_ns: int, *, notice: bool = False) -> None:
        """Publish a card with a line of text. It is drawn once, however often it is shown."""
        if self._card is None or self._card[0] != text:
            if self._card is not None:
                self.pool.release(self._card[1])
            buffer = self.pool.take()
            buffer.fill(slate.draw(self._size, text))
            self._card = (text, buffer)
        kind = Kind.NOTICE if notice else Kind.SLATE
        time_ns = time_ns if notice else self._tick(time_ns)
        self._publish(PublishedFrame(kind, 0, time_ns, Stamps(self._clock()), False, self._card[1]))

    def relay(self, shown: PublishedFrame, time_ns: int) -> None:
        """Publish what another publisher of this size has published, as what it was there; it is copied."""
        buffer = self.pool.take()
        buffer.fill(shown.frame(PixelFormat.RGB).pixels)
        time_ns = time_ns if shown.kind is Kind.NOTICE else self._tick(time_ns)
        again = PublishedFrame(shown.kind, shown.seq, time_ns, shown.stamps, shown.face, buffer)
        self._publish(again)
        again.release()

    def close(self) -> None:
        """Close every mailbox: the sinks deliver what is still in them and end. May be called twice."""
        for box, _ in self._boxes:
            box.close()

    def _tick(self, time_ns: int) -> int:
        """Published times only go up, whatever a source that was lost and found says."""
        self._time_ns = max(time_ns, self._time_ns + 1)
        return self._time_ns

    def _publish(self, shown: PublishedFrame) -> None:
        for box, recording in self._boxes:
            if recording and shown.kind is Kind.NOTICE:
                continue
            shown.hold()
            back = box.put(shown) if not self._lossless else None if box.put_when_free(shown) else shown
            if back is not None:
                back.release()
