"""The limits of connections, and what happens when too many files are open."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from realtime.core.protocol import MAIN_STREAM
from realtime.webrtc.certificate import own_certificate
from realtime.webrtc.ipc.frame_ring import create_ring
from realtime.webrtc.ipc.messages import Message
from realtime.webrtc.process import connection_limit
from realtime.webrtc.process.http_server import HttpServer
from realtime.webrtc.process.peer_registry import PeerRegistry
from realtime.webrtc.settings import ServerSettings
from tests.support.webrtc import FakeMainProcess

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Clients:
    """Connections to a server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._all: list[Connection] = []

    async def connect(self) -> Connection:
        connection = await asyncio.open_connection("127.0.0.1", self.port)
        self._all.append(connection)
        return connection

    async def status(self, connection: Connection, request: bytes = HEALTH) -> bytes:
        """Return the first line of the answer, or nothing if the connection was closed."""
        reader, writer = connection
        writer.write(request + b"\r\n")
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.partition(b"Content-Length: ")[2].partition(b"\r")[0]))
        except (ConnectionError, asyncio.IncompleteReadError):
            return b""
        return head.partition(b"\r")[0]

    def close(self) -> None:
        for _, writer in self._all:
            writer.close()


def serve(page: Path, check: Callable[[Clients], Awaitable[None]], **options: Any) -> None:
    """Serve while ``check`` runs."""

    async def work() -> None:
        settings = ServerSettings(port=0, **options)
        server = HttpServer(settings, PeerRegistry(settings, FakeMainProcess()), page)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            await server.start(listener)
            clients = Clients(listener.getsockname()[1])
            try:
                async with asyncio.timeout(10):
                    await check(clients)
            finally:
                clients.close()
                await server.close()

    asyncio.run(work())


def test_connections_are_limited_and_make_room_when_they_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limit, "MAX_CONNECTIONS", 2)

    async def check(clients: Clients) -> None:
        first, second = await clients.connect(), await clients.connect()
        assert await clients.status(first) == await clients.status(second) == b"HTTP/1.1 200 OK"
        assert await clients.status(await clients.connect()) == b""
        first[1].close()
        while await clients.status(await clients.connect()) == b"":
            pass
        assert await clients.status(second) == b"HTTP/1.1 200 OK"

    serve(tmp_path, check)


@pytest.mark.parametrize(("own", "served"), [(False, b""), (True, b"HTTP/1.1 200 OK")])
def test_connections_of_one_client_are_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool, served: bytes
) -> None:
    monkeypatch.setattr(connection_limit, "MAX_PER_CLIENT", 1)
    monkeypatch.setattr(connection_limit, "is_loopback", lambda _: own)

    async def check(clients: Clients) -> None:
        assert await clients.status(await clients.connect()) == b"HTTP/1.1 200 OK"
        assert await clients.status(await clients.connect()) == served

    serve(tmp_path, check)


def test_an_idle_connection_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limit, "FIRST_REQUEST_S", 0.1)

    async def check(clients: Clients) -> None:
        silent, slow, asking = [await clients.connect() for _ in range(3)]
        slow[1].write(HEALTH)  # but not all of it
        assert await clients.status(asking) == b"HTTP/1.1 200 OK"
        for reader, _ in (silent, slow):
            with suppress(ConnectionError):
                assert await reader.read() == b""
        assert await clients.status(asking) == b"HTTP/1.1 200 OK"

    serve(tmp_path, check)


def test_a_client_without_access_cannot_hold_a_connection(tmp_path: Path) -> None:
    async def check(clients: Clients) -> None:
        denied = await clients.connect()
        assert await clients.status(denied) == b"HTTP/1.1 401 Unauthorized"
        async with asyncio.timeout(5):
            await denied[0].read()  # until it is closed
        known = await clients.connect()
        assert await clients.status(known, HEALTH + b"Authorization: Bearer t\r\n") == b"HTTP/1.1 200 OK"

    serve(tmp_path, check, token="t")


def test_pages_are_served_over_https(tmp_path: Path) -> None:
    path = tmp_path / "own.pem"
    own_certificate(["127.0.0.1"], path)
    trusting = ssl.create_default_context(cafile=str(path))

    async def check(clients: Clients) -> None:
        secure = await asyncio.open_connection("127.0.0.1", clients.port, ssl=trusting)
        assert await clients.status(secure) == b"HTTP/1.1 200 OK"
        secure[1].close()

    serve(tmp_path, check, certificate=str(path))


def test_clients_that_are_slow_to_begin_do_not_keep_others_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_limit, "MAX_CONNECTIONS", 3)
    path = tmp_path / "own.pem"
    own_certificate(["127.0.0.1"], path)
    trusting = ssl.create_default_context(cafile=str(path))

    async def check(clients: Clients) -> None:
        silent, half = await clients.connect(), await clients.connect()
        half[1].write(b"\x16\x03\x01")
        secure = await asyncio.open_connection("127.0.0.1", clients.port, ssl=trusting)
        assert await clients.status(secure) == b"HTTP/1.1 200 OK"
        # those that are still beginning count
        assert await clients.status(await clients.connect()) == b""
        secure[1].close()
        silent[1].close()

    serve(tmp_path, check, certificate=str(path))


def test_a_request_without_tls_is_told_of_https(tmp_path: Path) -> None:
    path = tmp_path / "own.pem"
    own_certificate(["127.0.0.1"], path)

    async def check(clients: Clients) -> None:
        reader, writer = await clients.connect()
        writer.write(HEALTH + b"\r\n")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"https://" in answer

    serve(tmp_path, check, certificate=str(path))


def test_a_ring_buffer_that_cannot_be_attached_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    registry = PeerRegistry(ServerSettings(), FakeMainProcess())
    ring = create_ring(100)
    values = {"kind": "sink", "stream": MAIN_STREAM}
    registry.handle(Message(values, b"", (ring.wake_write,)))
    monkeypatch.setattr("realtime.webrtc.ipc.frame_ring.mmap.mmap", fail)
    registry.handle(Message(values, b"", (ring.memory, ring.wake_read)))
    for record in caplog.records:
        assert re.match("cannot exchange frames .*[Tt]oo many", record.getMessage())
    assert len(caplog.records) == 2
    for fd in (ring.memory, ring.wake_read, ring.wake_write):
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)
