"""Places for requests: so many in all, of which one client may take its share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from realtime.webrtc.process.hub import FullError

RETRY_S = 1.0


class RequestLimit:
    """Each is taken by a request for as long as it lasts. Belongs to the event loop's thread."""

    def __init__(self, count: int, share: int, what: str, wait_s: float = 0.0) -> None:
        """``count`` in all and ``share`` for one client (address).

        Those who find none wait for ``wait_s``: a page asks for much at once. ``what`` is told to those in vain.
        """
        self._count = count
        self._share = share
        self._what = what
        self._wait_s = wait_s
        self._taken: Counter[str] = Counter()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def take(self, client: str) -> AsyncIterator[None]:
        """Hold a place while the block runs. Raises FullError."""
        try:
            async with asyncio.timeout(self._wait_s):
                while not self._has_room(client):
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            raise FullError(RETRY_S, f"too many {self._what} at a time") from None
        self._taken[client] += 1
        try:
            yield
        finally:
            self._taken[client] -= 1
            if not self._taken[client]:
                del self._taken[client]
            self._freed.set()

    def _has_room(self, client: str) -> bool:
        return self._taken.total() < self._count and self._taken[client] < self._share
