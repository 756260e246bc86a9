"""Limits connections in total and per client, and drops idle ones."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from realtime.webrtc.process.client_address import client_of
from realtime.webrtc.settings import is_loopback

MAX_CONNECTIONS = 256
MAX_PER_CLIENT = 64
"""The most connections of one client. Loopback has no such limit: a proxy there connects for all clients."""
FIRST_REQUEST_S = 10.0
"""A new connection is closed unless it sends a whole request within this time."""
_RETRY_S = 1.0


class ConnectionLimit:
    """Accepts connections for a server. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._open: dict[asyncio.BaseTransport, str] = {}
        """Maps each connection to its client."""
        self._idle: set[asyncio.BaseTransport] = set()
        """Connections that have sent no request yet."""
        self._tasks: list[asyncio.Task[None]] = []
        """One for each listener."""

    def start(self, listener: socket.socket, make: Callable[[], asyncio.BaseProtocol]) -> None:
        """Begin to accept connections of a listener. ``make`` returns the protocol of each."""
        listener.setblocking(False)
        self._tasks.append(asyncio.get_running_loop().create_task(self._accept(listener, make)))

    def request_received(self, transport: asyncio.BaseTransport | None) -> None:
        """Note that a request has arrived over a connection."""
        if transport is not None:
            self._idle.discard(transport)

    async def close(self) -> None:
        """Accept no more connections."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()

    async def _accept(self, listener: socket.socket, make: Callable[[], asyncio.BaseProtocol]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError:
                # the client has gone already, or too many files are open
                await asyncio.sleep(_RETRY_S)
                continue
            client = client_of(address[0])
            if not self._has_room(client):
                connection.close()
                continue
            try:
                transport, _ = await loop.connect_accepted_socket(make, connection)
            except OSError:
                connection.close()
                continue
            self._open[transport] = client
            self._idle.add(transport)
            loop.call_later(FIRST_REQUEST_S, self._drop_idle, transport)

    def _has_room(self, client: str) -> bool:
        self._open = {each: of for each, of in self._open.items() if not each.is_closing()}
        if len(self._open) >= MAX_CONNECTIONS:
            return False
        return is_loopback(client) or sum(of == client for of in self._open.values()) < MAX_PER_CLIENT

    def _drop_idle(self, transport: asyncio.Transport) -> None:
        if transport in self._idle:
            self._idle.discard(transport)
            transport.abort()
