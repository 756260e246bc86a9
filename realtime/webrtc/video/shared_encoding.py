"""Streams for viewers: each frame is encoded once for all viewers who take it at the same bit rate.

aiortc has an encoder for each viewer, and a few of them occupy a small machine. Here viewers of a stream share an
encoder if they use the same codec at the same bit rate, as they all do until the network is too slow for some. Those
get another rate, and with it another encoder; so does a viewer that keeps requesting key frames.
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

from realtime.webrtc.ipc.frame_ring import RingFrame, RingReader
from realtime.webrtc.sound.stream import StreamSound
from realtime.webrtc.video.codecs import BitRates, EncodedFrame, Encoder
from realtime.webrtc.video.decoder import CLOCK, TIME_BASE

if TYPE_CHECKING:
    from av import VideoFrame

KEY_INTERVAL_S = 0.3
"""The least time between key frames of a shared encoder."""
MAX_KEY_REQUESTS, KEY_REQUESTS_S = 5, 10.0
"""A viewer that requests more key frames within this time gets an encoder of its own."""
MAX_QUEUED = 30
"""Frames that are kept for a sender that hangs; then it starts again with a key frame."""
_NS = 1_000_000_000
_STEP = 1.25
"""The ratio of neighbouring bit rates of encoders: viewers on slow networks share them too."""
_ORIGIN_OFFSET_NS = 60 * _NS
logger = logging.getLogger(__name__)
EncodingKey = tuple[str, int, str]
"""The encoder's name, the bit rate, and the id of the only track that uses it ("" if it is shared)."""


class CaptureClock:
    """The capture time of frames, strictly increasing, in monotonic ns.

    A frame made without a new frame of the camera, as when the face is lost, counts as captured when it was sent: time
    goes on, and with it what a receiver expects.
    """

    def __init__(self) -> None:
        self._last_ns = 0
        self._delay_ns = 0

    def next_ns(self, captured_ns: int, sent_ns: int) -> int:
        """Return the time of the next frame, captured (0: without a camera frame) and sent at these moments."""
        fresh = captured_ns > self._last_ns
        if fresh:
            self._delay_ns = max(0, sent_ns - captured_ns)
        time_ns = captured_ns if fresh else sent_ns - self._delay_ns
        self._last_ns = max(time_ns, self._last_ns + 1_000_000)
        return self._last_ns


