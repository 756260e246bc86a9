"""Push a stream over RTMP: H.264 and AAC in FLV, through PyAV's FFmpeg."""

from __future__ import annotations

import contextlib
import errno
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
from av.codec.context import Flags

from engines.errors import ReenactError
from realtime.core.sound import SoundPacket
from realtime.sinks.live_sound import LiveSound
from realtime.streams.backoff import Backoff
from realtime.streams.main_process import ALIVE, ALIVE_S, start_receiving
from realtime.streams.target import Target
from realtime.webrtc.ipc.frame_ring import RingFrame, RingReader
from realtime.webrtc.ipc.messages import Message, MessageSocket
from realtime.webrtc.settings import ServerSettings
from realtime.webrtc.video.codecs import Codecs
from realtime.webrtc.video.shared_encoding import CaptureClock, to_video_frame

if TYPE_CHECKING:
    from av.container import OutputContainer

_NS = 1_000_000_000
_TIMEOUT_S = 5
_QUEUE = 8
"""Packets between the encoders and the thread that sends, about a tenth of a second; then encoding waits."""
_KEY_S = 2
"""Time between key frames, as streaming services ask for."""
_SETTLED_S = 3.0
"""How long a server must have taken the stream until it counts as up: one that refuses it does so within."""
_MAX_SOUNDS = 500


class RtmpPush:
    """Publishes until the main process says ``stop``, and connects again whenever the stream breaks."""

    def __init__(
        self,
        target: Target,
        size: tuple[int, int],
        fps: float,
        settings: ServerSettings,
        messages: MessageSocket,
    ) -> None:
        av.logging.set_level(None)  # FFmpeg's messages contain the address, and with it the key
        self._target = target
        self._size = size
        self._fps = fps
        self._settings = settings
        self._encoder = Codecs(settings).h264_encoder()
        self._messages = messages
        self._sounds: deque[SoundPacket] = deque(maxlen=_MAX_SOUNDS)
        self._stop = threading.Event()
        self._up = False

    def run(self, reader: RingReader, incoming: Iterator[Message]) -> None:
        """Publish the frames of a ring buffer and the sound among the messages."""
        start_receiving(incoming, self._sounds.append, self._stop.set)
        threading.Thread(target=self._tell_alive, name="alive", daemon=True).start()
        backoff = Backoff()
        while not self._stop.is_set():
            try:
                self._publish(reader, backoff)
            except av.FFmpegError as error:
                problem = _problem(error, self._target)
                self._messages.send({"kind": "down", "error": problem.to_dict()})
                self._stop.wait(backoff.fail(refused=problem.code == "stream-ended" and not self._up))

    def _tell_alive(self) -> None:
        while not self._stop.wait(ALIVE_S):
            self._messages.send(ALIVE)

    def _publish(self, reader: RingReader, backoff: Backoff) -> None:
        """Publish until told to stop. Raises av.FFmpegError when the stream breaks."""
        self._up = False
        container = _open(self._target.url)
        try:
            publication = _Publication(container, self._add_video(container))
            begun_s: float | None = None
            while not self._stop.is_set():
                if not reader.wait(0.2) or (frame := reader.take()) is None:
                    continue
                while self._sounds:
                    publication.sound.hear(self._sounds.popleft())
                publication.write(frame)
                if begun_s is None and publication.begun:
                    begun_s = time.monotonic()
                if not self._up and begun_s is not None and time.monotonic() - begun_s >= _SETTLED_S:
                    self._up = True
                    backoff.succeed()
                    self._messages.send({"kind": "up"})
        finally:
            with contextlib.suppress(av.FFmpegError):
                # a stream that broke cannot be ended either
                container.close()

    def _add_video(self, container: OutputContainer) -> Any:
        options = {"preset": "veryfast", "tune": "zerolatency"}
        if self._encoder == "h264_nvenc":
            options = {"preset": "p4", "tune": "ll", "rc": "cbr", "forced-idr": "1"}
        rate = Fraction(self._fps).limit_denominator(1001)
        bitrate = self._settings.max_bitrate
        limits = {"maxrate": str(bitrate), "bufsize": str(bitrate)}
        stream: Any = container.add_stream(self._encoder, rate=rate, options=options | limits)
        context = stream.codec_context
        context.width, context.height = self._size
        context.pix_fmt = "yuv420p"
        context.bit_rate = bitrate
        context.time_base = Fraction(1, 1000)
        context.gop_size = max(1, round(_KEY_S * self._fps))
        context.max_b_frames = 0
        return stream


