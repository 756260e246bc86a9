"""Wait for a condition with a time limit, so that a test fails instead of hanging."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE_S = 0.002


def until(condition: Callable[[], T], what: str = "", timeout_s: float = 40) -> T:
    """Call ``condition`` until it returns a true value, and return that. Fail after ``timeout_s`` with ``what``."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, what or "the condition was not met in time"
        time.sleep(_PAUSE_S)
    return found


async def soon(condition: Callable[[], T], what: str = "", timeout_s: float = 40) -> T:
    """Do the same as ``until`` without blocking the event loop."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, what or "the condition was not met in time"
        await asyncio.sleep(_PAUSE_S)
    return found
