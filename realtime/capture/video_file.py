"""A video file as the driving picture, through PyAV."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import cv2
import numpy as np

from engines.errors import SourceEnded, SourceMissing
from engines.types import Image
from realtime.capture.file_clock import Joins, Timeline
from realtime.core.frames import Frame, PixelFormat, Stamps

if TYPE_CHECKING:
    import av

_NS = 1_000_000_000
_HOLD_NS = _NS // 10
"""A picture that stays clearly longer than this is handed out again after it: a face that is seldom seen is lost."""
_MAX_FPS = 240.0
"""A container that says more means the steps of its clock."""
_SMALL = 640 * 480
"""Pixels of a picture that one thread decodes in well under a millisecond."""
_HD_LINES = 720
_UNSPECIFIED = 2
"""AVCOL_SPC_UNSPECIFIED."""
_SWS_BT709 = 1
"""SWS_CS_ITU709."""
MAX_DAMAGE = 1000
"""So many packets in error, and the rest of a file is given up."""
_TEXTS = ("tty", "bin", "xbin", "adf", "idf")
"""What FFmpeg makes pictures of letters from."""

_Shot = tuple[int, "av.VideoFrame"]
"""A decoded picture and the nanosecond it is shown at, 0 for the first."""


class VideoFile:
    """A Source that plays a video file once.

    ``pace="live"`` behaves like a camera: each picture comes at its presentation time, and where the reader
    was late the older ones are skipped. ``pace="max"`` gives every picture in order, as fast as it is read.
    ``Frame.time_ns`` is the presentation time, 0 for the first picture and strictly increasing, and at the end
    ``read`` raises SourceEnded. Pictures come out upright, with square pixels, all in the size of the first.

    Raises SourceMissing when the file cannot be played.
    """

    live: bool
    skipped = 0

    def __init__(
        self,
        path: Path,
        *,
        pace: Literal["live", "max"],
        now_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = path
        self._now_ns = now_ns
        self._sleep = sleep
        from av.video.reformatter import VideoReformatter

        self._container = _open(path)
        self._notes: list[str] = []
        try:
            stream = _decodable_stream(self._container, path)
            # a thread for each frame costs a small picture a third more than it takes
            stream.thread_type = "SLICE" if stream.width * stream.height <= _SMALL else "AUTO"
            self.fps = frame_rate(stream)
            self._counted = stream.frames
            self._announced_ns = _announced_ns(self._container, stream)
            self._first_ns = self._end_ns = 0
            self._pixel_aspect = float(stream.sample_aspect_ratio or 1)
            # One for all pictures: a new one for each costs as much again as the conversion.
            self._reformatter = VideoReformatter()
            self._damaged = self._flawed = 0
            self._decoded = 0
            self._shots = self._decode(stream)
            self._next = next(self._shots, None)
            if self._next is None:
                raise SourceMissing(
                    f"{path} holds no picture that can be decoded",
                    cure="give a video that plays in a media player",
                )
            first = self._image(self._next[1])
        except BaseException:
            self._container.close()
            raise
        self.size = (first.shape[1], first.shape[0])
        self.live = pace == "live"
        self.name = f"{path.name}, {self.size[0]}x{self.size[1]} {stream.codec_context.name} at {self.fps:g} fps"
        self._seq = 0
        self._start_ns: int | None = None
        self._shown: tuple[int, Image] | None = None
        self._ended = False

    @property
    def frames(self) -> int | None:
        """How many pictures; where the file does not count them, about, from how much of it has been read."""
        if self._counted:
            return max(self._counted, self._decoded)
        if self._announced_ns is None:
            return None
        length, read = self._announced_ns - self._first_ns, self._end_ns - self._first_ns
        return max(self._decoded, round(self._decoded * length / read)) if read > 0 else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the person should know about the file; grows while it is played."""
        return tuple(self._notes)

    def read(self) -> Frame:
        """Return the next frame, its pixels a new array; blocks a sixth of a second at most. Raises SourceEnded."""
        if self._ended:
            raise SourceEnded(f"{self._path.name} has ended")
        if self.live:
            return self._read_live()
        shot = self._take()
        return self._frame(shot[0], self._now_ns(), fit(self._image(shot[1]), self.size))

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._ended = True
        self._next = None
        self._shots = iter(())
        self._container.close()

    def _read_live(self) -> Frame:
        """Wait for the next picture's time, or catch up with the newest one that is due."""
        if self._start_ns is None:
            self._start_ns = self._now_ns()
        start = self._start_ns
        late = self._now_ns() - start
        if self._next is not None and self._shown is not None and self._next[0] - late > 1.5 * _HOLD_NS:
            self._sleep(_HOLD_NS / _NS)
            shown_at, image = self._shown
            shown_at = max(shown_at + 1, min(self._now_ns() - start, self._next[0] - 1))
            return self._frame(shown_at, self._now_ns(), image.copy())
        shot = self._take()
        while self._next is not None and self._next[0] <= late:
            shot = self._take()
        image = fit(self._image(shot[1]), self.size)
        wait = start + shot[0] - self._now_ns()
        if wait > 0:
            self._sleep(wait / _NS)
        return self._frame(shot[0], start + shot[0], image)

    def _frame(self, time_ns: int, captured: int, image: Image) -> Frame:
        frame = Frame(image, PixelFormat.RGB, self._seq, Stamps(captured), time_ns)
        self._seq += 1
        self._shown = (time_ns, image)
        return frame

    def _image(self, picture: av.VideoFrame) -> Image:
        """Convert to RGB, with square pixels, turned and mirrored as the file says; a new array."""
        # Where a file does not say, players take large pictures for BT.709 and small ones for BT.601.
        unsaid = picture.colorspace == _UNSPECIFIED and picture.height >= _HD_LINES
        square = max(1, round(picture.width * self._pixel_aspect))
        matrix = _SWS_BT709 if unsaid else None
        rgb = self._reformatter.reformat(picture, width=square, format="rgb24", src_colorspace=matrix)
        return _upright(rgb.to_ndarray().astype(np.uint8, copy=False), picture)

    def _take(self) -> _Shot:
        shot = self._next
        if shot is None:
            self._ended = True
            self._tell_what_was_missing()
            raise SourceEnded("; ".join([f"{self._path.name} has ended", *self._notes]))
        self._next = next(self._shots, None)
        return shot

    def _tell_what_was_missing(self) -> None:
        name = self._path.name
        said, held = (self._announced_ns or 0) - self._first_ns, self._end_ns - self._first_ns
        if self._damaged:
            self._notes.append(f"{name} is damaged: {self._damaged} pieces of it could not be decoded")
        elif held < 0.9 * said and not (self._counted and self._decoded >= 0.9 * self._counted):
            self._notes.append(f"{name} is cut short: it announces {said / _NS:.1f} s and holds {held / _NS:.1f} s")
        elif self._flawed:
            self._notes.append(f"{name} is damaged: {self._flawed} pictures of it could be decoded in part only")
        if self._decoded == 1:
            self._notes.append(f"{name} holds a single picture; to show a picture, give it as the --portrait")

    def _decode(self, stream: av.VideoStream) -> Iterator[_Shot]:
        """Yield every picture that can be decoded, with times that start at 0 and strictly increase."""
        period = round(_NS / self.fps)
        tick = float(stream.time_base or 0) * _NS
        joins = Joins(self._container)
        timeline = Timeline(joins, leads=True)
        start: int | None = None
        last = -1
        for picture in self._pictures(stream, joins):
            shown = None if picture.time is None else round(picture.time * _NS)
            at = timeline.place(shown, period)
            start = at if start is None else start
            last = max(at - start, last + 1)
            self._count(at if shown is None else shown, round(picture.duration * tick) or period)
            yield last, picture

    def _pictures(self, stream: av.VideoStream, joins: Joins) -> Iterator[av.VideoFrame]:
        import av

        sound = sound_stream(self._container)
        packets = self._container.demux([each for each in (stream, sound) if each is not None])
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                if packet.stream.index != stream.index:  # a last, empty packet has no other index
                    if packet.pts is not None:
                        joins.hear(round(packet.pts * packet.time_base * _NS))
                    continue
                pictures = stream.decode(packet)
            except av.FFmpegError:
                self._damaged += 1
                if self._damaged > MAX_DAMAGE:
                    return
                continue
            for picture in pictures:
                self._flawed += picture.is_corrupt  # what a decoder has papered over
                yield picture

    def _count(self, shown_ns: int, length_ns: int) -> None:
        """Note a picture and how much of the file has been read, in the file's own time."""
        if not self._decoded:
            self._first_ns = shown_ns
        self._decoded += 1
        self._end_ns = max(self._end_ns, shown_ns + length_ns)


