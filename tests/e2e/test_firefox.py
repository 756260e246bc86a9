"""The page in Firefox, against the real program. Firefox downloads H.264 and differs in WebRTC."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from realtime.capture.performer import Performer
from realtime.portraits.portrait import DEFAULT_PORTRAIT, load_portrait
from realtime.tracking.still_faces import FaceFinder
from tests.support.browser import go_live, motion_correlation, wait_for_text
from tests.support.firefox import Firefox, find_firefox, firefox
from tests.support.program import program

SIZE = (640, 480)


@pytest.fixture
def tab() -> Iterator[Firefox]:
    """A tab whose camera shows the performer. An error on the page fails the test."""
    command = find_firefox()
    if command is None:
        pytest.skip("there is no Firefox on the path: sudo apt install firefox-esr, or set REENACT_FIREFOX")
    with firefox(command) as opened:
        performer = Performer(SIZE)
        opened.use_as_camera(performer.picture(index / 30) for index in range(300))
        performer.close()
        yield opened
        assert not opened.errors


def test_going_live(tab: Firefox, tmp_path: Path, face_finder: FaceFinder) -> None:
    picture = load_portrait(DEFAULT_PORTRAIT, SIZE, finder=face_finder)
    options = (
        "--camera",
        "webrtc",
        "--sink",
        "webrtc:127.0.0.1:0",
        "--size",
        "640x480",
        "--portrait",
        str(DEFAULT_PORTRAIT),
    )
    with program(tmp_path, *options) as (_, url):
        tab.goto(url)
        go_live(tab)
        wait_for_text(tab, "frames/s")
        lips_r, yaw_r = motion_correlation(tab, picture, face_finder)
        assert lips_r >= 0.65
        assert yaw_r >= 0.9
        tab.click("#go")
        wait_for_text(tab, "go live")
        tab.goto("about:blank")
