"""Video encoders and decoders for aiortc: configurable bit rates, and no delay.

Differences from aiortc's own: the first, lowest and highest bit rate come from the settings; a new estimate of the
receiver (REMB) is followed in steps, because a new rate means a new encoder and a key frame; H.264 keeps the frame's
own timestamps instead of a 30 fps clock and uses x264's ``veryfast`` preset with ``tune=zerolatency``, or NVENC; the
decoder neither holds frames back nor decodes frames of any size, and its frames carry when they arrived.
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
from realtime.webrtc.sound.packets import decoder_for
from realtime.webrtc.video.decoder import CLOCK, TIME_BASE, Decoder

if TYPE_CHECKING:
    from av import VideoFrame
    from av.packet import Packet

    from realtime.webrtc.settings import ServerSettings

_DOWN, _UP = 0.85, 1.3
"""The rate follows an estimate below 85 % of it at once, and one above 130 % of it after ``_UP_AFTER_S``."""
_UP_AFTER_S = 2.0
_LIMITING = 0.95
"""An estimate below this share of what is sent means that the network limits it."""
_SMOOTHING_S = 1.0
_KEY_INTERVAL_S = 10.0
"""The longest time between key frames, for viewers that record."""
_ASSUMED_FPS = 30
_H264_PROFILES = ("4d001f", "64001f", "640c1f")
"""H.264 Main, High and Constrained High, which encoders other than browsers offer. All can be decoded here."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BitRates:
    """Bit rates of one peer's video, in bit/s."""

    lowest: int
    first: int
    highest: int


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """An encoded frame, for one sender or several."""

    data: bytes
    pts: int
    key: bool
    """Whether it can be decoded without the frames before it."""
    time_base: fractions.Fraction = TIME_BASE
    time_ns: int = 0
    """The moment that it shows (monotonic)."""

    def __bytes__(self) -> bytes:
        return self.data


class RateControl:
    """The bit rate to encode with: follows the receiver's estimates within limits, in steps.

    A receiver estimates from what arrives, so that a still scene keeps its estimate low although the network could
    carry more. An estimate lowers the rate only if it is below what is actually sent.
    """

    def __init__(self, rates: BitRates, clock: Callable[[], float] = time.monotonic) -> None:
        self.bitrate = rates.first
        self.sent = 0.0
        """The recent rate, in bit/s."""
        self._rates = rates
        self._clock = clock
        self._changed_s = self._sent_s = clock()

    def count(self, payloads: list[bytes]) -> None:
        """Add what is sent to the recent rate."""
        now = self._clock()
        passed = max(now - self._sent_s, 1e-3)
        self._sent_s = now
        share = 1 - math.exp(-passed / _SMOOTHING_S)
        self.sent += share * (8 * sum(map(len, payloads)) / passed - self.sent)

    def follow(self, estimate: int) -> None:
        """Adapt to the receiver's estimate, in bit/s."""
        wanted = max(self._rates.lowest, min(estimate, self._rates.highest))
        now = self._clock()
        rises = wanted > self.bitrate * _UP or wanted == self._rates.highest > self.bitrate
        falls = wanted < self.bitrate * _DOWN and estimate < _LIMITING * self.sent
        if falls or (rises and now - self._changed_s >= _UP_AFTER_S):
            self.bitrate = wanted
            self._changed_s = now


