"""Limits requests in progress, in total and per client."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from engines.errors import BusyError
from realtime.webrtc.process.client_address import client_of

RETRY_S = 1.0


class RequestLimit:
    """A semaphore of which one client gets no more than a share. Belongs to the event loop's thread."""

    def __init__(self, total: int, per_client: int, what: str, wait_s: float = 0.0) -> None:
        """Allow ``total`` requests at the same time, and ``per_client`` of them to one client.

        A request above the limit waits for ``wait_s``, because a page sends many at once. ``what`` names the requests
        in the error of one that waited in vain.
        """
        self._total = total
        self._per_client = per_client
        self._what = what
        self._wait_s = wait_s
        self._in_progress: Counter[str] = Counter()
        self._released = asyncio.Event()

    @asynccontextmanager
    async def acquire(self, address: str) -> AsyncIterator[None]:
        """Count a request from ``address`` as in progress while the block runs. Raises BusyError."""
        client = client_of(address)
        try:
            async with asyncio.timeout(self._wait_s):
                while not self._has_room(client):
                    self._released.clear()
                    await self._released.wait()
        except TimeoutError:
            raise BusyError(
                "too-many-requests",
                f"too many {self._what} at the same time",
                cure="try again later",
                retry_after_s=RETRY_S,
            ) from None
        self._in_progress[client] += 1
        try:
            yield
        finally:
            self._in_progress[client] -= 1
            if not self._in_progress[client]:
                del self._in_progress[client]
            self._released.set()

    def _has_room(self, client: str) -> bool:
        return self._in_progress.total() < self._total and self._in_progress[client] < self._per_client
