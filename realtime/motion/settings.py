"""The settings of motion transfer that the configuration and the commands share."""

from __future__ import annotations

from typing import Literal

NeutralMode = Literal["auto", "first"]
"""Where the driver's neutral face comes from: an estimate over all frames, or the first face."""
MAX_GAIN = 4.0
"""The largest factor that the expression may be multiplied by."""