class Encoder:
    """An ``aiortc.codecs.base.Encoder`` of H.264 or VP8. Not thread-safe."""

    def __init__(self, name: str, rates: BitRates) -> None:
        self.name = name
        """libx264, h264_nvenc or libvpx."""
        self.rate = RateControl(rates)
        self._codec: Any = None
        self._configured: tuple[int, int, int] | None = None
        self._to_payloads = _vp8_payloads() if name == "libvpx" else _h264_payloads

    @property
    def target_bitrate(self) -> int:
        """The bit rate to encode with, in bit/s. Setting it passes on an estimate of the receiver."""
        return self.rate.bitrate

    @target_bitrate.setter
    def target_bitrate(self, bitrate: int) -> None:
        self.rate.follow(bitrate)

    def encode(self, frame: VideoFrame, force_keyframe: bool = False) -> tuple[list[bytes], int]:
        """Return the RTP payloads of a frame, and its timestamp at 90 kHz."""
        # before encoding, which converts the frame's time to the codec's unit
        timestamp = _timestamp(frame)
        return self._packetize(self.compress(frame, key=force_keyframe)), timestamp

    def pack(self, packet: Packet[Any] | EncodedFrame) -> tuple[list[bytes], int]:
        """Return the RTP payloads of a frame that is encoded already, and its timestamp."""
        return self._packetize(bytes(packet)), _timestamp(packet)

    def compress(self, frame: VideoFrame, *, key: bool) -> bytes:
        """Return the encoded frame, a key frame if ``key`` is true. Raises av.FFmpegError."""
        import av
        from av.video.frame import PictureType

        wanted = (frame.width, frame.height, self.rate.bitrate)
        if self._configured != wanted:
            self._codec = open_encoder(self.name, *wanted)
            self._configured = wanted
        frame.pict_type = PictureType.I if key else PictureType.NONE
        try:
            return b"".join(bytes(packet) for packet in self._codec.encode(frame))
        except av.FFmpegError:
            if self.name != "h264_nvenc":
                raise
            # a GPU encodes a limited number of streams, and no very small frames
            self.name, self._configured = "libx264", None
            return self.compress(frame, key=True)

    def _packetize(self, data: bytes) -> list[bytes]:
        payloads = self._to_payloads(data)
        self.rate.count(payloads)
        return payloads


def _h264_payloads(data: bytes) -> list[bytes]:
    from aiortc.codecs.h264 import H264Encoder

    return list(H264Encoder._packetize(H264Encoder._split_bitstream(data))) if data else []


def _vp8_payloads() -> Callable[[bytes], list[bytes]]:
    from aiortc.codecs.vpx import Vp8Encoder

    picture_ids = itertools.count(random.randrange(1 << 15))
    return lambda data: Vp8Encoder._packetize(data, next(picture_ids) % (1 << 15)) if data else []


def _timestamp(item: VideoFrame | Packet[Any] | EncodedFrame) -> int:
    assert item.pts is not None
    assert item.time_base is not None
    return round(item.pts * item.time_base * CLOCK) & 0xFFFFFFFF


