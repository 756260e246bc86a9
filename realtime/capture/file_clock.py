"""One time out of a file's, which may begin anew or leap where recordings were joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av

_NS = 1_000_000_000
_TS_DISCONT = 0x200
"""AVFMT_TS_DISCONT."""
_BACK_NS = _NS // 2
_BACK_LENGTHS = 16
"""So many pictures a codec may put in another order."""
_JOINED_LEAP_NS, _LEAP_NS = 10 * _NS, 3600 * _NS
"""A longer pause is none, in formats whose time may leap and in others, unless the sound goes on meanwhile."""
_OVERLAP_NS = 2 * _NS
"""So long after a join the streams may still bring what belongs before it."""
_NEAR_NS = _NS
"""What a file brings together is not further apart than this."""
_STEADY_NS = 2 * _NS
"""Sound goes on steadily where no step of it is longer, and reaches its picture within this."""


class Joins:
    """How far what comes from a file at the moment is moved in time; the file's streams share it."""

    def __init__(self, container: av.container.InputContainer) -> None:
        self.leap_ns = _JOINED_LEAP_NS if container.format.flags & _TS_DISCONT else _LEAP_NS
        self.shift_ns = 0
        self.before_ns = 0
        """The shift before the latest join."""
        self.latest_ns = 0
        """When the latest join was, in the time that comes out."""
        self.end_ns = 0
        """How far the stream that leads has come."""
        self._heard: list[tuple[int, int]] = []
        """From when to when the sound has gone on steadily, in the file's time; the last two such stretches."""

    def hear(self, at_ns: int) -> None:
        """Take note of a piece of sound that the file puts at ``at_ns``: a clock that it goes on by does not leap."""
        first, last = self._heard[-1] if self._heard else (at_ns, at_ns)
        if abs(at_ns - last) <= _STEADY_NS:
            self._heard[-1:] = [(first, max(last, at_ns))]
        else:
            self._heard = [self._heard[-1], (at_ns, at_ns)]

    def heard_through(self, from_ns: int, until_ns: int) -> bool:
        """Whether the sound has gone on steadily from one time of the file to another."""
        return any(first <= from_ns + _STEADY_NS and until_ns - _STEADY_NS <= last for first, last in self._heard)


class Timeline:
    """The times of one stream, each part of a joined file after the one before it.

    The stream that leads, the picture's, follows its own last piece after a join; the others follow it, so that
    sound stays with its picture, also where it paused meanwhile, or went on while the picture did.
    """

    def __init__(self, joins: Joins, *, leads: bool) -> None:
        self._joins = joins
        self._leads = leads
        self.end_ns: int | None = None
        """Where the last piece ends, None before the first."""

    def place(self, at_ns: int | None, length_ns: int) -> int:
        """When a piece comes that the file puts at ``at_ns``, in nanoseconds; one without a time follows the last."""
        joins = self._joins
        if at_ns is not None and not self._leads:
            joins.hear(at_ns)
        if self.end_ns is None:
            placed = (at_ns or 0) + joins.shift_ns
        elif at_ns is None:
            placed = self.end_ns
        else:
            placed = self._fit(at_ns, self.end_ns, max(_BACK_NS, _BACK_LENGTHS * length_ns))
        end_ns = placed + length_ns
        self.end_ns = end_ns if self.end_ns is None else max(self.end_ns, end_ns)
        if self._leads:
            joins.end_ns = self.end_ns
            if placed > joins.latest_ns + _OVERLAP_NS:
                joins.before_ns = joins.shift_ns
        return placed

    def _fit(self, at_ns: int, end_ns: int, back_ns: int) -> int:
        joins = self._joins
        now, before = at_ns + joins.shift_ns - end_ns, at_ns + joins.before_ns - end_ns
        if abs(before) < min(abs(now), back_ns):
            return end_ns + before
        beside = not self._leads and abs(end_ns + now - joins.end_ns) <= _NEAR_NS
        if beside or -back_ns <= now <= joins.leap_ns:
            return end_ns + now
        if self._leads and now > 0 and joins.heard_through(at_ns - now, at_ns):
            return end_ns + now
        if self._leads:
            joins.before_ns, joins.shift_ns, joins.latest_ns = joins.shift_ns, end_ns - at_ns, end_ns
        return end_ns
