"""Who may connect: so many in all, so many of one address, and nobody who then says nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from realtime.webrtc.settings import is_loopback

MOST = 256
MOST_OF_ONE = 64
"""Of one address; not of this machine's own, from which a proxy passes on what all the others ask."""
FIRST_S = 10.0
"""Within this a first whole request has to come."""
_AGAIN_S = 1.0


class ConnectionLimit:
    """Takes connections in for a server. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._open: dict[asyncio.BaseTransport, str] = {}
        """By address."""
        self._silent: set[asyncio.BaseTransport] = set()
        """Those from which no request has come yet."""
        self._task: asyncio.Task[None] | None = None

    def open(self, listener: socket.socket, make: Callable[[], asyncio.BaseProtocol]) -> None:
        """Let them in from now on, each to a protocol of its own."""
        listener.setblocking(False)
        self._task = asyncio.get_running_loop().create_task(self._receive(listener, make))

    def heard(self, transport: asyncio.BaseTransport | None) -> None:
        """A request has come over this one."""
        if transport is not None:
            self._silent.discard(transport)

    async def close(self) -> None:
        """Let nobody in any more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _receive(self, listener: socket.socket, make: Callable[[], asyncio.BaseProtocol]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError:
                # it has gone already, or there are too many files open: some will be closed
                await asyncio.sleep(_AGAIN_S)
                continue
            if not self._has_room(address[0]):
                connection.close()
                continue
            try:
                transport, _ = await loop.connect_accepted_socket(make, connection)
            except OSError:
                connection.close()
                continue
            self._open[transport] = address[0]
            self._silent.add(transport)
            loop.call_later(FIRST_S, self._end_silent, transport)

    def _has_room(self, address: str) -> bool:
        self._open = {each: of for each, of in self._open.items() if not each.is_closing()}
        if len(self._open) >= MOST:
            return False
        return is_loopback(address) or sum(of == address for of in self._open.values()) < MOST_OF_ONE

    def _end_silent(self, transport: asyncio.Transport) -> None:
        if transport in self._silent:
            self._silent.discard(transport)
            transport.abort()
