"""Decodes uploaded images in child processes, so that a hostile file harms no more than such a process.

Small files exist that keep a decoder busy for hours or make it allocate all memory. A thread could be neither ended
nor limited.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import subprocess
import sys
import threading
from typing import Any

import numpy as np

from engines.errors import BusyError, PortraitError, ReenactError
from realtime.core.child_process import command, environment
from realtime.portraits.image_file import CONVERT, DecodedImage, read_upload

_COMMAND = command("realtime.portraits.decoder_process")
_MAX_MEMORY = 2 << 30
"""Bytes a process may allocate: enough for the largest accepted image in any format."""
_DECODER_THREADS = 4
"""How many threads a decoder may keep busy: the limit on processor time is this many times the limit on time."""


class DecoderProcesses:
    """Decodes each image in a process of its own. Thread-safe.

    After an image, the process for the next one is started ahead.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._spare: subprocess.Popen[bytes] | None = None
        self._closed = False

    def decode(self, data: bytes, name: str, max_pixels: int, timeout_s: float) -> DecodedImage:
        """Return what ``image_file.read_upload`` returns for an uploaded file called ``name``.

        The first image waits a few tenths of a second for its process to start. Raises PortraitError if the image
        cannot be decoded, TimeoutError if that takes longer than ``timeout_s``, and BusyError after ``close``.
        """
        limits = {
            "name": name,
            "max_pixels": max_pixels,
            "memory": _MAX_MEMORY,
            "cpu_s": math.ceil(_DECODER_THREADS * timeout_s),
            "timeout_s": timeout_s,
        }
        exit_code, answer = self._run(json.dumps(limits).encode() + b"\n" + data, timeout_s)
        self._start_spare()
        header_end = answer.find(b"\n")
        if exit_code != 0 or header_end < 0:
            self._check_open()
            raise PortraitError(
                "portrait-decoder-failed",
                f"{name} is damaged: its decoder has failed",
                "an intact picture file",
                CONVERT,
            )
        header = json.loads(answer[:header_end])
        if "error" in header:
            raise ReenactError.from_dict(header["error"])
        pixels = np.frombuffer(answer, np.uint8, offset=header_end + 1)
        return DecodedImage(pixels.reshape(header["shape"]).copy(), tuple(header["notes"]))

    def close(self) -> None:
        """End all processes. Calls of ``decode`` raise BusyError from now on. Idempotent."""
        with self._lock:
            self._closed = True
            for process in self._running:
                process.kill()
            spare, self._spare = self._spare, None
        if spare is not None:
            _end(spare)

    def __enter__(self) -> DecoderProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, request: bytes, timeout_s: float) -> tuple[int, bytes]:
        """Send a request to a process. Return its exit code and its answer. Raises TimeoutError."""
        with self._take_process() as process:
            try:
                answer, _ = process.communicate(request, timeout_s)
            except subprocess.TimeoutExpired:
                raise TimeoutError from None
            finally:
                process.kill()
                with self._lock:
                    self._running.discard(process)
        return process.returncode, answer

    def _take_process(self) -> subprocess.Popen[bytes]:
        """Return the spare process, or a new one if there is none that runs. Raises BusyError after ``close``."""
        with self._lock:  # a process that starts during close() would outlive it
            self._check_open()
            process, self._spare = self._spare, None
            if process is not None and process.poll() is not None:
                _end(process)
                process = None
            process = process or _start()
            self._running.add(process)
            return process

    def _start_spare(self) -> None:
        """Start the process that the next image will be decoded in."""
        with self._lock:
            if not self._closed and self._spare is None:
                self._spare = _start()

    def _check_open(self) -> None:
        if self._closed:
            raise closed_error()


def closed_error() -> BusyError:
    """Return the error for an upload that comes while the program ends."""
    return BusyError(
        "upload-closed", "the program is ending", "a running program", "start it again", retry_after_s=None
    )


def _start() -> subprocess.Popen[bytes]:
    """Start a process, which loads its modules and waits for a request."""
    return subprocess.Popen(
        _COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment() | {"OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and release its pipes."""
    with process:
        process.kill()


def main() -> None:
    """Decode one image: limits and file on standard input, a JSON header and the pixels on standard output."""
    request = sys.stdin.buffer.readline()
    if not request:
        return  # a spare that was not needed, or whose parent has ended
    limits = json.loads(request)
    _set_limits(limits)
    header: dict[str, Any]
    pixels: bytes | memoryview = b""
    try:
        decoded = read_upload(sys.stdin.buffer.read(), limits["name"], limits["max_pixels"])
        header = {"shape": decoded.image.shape, "notes": decoded.notes}
        pixels = decoded.image.data
    except PortraitError as error:
        header = {"error": error.to_dict()}
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n")
    sys.stdout.buffer.write(pixels)


def _set_limits(limits: dict[str, Any]) -> None:
    """Limit time, processor time and memory where the platform can: the parent may end before this process does."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the default action also ends a decoder written in C
        signal.setitimer(signal.ITIMER_REAL, limits["timeout_s"])
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        for kind, limit in ((resource.RLIMIT_CPU, limits["cpu_s"]), (resource.RLIMIT_AS, limits["memory"])):
            resource.setrlimit(kind, (limit, limit))


if __name__ == "__main__":
    main()
