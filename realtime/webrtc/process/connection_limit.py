"""Limits connections in total and per client, and drops idle ones."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

from realtime.webrtc.process.client_address import client_of
from realtime.webrtc.settings import ServerSettings, is_loopback

MAX_CONNECTIONS = 256
MAX_PER_CLIENT = 64
"""The most connections of one client. Loopback has no such limit: a proxy there connects for all clients."""
FIRST_REQUEST_S = 10.0
"""A new connection is closed unless it sends a whole request within this time."""
_RETRY_S = 1.0
_HANDSHAKE = b"\x16"
"""The type of the first record of TLS (RFC 8446, section 5.1)."""
_MOST_READ = 1 << 16
_ADVICE = b"This address is served over HTTPS: write https:// in front of it.\n"
_ONLY_HTTPS = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
    % (len(_ADVICE), _ADVICE)
)


class ConnectionLimit:
    """Accepts connections for a server. Belongs to the event loop's thread."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        """Take connections as they are, or, with ``tls``, encrypted ones alone."""
        self._tls = tls
        self._open: dict[asyncio.BaseTransport, str] = {}
        """Maps each connection to its client."""
        self._idle: set[asyncio.BaseTransport] = set()
        """Connections that have sent no request yet."""
        self._beginning: dict[asyncio.Task[None], str] = {}
        """Maps what begins a connection, which may wait for the other side, to its client."""
        self._accepting: list[asyncio.Task[None]] = []
        """One for each listener."""

    def start(self, listener: socket.socket, make: Callable[[], asyncio.BaseProtocol]) -> None:
        """Begin to accept connections of a listener. ``make`` returns the protocol of each."""
        listener.setblocking(False)
        self._accepting.append(asyncio.get_running_loop().create_task(self._accept(listener, make)))

    def request_received(self, transport: asyncio.BaseTransport | None) -> None:
        """Note that a request has arrived over a connection."""
        if transport is not None:
            self._idle.discard(transport)

    async def close(self) -> None:
        """Accept no more connections."""
        tasks = [*self._accepting, *self._beginning]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._accepting.clear()

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
            # a task of its own: a client that is slow to begin must not keep others waiting
            task = loop.create_task(self._begin(connection, client, make))
            self._beginning[task] = client
            task.add_done_callback(self._beginning.pop)

    async def _begin(self, connection: socket.socket, client: str, make: Callable[[], asyncio.BaseProtocol]) -> None:
        loop = asyncio.get_running_loop()
        try:
            if self._tls is not None and not await _speaks_tls(connection):
                connection.close()
                return
            timeout_s = None if self._tls is None else FIRST_REQUEST_S
            transport, _ = await loop.connect_accepted_socket(
                make, connection, ssl=self._tls, ssl_handshake_timeout=timeout_s
            )
        except OSError:  # ssl.SSLError and TimeoutError are among these
            connection.close()
            return
        except asyncio.CancelledError:
            connection.close()
            raise
        self._open[transport] = client
        self._idle.add(transport)
        loop.call_later(FIRST_REQUEST_S, self._drop_idle, transport)

    def _has_room(self, client: str) -> bool:
        self._open = {each: of for each, of in self._open.items() if not each.is_closing()}
        clients = (*self._open.values(), *self._beginning.values())
        if len(clients) >= MAX_CONNECTIONS:
            return False
        return is_loopback(client) or clients.count(client) < MAX_PER_CLIENT

    def _drop_idle(self, transport: asyncio.Transport) -> None:
        if transport in self._idle:
            self._idle.discard(transport)
            transport.abort()


def tls_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """Return what encrypts connections with the certificate of the settings, or None without one."""
    if settings.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # an empty password: OpenSSL would ask for one on the terminal
    context.load_cert_chain(settings.certificate, password="")
    context.set_alpn_protocols(["http/1.1"])
    return context


async def _speaks_tls(connection: socket.socket) -> bool:
    """Return whether a client begins with a TLS handshake. One that sends a request without is told to use HTTPS.

    Raises TimeoutError if it sends nothing.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(FIRST_REQUEST_S):
        readable = asyncio.Event()
        loop.add_reader(connection, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(connection)
        first = connection.recv(1, socket.MSG_PEEK)
        if first == _HANDSHAKE:
            return True
        if first.isalpha():
            # what has arrived is read first: closing with unread data would reset the connection, and the answer
            connection.recv(_MOST_READ)
            await loop.sock_sendall(connection, _ONLY_HTTPS)
    return False