def _open(url: str) -> OutputContainer:
    """Return a container that sends to a server. It connects with the first packet.

    PyAV itself connects without any option, so without a limit of time and without checking a certificate, and holds
    the interpreter's lock meanwhile. FFmpeg's muxer ``fifo`` connects in a thread of its own, with the options.
    """
    connection = {
        "rw_timeout": str(_TIMEOUT_S * 1_000_000),
        "tcp_nodelay": "1",
        "flvflags": "no_duration_filesize",
        "protocol_whitelist": "rtmp,rtmps,tcp,tls",
    }
    if url.startswith("rtmps:"):
        connection["tls_verify"] = "1"
        authorities = ssl.get_default_verify_paths().cafile
        if authorities is not None:
            connection["ca_file"] = authorities.replace("\\", r"\\").replace(":", r"\:")
    options = {
        "fifo_format": "flv",
        "queue_size": str(_QUEUE),
        "format_opts": ":".join(f"{name}={value}" for name, value in connection.items()),
    }
    return av.open(url, "w", format="fifo", options=options)


class _Publication:
    """What one connection has been sent."""

    def __init__(self, container: OutputContainer, video: Any) -> None:
        self.sound = LiveSound(container, "aac")
        for stream in container.streams:
            # FLV wants it, which fifo does not say
            stream.codec_context.flags |= Flags.global_header
        self.begun = False
        """Whether the server has taken something: more was sent than the queue holds."""
        self._container = container
        self._video = video
        self._clock = CaptureClock()
        self._origin_ns: int | None = None
        self._last = -1
        self._sent = 0

    def write(self, frame: RingFrame) -> None:
        """Send a picture, and the sound up to it. Raises av.FFmpegError."""
        time_ns = self._clock.next_ns(frame.captured_ns, frame.time_ns)
        if self._origin_ns is None:
            self._origin_ns = time_ns
        picture = to_video_frame(frame, 0)
        self._last = max(self._last + 1, (time_ns - self._origin_ns) * 1000 // _NS)
        picture.pts, picture.time_base = self._last, Fraction(1, 1000)
        packets = self._video.encode(picture)
        self._container.mux(packets)
        self._sent += len(packets)
        self.begun = self._sent > _QUEUE + 1
        if self._sent:
            self.sound.mux(self._origin_ns, time_ns)


_ENDED = (errno.EIO, errno.EPERM, errno.EACCES, errno.EINVAL, errno.EPIPE, errno.ECONNRESET)
"""What FFmpeg fails with where a server has closed the connection, also one that does not accept the key."""


def _problem(error: av.FFmpegError, target: Target) -> ReenactError:
    """Return what went wrong, in words without the address that FFmpeg gives."""
    if isinstance(error, av.ConnectionRefusedError) or error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        found = f"{target.shown} cannot be reached ({error.strerror})"
        return ReenactError("stream-unreachable", found, cure="check the address, and that the server is running")
    if error.errno in (errno.ETIMEDOUT, errno.EAGAIN):
        return ReenactError("stream-no-answer", f"{target.shown} does not answer", cure="check the address")
    if error.errno in _ENDED or isinstance(error, av.EOFError):
        secure = target.url.startswith("rtmps:")
        found = f"{target.shown} has ended or refused the stream" + ", or is not trusted" * secure
        cure = "check the key, " + "the server's certificate, " * secure + "and the server's log"
        return ReenactError("stream-ended", found, cure=cure)
    return ReenactError("stream-failed", f"the stream to {target.shown} failed ({error.strerror})")
