"""A recording of the result through PyAV, playable even if it is interrupted: H.264 in MP4, VP9 with alpha in WebM."""

from __future__ import annotations

import contextlib
import errno
import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from engines.errors import SinkLost, SinkMissing, UsageError
from realtime.core import paths
from realtime.core.frames import PixelFormat
from realtime.sinks.live_sound import LiveSound
from realtime.sinks.sink import check_recording_name
from realtime.sinks.soundtrack import Soundtrack

if TYPE_CHECKING:
    from collections.abc import Callable

    from av.container import OutputContainer

    from realtime.core.frames import Frame
    from realtime.core.sound import SoundPacket

_NS = 1_000_000_000
_TICKS = 60_000
"""Ticks of the video's clock in a second: MPEG-4 Part 2 allows 65,535 at most."""
_CODECS = {"libx264": {"preset": "veryfast", "crf": "18", "bf": "0"}, "libopenh264": {"b": "6M"}, "mpeg4": {"q": "3"}}
"""Encoders and their options in order of preference: some builds of FFmpeg have no x264."""
_VP9 = {"deadline": "realtime", "cpu-used": "7", "row-mt": "1", "auto-alt-ref": "0", "crf": "20", "b": "0"}
"""Options of libvpx-vp9. Alpha excludes frames that are not shown."""
_FRAGMENT_BYTES = 4 << 20
"""More than the size of a one-second fragment, so that each fragment is written at once."""
# ISO/IEC 23091-2: RGB becomes I420 with the BT.601 matrix, in limited range, its primaries untouched.
_MATRIX_BT601 = 6
_PRIMARIES_BT709 = 1
_TRANSFER_BT709 = 1
_RANGE_LIMITED = 1


