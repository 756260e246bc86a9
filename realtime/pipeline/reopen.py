"""Opening a source or a sink again after it was lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from engines.errors import ReenactError
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.settings import Notice

FIRST_DELAY_S, LAST_DELAY_S = 0.1, 0.5
"""The delay between attempts doubles from the first value up to the last."""


class Device(Protocol):
    """What a source and a sink have in common."""

    @property
    def name(self) -> str:
        """What to show the user."""

    def close(self) -> None:
        """Release everything; idempotent."""


D = TypeVar("D", bound=Device)


def reopen(
    open_again: Callable[[], D],
    lost: Device,
    error: ReenactError,
    failure: type[ReenactError],
    stop_signal: StopSignal,
    notice: Notice,
) -> D | None:
    """Close the device that was ``lost`` and open it again, with exponential back-off.

    ``error`` says how it was lost. Attempts that raise ``failure`` are repeated; any other exception propagates.
    Returns None if the run ends first.
    """
    notice(f"{error}; trying to reconnect")
    lost.close()
    delay = FIRST_DELAY_S
    while not stop_signal.over.wait(delay):
        try:
            device = open_again()
        except failure:
            delay = min(2 * delay, LAST_DELAY_S)
            continue
        notice(f"{device.name} is back")
        return device
    return None
