"""What happens to a video between the program and those who check it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from engines.types import Image
from tools.marking.frames import Luma

FPS = 25
CALL = (640, 360)
"""The size of the video in a call."""
CALL_BITRATE = 500_000
_LIVE = {
    "libx264": {"preset": "veryfast", "tune": "zerolatency"},
    "libvpx": {"deadline": "realtime", "cpu-used": "6"},
}

Frames = Sequence[Image]
Attack = Callable[[Frames], list[Luma]]


def resized(frames: Frames, factor: float | tuple[int, int]) -> list[Image]:
    """Return frames by that factor or of that size, with even sides."""
    height, width = frames[0].shape[:2]
    size = factor if isinstance(factor, tuple) else (round(width * factor / 2) * 2, round(height * factor / 2) * 2)
    return [np.asarray(cv2.resize(each, size, interpolation=cv2.INTER_AREA), np.uint8) for each in frames]


def encoded(frames: Frames, codec: str, fps: int = FPS, *, crf: int | None = None) -> list[Luma]:
    """Return the luma of RGB frames after a codec, at the bit rate of a call or, for H264, of that quality."""
    import av

    buffer = io.BytesIO()
    options = _LIVE[codec] if crf is None else {"preset": "fast", "crf": str(crf)}
    with av.open(buffer, "w", format="matroska") as out:
        stream: Any = out.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if crf is None:
            stream.bit_rate = CALL_BITRATE
        for each in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(each), "rgb24")))
        out.mux(stream.encode())
    buffer.seek(0)
    encoded_video: Any
    with av.open(buffer) as encoded_video:
        return [np.asarray(each.to_ndarray(format="gray"), np.uint8) for each in encoded_video.decode(video=0)]


def _cropped(frames: Frames, share: float = 0.7) -> list[Image]:
    height, width = frames[0].shape[:2]
    tall, wide = round(height * share / 2) * 2, round(width * share / 2) * 2
    top, left = (height - tall) // 3, (width - wide) * 2 // 3
    return [np.ascontiguousarray(each[top : top + tall, left : left + wide]) for each in frames]


def _graded(frames: Frames, contrast: float, brightness: float) -> list[Image]:
    return [np.asarray(cv2.convertScaleAbs(each, alpha=contrast, beta=brightness), np.uint8) for each in frames]


def _good(frames: Frames) -> list[Luma]:
    return encoded(frames, "libx264", crf=23)


def _call(frames: Frames, fps: int = FPS) -> list[Luma]:
    return encoded(resized(frames, CALL), "libx264", fps)


ATTACKS: dict[str, Attack] = {
    "H264 500 kbit/s 640x360": _call,
    "VP8 500 kbit/s 640x360": lambda frames: encoded(resized(frames, CALL), "libvpx"),
    "scaled by 0.5": lambda frames: _good(resized(frames, 0.5)),
    "scaled by 0.75": lambda frames: _good(resized(frames, 0.75)),
    "scaled by 1.5": lambda frames: _good(resized(frames, 1.5)),
    "cropped to 70 %": lambda frames: _good(_cropped(frames)),
    "brighter by 20 %": lambda frames: _good(_graded(frames, 1.0, 51)),
    "darker by 20 %": lambda frames: _good(_graded(frames, 1.0, -51)),
    "contrast plus 20 %": lambda frames: _good(_graded(frames, 1.2, -25)),
    "contrast minus 20 %": lambda frames: _good(_graded(frames, 0.8, 25)),
    "H264 CRF 32": lambda frames: encoded(frames, "libx264", crf=32),
    "15 fps, H264 500 kbit/s 640x360": lambda frames: _call([frames[at * FPS // 15] for at in range(30)], 15),
    "mirrored": lambda frames: _good([np.ascontiguousarray(each[:, ::-1]) for each in frames]),
    "cropped and mirrored, H264 500 kbit/s 640x360": lambda frames: _call(
        [np.ascontiguousarray(each[:, ::-1]) for each in _cropped(frames)]
    ),
}
"""Each takes 2 s of RGB frames at ``FPS`` and returns the luma that is left."""
