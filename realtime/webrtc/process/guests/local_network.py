"""Lets guests in from the local network, where the program itself listens on loopback alone."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from aiohttp import web

from engines.errors import AddressInUse, RequestError, SinkMissing
from realtime.webrtc.listen import listen
from realtime.webrtc.process.auth import Authenticator
from realtime.webrtc.process.connection_limit import ConnectionLimit
from realtime.webrtc.process.middleware import add_headers, checking
from realtime.webrtc.settings import ServerSettings

MAX_ADDRESSES = 8
FROM_LOCAL_NETWORK = web.AppKey("from_local_network", bool)
"""Set in the application whose requests come from the local network."""
_KEEPALIVE_S = 30
_BODY = 1 << 20
_State = Literal["closed", "open", "served"]


class LocalNetwork:
    """A second listener, which serves the routes of guests alone. Belongs to the event loop's thread."""

    def __init__(
        self,
        settings: ServerSettings,
        add_routes: Callable[[web.UrlDispatcher], None],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._add_routes = add_routes
        # any name of this machine will do: a page elsewhere that comes to be called by it has no link
        self._authenticator = Authenticator(replace(settings, server_names=()), any_host=True)
        self._port = settings.port
        self._runner: web.AppRunner | None = None
        self._connections = ConnectionLimit(tls)
        self._listeners: list[socket.socket] = []
        self._opening = asyncio.Lock()

    def served_at(self, port: int) -> None:
        """Note the port that the program itself is served at, which is tried first here as well."""
        self._port = port

    def state(self) -> dict[str, Any]:
        """Return whether guests come in from the local network, and the addresses at which they do.

        ``state`` is "closed", "open", or "served" where the program itself is reached from other machines.
        """
        state: _State = "open" if self._runner is not None else "closed"
        names = [listener.getsockname() for listener in self._listeners]
        if not self._settings.loopback:
            state = "served"
            names = [(address, self._port) for address in self._own_addresses()]
        return {"state": state, "addresses": [f"{self._settings.scheme}://{name[0]}:{name[1]}/" for name in names]}

    async def open(self) -> None:
        """Listen at the addresses of this machine in local networks. open() is idempotent.

        Raises RequestError where the program is reached from other machines anyway, or has no such address.
        """
        if not self._settings.loopback:
            raise RequestError(
                "local-network-served",
                "a server that other machines reach already",
                "one that listens on loopback alone",
                "share a link as it is",
                status=409,
            )
        async with self._opening:
            if self._runner is not None:
                return
            listeners = [each for each in map(self._listen, local_addresses()) if each is not None]
            if not listeners:
                raise RequestError(
                    "local-network-none",
                    "no address in a local network",
                    "a machine in a network",
                    "connect it to a network, and try again",
                    status=409,
                )
            await self._serve(listeners)

    async def close(self) -> None:
        """Listen there no more. close() is idempotent."""
        async with self._opening:
            await self._connections.close()
            for listener in self._listeners:
                listener.close()
            self._listeners.clear()
            if self._runner is not None:
                await self._runner.cleanup()
                self._runner = None

    async def _serve(self, listeners: list[socket.socket]) -> None:
        app = web.Application(middlewares=[checking(self._check, self._connections)], client_max_size=_BODY)
        app[FROM_LOCAL_NETWORK] = True
        app.on_response_prepare.append(add_headers)
        self._add_routes(app.router)
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=_KEEPALIVE_S, shutdown_timeout=0.5)
        await self._runner.setup()
        assert self._runner.server is not None
        for listener in listeners:
            self._connections.start(listener, self._runner.server)
        self._listeners = listeners

    def _check(self, request: web.Request) -> None:
        """Raise AccessDenied for a request from a page of another site."""
        self._authenticator.check_request_origin(request.method, request.headers)

    def _listen(self, address: str) -> socket.socket | None:
        """Return a socket that listens at an address, at another port where the own is in use."""
        for port in (self._port, 0):
            try:
                return listen(address, port)
            except AddressInUse:
                continue
            except SinkMissing:
                return None
        return None

    def _own_addresses(self) -> list[str]:
        host = self._settings.host.strip("[]")
        return local_addresses() if host in ("", "0.0.0.0", "::") else [host]


def local_addresses() -> list[str]:
    """Return the IPv4 addresses of this machine in private networks, the one by which it reaches others first."""
    from aioice.ice import get_host_addresses

    found = [each for each in get_host_addresses(use_ipv4=True, use_ipv6=False) if _is_local(each)]
    first = _outgoing_address()
    return sorted(found, key=lambda address: address != first)[:MAX_ADDRESSES]


def _is_local(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    return ip.is_private and not ip.is_loopback and not ip.is_link_local


def _outgoing_address() -> str:
    """Return the address by which this machine reaches others; empty where it reaches none. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])
