"""Files that the tools read and write: frames of a video, and videos, pictures and figures, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from engines.atomic_write import atomic_write
from engines.errors import SinkLost, SourceMissing, UsageError
from engines.types import Image
from realtime import output_file
from realtime.core import paths

_CURE = "name a file in a folder that exists, may be written and has room"


def read_frames(clip: Path, limit: int | None = None) -> Iterator[Image]:
    """Yield the frames of a video in order, RGB (H, W, 3) uint8, at most ``limit`` of them.

    Raises SourceMissing when the file cannot be opened or holds no frame.
    """
    if not clip.is_file():
        raise SourceMissing("video-missing", f"there is no video at {clip}", cure="give the path of a video file")
    capture = cv2.VideoCapture(str(clip))
    count = 0
    try:
        while limit is None or count < limit:
            success, picture = capture.read()
            if not success:
                break
            count += 1
            yield np.ascontiguousarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
    finally:
        capture.release()
    if not count and limit != 0:
        raise SourceMissing(
            "video-unreadable", f"{clip} is not a video with frames in it", cure="check that a player shows it"
        )


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces the file ``path`` leads to if the block succeeds. Raises OSError.

    A pipe or a device is yielded itself.
    """
    if output_file.is_appended_to(path):
        yield path
        return
    with atomic_write(paths.resolve(path)) as partial:
        yield partial
        partial.chmod(0o644)


def write_mp4(
    frames: Iterable[Image], path: Path, fps: int, options: Mapping[str, str], *, key_frames: int | None = None
) -> None:
    """Write one frame or more, RGB (H, W, 3) uint8 with even sides, as H.264 in MP4, BT.601, whole or not at all.

    ``options`` are those of libx264, ``key_frames`` the greatest distance between two. Raises OSError.
    """
    import av

    iterator = iter(frames)
    first = next(iterator)
    with whole_file(path) as partial, av.open(str(partial), "w", "mp4", {"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps, options=dict(options))
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        if key_frames is not None:
            stream.gop_size = key_frames
        stream.codec_context.colorspace, stream.codec_context.color_range = 6, 1
        for image in chain([first], iterator):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p", dst_colorspace=5)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_picture(path: Path, image: Image, option: str, parameters: Sequence[int] = ()) -> None:
    """Write an RGB picture, (H, W, 3) uint8, in the format of its suffix or PNG, whole or not at all.

    ``option`` names the file in the message, ``parameters`` are those of ``cv2.imencode``. Raises SinkLost.
    """
    try:
        data = cv2.imencode(path.suffix or ".png", image[..., ::-1], parameters)[1]
        with whole_file(path) as partial:
            partial.write_bytes(data.tobytes())
    except cv2.error:
        found = f"{option} {path} has no suffix of a picture"
        raise SinkLost("output-not-a-picture", found, ".png or .jpg", "name another file") from None
    except OSError as error:
        raise SinkLost(
            "output-not-writable", f"{option} {path} cannot be written: {error.strerror}", cure=_CURE
        ) from None


def check_writable(path: Path, option: str) -> None:
    """Check, before the work begins, that ``option``'s file can be written. Raises UsageError."""
    try:
        if path.is_dir():
            raise UsageError("output-not-writable", f"{option} {path} is a folder", "a file", _CURE)
        if paths.is_write_protected(path):
            raise UsageError("output-not-writable", f"{option} {path} is write-protected", cure=_CURE)
        output_file.check(path)
    except OSError as error:
        raise UsageError(
            "output-not-writable", f"{option} {path} cannot be written: {error.strerror}", cure=_CURE
        ) from None


def write_text(path: Path, text: str, option: str) -> None:
    """Write a text file in UTF-8; a regular file is replaced only by a complete one.

    ``option`` is the option that named the file, for the message. Raises SinkLost when it cannot be written.
    """
    try:
        output_file.write(path, text)
    except OSError as error:
        raise SinkLost(
            "output-not-writable", f"{option} {path} cannot be written: {error.strerror}", cure=_CURE
        ) from None


def write_json(path: Path, values: Any, option: str, *, indent: int | None = 2) -> None:
    """Write ``values`` as JSON, as ``write_text`` does. NaN and infinity are a ValueError."""
    write_text(path, json.dumps(values, indent=indent, ensure_ascii=False, allow_nan=False) + "\n", option)
