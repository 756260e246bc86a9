"""Waiting for what comes in its own time: within bounds, so that what never comes fails a test and does not hang it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE_S = 0.002


def until(condition: Callable[[], T], what: str = "", timeout_s: float = 10) -> T:
    """Ask again and again; the first answer that is true. Fails after ``timeout_s``, and says ``what`` did not come."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, what or "what was waited for has not come"
        time.sleep(_PAUSE_S)
    return found


async def soon(condition: Callable[[], T], what: str = "", timeout_s: float = 10) -> T:
    """The same for what happens in the event loop."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, what or "what was waited for has not come"
        await asyncio.sleep(_PAUSE_S)
    return found
