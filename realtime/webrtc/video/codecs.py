"""Video encoders and decoders for aiortc: bit rates as settings instead of module-level limits, and no delay.

What differs from aiortc's own: the first, lowest and highest bit rate come from the settings; a new estimate of the
receiver (REMB) is followed in steps, because a new rate means a new encoder and a key frame; H.264 has the frame's own
timestamps instead of a 30 fps clock, x264's ``veryfast`` preset with ``tune=zerolatency``, or NVENC; the decoder
neither holds frames back nor decodes pictures of any size, and its frames carry when they came.
"""

from __future__ import annotations

import fractions
import itertools
import logging
import math
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from engines.errors import UsageError
from realtime.webrtc.video.decoder import CLOCK, TIME_BASE, Decoder

if TYPE_CHECKING:
    from av import VideoFrame
    from av.packet import Packet

    from realtime.webrtc.settings import ServerSettings

_DOWN, _UP = 0.85, 1.3
"""The rate follows an estimate below 85 % of it at once and above 130 % of it after a while."""
_UP_AFTER_S = 2.0
_BINDS = 0.95
_SENT_S = 1.0
_KEY_S = 10.0
"""A key frame at least so often, for whoever records."""
_GUESSED_FPS = 30
_PROFILES = ("4d001f", "64001f", "640c1f")
"""H.264 Main, High and Constrained High: what encoders beside browsers offer. All can be decoded here."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rates:
    """Bit rates of one peer's video, bit/s."""

    lowest: int
    first: int
    highest: int


@dataclass(frozen=True, slots=True)
class Compressed:
    """A frame as encoded, for one sender or several."""

    data: bytes
    pts: int
    key: bool
    """Whether it can be decoded without those before it."""
    time_base: fractions.Fraction = TIME_BASE

    def __bytes__(self) -> bytes:
        return self.data


class Rate:
    """The bit rate to encode with: follows the receiver's estimates within limits, in steps.

    An estimate grows out of what arrives, so that a calm picture keeps it low whatever the network can take. It
    lowers the rate only when it is below what is in fact sent.
    """

    def __init__(self, rates: Rates, clock: Callable[[], float] = time.monotonic) -> None:
        self.bitrate = rates.first
        self.sent = 0.0
        """Bit/s lately."""
        self._rates = rates
        self._clock = clock
        self._changed_s = self._sent_s = clock()

    def count(self, payloads: list[bytes]) -> None:
        """Take note of what is sent."""
        now = self._clock()
        passed = max(now - self._sent_s, 1e-3)
        self._sent_s = now
        share = 1 - math.exp(-passed / _SENT_S)
        self.sent += share * (8 * sum(map(len, payloads)) / passed - self.sent)

    def follow(self, estimate: int) -> None:
        """Take note of what the receiver says it can take, bit/s."""
        wanted = max(self._rates.lowest, min(estimate, self._rates.highest))
        now = self._clock()
        rises = wanted > self.bitrate * _UP or wanted == self._rates.highest > self.bitrate
        falls = wanted < self.bitrate * _DOWN and estimate < _BINDS * self.sent
        if falls or (rises and now - self._changed_s >= _UP_AFTER_S):
            self.bitrate = wanted
            self._changed_s = now


