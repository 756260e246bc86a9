"""Copy the sound of a driving video into a recording, through PyAV."""

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

    _Chunk = av.Packet[Any] | av.AudioFrame

_NS = 1_000_000_000
_RATE = 48_000
_SAMPLES = 1024
"""The samples of one AAC frame."""


class Soundtrack:
    """The sound of ``path``, muxed into ``output`` as its video advances.

    The first track that can be decoded is used. AAC is copied, anything else is encoded as AAC. Damaged packets are
    left out, and sound that cannot be read ends early; ``notes`` says so. Times are those of ``VideoFile``: 0 is the
    first picture.
    """

    def __init__(self, path: Path, output: av.container.OutputContainer) -> None:
        self._output = output
        self._path = path
        self.notes: list[str] = []
        self._input: av.container.InputContainer | None = None
        self._last = -1
        self._damaged_packets = 0
        self._head: _Chunk | None = None
        try:
            self._input = av.open(f"file:{path}", "r")
            self._add_stream(self._input)
        except (av.FFmpegError, OSError, ValueError) as error:
            self._end_early(error)

    def mux(self, from_ns: int, until_ns: int) -> None:
        """Write the sound before ``until_ns``; the recording starts at ``from_ns``."""
        if self._input is None:
            return
        try:
            while self._head is not None and self._start(self._head) < until_ns:
                self._write(self._head, from_ns)
                self._head = next(self._chunks, None)
        except (av.FFmpegError, ValueError) as error:
            self._end_early(error)

    def finish(self) -> None:
        """Flush the encoder."""
        if self._input is None:
            return
        if self._damaged_packets:
            self.notes.append(
                f"the sound of {self._path.name} is damaged: {self._damaged_packets} packets could not be decoded"
            )
        if not self._copies:
            self._encode(None)

    def close(self) -> None:
        """Close the file. close() is idempotent."""
        if self._input is not None:
            self._input.close()
        self._input = None

    def _add_stream(self, source: av.container.InputContainer) -> None:
        sound = self._choose(source)
        if sound is None:
            self.close()
            return
        self._zero_ns = _first_picture_ns(self._path)
        # Without its configuration record, as in MPEG-TS, AAC cannot be declared before the first packet.
        self._copies = sound.codec_context.name == "aac" and bool(sound.codec_context.extradata)
        self._stream: av.AudioStream
        self._chunks = self._read(source, sound)
        if self._copies:
            self._stream = self._output.add_stream_from_template(sound)
        else:
            layout = "mono" if sound.codec_context.layout.nb_channels == 1 else "stereo"
            self._stream = self._output.add_stream("aac", rate=_RATE, layout=layout)
            self._chunks = _to_aac_frames(self._chunks, layout)
        self._head = next(self._chunks, None)

    def _choose(self, source: av.container.InputContainer) -> av.AudioStream | None:
        tracks = source.streams.audio
        sound = first_audio_stream(source)
        if tracks and sound is None:
            self.notes.append(f"the sound of {self._path.name} cannot be decoded here, so the recording has none")
        elif tracks and sound is not tracks[0]:
            self.notes.append(f"the first sound track of {self._path.name} cannot be decoded here; another one is used")
        return sound

    def _read(self, source: av.container.InputContainer, sound: av.AudioStream) -> Iterator[_Chunk]:
        """Yield the packets of the sound, or the decoded frames, at times in sync with the video."""
        shift = JoinShift(source)
        timeline, video_timeline = Timeline(shift, leads=False), Timeline(shift, leads=True)
        picture = first_video_stream(source)
        period_ns = round(_NS / frame_rate(picture)) if picture is not None else 0
        for packet in source.demux([stream for stream in (sound, picture) if stream is not None]):
            if packet.stream.index != sound.index:
                if packet.pts is not None and not packet.is_discard:
                    video_timeline.place(_time_ns(packet), period_ns)
                continue
            if self._copies and packet.pts is None:
                continue
            try:
                chunks: Sequence[_Chunk] = [packet] if self._copies else sound.decode(packet)
            except av.FFmpegError:
                self._damaged_packets += 1
                if self._damaged_packets > MAX_DAMAGED_PACKETS:
                    return
                continue
            for chunk in chunks:
                if _set_time(chunk, timeline):
                    yield chunk

    def _start(self, chunk: _Chunk) -> int:
        at_ns = _time_ns(chunk)
        return -1 if at_ns is None else at_ns - self._zero_ns

    def _write(self, chunk: _Chunk, from_ns: int) -> None:
        if chunk.pts is None or chunk.time_base is None:
            return
        shift = round(Fraction(self._zero_ns + from_ns, _NS) / chunk.time_base)
        if chunk.pts < shift:
            return
        chunk.pts -= shift
        if isinstance(chunk, av.Packet):
            if chunk.pts <= self._last:
                return
            self._last = chunk.dts = chunk.pts
            chunk.stream = self._stream
            self._output.mux(chunk)
        else:
            self._encode(chunk)

    def _encode(self, chunk: av.AudioFrame | None) -> None:
        # Packets before zero are the encoder's priming: silence that would delay the video as well.
        packets = self._stream.encode(chunk)
        self._output.mux([packet for packet in packets if packet.pts is not None and packet.pts >= 0])

    def _end_early(self, error: Exception) -> None:
        self.notes.append(f"the sound of {self._path.name} ends early: {getattr(error, 'strerror', None) or error}")
        self.close()


def _first_picture_ns(path: Path) -> int:
    """Return the time of the first picture, which is not always the container's start time."""
    with av.open(f"file:{path}", "r") as container:
        stream = first_video_stream(container)
        for packet in container.demux(stream) if stream is not None else ():
            with suppress(av.FFmpegError):
                for picture in packet.decode():
                    return round((picture.time or 0.0) * _NS)
    return 0


def _time_ns(chunk: av.Packet[Any] | av.AudioFrame) -> int | None:
    if chunk.pts is None or chunk.time_base is None:
        return None
    return round(chunk.pts * chunk.time_base * _NS)


def _set_time(chunk: _Chunk, timeline: Timeline) -> bool:
    """Set the time of a packet or frame. Return False if most of that time already has sound."""
    if chunk.time_base is None or (isinstance(chunk, av.AudioFrame) and not chunk.sample_rate):
        return False
    at_ns, end_ns = _time_ns(chunk), timeline.end_ns
    if isinstance(chunk, av.Packet):
        length_ns = round((chunk.duration or 0) * chunk.time_base * _NS)
    else:
        length_ns = _NS * chunk.samples // chunk.sample_rate
    placed_ns = timeline.place(at_ns, length_ns)
    if placed_ns != at_ns:
        chunk.pts = round(Fraction(placed_ns, _NS) / chunk.time_base)
    return end_ns is None or placed_ns + length_ns // 2 >= end_ns


def _to_aac_frames(frames: Iterator[_Chunk], layout: str) -> Iterator[av.AudioFrame]:
    """Convert sound to frames of AAC's length: longer ones of other codecs could not be cut in sync with the video."""
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
