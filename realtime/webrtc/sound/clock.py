"""The clock of a publisher's sound: its times on the clock of the same publisher's pictures."""

from __future__ import annotations

from collections import deque
from statistics import median

from realtime.core.sound import SAMPLE_RATE
from realtime.webrtc.sound.reports import Report
from realtime.webrtc.video.decoded_frames import SenderClock

_NS = 1_000_000_000
_LOOKAHEAD_NS = 6_500_000
"""By how much an Opus encoder delays the sound: 2.5 ms of the codec, 4 ms of the one in use (libopus)."""
_MAX_APART_NS = _NS
"""How far picture and sound may be apart in their delay. Reports that say more are wrong."""
_REPORTS = 9
"""The reports whose median counts: that of a browser's sound is some milliseconds off."""


class SoundClock:
    """Maps the times of a publisher's sound to the clock of its pictures.

    Sender reports of both tracks say how they belong together. Until there are some, picture and sound count as equally
    late: the least delay so far tells, as for pictures. The same holds where the reports cannot be true.
    """

    def __init__(self, pictures: SenderClock) -> None:
        self._pictures = pictures
        self._arrivals = SenderClock(SAMPLE_RATE)
        self._picture: Report | None = None
        self._leads_s: deque[float] = deque(maxlen=_REPORTS)
        """How far the clock of the sound is before that of the pictures, as each report said."""

    def picture_report(self, report: Report) -> None:
        """Note a report on the pictures."""
        self._picture = report

    def sound_report(self, report: Report) -> None:
        """Note a report on the sound."""
        if self._picture is None:
            return
        picture_s = self._picture.track_s + report.wall_s - self._picture.wall_s
        self._leads_s.append(report.track_s - picture_s)

    def to_monotonic(self, pts: int, arrived_ns: int) -> int:
        """Return when the first sample of a packet of Opus was recorded (monotonic ns).

        ``pts`` is its time at 48 kHz, without wrap-around.
        """
        by_arrival = self._arrivals.to_monotonic(pts, arrived_ns)
        offset_ns = self._pictures.offset_ns
        if not self._leads_s or offset_ns is None:
            return by_arrival - _LOOKAHEAD_NS
        by_reports = round(pts * _NS / SAMPLE_RATE - median(self._leads_s) * _NS + offset_ns)
        return (by_reports if abs(by_reports - by_arrival) <= _MAX_APART_NS else by_arrival) - _LOOKAHEAD_NS