class Encoder:
    """An ``aiortc.codecs.base.Encoder`` of H.264 or VP8. One caller at a time."""

    def __init__(self, name: str, rates: Rates) -> None:
        self.name = name
        """What encodes: libx264, h264_nvenc or libvpx."""
        self.rate = Rate(rates)
        self._codec: Any = None
        self._made_for: tuple[int, int, int] | None = None
        self._payloads = _vp8_payloads() if name == "libvpx" else _h264_payloads

    @property
    def target_bitrate(self) -> int:
        """What it encodes with, bit/s; setting it is an estimate of the receiver."""
        return self.rate.bitrate

    @target_bitrate.setter
    def target_bitrate(self, bitrate: int) -> None:
        self.rate.follow(bitrate)

    def encode(self, frame: VideoFrame, force_keyframe: bool = False) -> tuple[list[bytes], int]:
        """RTP payloads of the frame, and its timestamp at 90 kHz."""
        # before encoding, which counts the frame's time in the codec's unit
        timestamp = _timestamp(frame)
        return self._sent(self.compress(frame, key=force_keyframe)), timestamp

    def pack(self, packet: Packet[Any] | Compressed) -> tuple[list[bytes], int]:
        """RTP payloads of a frame that is encoded already."""
        return self._sent(bytes(packet)), _timestamp(packet)

    def compress(self, frame: VideoFrame, *, key: bool) -> bytes:
        """The frame as encoded. Raises av.FFmpegError."""
        import av
        from av.video.frame import PictureType

        wanted = (frame.width, frame.height, self.rate.bitrate)
        if self._made_for != wanted:
            self._codec = open_encoder(self.name, *wanted)
            self._made_for = wanted
        frame.pict_type = PictureType.I if key else PictureType.NONE
        try:
            return b"".join(bytes(packet) for packet in self._codec.encode(frame))
        except av.FFmpegError:
            if self.name != "h264_nvenc":
                raise
            # a GPU takes so many streams and no more, and none of very small pictures
            self.name, self._made_for = "libx264", None
            return self.compress(frame, key=True)

    def _sent(self, data: bytes) -> list[bytes]:
        payloads = self._payloads(data)
        self.rate.count(payloads)
        return payloads


def _h264_payloads(data: bytes) -> list[bytes]:
    from aiortc.codecs.h264 import H264Encoder

    return list(H264Encoder._packetize(H264Encoder._split_bitstream(data))) if data else []


def _vp8_payloads() -> Callable[[bytes], list[bytes]]:
    from aiortc.codecs.vpx import Vp8Encoder

    picture_ids = itertools.count(random.randrange(1 << 15))
    return lambda data: Vp8Encoder._packetize(data, next(picture_ids) % (1 << 15)) if data else []


def _timestamp(item: VideoFrame | Packet[Any] | Compressed) -> int:
    assert item.pts is not None
    assert item.time_base is not None
    return round(item.pts * item.time_base * CLOCK) & 0xFFFFFFFF


