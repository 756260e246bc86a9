"""What stands around the program in the guest: a camera that is fed, a watcher of the result, the program itself.

    python -m tests.e2e.v4l2.parts feed DEVICE CLIP      a face within a magenta border, the time in each picture
    python -m tests.e2e.v4l2.parts watch DEVICE OUT      a line of JSON for each picture seen

Magenta is in no portrait and no card, and a whole bar of vivid's picture: seen on the result, it is the camera's.
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
from collections.abc import Callable
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

ROOT = Path(__file__).parents[3]
SIZE = (640, 480)
BORDER = 12
FPS = 20
"""What the guest's one processor can do with three programs on it."""
START_S = 60.0
MAGENTA = np.array([255, 0, 255], np.uint8)


def clip() -> Path:
    """The driver's face."""
    return Path(os.environ["REENACT_CLIP"])


def to_and_fro(number: int, length: int) -> int:
    """Which picture of a clip a feeder shows with a counter: it plays forwards, then backwards."""
    number %= 2 * length - 2
    return number if number < length else 2 * length - 2 - number


def feed(device: str, path: Path) -> None:
    """Feed a virtual camera until a signal ends it."""
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
            pixels = planes[to_and_fro(number, len(planes))].copy()
            now = time.monotonic_ns()
            pixelcode.draw_i420(pixels, pixelcode.Code.at(number, now))
            sink.send(Frame(pixels, PixelFormat.I420, number, Stamps(now), now))
            if number == 0:
                print("feeding", flush=True)
            number += 1
    finally:
        sink.close()


def magenta(image: np.ndarray[Any, np.dtype[np.uint8]]) -> float:
    """The share of an RGB picture that is magenta."""
    few = image[::4, ::4].astype(np.int16)
    return float(((np.minimum(few[..., 0], few[..., 2]) - few[..., 1]) > 90).mean())


def watch(device: str, out: Path) -> None:
    """Look at a camera until killed; it may come and go. Pictures are kept beside ``out`` where it ends in .keep."""
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


@dataclass(frozen=True, slots=True)
class Look:
    """A picture that the watcher saw."""

    at: int
    code: int | None
    age: float | None
    magenta: float
    mean: float


class Process:
    """A process of the scene and what it said, each line with the time it came."""

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

    def said(self, pattern: str, *, since: int = 0, seconds: float = START_S) -> int:
        """When it said something like that, waiting for it."""

        def found() -> int | None:
            return next((at for at, line in self.lines if at >= since and re.search(pattern, line)), None)

        with self._more:
            self._more.wait_for(lambda: found() is not None, seconds)
        at = found()
        assert at is not None, f"not said within {seconds} s: {pattern}\n{self.text()}"
        return at

    def text(self) -> str:
        return "\n".join(line for _, line in self.lines)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit status."""
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
    """Another program that is the camera."""
    return Process(sys.executable, "-m", "tests.e2e.v4l2.parts", "feed", device, str(clip()))


def program(camera: str, sink: str, *more: str) -> Process:
    """The program, as a person starts it."""
    words = ["--camera", camera, "--sink", sink, "--size", "640x480", "--fps", str(FPS), "--mouth", "painted"]
    return Process(sys.executable, str(ROOT / "run.py"), *words, "--relay-code", *more)


class Watcher:
    """Another program that looks at the result."""

    def __init__(self, device: str, out: Path) -> None:
        self.out = out
        self.process = Process(sys.executable, "-m", "tests.e2e.v4l2.parts", "watch", device, str(out))

    def looks(self) -> list[Look]:
        if not self.out.is_file():
            return []
        return [Look(**json.loads(line)) for line in self.out.read_text().splitlines() if line.endswith("}")]

    def sees(self, what: Callable[[Look], bool], *, since: int = 0, seconds: float = START_S, count: int = 1) -> int:
        """When it saw the last of so many such pictures, waiting for them."""
        until = time.monotonic() + seconds
        while True:
            found = [look for look in self.looks() if look.at >= since and what(look)]
            if len(found) >= count:
                return found[count - 1].at
            last = self.looks()[-1:]
            assert time.monotonic() < until, f"not seen within {seconds} s; last {last}; {self.process.text()}"
            assert self.process.process.poll() is None, self.process.text()
            time.sleep(0.05)

    def longest_gap_s(self, since: int) -> float:
        """The longest time without a picture."""
        times = [look.at for look in self.looks() if look.at >= since]
        return float(np.diff(times).max() / 1e9) if len(times) > 1 else float("inf")


def fresh(look: Look) -> bool:
    """A picture that a recent one of the camera drove."""
    return look.age is not None and look.age < 1000


def main(what: str, device: str, path: str) -> None:
    feed(device, Path(path)) if what == "feed" else watch(device, Path(path))


if __name__ == "__main__":
    main(*sys.argv[1:4])
