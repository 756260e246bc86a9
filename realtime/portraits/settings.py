"""The names of the ways to fit a picture of another shape into the output's frame."""

from __future__ import annotations

from typing import Literal

Fit = Literal["auto", "crop", "extend", "blur"]
"""Take a closer crop, continue the picture, or show it as a card over a blurred enlargement of itself."""
FITS: tuple[Fit, ...] = ("auto", "crop", "extend", "blur")