def open_encoder(name: str, width: int, height: int, bitrate: int) -> Any:
    """A codec context that gives each frame at once; it opens with the first. Raises ValueError for no such name."""
    import av

    codec: Any = av.CodecContext.create(name, "w")
    codec.width, codec.height = width, height
    codec.pix_fmt = "yuv420p"
    codec.bit_rate = bitrate
    codec.time_base = TIME_BASE
    codec.framerate = fractions.Fraction(_GUESSED_FPS, 1)
    codec.gop_size = int(_KEY_S * _GUESSED_FPS)
    codec.thread_count = _threads(width * height)
    if name == "libvpx":
        codec.qmin, codec.qmax = 2, 56
        rates = {"minrate": str(bitrate), "maxrate": str(bitrate), "bufsize": str(bitrate)}
        limits = {"overshoot-pct": "15", "undershoot-pct": "100", "static-thresh": "1"}
        codec.options = {"deadline": "realtime", "cpu-used": "-6", "lag-in-frames": "0", **rates, **limits}
    elif name == "libx264":
        codec.profile = "Baseline"
        # a buffer of a quarter second: a key frame may not take long to send
        rates = {"maxrate": str(bitrate), "bufsize": str(bitrate // 4)}
        codec.options = {"preset": "veryfast", "tune": "zerolatency", "forced-idr": "1", **rates}
    else:
        options = {"preset": "p2", "tune": "ull", "rc": "cbr", "zerolatency": "1", "delay": "0", "forced-idr": "1"}
        codec.options = {"profile": "baseline", "bf": "0", **options}
    return codec


def _threads(pixels: int) -> int:
    """Few: slices cost quality, and every viewer has an encoder."""
    if pixels <= 640 * 512:
        return 1
    return min(os.cpu_count() or 1, 2 if pixels <= 1280 * 720 else 4)


def h264_works(name: str) -> bool:
    """Whether the encoder is present here and gives each picture at once."""
    import av

    try:
        codec = open_encoder(name, 640, 480, 1_000_000)
        frame = av.VideoFrame(640, 480, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.pts, frame.time_base = 0, TIME_BASE
        return bool(codec.encode(frame))
    except (av.FFmpegError, ValueError) as error:
        logger.debug("%s does not work: %s", name, error)
        return False


def _know_profiles() -> None:
    """Have aiortc agree to more profiles of H.264 than Baseline, after that."""
    from aiortc.codecs import CODECS
    from aiortc.rtcrtpparameters import RTCRtpCodecParameters

    video = CODECS["video"]
    known = {codec.parameters.get("profile-level-id") for codec in video}
    like = next(codec for codec in video if codec.name == "H264")
    free = max(codec.payloadType or 0 for codec in video) + 1
    for profile in _PROFILES:
        if profile in known:
            continue
        parameters = like.parameters | {"profile-level-id": profile}
        video.append(replace(like, payloadType=free, parameters=parameters))
        rtx = RTCRtpCodecParameters("video/rtx", CLOCK, payloadType=free + 1, parameters={"apt": free})
        video.append(rtx)
        free += 2


class Codecs:
    """Makes encoders and decoders as the settings want them; ``install`` has aiortc ask here."""

    def __init__(self, settings: ServerSettings) -> None:
        self.rates = Rates(settings.min_bitrate, settings.start_bitrate, settings.max_bitrate)
        self._wanted = settings.h264_encoder
        self._lock = threading.Lock()
        self._h264: str | None = None

    def h264(self) -> str:
        """What encodes H.264 here: tried once. Raises UsageError where the one asked for does not work."""
        with self._lock:
            if self._h264 is None:
                names = ("h264_nvenc", "libx264") if self._wanted == "auto" else (self._wanted,)
                self._h264 = next((name for name in names if h264_works(name)), None)
            if self._h264 is None:
                raise UsageError(
                    f"the H.264 encoder {self._wanted} does not work here", cure="take another, or leave it at auto"
                )
            return self._h264

    def name(self, codec: str) -> str:
        """What encodes H264 or VP8. Raises UsageError, see ``h264``."""
        return self.h264() if codec.upper() == "H264" else "libvpx"

    def encoder(self, codec: Any) -> Any:
        """An encoder for what was negotiated (``RTCRtpCodecParameters``)."""
        if codec.name.upper() in ("H264", "VP8"):
            return Encoder(self.name(codec.name), self.rates)
        from aiortc.codecs import get_encoder

        return get_encoder(codec)

    def decoder(self, codec: Any) -> Any:
        """A decoder for what was negotiated (``RTCRtpCodecParameters``)."""
        name = codec.name.upper()
        if name in ("H264", "VP8"):
            return Decoder(name)
        from aiortc.codecs import get_decoder

        return get_decoder(codec)

    def estimator(self) -> Any:
        """What estimates how much a publisher may send, within our rates.

        aiortc's begins with what arrives, and would tie a publisher that has not begun in earnest to that; until
        the network was seen to be too slow it does not go below the first rate.
        """
        from aiortc.rate import RemoteBitrateEstimator

        rates = self.rates

        class Estimator(RemoteBitrateEstimator):
            """Aiortc's, bounded."""

            def add(self, *arguments: Any, **named: Any) -> tuple[int, list[int]] | None:
                estimate = super().add(*arguments, **named)
                if estimate is None:
                    return None
                bitrate, sources = estimate
                lowest = rates.lowest if self.rate_control.near_max else rates.first
                return max(lowest, min(bitrate, rates.highest)), sources

        return Estimator()

    def install(self) -> None:
        """Have every sender and receiver that aiortc makes from now on use these. Raises UsageError, see ``h264``."""
        from aiortc import rtcrtpreceiver, rtcrtpsender

        self.h264()
        _know_profiles()
        vars(rtcrtpreceiver)["RemoteBitrateEstimator"] = self.estimator
        vars(rtcrtpsender)["get_encoder"] = self.encoder
        vars(rtcrtpreceiver)["get_decoder"] = self.decoder
