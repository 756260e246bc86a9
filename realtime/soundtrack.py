"""The sound of a driving video, carried over into a recording, through PyAV."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import av

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NS = 1_000_000_000
_RATE = 48_000
_SAMPLES = 1024
"""Of one AAC frame."""


class Soundtrack:
    """The sound of ``path``, muxed piece by piece into ``output`` as far as its picture has come.

    AAC goes over as it is, anything else becomes AAC. Sound that cannot be read ends where it breaks off;
    ``notes`` says so. Times are those of the file's pictures: 0 is its first one.
    """

    def __init__(self, path: Path, output: av.container.OutputContainer) -> None:
        self._output = output
        self._path = path
        self.notes: list[str] = []
        self._input: av.container.InputContainer | None = None
        self._last = -1
        self._head: av.Packet[av.AudioStream] | av.AudioFrame | None = None
        try:
            self._input = av.open(f"file:{path}", "r")
            self._add_stream(self._input)
        except (av.FFmpegError, OSError, ValueError) as error:
            self._break_off(error)

    def mux(self, from_ns: int, until_ns: int) -> None:
        """Write what sounds before ``until_ns``, with ``from_ns`` as the recording's beginning."""
        if self._input is None:
            return
        try:
            while self._head is not None and self._start(self._head) < until_ns:
                self._write(self._head, from_ns)
                self._head = next(self._pieces, None)
        except (av.FFmpegError, ValueError) as error:
            self._break_off(error)

    def finish(self) -> None:
        """Write what the encoder still holds."""
        if self._input is not None and not self._copies:
            self._encode(None)

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._input is not None:
            self._input.close()
        self._input = None

    def _add_stream(self, source: av.container.InputContainer) -> None:
        if not source.streams.audio:
            self.close()
            return
        sound = source.streams.audio[0]
        self._zero_ns = _first_picture_ns(self._path)
        # Without its configuration record, as in MPEG-TS, AAC cannot be declared before its first packet.
        self._copies = sound.codec_context.name == "aac" and bool(sound.codec_context.extradata)
        self._stream: av.AudioStream
        self._pieces: Iterator[av.Packet[av.AudioStream] | av.AudioFrame]
        if self._copies:
            self._stream = self._output.add_stream_from_template(sound)
            self._pieces = (packet for packet in source.demux(sound) if packet.pts is not None)
        else:
            layout = "mono" if sound.codec_context.layout.nb_channels == 1 else "stereo"
            self._stream = self._output.add_stream("aac", rate=_RATE, layout=layout)
            self._pieces = _short(source.decode(sound), layout)
        self._head = next(self._pieces, None)

    def _start(self, piece: av.Packet[av.AudioStream] | av.AudioFrame) -> int:
        if piece.pts is None or piece.time_base is None:
            return -1
        return round(piece.pts * piece.time_base * _NS) - self._zero_ns

    def _write(self, piece: av.Packet[av.AudioStream] | av.AudioFrame, from_ns: int) -> None:
        if piece.pts is None or piece.time_base is None:
            return
        shift = round(Fraction(self._zero_ns + from_ns, _NS) / piece.time_base)
        if piece.pts < shift:
            return
        piece.pts -= shift
        if isinstance(piece, av.Packet):
            if piece.pts <= self._last:
                return
            self._last = piece.dts = piece.pts
            piece.stream = self._stream
            self._output.mux(piece)
        else:
            self._encode(piece)

    def _encode(self, piece: av.AudioFrame | None) -> None:
        # What comes before zero is the encoder's warm-up, silence that would delay the picture as well.
        packets = self._stream.encode(piece)
        self._output.mux([packet for packet in packets if packet.pts is not None and packet.pts >= 0])

    def _break_off(self, error: Exception) -> None:
        self.notes.append(f"the sound of {self._path.name} ends early: {getattr(error, 'strerror', None) or error}")
        self.close()


def _first_picture_ns(path: Path) -> int:
    """When the first picture is shown, which a container's own start time does not always tell."""
    with av.open(f"file:{path}", "r") as pictures:
        if not pictures.streams.video:
            return 0
        first = next(pictures.decode(video=0), None)
        return round((first.time or 0.0) * _NS) if first is not None else 0


def _short(frames: Iterator[av.AudioFrame], layout: str) -> Iterator[av.AudioFrame]:
    """The same sound in frames that AAC takes: some codecs use long ones, which could not be cut to the picture."""
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=_RATE, frame_size=_SAMPLES)
    for frame in frames:
        yield from resampler.resample(frame)
    yield from resampler.resample(None)
