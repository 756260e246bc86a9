"""What viewers watch: a stream of pictures, each encoded once for all who take it at the same rate.

aiortc has an encoder for each viewer, which on a small machine few viewers are enough to fill. Here the viewers of a
stream who use the same codec at the same bit rate share one, as they all do until the network is too slow for some.
Those get another rate, and with it another encoder; so does whoever keeps asking for key frames.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from realtime.webrtc.ipc.frame_ring import Picture, RingReader
from realtime.webrtc.video.codecs import Compressed, Encoder, Rates
from realtime.webrtc.video.decoder import CLOCK, TIME_BASE

if TYPE_CHECKING:
    from av import VideoFrame

KEY_GAP_S = 0.3
"""Key frames of a shared encoder are so far apart at least."""
MOST_KEYS, KEYS_WITHIN_S = 5, 10.0
"""Who asks for more gets an encoder to himself."""
MOST_WAITING = 30
"""Frames that a sender which hangs is kept; then it begins anew with a key frame."""
_NS = 1_000_000_000
_STEP = 1.25
"""Between the bit rates that encoders are made for: viewers of slow networks share them too."""
_BEFORE_NS = 60 * _NS
logger = logging.getLogger(__name__)
Kind = tuple[str, int, str]
"""Of an encoder: its name, the bit rate, and whose it is alone ("" where it is shared)."""


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
        self.encodings: dict[Kind, Encoding] = {}
        self.newest: Picture | None = None
        self.number = 0
        """Of the newest picture: counts all that were sent, whatever ring they came through."""
        self.origin_ns = time.monotonic_ns() - _BEFORE_NS
        """What pts count from, in all encodings: before the first picture."""
        self._taken = 0
        self._reader: RingReader | None = None

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

    def join(self, track: StreamTrack) -> None:
        """Have a track get the pictures at its rate; it leaves the encoding it was in."""
        self.leave(track)
        kind = track.kind_wanted
        encoding = self.encodings.get(kind)
        if encoding is None:
            encoding = self.encodings[kind] = Encoding(self, kind)
        encoding.add(track)

    def leave(self, track: StreamTrack) -> None:
        """Give a track no more pictures; an encoding without any ends."""
        for kind, encoding in list(self.encodings.items()):
            encoding.tracks.discard(track)
            if not encoding.tracks:
                encoding.stop()
                del self.encodings[kind]

    def _wake(self) -> None:
        assert self._reader is not None
        self._reader.drain()
        if self._reader.ended:
            self.detach()
            return
        for encoding in self.encodings.values():
            encoding.changed.set()


class Encoding:
    """Encodes a stream's newest picture, again and again, for all tracks of one kind."""

    def __init__(self, stream: Stream, kind: Kind) -> None:
        self.tracks: set[StreamTrack] = set()
        self.changed = asyncio.Event()
        self._stream = stream
        name, bitrate, _ = kind
        self._kind = kind
        self._encoder = Encoder(name, Rates(bitrate, bitrate, bitrate))
        self._timeline = Timeline()
        self._seen = 0
        self._key_wanted = True
        self._key_s = -KEY_GAP_S
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def name(self) -> str:
        """What encodes; may change when a GPU takes no more."""
        return self._encoder.name

    def add(self, track: StreamTrack) -> None:
        """Give a track the pictures from the next key frame on, which comes at once."""
        track.begun = False
        track.encoding = self
        self.tracks.add(track)
        track.ask_key()

    def ask_key(self) -> None:
        """Encode a picture soon that can be decoded by itself, though there may be no new one."""
        self._key_wanted = True
        self.changed.set()

    def stop(self) -> None:
        """Encode no more."""
        self._task.cancel()

    async def _run(self) -> None:
        try:
            while True:
                await self._due()
                for track in [each for each in self.tracks if each.kind_wanted != self._kind]:
                    self._stream.join(track)
                await self._encode()
        except Exception:
            logger.exception("encoding with %s failed", self._kind[0])
            for track in list(self.tracks):
                track.stop()

    async def _due(self) -> None:
        """Wait for a picture to encode: a new one, or any where a key frame is wanted."""
        while True:
            self.changed.clear()
            self._stream.look()
            if self._stream.number > self._seen:
                return
            wait_s: float | None = None
            if self._key_wanted and self._stream.newest is not None:
                wait_s = self._key_s + KEY_GAP_S - time.monotonic()
                if wait_s <= 0:
                    return
            try:
                async with asyncio.timeout(wait_s):
                    await self.changed.wait()
            except TimeoutError:
                continue

    async def _encode(self) -> None:
        picture = self._stream.newest
        assert picture is not None
        now_s = time.monotonic()
        skipped = max(0, self._stream.number - self._seen - 1) if self._seen else 0
        sent_ns = picture.time_ns if self._stream.number > self._seen else time.monotonic_ns()
        self._seen = self._stream.number
        key = self._key_wanted and now_s - self._key_s >= KEY_GAP_S
        if key:
            self._key_wanted, self._key_s = False, now_s
        shown_ns = self._timeline.place(picture.captured_ns, sent_ns)
        frame = to_video_frame(picture, max(0, shown_ns - self._stream.origin_ns))
        pts = frame.pts or 0
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(None, lambda: self._encoder.compress(frame, key=key))
        if data:
            compressed = Compressed(data, pts, key)
            for track in self.tracks:
                track.offer(compressed, skipped)