def _open(path: Path) -> av.container.InputContainer:
    import av

    if path.is_dir():
        raise SourceMissing(f"{path} is a folder, expected a video file", cure="give the path of a video file")
    if not path.exists():
        raise SourceMissing(f"there is no file {path}", cure="check the path")
    if not path.is_file():
        raise SourceMissing(f"{path} is neither a file nor a camera", cure="give a video file or a /dev/videoN")
    if path.stat().st_size == 0:
        raise SourceMissing(f"{path} is empty (0 bytes), expected a video", cure="copy or download it again")
    try:
        container = av.open(f"file:{path}", "r")
    except PermissionError:
        raise SourceMissing(f"{path} may not be read", cure=f"chmod u+r {path}") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        raise SourceMissing(
            f"{path} is not a video that can be read ({_reason(error)})",
            cure="give an MP4, MOV, MKV, WebM or AVI file; one that broke off may lack its index",
        ) from None
    refused = _no_film(path, container.format.name)
    if refused is not None:
        container.close()
        raise refused
    return container


def _no_film(path: Path, form: str) -> SourceMissing | None:
    """What is wrong with a file that FFmpeg would make a film of, although it is none."""
    if form in _TEXTS:
        return SourceMissing(f"{path} is a text, expected a video", cure="give a video file")
    if form in ("image2", "ico") or form.endswith("_pipe"):
        return SourceMissing(
            f"{path} is a still picture, expected a video",
            cure=f"to show it, give it as the portrait: --portrait {path}",
        )
    return None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def picture_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """The first real video stream, decodable or not: the cover of a music file is not one."""
    import av

    cover = av.stream.Disposition.attached_pic
    return next((stream for stream in container.streams.video if not stream.disposition & cover), None)


