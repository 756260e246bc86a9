"""The settings of tracking that the configuration and the commands share."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, get_args

MAX_FACES = 8
"""How many faces of a frame are told apart: the highest number that a driver may be chosen by."""
DriverWord = Literal["auto", "largest", "left", "right"]
DRIVERS: tuple[DriverWord, ...] = get_args(DriverWord)
"""The words that choose the driver among several faces."""
FixedDriver = DriverWord | int
"""The face that drives: by a word of ``DRIVERS``, or the n-th face from the left, from 1."""
_SHARE = r"(?:0(?:\.[0-9]{1,6})?|1(?:\.0{1,6})?)"
PLACE = f"^{_SHARE},{_SHARE}$"
"""How a place is written: two numbers from 0 to 1."""


class Place(NamedTuple):
    """A place in a picture, as shares of its width and height, from its upper left corner."""

    x: float
    y: float

    def __str__(self) -> str:
        return f"{self.x:g},{self.y:g}"

    def in_frame(self, degrees: int, *, mirror: bool) -> Place:
        """Return where it is once the picture is turned clockwise, by 0, 90, 180 or 270 degrees, and then flipped."""
        x, y = self
        x, y = {0: (x, y), 90: (1 - y, x), 180: (1 - x, 1 - y), 270: (y, 1 - x)}[degrees]
        return Place(1 - x if mirror else x, y)


Driver = FixedDriver | Place
"""The same, or the face at a place."""
Rotation = Literal["auto", "0", "90", "180", "270"]
"""By how many degrees the driving video is turned clockwise; ``auto`` finds out."""


def parse_place(value: object) -> Place | None:
    """Return the place that a text such as ``0.4,0.25`` stands for; None for anything else."""
    if not isinstance(value, str) or not re.fullmatch(PLACE, value):
        return None
    x, y = value.split(",")
    return Place(float(x), float(y))


def parse_driver(value: object) -> FixedDriver:
    """Return the driver that a word or a number stands for. Raises ValueError."""
    for word in DRIVERS:
        if value == word:
            return word
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_FACES:
        return value
    raise ValueError("not a driver")
