"""How many browsers a machine is measured to sustain."""

from __future__ import annotations

import pytest

from engines.types import Motion
from realtime.server.capacity import MAX_SESSIONS, Capacity, measure, viewer_encoder
from realtime.webrtc.video.codecs import open_encoder
from tests.support.fakes import SIZE, FakeGenerator, FakeTracker


class Machine:
    """A machine with a clock of its own, on which a frame takes ``frame_s`` seconds."""

    def __init__(self, frame_s: float) -> None:
        self.now = 0.0
        self._frame_s = frame_s
        self.generator = FakeGenerator(self._work)

    def _work(self, _: Motion) -> None:
        self.now += self._frame_s

    def measure(self, busy: int = 0) -> Capacity:
        return measure(FakeTracker(), self.generator, SIZE, busy=busy, clock=lambda: self.now)


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)


@pytest.mark.parametrize(
    ("frame_s", "busy", "sessions"), [(0.06, 0, 1), (0.0134, 0, 3), (0.0134, 1, 2), (1e-6, 0, MAX_SESSIONS)]
)
def test_the_capacity_is_what_fits_into_the_time_between_two_frames(frame_s: float, busy: int, sessions: int) -> None:
    capacity = Machine(frame_s).measure(busy)
    assert capacity.sessions == sessions
    assert capacity.frame_ms == pytest.approx(1e3 * frame_s)


def test_the_encoder_that_is_measured_is_the_one_of_a_viewer() -> None:
    measured, viewers = viewer_encoder(SIZE), open_encoder("libx264", *SIZE, 2_500_000)
    assert measured.options["preset"] == "veryfast"
    assert measured.options == viewers.options
    assert measured.profile == viewers.profile


def test_the_text_explains_the_number_and_names_the_option() -> None:
    text = str(Capacity(3, 8.25))
    assert text.startswith("3 at a time: a frame takes 8.2 ms of 2 processors")
    assert "--sessions" in text
