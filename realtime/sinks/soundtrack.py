"""The sound of a driving video, carried over into a recording, through PyAV."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av

from realtime.capture.file_clock import JoinShift, Timeline
from realtime.capture.video_file import MAX_DAMAGED_PACKETS, first_audio_stream, first_video_stream, frame_rate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    _Piece = av.Packet[Any] | av.AudioFrame

_NS = 1_000_000_000
_RATE = 48_000
_SAMPLES = 1024
"""Of one AAC frame."""


class Soundtrack:
    """The sound of ``path``, muxed piece by piece into ``output`` as far as its picture has come.

    It is the first track that can be decoded. AAC goes over as it is, anything else becomes AAC. Damaged pieces are
    left out; sound that cannot be read ends where it breaks off; ``notes`` says so. Times are those that
    ``VideoFile`` gives the file's pictures: 0 is its first one.
    """

    def __init__(self, path: Path, output: av.container.OutputContainer) -> None:
        self._output = output
        self._path = path
        self.notes: list[str] = []
        self._input: av.container.InputContainer | None = None
        self._last = -1
        self._damaged = 0
        self._head: _Piece | None = None
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
        if self._input is None:
            return
        if self._damaged:
            self.notes.append(
                f"the sound of {self._path.name} is damaged: {self._damaged} pieces of it could not be decoded"
            )
        if not self._copies:
            self._encode(None)

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._input is not None:
            self._input.close()
        self._input = None

    def _add_stream(self, source: av.container.InputContainer) -> None:
        sound = self._choose(source)
        if sound is None:
            self.close()
            return
        self._zero_ns = _first_picture_ns(self._path)
        # Without its configuration record, as in MPEG-TS, AAC cannot be declared before its first packet.
        self._copies = sound.codec_context.name == "aac" and bool(sound.codec_context.extradata)
        self._stream: av.AudioStream
        self._pieces = self._read(source, sound)
        if self._copies:
            self._stream = self._output.add_stream_from_template(sound)
        else:
            layout = "mono" if sound.codec_context.layout.nb_channels == 1 else "stereo"
            self._stream = self._output.add_stream("aac", rate=_RATE, layout=layout)
            self._pieces = _short(self._pieces, layout)
        self._head = next(self._pieces, None)

    def _choose(self, source: av.container.InputContainer) -> av.AudioStream | None:
        tracks = source.streams.audio
        sound = first_audio_stream(source)
        if tracks and sound is None:
            self.notes.append(f"the sound of {self._path.name} cannot be decoded here, so the recording has none")
        elif tracks and sound is not tracks[0]:
            self.notes.append(f"the first sound track of {self._path.name} cannot be decoded here; another is taken")
        return sound

    def _read(self, source: av.container.InputContainer, sound: av.AudioStream) -> Iterator[_Piece]:
        """Yield the packets of the sound, or what is decoded from them, at the times that go with the picture's."""
        joins = JoinShift(source)
        heard, seen = Timeline(joins, leads=False), Timeline(joins, leads=True)
        picture = first_video_stream(source)
        period_ns = round(_NS / frame_rate(picture)) if picture is not None else 0
        for packet in source.demux([stream for stream in (sound, picture) if stream is not None]):
            if packet.stream.index != sound.index:
                if packet.pts is not None and not packet.is_discard:
                    seen.place(_time_ns(packet), period_ns)
                continue
            if self._copies and packet.pts is None:
                continue
            try:
                pieces: Sequence[_Piece] = [packet] if self._copies else sound.decode(packet)
            except av.FFmpegError:
                self._damaged += 1
                if self._damaged > MAX_DAMAGED_PACKETS:
                    return
                continue
            for piece in pieces:
                if _put_in_place(piece, heard):
                    yield piece

    def _start(self, piece: _Piece) -> int:
        at_ns = _time_ns(piece)
        return -1 if at_ns is None else at_ns - self._zero_ns

    def _write(self, piece: _Piece, from_ns: int) -> None:
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
    with av.open(f"file:{path}", "r") as container:
        stream = first_video_stream(container)
        for packet in container.demux(stream) if stream is not None else ():
            with suppress(av.FFmpegError):
                for picture in packet.decode():
                    return round((picture.time or 0.0) * _NS)
    return 0


def _time_ns(piece: av.Packet[Any] | av.AudioFrame) -> int | None:
    if piece.pts is None or piece.time_base is None:
        return None
    return round(piece.pts * piece.time_base * _NS)


def _put_in_place(piece: _Piece, heard: Timeline) -> bool:
    """Give a piece its time; False where most of its time has been filled already."""
    if piece.time_base is None or (isinstance(piece, av.AudioFrame) and not piece.sample_rate):
        return False
    at_ns, end_ns = _time_ns(piece), heard.end_ns
    if isinstance(piece, av.Packet):
        length_ns = round((piece.duration or 0) * piece.time_base * _NS)
    else:
        length_ns = _NS * piece.samples // piece.sample_rate
    placed_ns = heard.place(at_ns, length_ns)
    if placed_ns != at_ns:
        piece.pts = round(Fraction(placed_ns, _NS) / piece.time_base)
    return end_ns is None or placed_ns + length_ns // 2 >= end_ns


def _short(frames: Iterator[_Piece], layout: str) -> Iterator[av.AudioFrame]:
    """The same sound in frames that AAC takes: some codecs use long ones, which could not be cut to the picture."""
    resampler: av.AudioResampler | None = None
    before: tuple[str, str, int] | None = None
    for frame in frames:
        assert isinstance(frame, av.AudioFrame)
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if resampler is None or form != before:
            if resampler is not None:
                yield from resampler.resample(None)
            resampler = av.AudioResampler(format="fltp", layout=layout, rate=_RATE, frame_size=_SAMPLES)
            before = form
        yield from resampler.resample(frame)
    if resampler is not None:
        yield from resampler.resample(None)
