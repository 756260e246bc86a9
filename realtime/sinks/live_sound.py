"""Sound that comes with live frames: decoded, laid on the clock of a recording, and encoded into it."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from numpy.typing import NDArray

from realtime.core.sound import SAMPLE_RATE, SoundPacket

if TYPE_CHECKING:
    from av.container import OutputContainer

Samples = NDArray[np.float32]
"""Stereo: (2, n), from -1 to 1."""

_NS = 1_000_000_000
MAX_SLIP = SAMPLE_RATE // 20
"""Sound that is further off than this, 50 ms, is moved at once, otherwise ``MAX_STRETCH`` at a time."""
MAX_STRETCH = 5
"""Samples by which 20 ms may be stretched: half a percent, which cannot be heard."""
_FADE = 96
"""Samples of a fade, 2 ms, where sound begins or ends: a step would be a click."""
PATIENCE = SAMPLE_RATE // 2
"""How long missing sound is waited for, in samples, before there is silence in its place: once there was some."""


class SoundTimeline:
    """Lays sound on a clock without gaps: silence where there is none, stretched where the clocks drift apart.

    All positions are in samples since the beginning.
    """

    def __init__(self) -> None:
        self.position = 0
        """Where the next sample belongs."""
        self._last: Samples = np.zeros((2, 1), np.float32)
        self._settled = False

    def place(self, samples: Samples, at: int) -> Samples:
        """Return what continues the sound: ``samples``, which belong at ``at``, with what comes before them."""
        slip = at - self.position
        if self._settled and abs(slip) <= MAX_SLIP:
            length = samples.shape[1]
            most = -(-MAX_STRETCH * length // 960)
            return self._continue(_stretch(samples, length + min(max(slip, -most), most)))
        before = self.silence(at) if slip > 0 else samples[:, :0]
        samples = samples[:, max(0, -slip) :].copy()
        self._settled = samples.shape[1] > 0
        fade = min(_FADE, samples.shape[1])
        samples[:, :fade] *= np.linspace(0, 1, fade, dtype=np.float32)
        return np.concatenate((before, self._continue(samples)), axis=1)

    def silence(self, until: int) -> Samples:
        """Return silence up to ``until``, into which the sound before fades."""
        silence = np.zeros((2, max(0, until - self.position)), np.float32)
        fade = min(_FADE, silence.shape[1])
        silence[:, :fade] = self._last * np.linspace(1, 0, fade, dtype=np.float32)
        self._settled = self._settled and not silence.shape[1]
        return self._continue(silence)

    def _continue(self, samples: Samples) -> Samples:
        self.position += samples.shape[1]
        if samples.shape[1]:
            self._last = samples[:, -1:]
        return samples


def _stretch(samples: Samples, length: int) -> Samples:
    """Return samples resampled linearly to ``length``."""
    count = samples.shape[1]
    if count in (0, length) or length < 1:
        return samples
    at = np.linspace(0, count - 1, length)
    return np.stack([np.interp(at, np.arange(count), channel) for channel in samples]).astype(np.float32)


class LiveSound:
    """The sound of a live recording, muxed into ``output`` as its video advances, as AAC or Opus.

    There is always a track, with silence where no sound comes.
    """

    def __init__(self, output: OutputContainer, codec: str) -> None:
        self._output = output
        self._stream: Any = output.add_stream(codec, rate=SAMPLE_RATE, layout="stereo")
        self._decoder: Any = av.CodecContext.create("libopus", "r")
        self._decoder.format, self._decoder.layout, self._decoder.sample_rate = "s16", "stereo", SAMPLE_RATE
        self._resampler = av.AudioResampler(format="fltp", layout="stereo", rate=SAMPLE_RATE)
        self._timeline = SoundTimeline()
        self._decoded: deque[tuple[Samples, int]] = deque()
        """Sound and its time (ns) that is still to be laid on the clock."""
        self._samples: list[Samples] = []
        """What is still to be encoded."""
        self._encoded = 0
        self._heard = False

    def hear(self, packet: SoundPacket) -> None:
        """Add sound. What cannot be decoded is left out."""
        try:
            frames = self._decoder.decode(av.Packet(packet.data))
            parts = [each.to_ndarray() for frame in frames for each in self._resampler.resample(frame)]
        except av.FFmpegError:
            return
        if parts:
            self._heard = True
            self._decoded.append((np.concatenate(parts, axis=1).astype(np.float32), packet.time_ns))

    def mux(self, origin_ns: int, until_ns: int) -> None:
        """Write the sound up to ``until_ns``; the recording began at ``origin_ns``. Raises av.FFmpegError."""
        until = _samples_between(origin_ns, until_ns)
        while self._decoded:
            samples, time_ns = self._decoded[0]
            at = _samples_between(origin_ns, time_ns)
            if at >= until:
                break
            self._decoded.popleft()
            self._samples.append(self._timeline.place(samples, at))
        else:
            self._samples.append(self._timeline.silence(until - (PATIENCE if self._heard else 0)))
        self._encode(self._stream.codec_context.frame_size or 960)

    def finish(self, origin_ns: int, until_ns: int) -> None:
        """Write the rest, up to ``until_ns``, and flush the encoder. Raises av.FFmpegError."""
        self.mux(origin_ns, until_ns)
        self._samples.append(self._timeline.silence(_samples_between(origin_ns, until_ns)))
        frame_size = self._stream.codec_context.frame_size or 960
        missing = -self._timeline.position % frame_size
        self._samples.append(self._timeline.silence(self._timeline.position + missing))
        self._encode(frame_size)
        self._mux_packets(self._stream.encode(None))

    def _encode(self, frame_size: int) -> None:
        """Encode what is complete: the first packets open the encoder, which then knows its ``frame_size``."""
        waiting = np.concatenate(self._samples, axis=1) if self._samples else np.zeros((2, 0), np.float32)
        at = 0
        while waiting.shape[1] - at >= frame_size:
            part = np.ascontiguousarray(waiting[:, at : at + frame_size])
            frame = av.AudioFrame.from_ndarray(part, "fltp", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, self._encoded, Fraction(1, SAMPLE_RATE)
            self._mux_packets(self._stream.encode(frame))
            self._encoded += frame_size
            at += frame_size
        self._samples = [waiting[:, at:]]

    def _mux_packets(self, packets: list[Any]) -> None:
        # packets before zero are the encoder's priming: silence that would delay the video as well
        self._output.mux([packet for packet in packets if packet.pts is not None and packet.pts >= 0])


def _samples_between(origin_ns: int, time_ns: int) -> int:
    return (time_ns - origin_ns) * SAMPLE_RATE // _NS
