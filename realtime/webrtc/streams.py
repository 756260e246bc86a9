"""What viewers watch: the newest picture of a stream, for each of them at its own pace."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from realtime.webrtc.codecs import CLOCK, TIME_BASE
from realtime.webrtc.ring import Picture, RingReader

if TYPE_CHECKING:
    from av import VideoFrame


class Timeline:
    """When a picture was taken, strictly increasing, in monotonic ns.

    A picture made without a new one of the camera, as when the face is lost, counts as taken when it was sent: time
    goes on, and with it what a receiver expects.
    """

    def __init__(self) -> None:
        self._last_ns = 0
        self._behind_ns = 0

    def place(self, captured_ns: int, sent_ns: int) -> int:
        """The time of the next picture, captured (0: not at all) and sent at these moments."""
        fresh = captured_ns > self._last_ns
        if fresh:
            self._behind_ns = max(0, sent_ns - captured_ns)
        taken = captured_ns if fresh else sent_ns - self._behind_ns
        self._last_ns = max(taken, self._last_ns + 1_000_000)
        return self._last_ns


class Stream:
    """One stream of pictures out of a ring. Belongs to the event loop's thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tracks: set[StreamTrack] = set()
        self.newest: Picture | None = None
        self.newest_ns = 0
        self.number = 0
        """Of the newest picture: counts all that were sent, whatever ring they came through."""
        self._taken = 0
        self._reader: RingReader | None = None
        self._timeline = Timeline()

    @property
    def live(self) -> bool:
        """Whether somebody sends pictures."""
        return self._reader is not None

    def attach(self, reader: RingReader) -> None:
        """Take pictures from this ring from now on, and not from the one before."""
        self.detach()
        self._reader, self._taken = reader, 0
        asyncio.get_running_loop().add_reader(reader.fileno(), self._wake)
        self._wake()

    def detach(self) -> None:
        """Let go of the ring."""
        if self._reader is not None:
            asyncio.get_running_loop().remove_reader(self._reader.fileno())
            self._reader.close()
            self._reader = None

    def look(self) -> None:
        """Take the newest picture out of the ring, if there is a newer one."""
        picture = self._reader.take() if self._reader is not None else None
        if picture is not None:
            self.newest = picture
            self.number += picture.seq - self._taken if self._taken else 1
            self._taken = picture.seq
            self.newest_ns = self._timeline.place(picture.captured_ns, picture.time_ns)

    def _wake(self) -> None:
        assert self._reader is not None
        self._reader.drain()
        if self._reader.ended:
            self.detach()
            return
        if self.tracks:
            self.look()
            for track in self.tracks:
                track.changed.set()


class StreamTrack:
    """A video track for one sender, as aiortc uses it: every picture it asks for is the newest there is."""

    kind = "video"

    def __init__(self, stream: Stream, ended: Callable[[], Exception]) -> None:
        self.id = str(uuid.uuid4())
        self.changed = asyncio.Event()
        self.frames = 0
        self.dropped = 0
        """Pictures of the stream that this viewer was not ready for."""
        self.readyState = "live"
        self._stream = stream
        self._ended = ended
        self._seen = 0
        self._origin_ns = 0
        stream.tracks.add(self)

    async def recv(self) -> VideoFrame:
        """Wait for a picture newer than the last one; its pts is when it was captured. Raises MediaStreamError."""
        self._stream.look()
        while (picture := self._stream.newest) is None or self._stream.number == self._seen:
            self._check()
            self.changed.clear()
            await self.changed.wait()
        self._check()
        if self._seen:
            self.dropped += self._stream.number - self._seen - 1
        self._seen = self._stream.number
        self._origin_ns = self._origin_ns or self._stream.newest_ns
        self.frames += 1
        return to_video_frame(picture, self._stream.newest_ns - self._origin_ns)

    def stop(self) -> None:
        """No more pictures; may be called twice."""
        self.readyState = "ended"
        self._stream.tracks.discard(self)
        self.changed.set()

    def _check(self) -> None:
        if self.readyState == "ended":
            raise self._ended()


def to_video_frame(picture: Picture, time_ns: int) -> VideoFrame:
    """A picture for an encoder, which may change what is said about it: its own copy."""
    from av import VideoFrame

    planes = picture.pixels.reshape(picture.height * 3 // 2, picture.width)
    frame = VideoFrame.from_ndarray(planes, "yuv420p")
    frame.pts = time_ns * CLOCK // 1_000_000_000
    frame.time_base = TIME_BASE
    return frame
