"""One continuous time for a file whose timestamps restart or jump where recordings were joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av

_NS = 1_000_000_000
_TS_DISCONT = 0x200
"""AVFMT_TS_DISCONT."""
_REORDER_NS = _NS // 2
_REORDER_LENGTHS = 16
"""The most pictures that a codec may reorder."""
_JOINED_PAUSE_NS, _PAUSE_NS = 10 * _NS, 3600 * _NS
"""A pause longer than this is treated as a timestamp jump, unless audio is continuous: the first for formats with
discontinuities, the second for others."""
_OVERLAP_NS = 2 * _NS
"""For this long after a join, the streams may still deliver packets from before it."""
_NEAR_NS = _NS
"""Packets that the file delivers together are not further apart than this."""
_STEADY_NS = 2 * _NS
"""Audio is continuous if no step of it is longer, and goes with a picture that is no further away."""


class JoinShift:
    """The shift between the timestamps of a file and the continuous time; shared by the streams of the file."""

    def __init__(self, container: av.container.InputContainer) -> None:
        self.longest_pause_ns = _JOINED_PAUSE_NS if container.format.flags & _TS_DISCONT else _PAUSE_NS
        self.current_ns = 0
        self.before_join_ns = 0
        """The shift before the latest join."""
        self.joined_at_ns = 0
        """When the latest join was, in continuous time."""
        self.leader_end_ns = 0
        """Where the leading stream ends so far, in continuous time."""
        self._audio_spans: list[tuple[int, int]] = []
        """Start and end of the last two spans of continuous audio, in the file's time."""

    def note_audio(self, at_ns: int) -> None:
        """Record the timestamp of an audio packet: time that passes in the audio is a pause, not a jump."""
        first, last = self._audio_spans[-1] if self._audio_spans else (at_ns, at_ns)
        if abs(at_ns - last) <= _STEADY_NS:
            self._audio_spans[-1:] = [(first, max(last, at_ns))]
        else:
            self._audio_spans = [self._audio_spans[-1], (at_ns, at_ns)]

    def audio_covers(self, from_ns: int, until_ns: int) -> bool:
        """Return True if audio is continuous from one time of the file to another."""
        return any(first <= from_ns + _STEADY_NS and until_ns - _STEADY_NS <= last for first, last in self._audio_spans)


class Timeline:
    """The continuous times of one stream; each part of a joined file comes after the one before it.

    After a join the leading stream, the video, continues at its own end. The other streams follow it, so that audio
    stays in sync, also where it pauses, or continues while the video pauses.
    """

    def __init__(self, shift: JoinShift, *, leads: bool) -> None:
        self._shift = shift
        self._leads = leads
        self.end_ns: int | None = None
        """Where the last packet ends; None before the first."""

    def place(self, at_ns: int | None, length_ns: int) -> int:
        """Return the continuous time of a packet with the timestamp ``at_ns``; without one it follows the last."""
        shift = self._shift
        if at_ns is not None and not self._leads:
            shift.note_audio(at_ns)
        if self.end_ns is None:
            placed = (at_ns or 0) + shift.current_ns
        elif at_ns is None:
            placed = self.end_ns
        else:
            placed = self._fit(at_ns, self.end_ns, max(_REORDER_NS, _REORDER_LENGTHS * length_ns))
        end_ns = placed + length_ns
        self.end_ns = end_ns if self.end_ns is None else max(self.end_ns, end_ns)
        if self._leads:
            shift.leader_end_ns = self.end_ns
            if placed > shift.joined_at_ns + _OVERLAP_NS:
                shift.before_join_ns = shift.current_ns
        return placed

    def _fit(self, at_ns: int, end_ns: int, reorder_ns: int) -> int:
        """Place a packet after others. ``reorder_ns`` is how far before ``end_ns`` it may be."""
        shift = self._shift
        gap, gap_before_join = at_ns + shift.current_ns - end_ns, at_ns + shift.before_join_ns - end_ns
        if abs(gap_before_join) < min(abs(gap), reorder_ns):
            return end_ns + gap_before_join
        near_leader = not self._leads and abs(end_ns + gap - shift.leader_end_ns) <= _NEAR_NS
        if near_leader or -reorder_ns <= gap <= shift.longest_pause_ns:
            return end_ns + gap
        if self._leads and gap > 0 and shift.audio_covers(at_ns - gap, at_ns):
            return end_ns + gap
        if self._leads:
            shift.before_join_ns, shift.current_ns, shift.joined_at_ns = shift.current_ns, end_ns - at_ns, end_ns
        return end_ns
