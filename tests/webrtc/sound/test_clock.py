"""The clock of a publisher's sound."""

from __future__ import annotations

import pytest

from realtime.webrtc.sound.clock import SoundClock
from realtime.webrtc.sound.reports import Report, to_ntp
from realtime.webrtc.video.decoded_frames import SenderClock

NS = 1_000_000_000
LOOKAHEAD_NS = 6_500_000


def test_without_reports_picture_and_sound_are_equally_late() -> None:
    pictures = SenderClock()
    clock = SoundClock(pictures)
    pictures.to_monotonic(90_000, 5 * NS)
    clock.to_monotonic(48_000, 5 * NS)
    # one that is late does not change the clock
    assert clock.to_monotonic(96_000, 7 * NS) == pytest.approx(6 * NS - LOOKAHEAD_NS, abs=2_000_000)


def test_reports_tell_how_the_tracks_belong_together() -> None:
    pictures = SenderClock()
    clock = SoundClock(pictures)
    # pictures are on the way for 50 ms, sound for 10 ms
    pictures.to_monotonic(90_000, 5 * NS + 50_000_000)
    assert clock.to_monotonic(480_000, 5 * NS + 10_000_000) == 5 * NS + 10_000_000 - LOOKAHEAD_NS
    clock.sound_report(Report(10.0, 777.0))
    clock.picture_report(Report(2.0, 778.0))
    for noise in (0.004, -0.003, 0.0):
        clock.sound_report(Report(10.5 + noise, 777.5))
    assert clock.to_monotonic(480_000, 5 * NS) == pytest.approx(5 * NS + 50_000_000 - LOOKAHEAD_NS, abs=1000)


@pytest.mark.parametrize("wrong_s", [-1e9, -5.0, 5.0, 1e9])
def test_reports_that_cannot_be_true_do_not_move_the_sound(wrong_s: float) -> None:
    pictures = SenderClock()
    clock = SoundClock(pictures)
    pictures.to_monotonic(90_000, 5 * NS)
    clock.picture_report(Report(2.0, 778.0))
    clock.sound_report(Report(10.0 + wrong_s, 778.0))
    assert clock.to_monotonic(480_000, 5 * NS) == pytest.approx(5 * NS - LOOKAHEAD_NS, abs=1000)


def test_an_ntp_time_has_32_bits_of_seconds_and_32_of_their_parts() -> None:
    half_later = to_ntp(NS * 3 // 2) - to_ntp(NS)
    assert half_later == pytest.approx(1 << 31, abs=8)
