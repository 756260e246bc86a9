"""How far sound and picture are apart: from browser to browser, and in the recording.

    python -m tools.latency.sound [--seconds N] [--size WxH]

A page goes live with a clip of a face as its camera, a code in each picture, and a microphone that clicks twice a
second. Another page watches. Positive offsets mean that the sound is late. Needs Chromium, and a machine that is idle:
the codes are drawn by the page, so that a page that stalls counts as a picture that is late.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from engines.errors import SourceLost
from realtime.config import load
from realtime.core import pixelcode
from tools.bench_costs import driving_frames
from tools.latency import chromium
from tools.latency.webrtc import program
from tools.support.claps import PERIOD_NS, ClapFinder
from tools.support.command import new_app, run_app

_CLIP_S = 4.0
_FPS = 30
_LIVE_S = 120.0
"""How long to wait for the portrait: on a new machine, what draws it is compiled first."""
_SETTLE_S = 15.0
"""How long the browser takes to line up sound and picture: it corrects a little every second."""
_SCRIPT = Path(__file__).with_name("sound.js")
_PERIOD_MS = PERIOD_NS / 1e6


def offsets_ms(claps_ms: Sequence[float], shown: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    """Return how late each click is against the picture.

    ``claps_ms`` are when clicks were played, ``shown`` when a picture was shown and when it was taken. Clicks are at
    the multiples of ``PERIOD_NS`` on the clock of the latter. Raises SourceLost where none is left beside a picture.
    """
    if not shown:
        raise SourceLost("measure-no-code", "no picture shows a code", cure="check that a face is found")
    at, taken = (np.array(column, np.float64) for column in zip(*sorted(shown), strict=True))
    claps = np.array([each for each in claps_ms if at[0] <= each <= at[-1]], np.float64)
    if not claps.size:
        raise SourceLost("measure-no-clicks", "no click was heard while pictures were shown", cure="measure for longer")
    taken_then = np.interp(claps, at, taken)
    return (taken_then + _PERIOD_MS / 2) % _PERIOD_MS - _PERIOD_MS / 2


def measure_browsers(address: str, camera: Path, seconds: float) -> NDArray[np.float64]:
    """Return the offsets from browser to browser in ms. Raises SourceLost, UsageError without Chromium."""
    with chromium.chromium(camera) as browser, browser_errors():
        # the page's policy forbids the worklet that finds the clicks
        context = browser.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=True)
        for script in (chromium.LATENCY_SCRIPT, _SCRIPT):
            context.add_init_script(path=script)
        publisher = context.new_page()
        publisher.goto(address)
        publisher.click("#go")
        live = "reenactLatency.ages.length > 10 && reenactSound.microphone"
        if not chromium.wait_until(publisher, live, _LIVE_S):
            raise SourceLost("measure-not-live", f"the page shows {publisher.inner_text('#status')!r}")
        publisher.click("#open-share")
        if not chromium.wait_until(publisher, "document.getElementById('share-link').value !== ''", _LIVE_S):
            raise SourceLost("measure-no-link", "the page makes no link for viewers")
        link = publisher.input_value("#share-link")
        viewer = context.new_page()
        viewer.goto(link)
        if not chromium.wait_until(viewer, "!document.getElementById('hear').hidden", chromium.LIVE_S):
            raise SourceLost("measure-no-sound", "the viewer's page gets no sound")
        viewer.click("#hear")
        viewer.evaluate("reenactHear(document.getElementById('result'))")
        viewer.wait_for_timeout(1000 * _SETTLE_S)
        counts = viewer.evaluate("[reenactSound.claps.length, reenactSound.shown.length]")
        viewer.wait_for_timeout(1000 * seconds)
        claps, shown = viewer.evaluate("[reenactSound.claps, reenactSound.shown]")
    return offsets_ms(claps[counts[0] :], [(at, taken) for at, taken in shown[counts[1] :]])


@contextmanager
def browser_errors() -> Iterator[None]:
    """Raise SourceLost for what Playwright raises, such as a button that does not come."""
    from playwright.sync_api import Error

    try:
        yield
    except Error as error:
        found = f"the browser failed: {error.message.splitlines()[0]}"
        raise SourceLost("measure-browser-failed", found, cure="try again on a machine that is idle") from None


def measure_recording(path: Path) -> NDArray[np.float64]:
    """Return the offsets in a recording of pictures with codes, in ms. Raises SourceLost."""
    import av

    try:
        claps, shown = _read_recording(path)
    except (av.error.FFmpegError, IndexError) as error:
        found = f"the recording {path.name} has no picture and sound that can be read: {error}"
        raise SourceLost("measure-no-recording", found, cure="measure for longer") from None
    # the first seconds have no sender reports yet
    return offsets_ms([each for each in claps if each > 1000 * _SETTLE_S], shown)


def _read_recording(path: Path) -> tuple[list[float], list[tuple[float, float]]]:
    """Return ``claps_ms`` and ``shown`` of ``offsets_ms``."""
    import av

    shown: list[tuple[float, float]] = []
    claps: list[float] = []
    finder = ClapFinder()
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            code = pixelcode.read(np.asarray(frame.to_ndarray(format="gray"), np.uint8))
            if code is not None:
                shown.append((1000 * float(frame.time or 0), code.time_us / 1000))
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=48_000)
        for decoded in container.decode(audio=0):
            for part in resampler.resample(decoded):
                claps += [1000 * at for at in finder.find(part.to_ndarray()[0], (part.pts or 0) / 48_000, 48_000)]
    return claps, shown


def _line(name: str, offsets: NDArray[np.float64]) -> str:
    late = np.abs(offsets)
    return (
        f"{name}: {len(offsets)} clicks, median {np.median(offsets):+.1f} ms, "
        f"|offset| p50 {np.percentile(late, 50):.1f}, p95 {np.percentile(late, 95):.1f}, max {late.max():.1f} ms"
    )


app = new_app()


@app.command()
def bench_command(
    seconds: Annotated[float, typer.Option(min=5, max=3600, help="How long to measure.")] = 30.0,
    size: Annotated[str, typer.Option(metavar="WxH", help="The size of camera and output.")] = "640x480",
) -> None:
    """Measure how far sound and picture are apart."""
    config = load({"size": size, "sink": ["null"]})
    with TemporaryDirectory() as name:
        folder = Path(name)
        pictures = list(islice(driving_frames(None, config.size), round(_CLIP_S * _FPS)))
        clip = chromium.write_camera(folder / "camera.mjpeg", [*pictures, *pictures[-2:0:-1]], _FPS)
        recording = folder / "out.mp4"
        with program(config, folder, ["--sink", f"file:{recording}"]) as address:
            browsers = measure_browsers(address, clip, seconds)
        print(_line("browser to browser", browsers))
        print(_line("recording", measure_recording(recording)))


def main(arguments: list[str] | None = None, prog: str = "python -m tools.latency.sound") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
