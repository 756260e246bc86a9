"""The settings of tracking that the configuration and the commands share."""

from __future__ import annotations

from typing import Literal, get_args

MAX_FACES = 8
"""How many faces of a frame are told apart: the highest number that a driver may be chosen by."""
DriverWord = Literal["auto", "largest", "left", "right"]
DRIVERS: tuple[DriverWord, ...] = get_args(DriverWord)
"""The words that choose the driver among several faces."""
Driver = DriverWord | int
"""The face that drives: by a word of ``DRIVERS``, or the n-th face from the left, from 1."""
Rotation = Literal["auto", "0", "90", "180", "270"]
"""By how many degrees the driving video is turned clockwise; ``auto`` finds out."""


def parse_driver(value: object) -> Driver:
    """Return the driver that a word or a number stands for. Raises ValueError."""
    for word in DRIVERS:
        if value == word:
            return word
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_FACES:
        return value
    raise ValueError("not a driver")
