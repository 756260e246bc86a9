"""Who may connect, and what happens when too many files are open."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from realtime.webrtc.ipc.frame_ring import create_ring
from realtime.webrtc.ipc.messages import Message
from realtime.webrtc.process import connection_limit
from realtime.webrtc.process.http_server import MediaServer
from realtime.webrtc.process.hub import MAIN, Hub
from realtime.webrtc.settings import ServerSettings
from tests.webrtc.process.test_http_server import FakeLine

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Visitors:
    """Connections to a server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._all: list[Connection] = []

    async def come(self, of: str = "127.0.0.1") -> Connection:
        connection = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(of, 0))
        self._all.append(connection)
        return connection

    async def status(self, connection: Connection, request: bytes = HEALTH) -> bytes:
        """The first line of the answer; nothing where the connection was closed."""
        reader, writer = connection
        writer.write(request + b"\r\n")
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.partition(b"Content-Length: ")[2].partition(b"\r")[0]))
        except (ConnectionError, asyncio.IncompleteReadError):
            return b""
        return head.partition(b"\r")[0]

    def leave(self) -> None:
        for _, writer in self._all:
            writer.close()


def serve(page: Path, check: Callable[[Visitors], Awaitable[None]], token: str | None = None) -> None:
    """Serve while ``check`` runs."""

    async def work() -> None:
        settings = ServerSettings(port=0, token=token)
        server = MediaServer(settings, Hub(settings, FakeLine()), page)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            await server.start(listener)
            visitors = Visitors(listener.getsockname()[1])
            try:
                async with asyncio.timeout(10):
                    await check(visitors)
            finally:
                visitors.leave()
                await server.close()

    asyncio.run(work())


def test_connections_have_an_end_and_make_room_when_they_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limit, "MOST", 2)

    async def check(visitors: Visitors) -> None:
        first, second = await visitors.come(), await visitors.come()
        assert await visitors.status(first) == await visitors.status(second) == b"HTTP/1.1 200 OK"
        assert await visitors.status(await visitors.come()) == b""
        first[1].close()
        while await visitors.status(await visitors.come()) == b"":
            pass
        assert await visitors.status(second) == b"HTTP/1.1 200 OK"

    serve(tmp_path, check)


@pytest.mark.parametrize(("own", "served"), [(False, b""), (True, b"HTTP/1.1 200 OK")])
def test_one_address_takes_not_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool, served: bytes
) -> None:
    monkeypatch.setattr(connection_limit, "MOST_OF_ONE", 1)
    monkeypatch.setattr(connection_limit, "is_loopback", lambda _: own)

    async def check(visitors: Visitors) -> None:
        assert await visitors.status(await visitors.come()) == b"HTTP/1.1 200 OK"
        assert await visitors.status(await visitors.come()) == served

    serve(tmp_path, check)


def test_whoever_says_nothing_is_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limit, "FIRST_S", 0.1)

    async def check(visitors: Visitors) -> None:
        silent, slow, asking = [await visitors.come() for _ in range(3)]
        slow[1].write(HEALTH)  # and no end of it
        assert await visitors.status(asking) == b"HTTP/1.1 200 OK"
        for reader, _ in (silent, slow):
            with suppress(ConnectionError):
                assert await reader.read() == b""
        assert await visitors.status(asking) == b"HTTP/1.1 200 OK"

    serve(tmp_path, check)


def test_whoever_may_not_ask_holds_no_connection(tmp_path: Path) -> None:
    async def check(visitors: Visitors) -> None:
        stranger = await visitors.come()
        assert await visitors.status(stranger) == b"HTTP/1.1 401 Unauthorized"
        async with asyncio.timeout(5):
            await stranger[0].read()  # to the end: it is closed
        known = await visitors.come()
        assert await visitors.status(known, HEALTH + b"Authorization: Bearer t\r\n") == b"HTTP/1.1 200 OK"

    serve(tmp_path, check, token="t")


def test_a_ring_that_cannot_be_joined_is_no_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    hub = Hub(ServerSettings(), FakeLine())
    ends = create_ring(100)
    order = {"do": "sink", "stream": MAIN}
    hub.obey(Message(order, b"", (ends.wake_write,)))
    monkeypatch.setattr("realtime.webrtc.ipc.frame_ring.mmap.mmap", fail)
    hub.obey(Message(order, b"", (ends.memory, ends.wake_read)))
    for record in caplog.records:
        assert re.match("pictures cannot pass between the two processes: .*[Tt]oo many", record.getMessage())
    assert len(caplog.records) == 2
    for fd in (ends.memory, ends.wake_read, ends.wake_write):
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)
