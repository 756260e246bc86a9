"""Videos and sounds generated for a test, ordinary and unusual."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from engines.types import Image
from realtime.core.frames import Frame, PixelFormat, Stamps

NS = 1_000_000_000
LEVELS = (30, 90, 150, 210)
"""Grey levels far enough apart to survive any codec: picture i of a test video has the level LEVELS[i % 4]."""


def grey(index: int, size: tuple[int, int]) -> Image:
    """Return picture ``index`` of a test video, uniformly grey."""
    return np.full((size[1], size[0], 3), LEVELS[index % len(LEVELS)], np.uint8)


def level(image: Image) -> int:
    """Return the index in LEVELS that comes closest to the middle of a picture."""
    height, width = image.shape[:2]
    middle = float(image[height // 3 : height * 2 // 3, width // 3 : width * 2 // 3].mean())
    return min(range(len(LEVELS)), key=lambda index: abs(LEVELS[index] - middle))


def i420(image: Image, index: int, time_ns: int) -> Frame:
    """Return an RGB picture as a frame that a sink accepts."""
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420).astype(np.uint8, copy=False)
    return Frame(pixels, PixelFormat.I420, index, Stamps(0), time_ns)


def noise_frames(count: int, size: tuple[int, int] = (96, 64), start_ns: int = 1_234 * NS) -> Iterator[Frame]:
    """Yield frames at 30 fps that compress badly, so that files grow."""
    rng = np.random.default_rng(0)
    for index in range(count):
        image = rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        yield i420(image, index, start_ns + round(index * NS / 30))


def quarters(size: tuple[int, int]) -> Image:
    """Return a picture that is red top left, green top right, blue bottom left and white bottom right."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (220, 20, 20)
    image[: height // 2, width // 2 :] = (20, 220, 20)
    image[height // 2 :, : width // 2] = (20, 20, 220)
    image[height // 2 :, width // 2 :] = (235, 235, 235)
    return image


def corners(image: Image) -> str:
    """Return the colours of the four quarters, in reading order, as the letters r, g, b and w."""
    height, width = image.shape[:2]
    letters = ""
    for y, x in ((1, 1), (1, 3), (3, 1), (3, 3)):
        colour = image[height * y // 4, width * x // 4].astype(int)
        letters += "w" if colour.min() > 150 else "rgb"[int(colour.argmax())]
    return letters


def write_video(
    path: Path,
    pictures: Iterable[Image],
    *,
    times: Sequence[float] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: int = 30,
    rotation: float = 0,
    mirror: str = "",
    pixel_aspect: Fraction | None = None,
    matrix: str | None = None,
    **options: str,
) -> Path:
    """Encode pictures at ``times`` in seconds, or at ``rate``, and return ``path``.

    ``matrix`` is the colour matrix, which the file does not declare. The file asks players to rotate the pictures by
    ``rotation`` degrees and then to mirror them ``across`` or ``down``.
    """
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000 if times else rate)
        if rotation or mirror:
            stream.set_display_rotation(rotation, hflip=mirror == "across", vflip=mirror == "down")
        for index, picture in enumerate(pictures):
            if index == 0:
                stream.height, stream.width = picture.shape[:2]
                if pixel_aspect is not None:
                    stream.codec_context.sample_aspect_ratio = pixel_aspect
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if matrix is not None:
                frame = frame.reformat(format=pix_fmt, dst_colorspace=matrix)
            frame.pts = round(times[index] * 1000) if times else index
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_with_sound(
    path: Path,
    *,
    seconds: float,
    beep_at: float,
    codec: str = "aac",
    rate: int = 44100,
    size: tuple[int, int] = (64, 48),
    pictures_from: float = 0.0,
    tracks: int = 1,
    still: tuple[float, float] = (0.0, 0.0),
    sound_first: bool = False,
) -> Path:
    """Write a video at 30 fps with a beep of 0.2 s; its pictures begin ``pictures_from`` seconds after its sound.

    There are no pictures between the two times in ``still``. With ``sound_first`` the audio streams come first.
    """
    packets: list[av.Packet[Any]] = []
    with av.open(str(path), "w") as container:
        kinds = ["libx264", *[codec] * tracks]
        streams = [_add(container, kind, rate) for kind in (reversed(kinds) if sound_first else kinds)]
        (video,) = (each for each in streams if isinstance(each, av.VideoStream))
        audios = [each for each in streams if each is not video]
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = Fraction(1, 30)
        for index in range(round(seconds * 30)):
            if still[0] <= index / 30 < still[1]:
                continue
            frame = av.VideoFrame.from_ndarray(grey(index, size), format="rgb24")
            frame.pts, frame.time_base = index + round(pictures_from * 30), Fraction(1, 30)
            packets += video.encode(frame)
        packets += video.encode(None)
        time = np.arange(round((seconds + pictures_from) * rate)) / rate
        heard = (time >= beep_at) & (time < beep_at + 0.2)
        wave = np.where(heard, 0.5 * np.sin(2 * np.pi * 1000 * time), 0).astype(np.float32)
        for audio in audios:
            assert isinstance(audio, av.AudioStream)
            for start in range(0, len(wave), 1024):
                piece = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
                piece.pts, piece.sample_rate, piece.time_base = start, rate, Fraction(1, rate)
                packets += audio.encode(piece)
            packets += audio.encode(None)
        for packet in sorted(packets, key=lambda each: (each.dts or 0) * (each.time_base or 0)):
            container.mux(packet)
    return path


def _add(container: av.container.OutputContainer, codec: str, rate: int) -> av.VideoStream | av.AudioStream:
    """Add a video stream at 30 fps, or a mono audio stream at ``rate``."""
    if codec == "libx264":
        return container.add_stream("libx264", rate=30)
    stream = container.add_stream(codec, rate=rate, layout="mono")
    assert isinstance(stream, av.AudioStream)
    return stream


def damage_sound(path: Path, damaged: Path, pieces: range) -> Path:
    """Write a copy of a file in which some packets of its sound are damaged."""
    with av.open(str(path)) as whole, av.open(str(damaged), "w") as container:
        streams = [container.add_stream_from_template(stream) for stream in whole.streams]
        heard = 0
        for packet in whole.demux():
            if packet.dts is None:
                continue
            written = packet
            if packet.stream.type == "audio":
                if heard in pieces:
                    written = av.Packet(bytes(range(1, 200)))
                    written.pts, written.dts, written.time_base = packet.pts, packet.dts, packet.time_base
                heard += 1
            written.stream = streams[packet.stream_index]
            container.mux(written)
    return damaged


def write_tone(path: Path) -> Path:
    """Write a file with sound and no video."""
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=44100, layout="mono")
        assert isinstance(audio, av.AudioStream)
        for start in range(0, 44100, 1024):
            piece = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            piece.pts, piece.sample_rate, piece.time_base = start, 44100, Fraction(1, 44100)
            container.mux(audio.encode(piece))
        container.mux(audio.encode(None))
    return path


def beep_in(path: Path) -> float:
    """Return when the first beep starts, in seconds after the first picture. Raises ValueError if there is none."""
    beeps = beeps_in(path)
    if not beeps:
        raise ValueError(f"no beep in {path}")
    return beeps[0]


def beeps_in(path: Path) -> list[float]:
    """Return when each beep starts, in seconds after the first picture."""
    beeps: list[float] = []
    until = -1.0
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            assert frame.time is not None
            loud = np.flatnonzero(np.abs(frame.to_ndarray().astype(np.float32)).max(axis=0) > 0.2)
            if loud.size:
                first = frame.time + float(loud[0]) / frame.sample_rate
                if first > until + 0.1:
                    beeps.append(first - times_in(path)[0])
                until = frame.time + float(loud[-1]) / frame.sample_rate
    return beeps


def times_in(path: Path) -> list[float]:
    """Return the presentation times of a file's pictures, in seconds."""
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0) if frame.time is not None]
