"""Headless Chromium with a video as its camera, for browser tests and for delays measured in a browser."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import av
import numpy as np
from numpy.typing import NDArray

from engines.errors import SourceLost, UsageError
from engines.install_hint import install_command
from engines.types import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

LATENCY_SCRIPT = Path(__file__).with_name("chromium.js")
_COUNTS = "({count: reenactLatency.ages.length, drawn: reenactLatency.drawn, unread: reenactLatency.unread})"
LIVE_S = 30.0
"""How long a page may take until the portrait is live, in seconds."""
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
)


def find_chromium() -> Path:
    """Return the path of Chromium: ``REENACT_CHROMIUM``, or the first one on the path. Raises UsageError."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("REENACT_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        cure = "sudo apt install chromium, or set REENACT_CHROMIUM"
        raise UsageError("chromium-missing", "there is no Chromium on the path", cure=cure)
    return Path(path)


def launch(play: Playwright, camera: Path | None = None, *, allowed: bool = True) -> Browser:
    """Start a browser whose camera is a video (``.mjpeg`` or ``.y4m``; None: its own test picture).

    The caller closes it. With ``allowed`` pages get the camera without a prompt; otherwise the permissions of each
    page decide. Raises UsageError without Chromium.
    """
    arguments = list(_ARGUMENTS)
    if allowed:
        arguments.append("--use-fake-ui-for-media-stream")
    if camera is not None:
        arguments.append(f"--use-file-for-fake-video-capture={camera.resolve()}")
    # headless=False only keeps Playwright from adding the old headless mode, which has no camera
    return play.chromium.launch(executable_path=str(find_chromium()), headless=False, args=arguments)


@contextmanager
def chromium(camera: Path | None = None, *, allowed: bool = True) -> Iterator[Browser]:
    """Start Playwright and a browser as ``launch`` does, and close both at the end. Raises UsageError."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise UsageError("package-missing", "Playwright is not installed", cure=install_command("dev")) from None
    with sync_playwright() as play:
        browser = launch(play, camera, allowed=allowed)
        try:
            yield browser
        finally:
            browser.close()


def write_camera(path: Path, pictures: Iterable[Image], fps: int = 30) -> Path:
    """Write a video that Chromium can use as a camera: RGB pictures (H, W, 3) of one size as Motion JPEG."""
    with av.open(str(path), "w", format="mjpeg") as container:
        stream = None
        for index, picture in enumerate(pictures):
            if stream is None:
                stream = container.add_stream("mjpeg", rate=fps, options={"qmin": "2", "qmax": "3"})
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuvj420p"
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))
    return path


class Tab(Protocol):
    """The used methods of a browser tab of Playwright or of another driver."""

    def evaluate(self, expression: str, arg: Any = None) -> Any:
        """Return the value of a JavaScript expression, or of a function called with ``arg``."""

    def wait_for_timeout(self, timeout: float) -> None:
        """Wait for ``timeout`` milliseconds."""

    def click(self, selector: str) -> None:
        """Click the element."""

    def inner_text(self, selector: str) -> str:
        """Return the text of the element."""


def wait_until(page: Tab, condition: str, timeout_s: float) -> bool:
    """Wait up to ``timeout_s`` until a JavaScript expression is true. Return whether it is.

    Playwright's own ``wait_for_function`` evaluates strings in the page, which its content security policy forbids.
    """
    end = time.monotonic() + timeout_s
    while not page.evaluate(condition):
        if time.monotonic() > end:
            return False
        page.wait_for_timeout(100)
    return True


@dataclass(frozen=True, slots=True)
class BrowserAges:
    """The pictures that came back to the browser."""

    ages_ms: NDArray[np.float64]
    """For each picture, from drawing the code on the camera's picture to the callback that presents it."""
    received_ms: NDArray[np.float64]
    """The last part of it: from the arrival of the picture's last packet to the callback."""
    drawn: int
    """How many camera pictures were drawn meanwhile."""
    unread: int
    """How many pictures came back without a readable code."""
    stats: dict[str, float]
    """The difference of two readings of ``getStats``, by name."""


def stats_between(first: dict[str, Any], last: dict[str, Any], seconds: float) -> dict[str, float]:
    """Return figures from two readings of ``getStats`` taken ``seconds`` apart. Missing counters are left out."""
    figures: dict[str, float] = {}

    def mean_ms(name: str, kind: str, total: str, count: str) -> None:
        try:
            start, end = first.get(kind, {}), last[kind]
            frames = end[count] - start.get(count, 0)
            figures[name] = 1000 * (end[total] - start.get(total, 0)) / frames
        except (KeyError, ZeroDivisionError):
            pass

    mean_ms("encoding, ms a picture", "outbound-rtp", "totalEncodeTime", "framesEncoded")
    mean_ms("pacer queue, ms a packet", "outbound-rtp", "totalPacketSendDelay", "packetsSent")
    mean_ms("jitter buffer, ms a picture", "inbound-rtp", "jitterBufferDelay", "jitterBufferEmittedCount")
    mean_ms("decoding, ms a picture", "inbound-rtp", "totalDecodeTime", "framesDecoded")
    mean_ms("first packet to decoded, ms a picture", "inbound-rtp", "totalProcessingDelay", "framesDecoded")
    for name, kind, key, scale in (
        ("sent, kbit/s", "outbound-rtp", "bytesSent", 0.008),
        ("received, kbit/s", "inbound-rtp", "bytesReceived", 0.008),
        ("pictures decoded a second", "inbound-rtp", "framesDecoded", 1.0),
        ("pictures dropped", "inbound-rtp", "framesDropped", seconds),
        ("freezes", "inbound-rtp", "freezeCount", seconds),
        ("packets lost", "inbound-rtp", "packetsLost", seconds),
    ):
        if key in last.get(kind, {}):
            figures[name] = scale * (last[kind][key] - first.get(kind, {}).get(key, 0)) / seconds
    return figures


def measure_ages(url: str, camera: Path, *, seconds: float, warm_up_s: float = 8.0) -> BrowserAges:
    """Go live on the page at ``url`` of a daemon with ``--relay-code``, and measure the pictures that come back.

    The first ``warm_up_s`` seconds, in which a browser finds its bit rate, are left out. Raises SourceLost where no
    code comes back.
    """
    with chromium(camera) as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.add_init_script(path=LATENCY_SCRIPT)
        page.goto(url)
        page.click("#go")
        if not wait_until(page, "reenactLatency.ages.length > 10", LIVE_S):
            raise SourceLost(
                "measure-no-code",
                f"no code came back to the browser within {LIVE_S:g} s: the page shows {page.inner_text('#status')!r}",
                cure="start reenact with --relay-code, and give a video in which a face is found",
            )
        page.wait_for_timeout(warm_up_s * 1000)
        first, counted = page.evaluate(_COUNTS), page.evaluate("reenactLatency.stats()")
        page.wait_for_timeout(seconds * 1000)
        last = page.evaluate(_COUNTS)
        stats = stats_between(counted, page.evaluate("reenactLatency.stats()"), seconds)
        ages = np.array(page.evaluate("reenactLatency.ages")[first["count"] : last["count"]], np.float64)
        received = page.evaluate("reenactLatency.received")[first["count"] : last["count"]]
    if ages.size == 0:
        raise SourceLost("measure-no-code", "no code came back to the browser", cure="check that a face is found")
    return BrowserAges(
        ages,
        np.array([each for each in received if each is not None], np.float64),
        last["drawn"] - first["drawn"],
        last["unread"] - first["unread"],
        stats,
    )
