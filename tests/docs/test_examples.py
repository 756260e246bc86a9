"""The examples of the documents run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from html.parser import HTMLParser
from pathlib import Path

import av
import pytest

from engines.errors import UsageError
from realtime.portraits.bundled import bundled_portraits
from tests.support.documents import ROOT
from tests.support.program import program
from tools.latency.chromium import chromium, wait_until

EXAMPLES = ROOT / "docs" / "examples"
PROGRAM = ("--camera", "performer", "--sink", "webrtc:127.0.0.1:0", "--size", "256x256")


def _run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def _frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_generator_of_ones_own_and_a_file(tmp_path: Path) -> None:
    """The drawing that the first example records is a face that drives the second one."""
    done = _run([sys.executable, str(EXAMPLES / "own_generator.py"), "drawing.mp4", "20"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert _frames(tmp_path / "drawing.mp4") == 20
    done = _run([sys.executable, str(EXAMPLES / "drive_a_file.py"), "drawing.mp4", "out.mp4"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "20 frames\n"
    assert _frames(tmp_path / "out.mp4") == 20


def test_a_mistake_is_told_without_a_traceback(tmp_path: Path) -> None:
    done = _run([sys.executable, str(EXAMPLES / "drive_a_file.py"), "missing.mp4", "out.mp4"], tmp_path)
    assert done.returncode == 1
    assert "missing.mp4" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on the path: sudo apt install curl")
def test_control_by_curl(tmp_path: Path) -> None:
    picture = bundled_portraits()[1].path
    with program(tmp_path, *PROGRAM, "--token", "secret") as (_, address):
        done = _run(
            ["sh", str(EXAMPLES / "control.sh"), address, str(picture)],
            tmp_path,
            REENACT_TOKEN="secret",
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r'"id":1,"ok":true,"said":"gain 1.2"', done.stdout)
    assert '"code":"command-bad-value"' in done.stdout.replace('": ', '":')
    assert '"name":"mine"' in done.stdout


class _Elements(HTMLParser):
    """Collects the elements of a page by their names."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: dict[str, list[dict[str, str | None]]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.setdefault(tag, []).append(dict(attrs))


def test_the_viewer_is_one_file() -> None:
    page = _Elements()
    page.feed((EXAMPLES / "whep_viewer.html").read_text("utf-8"))
    assert [each["id"] for each in page.elements["video"]] == ["video"]
    assert all("src" not in each for tag in ("script", "img", "video") for each in page.elements.get(tag, []))
    assert "link" not in page.elements


def test_the_viewer_shows_the_portrait(tmp_path: Path) -> None:
    """Served from the origin of the program, as a proxy would; requests are recorded."""
    requests: list[tuple[str, str]] = []
    try:
        opened = chromium()
        with opened as browser, program(tmp_path, *PROGRAM) as (_, address):
            page = browser.new_page()
            page.on("request", lambda each: requests.append((each.method, each.url.removeprefix(address))))
            page.route(address + "viewer.html", lambda route: route.fulfill(path=EXAMPLES / "whep_viewer.html"))
            page.goto(address + "viewer.html")
            assert wait_until(page, "document.getElementById('video').videoWidth === 256", 60), requests
            assert _has_viewers(address, 1, 10)
            page.goto("about:blank")
            # by DELETE: sooner than the program misses it
            assert _has_viewers(address, 0, 4)
    except UsageError as error:
        pytest.skip(f"{error}: {error.cure}")
    # each attempt asks for the ICE servers first; there are several until the program has a stream
    sequence = [method for method, path in requests if path == "whep"]
    assert sequence == ["OPTIONS", "POST"] * (len(sequence) // 2)


def _has_viewers(address: str, count: int, timeout_s: float) -> bool:
    """Wait until the main run has that many viewers. Return False if it has not within the time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with urllib.request.urlopen(address + "api/state", timeout=10) as reply:
            if json.load(reply)["main"]["viewers"] == count:
                return True
        time.sleep(0.1)
    return False