def open_encoder(name: str, width: int, height: int, bitrate: int) -> Any:
    """Return a codec context that returns each frame at once. Raises ValueError if there is no such encoder."""
    import av

    codec: Any = av.CodecContext.create(name, "w")
    codec.width, codec.height = width, height
    codec.pix_fmt = "yuv420p"
    codec.bit_rate = bitrate
    codec.time_base = TIME_BASE
    codec.framerate = fractions.Fraction(_ASSUMED_FPS, 1)
    codec.gop_size = int(_KEY_INTERVAL_S * _ASSUMED_FPS)
    codec.thread_count = _threads(width * height)
    if name == "libvpx":
        codec.qmin, codec.qmax = 2, 56
        rates = {"minrate": str(bitrate), "maxrate": str(bitrate), "bufsize": str(bitrate)}
        limits = {"overshoot-pct": "15", "undershoot-pct": "100", "static-thresh": "1"}
        codec.options = {"deadline": "realtime", "cpu-used": "-6", "lag-in-frames": "0", **rates, **limits}
    elif name == "libx264":
        codec.profile = "Baseline"
        # a buffer of a quarter second: a key frame must not take long to send
        rates = {"maxrate": str(bitrate), "bufsize": str(bitrate // 4)}
        codec.options = {"preset": "veryfast", "tune": "zerolatency", "forced-idr": "1", **rates}
    else:
        options = {"preset": "p2", "tune": "ull", "rc": "cbr", "zerolatency": "1", "delay": "0", "forced-idr": "1"}
        codec.options = {"profile": "baseline", "bf": "0", **options}
    return codec


def _threads(pixels: int) -> int:
    """Return how many threads an encoder uses: few, as slices cost quality and each viewer may have an encoder."""
    if pixels <= 640 * 512:
        return 1
    return min(os.cpu_count() or 1, 2 if pixels <= 1280 * 720 else 4)


def encoder_works(name: str) -> bool:
    """Return whether the encoder is present and returns each frame at once."""
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


def _add_h264_profiles() -> None:
    """Make aiortc accept more profiles of H.264 than Baseline, which stays preferred."""
    from aiortc.codecs import CODECS
    from aiortc.rtcrtpparameters import RTCRtpCodecParameters

    video = CODECS["video"]
    known = {codec.parameters.get("profile-level-id") for codec in video}
    baseline = next(codec for codec in video if codec.name == "H264")
    payload_type = max(codec.payloadType or 0 for codec in video) + 1
    for profile in _H264_PROFILES:
        if profile in known:
            continue
        parameters = baseline.parameters | {"profile-level-id": profile}
        video.append(replace(baseline, payloadType=payload_type, parameters=parameters))
        rtx = RTCRtpCodecParameters("video/rtx", CLOCK, payloadType=payload_type + 1, parameters={"apt": payload_type})
        video.append(rtx)
        payload_type += 2


class Codecs:
    """Creates encoders and decoders as the settings say; ``install`` makes aiortc use them."""

    def __init__(self, settings: ServerSettings) -> None:
        self.bitrates = BitRates(settings.min_bitrate, settings.start_bitrate, settings.max_bitrate)
        self._requested = settings.h264_encoder
        self._lock = threading.Lock()
        self._h264: str | None = None

    def h264_encoder(self) -> str:
        """Return the name of the H.264 encoder, which is tried once. Raises UsageError if the requested one fails."""
        with self._lock:
            if self._h264 is None:
                names = ("h264_nvenc", "libx264") if self._requested == "auto" else (self._requested,)
                self._h264 = next((name for name in names if encoder_works(name)), None)
            if self._h264 is None:
                raise UsageError(
                    "h264-encoder-unavailable",
                    f"the H.264 encoder {self._requested} does not work on this machine",
                    cure="choose another one, or auto",
                )
            return self._h264

    def encoder_name(self, codec: str) -> str:
        """Return the name of the encoder of H264 or VP8. Raises UsageError, see ``h264_encoder``."""
        return self.h264_encoder() if codec.upper() == "H264" else "libvpx"

    def encoder(self, codec: Any) -> Any:
        """Return an encoder for a negotiated codec (``RTCRtpCodecParameters``)."""
        if codec.name.upper() in ("H264", "VP8"):
            return Encoder(self.encoder_name(codec.name), self.bitrates)
        from aiortc.codecs import get_encoder

        return get_encoder(codec)

    def decoder(self, codec: Any) -> Any:
        """Return a decoder for a negotiated codec (``RTCRtpCodecParameters``)."""
        name = codec.name.upper()
        if name in ("H264", "VP8"):
            return Decoder(name)
        return decoder_for(codec)

    def estimator(self) -> Any:
        """Return an estimator of the bandwidth that a publisher may use, within our bit rates.

        aiortc's begins with what arrives, and would limit a publisher to the little it sends at first. Until the
        network was seen to be too slow, this one does not go below the first rate.
        """
        from aiortc.rate import RemoteBitrateEstimator

        bitrates = self.bitrates

        class Estimator(RemoteBitrateEstimator):
            """The estimator of aiortc, bounded."""

            def add(self, *arguments: Any, **named: Any) -> tuple[int, list[int]] | None:
                estimate = super().add(*arguments, **named)
                if estimate is None:
                    return None
                bitrate, sources = estimate
                lowest = bitrates.lowest if self.rate_control.near_max else bitrates.first
                return max(lowest, min(bitrate, bitrates.highest)), sources

        return Estimator()

    def install(self) -> None:
        """Make aiortc use these in every sender and receiver from now on. Raises UsageError, see ``h264_encoder``."""
        from aiortc import rtcrtpreceiver, rtcrtpsender

        self.h264_encoder()
        _add_h264_profiles()
        vars(rtcrtpreceiver)["RemoteBitrateEstimator"] = self.estimator
        vars(rtcrtpsender)["get_encoder"] = self.encoder
        vars(rtcrtpreceiver)["get_decoder"] = self.decoder
