"""A video file as the source, through PyAV."""

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
from realtime.capture.file_clock import JoinShift, Timeline
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.core.protocol import DEFAULT_FPS

if TYPE_CHECKING:
    import av

_NS = 1_000_000_000
_HOLD_NS = _NS // 10
"""A picture that is shown clearly longer than this is returned again: the tracker loses a face that it seldom sees."""
_MAX_FPS = 240.0
"""A container that gives a higher rate means the steps of its clock."""
_SMALL = 640 * 480
"""The pixels of a picture that one thread decodes in well under a millisecond."""
_HD_LINES = 720
_UNSPECIFIED = 2
"""AVCOL_SPC_UNSPECIFIED."""
_SWS_BT709 = 1
"""SWS_CS_ITU709."""
MAX_DAMAGED_PACKETS = 1000
"""The number of packets in error after which the rest of a file is not read."""
_TEXT_FORMATS = ("tty", "bin", "xbin", "adf", "idf")
"""The formats in which FFmpeg renders a text file as video."""

_CLOCK_TIME = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
_CONVERT = "convert it to H.264, for instance with: ffmpeg -i IN -c:v libx264 OUT.mp4"

_TimedPicture = tuple[int, "av.VideoFrame"]
"""The presentation time of a picture in nanoseconds, 0 for the first, and the decoded picture."""


