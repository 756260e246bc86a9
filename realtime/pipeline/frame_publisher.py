"""The only way out of the program: sinks get nothing but generated frames and slates that are published here.

Sinks take a ``PublishedFrame``, and only the publisher makes one, in memory of its own: a camera frame has no path to
them. ``FramePublisher.show`` marks every generated frame before it is converted: label and watermark have no way round.
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
from engines.marking.marks import FrameMarks, Marking
from engines.types import Image
from realtime.core import pixelcode
from realtime.core.frames import WITH_ALPHA, Frame, PixelFormat, Stamps
from realtime.core.mailbox import Mailbox
from realtime.core.sound import SoundPacket
from realtime.pipeline import slate
from realtime.pipeline.settings import Clock
from realtime.pipeline.transparency import Transparency, straight_colours


class FrameKind(enum.Enum):
    """What a published frame shows."""

    GENERATED = "generated"
    HELD = "held"
    """The last generated frame, repeated."""
    SLATE = "slate"
    """The slate, because the user asked for it."""
    NOTICE = "notice"
    """The slate at start-up or after a failure: for viewers, not for a recording."""


class FramePool:
    """A pool of reference-counted frame buffers. Any thread may release a buffer."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._formats: set[PixelFormat] = set()
        self._free: list[FrameBuffer] = []
        self._lock = threading.Lock()
        self.made = 0
        """How many buffers were ever made; it grows without bound if one is not released."""

    def add_format(self, pixel_format: PixelFormat) -> None:
        """Have every buffer hold this format too. Must be called before the first ``take``."""
        self._formats.add(pixel_format)

    @property
    def takes_alpha(self) -> bool:
        """Whether one of the formats has an alpha."""
        return not WITH_ALPHA.isdisjoint(self._formats)

    def take(self) -> FrameBuffer:
        """Return a free buffer with a reference count of one, which the caller has to release."""
        with self._lock:
            if self._free:
                buffer = self._free.pop()
                buffer.references = 1
                return buffer
            self.made += 1
        width, height = self._size
        shapes = {
            PixelFormat.RGB: (height, width, 3),
            PixelFormat.I420: (height * 3 // 2, width),
            PixelFormat.RGBA: (height, width, 4),
            PixelFormat.I420A: (height * 5 // 2, width),
        }
        return FrameBuffer(self, {each: np.empty(shapes[each], np.uint8) for each in self._formats})

    def hold(self, buffer: FrameBuffer) -> None:
        """Add a reference."""
        with self._lock:
            buffer.references += 1

    def release(self, buffer: FrameBuffer) -> None:
        """Drop a reference; without any the buffer is free again."""
        with self._lock:
            buffer.references -= 1
            if buffer.references == 0:
                self._free.append(buffer)


class FrameBuffer:
    """The memory of one frame, in one or more pixel formats. ``views`` are read-only."""

    def __init__(self, pool: FramePool, pixels: dict[PixelFormat, NDArray[np.uint8]]) -> None:
        self.pool = pool
        self.pixels = pixels
        self.references = 1
        self.views = {pixel_format: array.view() for pixel_format, array in pixels.items()}
        for view in self.views.values():
            view.flags.writeable = False

    def fill(self, image: Image, transparency: Transparency | None = None) -> None:
        """Copy an RGB image into the buffer, in every format. Without ``transparency`` all of it is opaque."""
        colours = image
        if transparency is not None and not WITH_ALPHA.isdisjoint(self.pixels):
            colours = straight_colours(image, transparency)
        alpha = 255 if transparency is None else transparency.alpha
        height = image.shape[0]
        for pixel_format, pixels in self.pixels.items():
            if pixel_format is PixelFormat.I420:
                cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420, dst=pixels)
            elif pixel_format is PixelFormat.I420A:
                cv2.cvtColor(colours, cv2.COLOR_RGB2YUV_I420, dst=pixels[: height * 3 // 2])
                pixels[height * 3 // 2 :] = alpha
            elif pixel_format is PixelFormat.RGBA:
                pixels[..., :3] = colours
                pixels[..., 3] = alpha
            else:
                np.copyto(pixels, image)

    def draw(self, code: pixelcode.Code) -> None:
        """Draw a code over the frame, in every format."""
        for pixel_format, pixels in self.pixels.items():
            if pixel_format is PixelFormat.I420:
                pixelcode.draw_i420(pixels, code)
            elif pixel_format is PixelFormat.I420A:
                pixelcode.draw_i420(pixels[: len(pixels) * 3 // 5], code)
            else:
                pixelcode.draw(pixels[..., :3], code)


@dataclass(frozen=True, slots=True)
class PublishedFrame:
    """A published frame. Each one taken from a mailbox has to be released once."""

    kind: FrameKind
    seq: int
    time_ns: int
    stamps: Stamps
    face: bool
    """Whether a face in a driving frame drove it."""
    _buffer: FrameBuffer = field(repr=False)

    def frame(self, pixel_format: PixelFormat) -> Frame:
        """Return the frame in an attached format; its pixels are read-only and valid until ``release``."""
        return Frame(self._buffer.views[pixel_format], pixel_format, self.seq, self.stamps, self.time_ns)

    def hold(self) -> PublishedFrame:
        """Add a reference to the memory, and return this frame."""
        self._buffer.pool.hold(self._buffer)
        return self

    def release(self) -> None:
        """Drop a reference to the memory."""
        self._buffer.pool.release(self._buffer)


class FrameRelay(ABC):
    """Takes the place of a sink to publish frames again: it gets the kind of each frame besides its pixels."""

    name: str
    format = PixelFormat.RGB
    notes: tuple[str, ...] = ()
    hear: Callable[[SoundPacket], None] | None = None
    """Passes on the sound that belongs to the frames, on any thread; None where none is wanted."""

    @abstractmethod
    def relay(self, published: PublishedFrame) -> None:
        """Pass a frame on. The reference stays the caller's."""

    @abstractmethod
    def close(self) -> None:
        """Release everything; idempotent."""


class FramePublisher:
    """Publishes frames to every attached mailbox. One thread publishes; every ``attach`` comes before that.

    With ``lossless`` it waits until each mailbox is empty; otherwise the newest frame replaces an older one. With
    ``relay_code`` the code that ``realtime.core.pixelcode`` reads in a driving frame is drawn on the generated one,
    which allows delays to be measured from outside. ``marking`` says how generated frames are marked; None, for parts
    of the program on their own, leaves them as they are.
    """

    def __init__(
        self,
        size: tuple[int, int],
        *,
        lossless: bool = False,
        relay_code: bool = False,
        marking: Marking | None = None,
        clock: Clock = time.monotonic_ns,
    ) -> None:
        self._marks = None if marking is None else FrameMarks(size, marking)
        self._language = "en" if marking is None or marking.language is None else marking.language
        self.pool = FramePool(size)
        self._relay_code = relay_code
        self._size = size
        self._lossless = lossless
        self._clock = clock
        self._mailboxes: list[tuple[Mailbox[PublishedFrame], bool]] = []
        self._last: PublishedFrame | None = None
        self._slate: tuple[str, FrameBuffer] | None = None
        self._time_ns = -1

    def attach(self, pixel_format: PixelFormat, *, recording: bool) -> Mailbox[PublishedFrame]:
        """Return a mailbox that gets every frame, in that format; a recording's gets no notices."""
        self.pool.add_format(pixel_format)
        mailbox: Mailbox[PublishedFrame] = Mailbox()
        self._mailboxes.append((mailbox, recording))
        return mailbox

    @property
    def takes_alpha(self) -> bool:
        """Whether there is a sink for the alpha of an image."""
        return self.pool.takes_alpha

    def show(self, image: Image, driving: Frame, *, face: bool, transparency: Transparency | None = None) -> Stamps:
        """Publish a generated ``image``, (H, W, 3) uint8 RGB, which is copied and marked.

        ``driving`` is the frame that it was generated from, and gives it the sequence number and the times. ``face``
        says whether a face in it drove the image, and ``transparency`` what is transparent in it. Returns its stamps,
        ``generated`` among them.

        Raises GeneratorError for an image of another size or type, and for one that shares memory with the driving
        frame, which never leaves the program.
        """
        width, height = self._size
        if image.shape != (height, width, 3) or image.dtype != np.uint8:
            raise GeneratorError(
                "generator-bad-frame",
                f"the generator returned an image of shape {image.shape} and type {image.dtype}",
                f"{(height, width, 3)} and uint8",
            )
        if np.may_share_memory(image, driving.pixels):
            raise GeneratorError(
                "generator-leaks-camera", "the generator returned the driving frame", "an image of its own"
            )
        if self._marks is not None:
            image = self._marks.mark(image)
        buffer = self.pool.take()
        buffer.fill(image, transparency)
        if self._relay_code and face and (code := pixelcode.read(driving.pixels)) is not None:
            buffer.draw(code)
        stamps = replace(driving.stamps, generated=self._clock())
        time_ns = self._advance(driving.time_ns)
        published = PublishedFrame(FrameKind.GENERATED, driving.seq, time_ns, stamps, face, buffer)
        self._publish(published)
        if self._last is not None:
            self._last.release()
        self._last = published
        return stamps

    def hold(self, time_ns: int) -> None:
        """Publish the last generated frame again, or a slate if there is none yet."""
        if self._last is None:
            self.slate("nothing to show yet", time_ns)
            return
        self._publish(replace(self._last, kind=FrameKind.HELD, time_ns=self._advance(time_ns)))

    def slate(self, text: str, time_ns: int, *, notice: bool = False) -> None:
        """Publish a slate with a line of text. The same text is drawn only once."""
        if self._slate is None or self._slate[0] != text:
            if self._slate is not None:
                self.pool.release(self._slate[1])
            buffer = self.pool.take()
            buffer.fill(slate.draw(self._size, text, self._language))
            self._slate = (text, buffer)
        kind = FrameKind.NOTICE if notice else FrameKind.SLATE
        time_ns = time_ns if notice else self._advance(time_ns)
        self._publish(PublishedFrame(kind, 0, time_ns, Stamps(self._clock()), False, self._slate[1]))

    def relay(self, published: PublishedFrame, time_ns: int) -> None:
        """Publish a copy of a frame of another publisher of the same size, as the same kind."""
        buffer = self.pool.take()
        buffer.fill(published.frame(PixelFormat.RGB).pixels)
        time_ns = time_ns if published.kind is FrameKind.NOTICE else self._advance(time_ns)
        copy = PublishedFrame(published.kind, published.seq, time_ns, published.stamps, published.face, buffer)
        self._publish(copy)
        copy.release()

    def close(self) -> None:
        """Close every mailbox; sinks still deliver what is in them. Idempotent."""
        for mailbox, _ in self._mailboxes:
            mailbox.close()

    def _advance(self, time_ns: int) -> int:
        """Return ``time_ns``, or a later time: published times increase strictly, even if the source was reopened."""
        self._time_ns = max(time_ns, self._time_ns + 1)
        return self._time_ns

    def _publish(self, published: PublishedFrame) -> None:
        for mailbox, recording in self._mailboxes:
            if recording and published.kind is FrameKind.NOTICE:
                continue
            published.hold()
            if self._lossless:
                if not mailbox.put_when_free(published):
                    published.release()
            elif (returned := mailbox.put(published)) is not None:
                returned.release()