class Recording:
    """A Sink that writes an MP4 file, or a WebM file with alpha, as the name of ``path`` says.

    While recording it writes ``NAME.partial.mp4`` beside the file, in fragments of a second: whatever happens to the
    program or the disk, that file plays up to its last complete fragment. Closing turns it into an ordinary MP4 and
    then renames it to ``path``, so that an older file there is only ever replaced by a complete one. WebM is
    written the same way, in clusters.

    Frames keep their times (``Frame.time_ns``). ``sound_from`` is the driving video, whose sound an MP4 file copies.
    With ``hears`` there is a track for the sound that comes with the frames, see ``LiveSound``.

    Raises UsageError for a path that is neither or an odd size, SinkMissing if the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: tuple[int, int],
        fps: float,
        sound_from: Path | None = None,
        hears: bool = False,
        notes: tuple[str, ...] = (),
        create: Callable[[Path], FragmentFile] | None = None,
    ) -> None:
        _check(path, size)
        self._path = path = paths.resolve(path) if path.is_symlink() else path
        self._webm = path.suffix.lower() == ".webm"
        self.format = PixelFormat.I420A if self._webm else PixelFormat.I420
        self._period = max(1, round(_TICKS / fps))
        self._notes = list(notes)
        self._file = _create(path, create or FragmentFile)
        self._container = self._open_container()
        try:
            self._stream = self._add_video(size, fps)
            if sound_from and self._webm:
                self._notes.append("the sound of the driving video is left out: WebM cannot hold its codec")
            self._sound = Soundtrack(sound_from, self._container) if sound_from and not self._webm else None
            self._live_sound = self._add_live_sound() if hears else None
        except BaseException:
            self._container.close()
            self._file.discard()
            raise
        self.name = f"recording to {path} ({self._stream.codec_context.name}, {size[0]}x{size[1]})"
        self._origin_ns: int | None = None
        self._first_ns = 0
        self._last = -1
        self._begun = False
        self._closed = False

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user. There may be more while it records."""
        return (*self._notes, *(self._sound.notes if self._sound else ()))

    @property
    def partial(self) -> Path:
        """The path of the file until it is closed."""
        return self._file.path

    def send(self, frame: Frame) -> None:
        """Append an I420 frame. Raises SinkLost if it cannot be written; what was written before stays playable."""
        if self._closed:
            raise SinkLost("recording-closed", f"the recording to {self._path} is closed")
        picture = _with_alpha(frame) if self._webm else av.VideoFrame.from_ndarray(frame.pixels, format="yuv420p")
        picture.pts = self._tick(frame.time_ns)
        picture.time_base = Fraction(1, _TICKS)
        self._write(picture, self._last)
        if self._file.error is not None:
            self._close_file()

    def hear(self, packet: SoundPacket) -> None:
        """Add sound that belongs to the frames. Without ``hears`` it is dropped."""
        if self._live_sound is not None and not self._closed:
            self._live_sound.hear(packet)

    def close(self) -> None:
        """Finish the file and rename it to its path. close() is idempotent.

        Raises SinkLost, once, if the end cannot be written; what was written before stays playable.
        """
        if self._closed:
            return
        if self._last < 0:
            self._closed = True
            self._close_container()
            self._file.discard()
            return
        self._write(None, self._last + self._period)
        self._close_file()

    def _write(self, picture: av.VideoFrame | None, until: int) -> None:
        """Write a picture and the sound up to the tick ``until``; None flushes both. An error ends the file."""
        try:
            packets = self._stream.encode(picture)
            self._container.mux(packets)
            # Not before the first picture: FFmpeg's muxer crashes on closing a file that has a header and no picture.
            self._begun = self._begun or bool(packets)
            if self._sound is not None and self._begun:
                self._sound.mux(self._first_ns, self._first_ns + until * _NS // _TICKS)
            if self._sound is not None and picture is None:
                self._sound.finish()
            if self._live_sound is not None and self._begun and self._origin_ns is not None:
                write = self._live_sound.finish if picture is None else self._live_sound.mux
                write(self._origin_ns, self._origin_ns + until * _NS // _TICKS)
        except av.FFmpegError as error:
            self._file.fail(error)

    def _add_live_sound(self) -> LiveSound | None:
        codec = "libopus" if self._webm else "aac"
        if codec not in av.codec.codecs_available or "libopus" not in av.codec.codecs_available:
            self._notes.append(f"this PyAV has no {codec}, so the recording has no sound")
            return None
        return LiveSound(self._container, codec)

    def _tick(self, time_ns: int) -> int:
        """Return a frame's time on the video's clock, always later than the one before."""
        if self._origin_ns is None:
            self._origin_ns = self._first_ns = time_ns
        tick = round((time_ns - self._origin_ns) * _TICKS / _NS)
        if tick < self._last - _TICKS:
            # The time restarted, as when the source changes: continue after the last frame.
            tick = self._last + self._period
            self._origin_ns = time_ns - tick * _NS // _TICKS
        self._last = max(tick, self._last + 1)
        return self._last

    def _close_file(self) -> None:
        self._closed = True
        self._close_container()
        error = self._file.close()
        if error is not None:
            raise self._incomplete(error)
        try:
            os.replace(self._file.path, self._path)
        except OSError as refused:
            raise self._not_renamed(refused) from None

    def _incomplete(self, error: OSError) -> SinkLost:
        full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
        reason = "the disk is full" if full else error.strerror
        kept = "nothing was kept"
        if os.path.exists(self._file.path):
            kept = f"the recording up to there is {self._file.path}"
        return SinkLost(
            "recording-disk-full" if full else "recording-write-failed",
            f"{self._path} cannot be continued: {reason}; {kept}",
            cure="free some space" if full else "check the disk, or record to another one",
        )

    def _not_renamed(self, refused: OSError) -> SinkLost:
        if not os.path.exists(self._file.path):
            return SinkLost(
                "recording-partial-missing",
                f"{self._path} cannot be finished: {self._file.path}, to which it was recorded, is missing",
                cure="leave that file and its disk in place while recording",
            )
        return SinkLost(
            "recording-not-replaced",
            f"{self._path} cannot be replaced ({refused.strerror}); the recording is {self._file.path}",
            cure="close the program that has it open, and rename the recording",
        )

    def _close_container(self) -> None:
        try:
            self._container.close()
        except av.FFmpegError as error:
            self._file.fail(error)
        if self._sound is not None:
            self._sound.close()

    def _open_container(self) -> OutputContainer:
        if self._webm:
            # a cluster for each second, written at once
            return av.open(
                self._file, "w", format="webm", options={"cluster_time_limit": "1000"}, buffer_size=_FRAGMENT_BYTES
            )
        # hybrid_fragmented (FFmpeg 7.1): fragments while recording, and an ordinary index on closing.
        return av.open(
            self._file,
            "w",
            format="mp4",
            options={"movflags": "hybrid_fragmented", "frag_duration": "1000000"},
            buffer_size=_FRAGMENT_BYTES,
        )

    def _add_video(self, size: tuple[int, int], fps: float) -> av.VideoStream:
        codec, options = "libvpx-vp9", _VP9
        if not self._webm:
            codec = next(name for name in _CODECS if name in av.codec.codecs_available)
            options = _CODECS[codec]
        if codec == "mpeg4":
            self._notes.append("this PyAV has no H.264 encoder, so the recording is MPEG-4 Part 2")
        rate = Fraction(fps).limit_denominator(1001)
        stream = self._container.add_stream(codec, rate=rate, options=dict(options))
        assert isinstance(stream, av.VideoStream)
        context = stream.codec_context
        context.width, context.height = size
        context.pix_fmt = "yuva420p" if self._webm else "yuv420p"
        if self._webm:
            stream.metadata["alpha_mode"] = "1"
        context.time_base = Fraction(1, _TICKS)
        context.gop_size = max(1, round(2 * fps))
        context.colorspace = _MATRIX_BT601
        context.color_primaries = _PRIMARIES_BT709
        context.color_trc = _TRANSFER_BT709
        context.color_range = _RANGE_LIMITED
        return stream


def _with_alpha(frame: Frame) -> av.VideoFrame:
    """Return an I420A frame for the encoder."""
    rows, width = frame.pixels.shape
    height = rows * 2 // 5
    picture = av.VideoFrame(width, height, "yuva420p")
    half = (height // 2, width // 2)
    quarter = half[0] * half[1]
    flat = frame.pixels.reshape(-1)
    luma = height * width
    planes = (
        flat[:luma].reshape(height, width),
        flat[luma : luma + quarter].reshape(half),
        flat[luma + quarter : luma + 2 * quarter].reshape(half),
        flat[luma + 2 * quarter :].reshape(height, width),
    )
    for plane, pixels in zip(picture.planes, planes, strict=True):
        memory = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        memory[:, : pixels.shape[1]] = pixels
    return picture


class FragmentFile:
    """The file of a recording. After the first failed write nothing more is written.

    A muxer that continues after a failure could damage a file whose beginning plays. Therefore ``write`` never fails:
    the error is kept in ``error``, and closing truncates the file after its last complete box.

    Raises OSError if the file cannot be created, FileExistsError if it exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.error: OSError | None = None
        self._file = open(path, "xb", buffering=0)  # noqa: SIM115 - closed by close()
        self._position = 0
        self._end = 0

    def write(self, data: bytes) -> int:
        """Write all of ``data``, or keep the error."""
        if self.error is None:
            try:
                self.put(data)
            except OSError as error:
                self.fail(error)
        self._position += len(data)
        self._end = max(self._end, self._position)
        return len(data)

    def fail(self, error: OSError | av.FFmpegError) -> None:
        """Write nothing more because of this error. The first one is kept."""
        if self.error is None:
            self.error = OSError(error.errno, error.strerror)

    def put(self, data: bytes) -> None:
        """Write all of ``data`` at the current position. Raises OSError."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Implement ``io.IOBase.seek``."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end}[whence]
        self._position = base + offset
        if self.error is None:
            self._file.seek(self._position)
        return self._position

    def tell(self) -> int:
        """Implement ``io.IOBase.tell``."""
        return self._position

    def close(self) -> OSError | None:
        """Close the file and return its first error. After an error it is truncated, or removed if nothing plays."""
        if self._file.closed:
            return self.error
        try:
            self._file.close()
        except OSError as error:
            self.fail(error)
        if self.error is not None:
            with contextlib.suppress(OSError):  # the medium may be gone
                self._truncate()
        return self.error

    def discard(self) -> None:
        """Close and remove the file. Errors are ignored."""
        with contextlib.suppress(OSError):
            self._file.close()
            self.path.unlink(missing_ok=True)

    def _truncate(self) -> None:
        """Truncate the file after what plays. Raises OSError."""
        playable = _playable_bytes(self.path)
        if playable:
            os.truncate(self.path, playable)
        else:
            self.path.unlink(missing_ok=True)


def _playable_bytes(path: Path) -> int:
    """Return where the last complete box of media data ends (ISO/IEC 14496-12, 4.2); 0 if there is none.

    A WebM file plays up to where it ends.
    """
    if path.suffix.lower() == ".webm":
        return path.stat().st_size
    length, at, playable = path.stat().st_size, 0, 0
    with open(path, "rb") as file:
        while at + 8 <= length:
            file.seek(at)
            head = file.read(16)
            size = int.from_bytes(head[:4], "big")
            if size == 1:
                size = int.from_bytes(head[8:], "big")
            if size < 8 or at + size > length:
                break
            at += size
            if head[4:8] == b"mdat":
                playable = at
    return playable


def _check(path: Path, size: tuple[int, int]) -> None:
    check_recording_name(path)
    if size[0] % 2 or size[1] % 2:
        found = f"a recording of {size[0]}x{size[1]}"
        raise UsageError("recording-odd-size", found, "an even width and height", "choose another --size")
    try:
        if path.is_dir():
            raise SinkMissing("recording-is-folder", f"the folder {path}", "a file to record to", "give another name")
        if not path.parent.is_dir():
            raise SinkMissing("recording-no-folder", f"no folder {path.parent}", cure=f"mkdir -p {path.parent}")
        if path.exists() and not path.is_file():
            found = f"{path}, which is a pipe or a device"
            raise SinkMissing("recording-not-a-file", found, "a file to record to", "give another name")
        if paths.is_write_protected(path):
            cure = f"chmod u+w {path}, or write to another file"
            raise SinkMissing("recording-write-protected", f"{path} is write-protected", cure=cure)
    except OSError as error:
        raise _not_writable(path, error) from None


def _create(path: Path, create: Callable[[Path], FragmentFile]) -> FragmentFile:
    """Create the file to record to, beside ``path``, under a name that no earlier recording has left."""
    for number in range(1, 1000):
        try:
            return create(path.with_name(f"{path.stem}.partial{'' if number == 1 else f'-{number}'}{path.suffix}"))
        except FileExistsError:
            continue
        except OSError as error:
            raise _not_writable(path, error) from None
    raise SinkMissing(
        "recording-too-many-partials",
        f"1000 unfinished recordings in {path.parent}",
        cure=f"remove {path.stem}.partial-*{path.suffix}",
    )


def _not_writable(path: Path, error: OSError) -> SinkMissing:
    return SinkMissing(
        "recording-not-writable",
        f"{path} cannot be written: {error.strerror}",
        cure="record to a folder that you may write to and that has room",
    )
