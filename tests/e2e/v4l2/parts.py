"""The processes in the guest: a feeder that acts as the camera, the program, and a watcher of the result.

    python -m tests.e2e.v4l2.parts feed DEVICE CLIP      send a face with a magenta border and the time in each picture
    python -m tests.e2e.v4l2.parts watch DEVICE OUT      write a line of JSON for each picture

Magenta is in no portrait and no slate, and a whole bar of vivid's picture is magenta: in the result it would mean that
the camera's picture has leaked.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from engines.errors import NoReadableFormat
from realtime.capture.v4l2_stream import V4l2Stream
from realtime.core import pixelcode
from realtime.core.frames import Frame, PixelFormat, Stamps
from tools.support.files import read_frames

VIVID = Path("/sys/bus/platform/drivers/vivid")
ROOT = Path(__file__).parents[3]
SIZE = (640, 480)
BORDER = 12
FPS = 20
"""The rate that the guest's one processor sustains with three programs."""
START_S = 60.0
MAGENTA = np.array([255, 0, 255], np.uint8)


def clip() -> Path:
    """Return the clip with the driving face."""
    return Path(os.environ["REENACT_CLIP"])


def clip_index(number: int, length: int) -> int:
    """Return which picture of a clip a feeder sends with a counter: forwards, then backwards."""
    number %= 2 * length - 2
    return number if number < length else 2 * length - 2 - number


def feed(device: str, path: Path) -> None:
    """Feed a virtual camera until the process is ended."""
    from realtime.sinks.sink import open_sink

    planes = []
    for image in read_frames(path):
        framed = np.empty_like(image)
        framed[:] = MAGENTA
        inner = slice(BORDER, -BORDER)
        framed[inner, inner] = image[inner, inner]
        planes.append(np.asarray(cv2.cvtColor(framed, cv2.COLOR_RGB2YUV_I420), np.uint8))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sink = open_sink(f"virtualcam:{device}", size=SIZE, fps=FPS)
    try:
        start, number = time.monotonic(), 0
        while True:
            time.sleep(max(0.0, start + number / FPS - time.monotonic()))
            pixels = planes[clip_index(number, len(planes))].copy()
            now = time.monotonic_ns()
            pixelcode.draw_i420(pixels, pixelcode.Code.at(number, now))
            sink.send(Frame(pixels, PixelFormat.I420, number, Stamps(now), now))
            if number == 0:
                print("feeding", flush=True)
            number += 1
    finally:
        sink.close()


def magenta(image: np.ndarray[Any, np.dtype[np.uint8]]) -> float:
    """Return the share of an RGB picture that is magenta."""
    few = image[::4, ::4].astype(np.int16)
    return float(((np.minimum(few[..., 0], few[..., 2]) - few[..., 1]) > 90).mean())


def watch(device: str, out: Path) -> None:
    """Read a camera, which may come and go, until killed. Pictures are kept if the name of ``out`` ends in .keep."""
    with out.open("w", buffering=1) as log:
        while True:
            try:
                stream = V4l2Stream(device, SIZE, 30)
            except (OSError, NoReadableFormat):
                time.sleep(0.02)
                continue
            while (got := stream.grab()) is not None:
                image, _, now = got
                code = pixelcode.read(image)
                row = {"at": now, "code": code and code.counter, "age": code and code.age_ns(now) / 1e6}
                log.write(json.dumps({**row, "magenta": magenta(image), "mean": float(image[::8, ::8].mean())}) + "\n")
                if out.suffix == ".keep" and code is not None:
                    cv2.imwrite(str(out.with_name(f"{code.counter}.bmp")), image[..., ::-1])
            stream.close()


@contextmanager
def unplugged() -> Iterator[None]:
    """Unplug vivid's camera, and plug it in again."""
    (VIVID / "unbind").write_text("vivid.0")
    try:
        yield
    finally:
        (VIVID / "bind").write_text("vivid.0")


def in_another_process(statements: str, *, user: int | None = None) -> str:
    """Run statements in another process, as ``user`` where given. Return what it prints."""
    program = (
        "from engines.errors import *; from realtime.capture.source import open_source\n"
        "def opened(name):\n"
        "    try: source = open_source(name, size=None, fps=None, pace='live')\n"
        "    except ReenactError as error: return f'{error.code} | {error.found} | {error.cure}'\n"
        "    source.close(); return source.name\n" + statements
    )
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
    return subprocess.run([*become, sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


@dataclass(frozen=True, slots=True)
class Look:
    """A picture that the watcher received."""

    at: int
    code: int | None
    age: float | None
    magenta: float
    mean: float


class Process:
    """A process and its output, each line with its time."""

    def __init__(self, *command: str) -> None:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "XDG_CACHE_HOME": "/tmp/cache"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[tuple[int, str]] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                self.lines.append((time.monotonic_ns(), line.strip()))
                self._more.notify_all()

    def wait_for(self, pattern: str, *, since: int = 0, seconds: float = START_S) -> int:
        """Wait for a line that matches ``pattern``. Return its time in nanoseconds."""

        def found() -> int | None:
            return next((at for at, line in self.lines if at >= since and re.search(pattern, line)), None)

        with self._more:
            self._more.wait_for(lambda: found() is not None, seconds)
        at = found()
        assert at is not None, f"not printed within {seconds} s: {pattern}\n{self.text()}"
        return at

    def text(self) -> str:
        return "\n".join(line for _, line in self.lines)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait. Return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            status = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


def feeder(device: str) -> Process:
    """Start a program that acts as the camera."""
    return Process(sys.executable, "-m", "tests.e2e.v4l2.parts", "feed", device, str(clip()))


def program(camera: str, sink: str, *more: str) -> Process:
    """Start the program as a user does."""
    words = ["--camera", camera, "--sink", sink, "--size", "640x480", "--fps", str(FPS), "--mouth", "painted"]
    return Process(sys.executable, str(ROOT / "run.py"), *words, "--relay-code", *more)


class Watcher:
    """A program that reads the result."""

    def __init__(self, device: str, out: Path) -> None:
        self.out = out
        self.process = Process(sys.executable, "-m", "tests.e2e.v4l2.parts", "watch", device, str(out))

    def looks(self) -> list[Look]:
        if not self.out.is_file():
            return []
        return [Look(**json.loads(line)) for line in self.out.read_text().splitlines() if line.endswith("}")]

    def sees(self, what: Callable[[Look], bool], *, since: int = 0, seconds: float = START_S, count: int = 1) -> int:
        """Wait for ``count`` pictures that satisfy ``what``. Return the time of the last, in nanoseconds."""
        until = time.monotonic() + seconds
        while True:
            found = [look for look in self.looks() if look.at >= since and what(look)]
            if len(found) >= count:
                return found[count - 1].at
            last = self.looks()[-1:]
            assert time.monotonic() < until, f"not received within {seconds} s; last {last}; {self.process.text()}"
            assert self.process.process.poll() is None, self.process.text()
            time.sleep(0.05)

    def longest_gap_s(self, since: int) -> float:
        """Return the longest time without a picture, in seconds."""
        times = [look.at for look in self.looks() if look.at >= since]
        return float(np.diff(times).max() / 1e9) if len(times) > 1 else float("inf")


def fresh(look: Look) -> bool:
    """Return True for a picture that was driven by a recent one of the camera."""
    return look.age is not None and look.age < 1000


def main(what: str, device: str, path: str) -> None:
    feed(device, Path(path)) if what == "feed" else watch(device, Path(path))


if __name__ == "__main__":
    main(*sys.argv[1:4])
