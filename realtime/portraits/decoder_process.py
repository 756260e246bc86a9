"""Pictures that were sent, decoded in a process of its own: what they do to a decoder ends with that process.

There are small files that keep a decoder busy for hours or make it ask for all memory there is, and a thread can
neither be ended nor bounded.
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

from engines.errors import PortraitError
from realtime.core.child_process import command, environment
from realtime.portraits.image_file import CONVERT, Picture, read_upload

_COMMAND = command("realtime.portraits.decoder_process")
_MEMORY = 2 << 30
"""Bytes that decoding may take, which is enough for the largest picture that may be sent in any format."""
_THREADS = 4
"""On which a decoder may work at the same time, by which its processor time is bounded as well."""


class Decoders:
    """The processes that pictures are decoded in. Any thread may call anything."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_work: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def decode(self, data: bytes, name: str, largest: int, within_s: float) -> Picture:
        """What ``pictures.read_upload`` gives, at the price of a start of Python: some tenths of a second.

        Raises PortraitError for what cannot be read, TimeoutError for what takes longer than ``within_s``.
        """
        limits = {
            "name": name,
            "largest": largest,
            "memory": _MEMORY,
            "cpu_s": math.ceil(_THREADS * within_s),
            "within_s": within_s,
        }
        code, answer = self._run(json.dumps(limits).encode() + b"\n" + data, within_s)
        end = answer.find(b"\n")
        if code != 0 or end < 0:
            raise PortraitError(f"{name} is damaged: its decoder has failed on it", cure=CONVERT)
        values = json.loads(answer[:end])
        if "error" in values:
            raise PortraitError(values["error"], cure=values["cure"])
        pixels = np.frombuffer(answer, np.uint8, offset=end + 1)
        return Picture(pixels.reshape(values["shape"]).copy(), tuple(values["notes"]))

    def close(self) -> None:
        """End those at work, for which ``decode`` raises PortraitError, and let none begin."""
        with self._lock:
            self._closed = True
            for process in self._at_work:
                process.kill()

    def _run(self, question: bytes, within_s: float) -> tuple[int, bytes]:
        """The exit code of a process, and what it answers. Raises TimeoutError."""
        with self._start() as process:
            try:
                answer, _ = process.communicate(question, within_s)
            except subprocess.TimeoutExpired:
                raise TimeoutError from None
            finally:
                process.kill()
                with self._lock:
                    self._at_work.discard(process)
        return process.returncode, answer

    def _start(self) -> subprocess.Popen[bytes]:
        with self._lock:  # or one that is just starting would outlive ``close``
            if self._closed:
                raise PortraitError("no picture is read any more: the program is ending")
            process = subprocess.Popen(
                _COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment() | {"OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,
            )
            self._at_work.add(process)
            return process


def main() -> None:
    """The process itself: limits and picture on standard input, a line of JSON and the pixels on standard output."""
    limits = json.loads(sys.stdin.buffer.readline())
    _bound(limits)
    values: dict[str, Any]
    pixels: bytes | memoryview = b""
    try:
        picture = read_upload(sys.stdin.buffer.read(), limits["name"], limits["largest"])
        values = {"shape": picture.image.shape, "notes": picture.notes}
        pixels = picture.image.data
    except PortraitError as error:
        values = {"error": str(error), "cure": error.cure}
    sys.stdout.buffer.write(json.dumps(values).encode() + b"\n")
    sys.stdout.buffer.write(pixels)


def _bound(limits: dict[str, Any]) -> None:
    """Bound time, memory and processor time, where the system can: who asked may be gone before it is done."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends it in the middle of a decoder, too
        signal.setitimer(signal.ITIMER_REAL, limits["within_s"])
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        for what, most in ((resource.RLIMIT_CPU, limits["cpu_s"]), (resource.RLIMIT_AS, limits["memory"])):
            resource.setrlimit(what, (most, most))


if __name__ == "__main__":
    main()