class Stream:
    """A stream of frames out of a ring buffer, and its sound. Belongs to the event loop's thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.encodings: dict[EncodingKey, Encoding] = {}
        self.newest: RingFrame | None = None
        self.number = 0
        """The number of the newest frame: counts all frames, whichever ring buffer they came through."""
        self.origin_ns = time.monotonic_ns() - _ORIGIN_OFFSET_NS
        """What pts count from, in all encodings; before the first frame."""
        self.sound = StreamSound()
        self._taken = 0
        self._reader: RingReader | None = None

    @property
    def live(self) -> bool:
        """Whether there is a ring buffer that frames may come from."""
        return self._reader is not None

    def attach(self, reader: RingReader) -> None:
        """Take frames from this ring buffer from now on, instead of from the one before."""
        self.detach()
        self._reader, self._taken = reader, 0
        asyncio.get_running_loop().add_reader(reader.fileno(), self._on_readable)
        self._on_readable()

    def detach(self) -> None:
        """Release the ring buffer. detach() is idempotent."""
        if self._reader is not None:
            asyncio.get_running_loop().remove_reader(self._reader.fileno())
            self._reader.close()
            self._reader = None
        self.sound.close()

    def update(self) -> None:
        """Take the newest frame out of the ring buffer, if there is a new one."""
        frame = self._reader.take() if self._reader is not None else None
        if frame is not None:
            self.newest = frame
            self.number += frame.seq - self._taken if self._taken else 1
            self._taken = frame.seq
            self.sound.picture_sent(frame.captured_ns, time.monotonic_ns())

    def join(self, track: StreamTrack) -> None:
        """Add a track to the encoding with its bit rate, and remove it from the one it was in."""
        self.leave(track)
        key = track.encoding_key
        encoding = self.encodings.get(key)
        if encoding is None:
            encoding = self.encodings[key] = Encoding(self, key)
        encoding.add(track)

    def leave(self, track: StreamTrack) -> None:
        """Remove a track from its encoding; an encoding without tracks ends."""
        for key, encoding in list(self.encodings.items()):
            encoding.tracks.discard(track)
            if not encoding.tracks:
                encoding.stop()
                del self.encodings[key]

    def _on_readable(self) -> None:
        assert self._reader is not None
        self._reader.drain()
        if self._reader.ended:
            self.detach()
            return
        for encoding in self.encodings.values():
            encoding.changed.set()


class Encoding:
    """Encodes a stream's newest frame, again and again, for all tracks with the same encoding key."""

    def __init__(self, stream: Stream, key: EncodingKey) -> None:
        self.tracks: set[StreamTrack] = set()
        self.changed = asyncio.Event()
        self._stream = stream
        name, bitrate, _ = key
        self._key = key
        self._encoder = Encoder(name, BitRates(bitrate, bitrate, bitrate))
        self._clock = CaptureClock()
        self._encoded = 0
        self._key_requested = True
        self._key_s = -KEY_INTERVAL_S
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def encoder_name(self) -> str:
        """The name of the encoder, which changes when a GPU accepts no more streams."""
        return self._encoder.name

    def add(self, track: StreamTrack) -> None:
        """Add a track. It gets frames from the next key frame on, which is requested at once."""
        track.started = False
        track.encoding = self
        self.tracks.add(track)
        track.request_key_frame()

    def request_key_frame(self) -> None:
        """Encode a key frame soon, even if there is no new frame."""
        self._key_requested = True
        self.changed.set()

    def stop(self) -> None:
        """Stop encoding."""
        self._task.cancel()

    async def _run(self) -> None:
        try:
            while True:
                await self._wait_until_due()
                for track in [each for each in self.tracks if each.encoding_key != self._key]:
                    self._stream.join(track)
                await self._encode()
        except Exception:
            logger.exception("encoding with %s failed", self._key[0])
            for track in list(self.tracks):
                track.stop()

    async def _wait_until_due(self) -> None:
        """Wait for a frame to encode: a new one, or any if a key frame is requested."""
        while True:
            self.changed.clear()
            self._stream.update()
            if self._stream.number > self._encoded:
                return
            wait_s: float | None = None
            if self._key_requested and self._stream.newest is not None:
                wait_s = self._key_s + KEY_INTERVAL_S - time.monotonic()
                if wait_s <= 0:
                    return
            try:
                async with asyncio.timeout(wait_s):
                    await self.changed.wait()
            except TimeoutError:
                continue

    async def _encode(self) -> None:
        newest = self._stream.newest
        assert newest is not None
        now_s = time.monotonic()
        skipped = max(0, self._stream.number - self._encoded - 1) if self._encoded else 0
        sent_ns = newest.time_ns if self._stream.number > self._encoded else time.monotonic_ns()
        self._encoded = self._stream.number
        key = self._key_requested and now_s - self._key_s >= KEY_INTERVAL_S
        if key:
            self._key_requested, self._key_s = False, now_s
        captured_ns = self._clock.next_ns(newest.captured_ns, sent_ns)
        frame = to_video_frame(newest, max(0, captured_ns - self._stream.origin_ns))
        pts = frame.pts or 0
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(None, lambda: self._encoder.compress(frame, key=key))
        if data:
            encoded = EncodedFrame(data, pts, key, time_ns=captured_ns)
            for track in self.tracks:
                track.put(encoded, skipped)


