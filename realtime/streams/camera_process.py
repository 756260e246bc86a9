"""The process of a camera at an address, started by StreamCamera with its end of a ring buffer.

The address comes on standard input. When the stream ends, or cannot be opened, one line on standard output says why.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

import av

from engines.errors import ReenactError
from realtime.core.child_process import end_with_parent
from realtime.webrtc.ipc.frame_ring import RingWriter
from realtime.webrtc.video.decoded_frames import planes_of

MAX_PIXELS = 4096 * 2304
"""Streams of larger pictures are refused: decoding 8K would occupy the machine."""
_OPEN_S, _READ_S = 8.0, 4.0
"""How long opening may take in all, and reading a packet."""
_WHITELIST = {"rtsp": "tcp,tls", "http": "http,https,tcp,tls,crypto"}
"""What an address may lead to, by the beginning of its scheme: never a file, a pipe or another kind of server.

Without rtsp itself FFmpeg follows no redirect of RTSP, which would also take user name and password along.
"""
_MAX_AHEAD_S = 1.0
_JPEG_RANGE = 2
"""AVCOL_RANGE_JPEG of FFmpeg."""


def read(url: str, shown: str, writer: RingWriter) -> ReenactError:
    """Write the frames of a stream into the ring buffer until it ends. Return why it has ended."""
    av.logging.set_level(None)  # FFmpeg's messages contain the address, and with it passwords
    kind = "rtsp" if url.startswith("rtsp") else "http"
    options = {
        "protocol_whitelist": _WHITELIST[kind],
        "max_redirects": "0",
        "fflags": "nobuffer",
        "max_pixels": str(MAX_PIXELS),
    }
    if kind == "rtsp":
        options["rtsp_transport"] = "tcp"
    try:
        with av.open(url, "r", options=options, timeout=(_OPEN_S, _READ_S)) as container:
            _write_frames(container, shown, writer)
    except ReenactError as error:
        return error
    except (av.FFmpegError, ValueError) as error:
        return _problem(error, shown)
    return ReenactError("camera-stream-ended", f"the stream of {shown} has ended", cure="check the camera")


def _write_frames(container: Any, shown: str, writer: RingWriter) -> None:
    """Raises ReenactError for what cannot be used, av.FFmpegError when the stream breaks."""
    stream = next(iter(container.streams.video), None)
    if stream is None:
        found = f"{shown} has no pictures"
        raise ReenactError("camera-stream-no-video", found, "RTSP, Motion JPEG or HLS", "check the address")
    _check_size(stream.codec_context, shown)
    stream.codec_context.thread_count = 1
    # a playlist is read a segment at a time: its frames are let out at their times
    pace = _Pace() if "hls" in container.format.name else None
    for frame in container.decode(stream):
        _check_size(frame, shown)  # some streams tell their size only with a picture
        if pace is not None and frame.time is not None:
            pace.wait(frame.time)
        planes = planes_of(_limited(frame))
        if planes is None:
            continue
        rows, columns = planes[0].shape
        now_ns = time.monotonic_ns()
        if not writer.write(planes, (columns, rows), now_ns, now_ns):
            return


def _check_size(picture: Any, shown: str) -> None:
    """Raise ReenactError for pictures that are too large."""
    if picture.width * picture.height > MAX_PIXELS:
        found = f"{shown} sends {picture.width}x{picture.height}"
        raise ReenactError("camera-stream-too-large", found, "4096x2304 at most", "set the camera to a smaller size")


def _limited(frame: Any) -> Any:
    """Return a frame in limited range, as ring buffers hold it: Motion JPEG has the full one."""
    if frame.format.name.startswith("yuvj") or frame.color_range == _JPEG_RANGE:
        return frame.reformat(format="yuv420p", src_color_range="JPEG", dst_color_range="MPEG")
    return frame


class _Pace:
    """Waits until it is time for a frame."""

    def __init__(self) -> None:
        self._ahead_s: float | None = None

    def wait(self, frame_s: float) -> None:
        """Wait for the frame at ``frame_s``; begin at it where the clock has jumped or the stream was late."""
        now_s = time.monotonic()
        if self._ahead_s is None or not 0 <= frame_s - self._ahead_s - now_s < _MAX_AHEAD_S:
            self._ahead_s = frame_s - now_s
        time.sleep(max(0.0, frame_s - self._ahead_s - now_s))


def _problem(error: Exception, shown: str) -> ReenactError:
    """Return what went wrong, in words without the address that FFmpeg gives."""
    if isinstance(error, av.ConnectionRefusedError):
        return ReenactError("camera-stream-unreachable", f"{shown} cannot be reached", cure="check the address")
    if isinstance(error, av.HTTPUnauthorizedError | av.HTTPForbiddenError):
        found = f"{shown} does not accept the password"
        return ReenactError("camera-stream-unauthorized", found, cure="write it as SCHEME://USER:PASSWORD@HOST")
    if isinstance(error, av.HTTPNotFoundError):
        return ReenactError("camera-stream-not-found", f"there is nothing at {shown}", cure="check the path")
    if isinstance(error, av.ExitError | av.TimeoutError):
        found = f"{shown} does not answer in time"
        return ReenactError("camera-stream-no-answer", found, "a stream of pictures", "check the camera")
    reason = getattr(error, "strerror", None) or type(error).__name__
    found = f"{shown} cannot be read ({reason})"
    expected = "RTSP, Motion JPEG or HLS on that server, without a redirect"
    return ReenactError("camera-stream-unusable", found, expected, "check the address")


def main() -> None:
    """Run ``python -m realtime.streams.camera_process MEMORY WAKE``: descriptors of a ring buffer."""
    memory, wake = (int(each) for each in sys.argv[1:3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    writer = RingWriter(memory, wake)
    asked = json.loads(sys.stdin.readline())
    end_with_parent(sys.stdin.fileno())
    error = read(asked["url"], asked["shown"], writer)
    print(json.dumps(error.to_dict()), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
