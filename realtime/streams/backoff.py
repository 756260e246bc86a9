"""When to try again to reach a server."""

from __future__ import annotations

FIRST_S = 0.25
LONGEST_S = 1.5
"""The longest wait while a server cannot be reached: it is found again within 2 s."""
REFUSED_S = 10.0
"""The wait after a server has refused the stream, which it will likely do again."""


class Backoff:
    """A growing wait, which begins at its start after each success."""

    def __init__(self) -> None:
        self._next_s = FIRST_S

    def succeed(self) -> None:
        """Begin at the start with the next failure."""
        self._next_s = FIRST_S

    def fail(self, *, refused: bool) -> float:
        """Return how long to wait, in seconds."""
        if refused:
            return REFUSED_S
        wait_s, self._next_s = self._next_s, min(2 * self._next_s, LONGEST_S)
        return wait_s