def sound_stream(container: av.container.InputContainer) -> av.AudioStream | None:
    """The first sound that can be decoded."""
    return next((stream for stream in container.streams.audio if stream.codec_context is not None), None)


def frame_rate(stream: av.VideoStream) -> float:
    """Pictures a second, on average; a guess where the file does not say."""
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    return rate if 0 < rate <= _MAX_FPS else 30.0


def _decodable_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    stream = picture_stream(container)
    if stream is None:
        held = "only sound" if container.streams.audio else "no picture and no sound"
        raise SourceMissing(f"{path} holds {held}, expected a video", cure="give a video file")
    if stream.codec_context is None:
        raise SourceMissing(f"{path} has a video in a format that cannot be decoded here", cure=_CONVERT)
    return stream


_CLOCK_TIME = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
_CONVERT = "convert it to H.264, for instance with: ffmpeg -i IN -c:v libx264 OUT.mp4"


def _announced_ns(container: av.container.InputContainer, stream: av.VideoStream) -> int | None:
    """When the picture ends, in the file's own time, as far as the file says so; None where it does not."""
    start_ns = round((stream.start_time or 0) * float(stream.time_base or 0) * _NS)
    if stream.duration and stream.time_base:
        return start_ns + round(stream.duration * stream.time_base * _NS)
    tag = _CLOCK_TIME.match(stream.metadata.get("DURATION", ""))
    if tag is not None:  # Matroska keeps a stream's length here
        hours, minutes, seconds = tag.groups()
        return round((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * _NS)
    if container.duration and len(container.streams) == 1:
        return ((container.start_time or 0) + container.duration) * 1000
    return None


def _upright(image: Image, picture: av.VideoFrame) -> Image:
    """Turn and mirror as the picture's display matrix says, by right angles; the image itself where it need not."""
    data = cast("bytes | None", picture.side_data.get("DISPLAYMATRIX"))
    if data is None:
        return image
    across_x, down_x, _, across_y, down_y, *_ = np.frombuffer(data, np.int32).tolist()
    if abs(across_x) < abs(down_x):
        image = cv2.transpose(image).astype(np.uint8, copy=False)
        across_x, down_y = across_y, down_x
    if across_x < 0 or down_y < 0:
        image = cv2.flip(image, -1 if across_x < 0 and down_y < 0 else int(across_x < 0)).astype(np.uint8, copy=False)
    return image


def fit(image: Image, size: tuple[int, int]) -> Image:
    """Scale into ``size`` without distortion, black around it; the image itself where it has that size."""
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    scale = min(size[0] / width, size[1] / height)
    inner = (max(1, min(size[0], round(width * scale))), max(1, min(size[1], round(height * scale))))
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    fitted = np.zeros((size[1], size[0], 3), np.uint8)
    scaled = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    fitted[top : top + inner[1], left : left + inner[0]] = scaled
    return fitted