class StreamTrack:
    """A video track for one sender, as aiortc uses it; its frames are encoded already.

    ``encoder_name`` returns the name of the encoder for the negotiated codec, ``bitrate`` the current bit rate for this
    viewer, and ``ended`` the exception that ``recv`` raises at the end.
    """

    kind = "video"

    def __init__(
        self,
        stream: Stream,
        encoder_name: Callable[[], str],
        bitrate: Callable[[], int],
        ended: Callable[[], Exception],
    ) -> None:
        self.id = str(uuid.uuid4())
        self.frames = 0
        self.dropped = 0
        """Frames of the stream that were not encoded for this viewer."""
        self.readyState = "live"
        self.sent_time_ns = 0
        """The moment that the last returned frame shows (monotonic ns); 0 before."""
        self.started = False
        """Whether there was a key frame since the track joined its encoding."""
        self.encoding: Encoding | None = None
        self._stream = stream
        self._encoder_name = encoder_name
        self._bitrate = bitrate
        self._ended = ended
        self._queue: deque[EncodedFrame] = deque()
        self._changed = asyncio.Event()
        self._requests_s: deque[float] = deque(maxlen=MAX_KEY_REQUESTS)
        self._exclusive = ""

    @property
    def encoding_key(self) -> EncodingKey:
        """The encoding that this viewer needs at the moment."""
        return self._encoder_name(), self._bitrate(), self._exclusive

    async def recv(self) -> EncodedFrame:
        """Wait for the next frame and return it. Raises MediaStreamError when the track has ended."""
        if self.encoding is None and self.readyState == "live":
            self._stream.join(self)
        while not self._queue:
            if self.readyState == "ended":
                raise self._ended()
            self._changed.clear()
            await self._changed.wait()
        self.frames += 1
        encoded = self._queue.popleft()
        self.sent_time_ns = encoded.time_ns
        return encoded

    def put(self, encoded: EncodedFrame, skipped: int) -> None:
        """Add the next frame of the encoding; ``skipped`` frames before it were not encoded."""
        if not self.started and not encoded.key:
            return
        self.dropped += skipped if self.started else 0
        self.started = True
        if len(self._queue) >= MAX_QUEUED:
            self.dropped += len(self._queue) + 1
            self._queue.clear()
            self.started = False
            self.request_key_frame()
            return
        self._queue.append(encoded)
        self._changed.set()

    def request_key_frame(self) -> None:
        """Request a key frame, as a receiver does that has lost something (PLI, FIR)."""
        now = time.monotonic()
        self._requests_s.append(now)
        if len(self._requests_s) == MAX_KEY_REQUESTS and now - self._requests_s[0] < KEY_REQUESTS_S:
            self._exclusive = self.id
        if self.encoding is not None:
            self.encoding.request_key_frame()

    def stop(self) -> None:
        """End the track. stop() is idempotent."""
        self.readyState = "ended"
        self._stream.leave(self)
        self._changed.set()


def bitrate_step(bitrate: int) -> int:
    """Return the next lower bit rate that encoders are made for."""
    return round(_STEP ** math.floor(math.log(max(bitrate, 1), _STEP) + 1e-9))


def target_bitrate(sender: object, first: int) -> int:
    """Return the bit rate for a sender's receiver: aiortc passes its estimates to the encoder that it created."""
    encoder = getattr(sender, "_RTCRtpSender__encoder", None)
    return bitrate_step(int(getattr(encoder, "target_bitrate", first)))


def to_video_frame(frame: RingFrame, time_ns: int) -> VideoFrame:
    """Return an I420 frame for an encoder, its pts at 90 kHz."""
    from av import VideoFrame

    planes = frame.pixels.reshape(frame.height * 3 // 2, frame.width)
    video_frame = VideoFrame.from_ndarray(planes, "yuv420p")
    video_frame.pts = time_ns * CLOCK // _NS
    video_frame.time_base = TIME_BASE
    return video_frame