class VideoFile:
    """A Source that plays a video file once.

    With ``pace="live"`` it behaves like a camera: each picture comes at its presentation time, and a reader that is
    late gets the newest one that is due. With ``pace="max"`` every picture comes in order, as fast as it is read.
    ``Frame.time_ns`` is the presentation time, 0 for the first picture and strictly increasing. Frames are upright,
    have square pixels, and all have the size of the first.

    Raises SourceMissing if the file cannot be played.
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
            # with small pictures, threads for frames add a third to the time of decoding
            stream.thread_type = "SLICE" if stream.width * stream.height <= _SMALL else "AUTO"
            self.fps = frame_rate(stream)
            self._counted = stream.frames
            self._announced_ns = _announced_ns(self._container, stream)
            self._first_ns = self._end_ns = 0
            self._pixel_aspect = float(stream.sample_aspect_ratio or 1)
            # Shared by all pictures: creating one takes as long as the conversion.
            self._reformatter = VideoReformatter()
            self._damaged_packets = self._damaged_pictures = 0
            self._decoded = 0
            self._decoded_pictures = self._decode(stream)
            self._ahead = next(self._decoded_pictures, None)
            if self._ahead is None:
                raise SourceMissing(
                    "video-no-frames",
                    f"{path} has no frame that can be decoded",
                    cure="give a video that plays in a media player",
                )
            first = self._to_rgb(self._ahead[1])
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
        """The number of pictures; an estimate from the part that has been read if the file does not contain it."""
        if self._counted:
            return max(self._counted, self._decoded)
        if self._announced_ns is None:
            return None
        length, read = self._announced_ns - self._first_ns, self._end_ns - self._first_ns
        return max(self._decoded, round(self._decoded * length / read)) if read > 0 else None

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user about the file. There may be more while it is played."""
        return tuple(self._notes)

    def read(self) -> Frame:
        """Return the next frame, its pixels a new array. Blocks for a sixth of a second at most. Raises SourceEnded."""
        if self._ended:
            raise SourceEnded("video-ended", f"{self._path.name} has ended")
        if self.live:
            return self._read_live()
        timed = self._next_picture()
        return self._frame(timed[0], self._now_ns(), fit_into(self._to_rgb(timed[1]), self.size))

    def close(self) -> None:
        """Close the file. close() is idempotent."""
        self._ended = True
        self._ahead = None
        self._decoded_pictures = iter(())
        self._container.close()

    def _read_live(self) -> Frame:
        """Return the newest picture that is due, or wait for the next one."""
        if self._start_ns is None:
            self._start_ns = self._now_ns()
        start = self._start_ns
        late = self._now_ns() - start
        if self._ahead is not None and self._shown is not None and self._ahead[0] - late > 1.5 * _HOLD_NS:
            self._sleep(_HOLD_NS / _NS)
            shown_at, image = self._shown
            shown_at = max(shown_at + 1, min(self._now_ns() - start, self._ahead[0] - 1))
            return self._frame(shown_at, self._now_ns(), image.copy())
        timed = self._next_picture()
        while self._ahead is not None and self._ahead[0] <= late:
            timed = self._next_picture()
        image = fit_into(self._to_rgb(timed[1]), self.size)
        wait = start + timed[0] - self._now_ns()
        if wait > 0:
            self._sleep(wait / _NS)
        return self._frame(timed[0], start + timed[0], image)

    def _frame(self, time_ns: int, captured: int, image: Image) -> Frame:
        frame = Frame(image, PixelFormat.RGB, self._seq, Stamps(captured), time_ns)
        self._seq += 1
        self._shown = (time_ns, image)
        return frame

    def _to_rgb(self, picture: av.VideoFrame) -> Image:
        """Return a picture as a new RGB array with square pixels, rotated and mirrored as the file says."""
        # Where a file does not say, players assume BT.709 for large pictures and BT.601 for small ones.
        assume_bt709 = picture.colorspace == _UNSPECIFIED and picture.height >= _HD_LINES
        square = max(1, round(picture.width * self._pixel_aspect))
        matrix = _SWS_BT709 if assume_bt709 else None
        rgb = self._reformatter.reformat(picture, width=square, format="rgb24", src_colorspace=matrix)
        return _apply_orientation(rgb.to_ndarray().astype(np.uint8, copy=False), picture)

    def _next_picture(self) -> _TimedPicture:
        timed = self._ahead
        if timed is None:
            self._ended = True
            self._add_notes()
            raise SourceEnded("video-ended", "; ".join([f"{self._path.name} has ended", *self._notes]))
        self._ahead = next(self._decoded_pictures, None)
        return timed

    def _add_notes(self) -> None:
        """Note what was missing or damaged, at the end of the file."""
        name = self._path.name
        announced, actual = (self._announced_ns or 0) - self._first_ns, self._end_ns - self._first_ns
        if self._damaged_packets:
            self._notes.append(f"{name} is damaged: {self._damaged_packets} packets could not be decoded")
        elif actual < 0.9 * announced and not (self._counted and self._decoded >= 0.9 * self._counted):
            self._notes.append(f"{name} is truncated: {actual / _NS:.1f} s of {announced / _NS:.1f} s are there")
        elif self._damaged_pictures:
            self._notes.append(f"{name} is damaged: {self._damaged_pictures} frames could only be decoded in part")
        if self._decoded == 1:
            self._notes.append(f"{name} has a single frame; to show a still picture, give it as the --portrait")

    def _decode(self, stream: av.VideoStream) -> Iterator[_TimedPicture]:
        """Yield every picture that can be decoded, with times that start at 0 and increase strictly."""
        period = round(_NS / self.fps)
        tick = float(stream.time_base or 0) * _NS
        shift = JoinShift(self._container)
        timeline = Timeline(shift, leads=True)
        start: int | None = None
        last = -1
        for picture in self._pictures(stream, shift):
            file_ns = None if picture.time is None else round(picture.time * _NS)
            at = timeline.place(file_ns, period)
            start = at if start is None else start
            last = max(at - start, last + 1)
            self._count(at if file_ns is None else file_ns, round(picture.duration * tick) or period)
            yield last, picture

    def _pictures(self, stream: av.VideoStream, shift: JoinShift) -> Iterator[av.VideoFrame]:
        import av

        audio = first_audio_stream(self._container)
        packets = self._container.demux([each for each in (stream, audio) if each is not None])
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                if packet.stream.index != stream.index:  # the empty packet at the end has the index of a stream
                    if packet.pts is not None:
                        shift.note_audio(round(packet.pts * packet.time_base * _NS))
                    continue
                pictures = stream.decode(packet)
            except av.FFmpegError:
                self._damaged_packets += 1
                if self._damaged_packets > MAX_DAMAGED_PACKETS:
                    return
                continue
            for picture in pictures:
                self._damaged_pictures += picture.is_corrupt  # concealed by the decoder
                yield picture

    def _count(self, at_ns: int, length_ns: int) -> None:
        """Count a picture, and note how far the file has been read, in the file's own time."""
        if not self._decoded:
            self._first_ns = at_ns
        self._decoded += 1
        self._end_ns = max(self._end_ns, at_ns + length_ns)


