"""Sound on its way through the program: packets of Opus on the clock of the pictures."""

from __future__ import annotations

from dataclasses import dataclass

SAMPLE_RATE = 48_000
"""Samples a second, in all of the program. Opus knows no other clock (RFC 7587 section 4.1)."""


@dataclass(frozen=True, slots=True)
class SoundPacket:
    """Some milliseconds of sound, encoded with Opus."""

    data: bytes
    time_ns: int
    """When the first sample that it decodes to was recorded, on the clock of ``Frame.time_ns`` (monotonic ns)."""
    pts: int = 0
    """The time of its first sample at 48 kHz, on the recording's own clock, on which packets follow without gaps."""
