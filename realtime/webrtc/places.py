"""Places for requests: so many in all, of which one client may take its share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from realtime.webrtc.hub import FullError

RETRY_S = 1.0


class Places:
    """Taken without waiting, each by a request for as long as it lasts. Belongs to the event loop's thread."""

    def __init__(self, count: int, share: int, what: str) -> None:
        """``count`` in all and ``share`` for one client (address); ``what`` is told to those who find none."""
        self._count = count
        self._share = share
        self._what = what
        self._taken: Counter[str] = Counter()

    @contextmanager
    def take(self, client: str) -> Iterator[None]:
        """Hold a place while the block runs. Raises FullError."""
        if self._taken.total() >= self._count or self._taken[client] >= self._share:
            raise FullError(RETRY_S, f"too many {self._what} at a time")
        self._taken[client] += 1
        try:
            yield
        finally:
            self._taken[client] -= 1
            if not self._taken[client]:
                del self._taken[client]