def _open(path: Path) -> av.container.InputContainer:
    import av

    if path.is_dir():
        raise SourceMissing("video-is-folder", f"the folder {path}", "a video file", "give the path of a video file")
    if not path.exists():
        raise SourceMissing("video-missing", f"no file {path}", cure="check --camera")
    if not path.is_file():
        found = f"{path}, which is neither a file nor a camera"
        raise SourceMissing("video-not-a-file", found, cure="give a video file or a /dev/videoN")
    if path.stat().st_size == 0:
        raise SourceMissing("video-empty", f"{path} is empty (0 bytes)", "a video", "copy or download it again")
    try:
        container = av.open(f"file:{path}", "r")
    except PermissionError:
        raise SourceMissing("video-permission-denied", f"{path} may not be read", cure=f"chmod u+r {path}") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        raise SourceMissing(
            "video-unreadable",
            f"{path} cannot be read as a video ({_reason(error)})",
            cure="give an MP4, MOV, MKV, WebM or AVI file; a truncated one may lack its index",
        ) from None
    refusal = _not_a_video(path, container.format.name)
    if refusal is not None:
        container.close()
        raise refusal
    return container


def _not_a_video(path: Path, form: str) -> SourceMissing | None:
    """Return an error for a text or a still picture, which FFmpeg would read as a video."""
    if form in _TEXT_FORMATS:
        return SourceMissing("video-is-text", f"the text file {path}", "a video", "give a video file")
    if form in ("image2", "ico") or form.endswith("_pipe"):
        return SourceMissing(
            "video-is-image",
            f"the still picture {path}",
            "a video",
            f"to show it, give it as the portrait: --portrait {path}",
        )
    return None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def first_video_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """Return the first video stream, decodable or not. The cover picture of a music file is not one."""
    import av

    cover = av.stream.Disposition.attached_pic
    return next((stream for stream in container.streams.video if not stream.disposition & cover), None)


def first_audio_stream(container: av.container.InputContainer) -> av.AudioStream | None:
    """Return the first audio stream that can be decoded."""
    return next((stream for stream in container.streams.audio if stream.codec_context is not None), None)


def frame_rate(stream: av.VideoStream) -> float:
    """Return the average frame rate; a default if the file does not contain a plausible one."""
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    return rate if 0 < rate <= _MAX_FPS else DEFAULT_FPS


def _decodable_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    stream = first_video_stream(container)
    if stream is None:
        found = "only audio" if container.streams.audio else "neither video nor audio"
        raise SourceMissing("video-no-video-stream", f"{path} with {found}", "a video", "give a video file")
    if stream.codec_context is None:
        raise SourceMissing(
            "video-codec-unsupported", f"{path} with a video codec that cannot be decoded here", cure=_CONVERT
        )
    return stream


def _announced_ns(container: av.container.InputContainer, stream: av.VideoStream) -> int | None:
    """Return when the video ends, in the file's own time; None if the file does not say."""
    start_ns = round((stream.start_time or 0) * float(stream.time_base or 0) * _NS)
    if stream.duration and stream.time_base:
        return start_ns + round(stream.duration * stream.time_base * _NS)
    tag = _CLOCK_TIME.match(stream.metadata.get("DURATION", ""))
    if tag is not None:  # Matroska stores the length of a stream here
        hours, minutes, seconds = tag.groups()
        return round((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * _NS)
    if container.duration and len(container.streams) == 1:
        return ((container.start_time or 0) + container.duration) * 1000
    return None


def _apply_orientation(image: Image, picture: av.VideoFrame) -> Image:
    """Rotate by right angles and mirror an image as its display matrix says. May return ``image`` itself."""
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


def fit_into(image: Image, size: tuple[int, int]) -> Image:
    """Scale an image into ``size`` without distortion, on black. Returns ``image`` itself if it has that size."""
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
