"""A camera at an address: RTSP, Motion JPEG over HTTP, or HLS, read by a process of its own.

The process opens the address through PyAV, which may hang as long as a network does, and writes each frame into a ring
buffer: newest wins. It follows no redirect of the address, and opens no file. What a playlist names may lie on other
web servers, or be redirected to them: FFmpeg cannot be told otherwise.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import suppress
from typing import Any

from engines.errors import ReenactError, SourceLost, SourceMissing
from realtime.core.child_process import command, passes_descriptors, start_process
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.core.protocol import DEFAULT_FPS
from realtime.streams.target import without_secrets
from realtime.webrtc.ipc.frame_ring import RingFrame, RingReader, create_ring
from realtime.webrtc.link_streams import to_rgb
from realtime.webrtc.settings import MAX_PIXELS

OPEN_S = 30.0
"""How long to wait for the first frame. The process gives up after 8 s, but a busy machine starts it late."""
_READ_S = 1.0
_COMMAND = command("realtime.streams.camera_process")


class StreamCamera:
    """A Source. Every frame has the size of the first; opening it again makes a new connection.

    Raises SourceMissing with the reason if no frame comes.
    """

    live = True
    frames: int | None = None
    notes: tuple[str, ...] = ()

    def __init__(self, url: str, fps: float | None = None) -> None:
        self._shown = without_secrets(url)
        self.fps = fps or DEFAULT_FPS
        self._seq = 0
        if not passes_descriptors():
            found = "a system that cannot pass descriptors between processes"
            raise SourceMissing("camera-stream-unsupported-system", found, "Linux or macOS", "run it under WSL")
        try:
            self._process, self._reader = _start()
        except OSError as error:
            found = f"the process that reads {self._shown} cannot be started ({error.strerror})"
            cure = "close other programs, and start again"
            raise SourceMissing("camera-stream-no-process", found, cure=cure) from None
        try:
            # not on the command line, which every user of the computer can read
            assert self._process.stdin is not None
            with suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps({"url": url, "shown": self._shown}).encode() + b"\n")
                self._process.stdin.flush()
            self._first: RingFrame | None = self._wait_for_first()
        except BaseException:
            self.close()
            raise
        self.size = self._first.width, self._first.height
        self.name = f"{self._shown}, {self.size[0]}x{self.size[1]}"

    @property
    def skipped(self) -> int:
        """The number of frames that a newer one replaced before they were read."""
        return self._reader.dropped

    def read(self) -> Frame:
        """Return the newest frame, RGB. Raises SourceLost if none arrives for a second, or the stream has ended."""
        frame, self._first = self._first, None
        if frame is None and self._reader.wait(_READ_S):
            frame = self._reader.take()
        if frame is None:
            error = self._reason()
            raise SourceLost(error.code, error.found, error.expected, error.cure)
        self._seq += 1
        stamps = Stamps(captured=frame.captured_ns)
        return Frame(to_rgb(frame, self.size), PixelFormat.RGB, self._seq, stamps, frame.captured_ns)

    def close(self) -> None:
        """End the process. close() is idempotent."""
        _end(self._process)
        if not self._reader.closed:
            self._reader.close()

    def _wait_for_first(self) -> RingFrame:
        until_s = time.monotonic() + OPEN_S
        while time.monotonic() < until_s and not self._reader.ended:
            if self._reader.wait(0.5) and (frame := self._reader.take()) is not None:
                return frame
        error = self._reason()
        raise SourceMissing(error.code, error.found, error.expected, error.cure)

    def _reason(self) -> ReenactError:
        """Return why there is no frame: what the process has said before it ended, or that nothing comes."""
        if self._reader.ended:
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
            with suppress(ValueError, KeyError):
                said: dict[str, Any] = json.loads(line)
                return ReenactError.from_dict(said)
        found = f"{self._shown} sends no frame"
        return ReenactError("camera-stream-silent", found, "a stream of pictures", "check the camera and the network")


def _start() -> tuple[subprocess.Popen[bytes], RingReader]:
    """Start a process that writes into a ring buffer, and return the reading end too. Raises OSError."""
    ring = create_ring(MAX_PIXELS * 3 // 2)
    try:
        process = start_process(_COMMAND, (ring.memory, ring.wake_write), pipes=True)
    except BaseException:
        ring.close()
        raise
    os.close(ring.wake_write)
    try:
        return process, RingReader(ring.memory, ring.wake_read)
    except BaseException:
        _end(process)
        raise


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