class StreamTrack:
    """A video track for one sender, as aiortc uses it; gives frames that are encoded already.

    ``encoder`` is what encodes the codec that was negotiated, ``rate`` the bit rate for this viewer at the moment.
    """

    kind = "video"

    def __init__(
        self, stream: Stream, encoder: Callable[[], str], rate: Callable[[], int], ended: Callable[[], Exception]
    ) -> None:
        self.id = str(uuid.uuid4())
        self.frames = 0
        self.dropped = 0
        """Pictures of the stream that were not encoded for this viewer."""
        self.readyState = "live"
        self.begun = False
        """Whether a key frame was given since it has joined its encoding."""
        self.encoding: Encoding | None = None
        self._stream = stream
        self._encoder = encoder
        self._rate = rate
        self._ended = ended
        self._waiting: deque[Compressed] = deque()
        self._changed = asyncio.Event()
        self._asked_s: deque[float] = deque(maxlen=MOST_KEYS)
        self._alone = ""

    @property
    def kind_wanted(self) -> Kind:
        """The encoder that suits it at the moment."""
        return self._encoder(), self._rate(), self._alone

    async def recv(self) -> Compressed:
        """Wait for the next frame. Raises MediaStreamError when it has ended."""
        if self.encoding is None and self.readyState == "live":
            self._stream.join(self)
        while not self._waiting:
            if self.readyState == "ended":
                raise self._ended()
            self._changed.clear()
            await self._changed.wait()
        self.frames += 1
        return self._waiting.popleft()

    def offer(self, compressed: Compressed, skipped: int) -> None:
        """Take the next frame of its encoding; ``skipped`` pictures were left out before it."""
        if not self.begun and not compressed.key:
            return
        self.dropped += skipped if self.begun else 0
        self.begun = True
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += len(self._waiting) + 1
            self._waiting.clear()
            self.begun = False
            self.ask_key()
            return
        self._waiting.append(compressed)
        self._changed.set()

    def ask_key(self) -> None:
        """What the receiver does that has lost something (PLI, FIR)."""
        now = time.monotonic()
        self._asked_s.append(now)
        if len(self._asked_s) == MOST_KEYS and now - self._asked_s[0] < KEYS_WITHIN_S:
            self._alone = self.id
        if self.encoding is not None:
            self.encoding.ask_key()

    def stop(self) -> None:
        """No more frames; may be called twice."""
        self.readyState = "ended"
        self._stream.leave(self)
        self._changed.set()


def step_of(bitrate: int) -> int:
    """The next lower of the bit rates that there are encoders for."""
    return round(_STEP ** math.floor(math.log(max(bitrate, 1), _STEP) + 1e-9))


def to_video_frame(picture: Picture, time_ns: int) -> VideoFrame:
    """A picture for an encoder, its pts at 90 kHz."""
    from av import VideoFrame

    planes = picture.pixels.reshape(picture.height * 3 // 2, picture.width)
    frame = VideoFrame.from_ndarray(planes, "yuv420p")
    frame.pts = time_ns * CLOCK // _NS
    frame.time_base = TIME_BASE
    return frame
