"""The connection to the main process, as the media process sees it."""

from __future__ import annotations

import asyncio
import itertools
import socket
from typing import Any, Protocol

from engines.errors import BusyError, ReenactError
from realtime.webrtc.ipc.messages import Message, MessageParser, encode, receive

_MAX_UNSENT = 64 << 20
"""With this many bytes waiting to be sent, the main process gets no more calls."""
_BUSY_RETRY_S = 5.0


class MainProcess(Protocol):
    """The main process: it runs callbacks and takes messages."""

    async def call(self, callback: str, values: dict[str, Any], body: bytes = b"", *, timeout_s: float) -> Message:
        """Run one of ServerCallbacks and return its reply.

        Raises the ReenactError that the callback raised, BusyError if the main process does not answer.
        """

    def send(self, values: dict[str, Any], body: bytes = b"") -> None:
        """Send a message that has no reply, without waiting."""


class MainProcessConnection:
    """A MainProcess over a socket. Belongs to the event loop's thread; sending never waits."""

    def __init__(self, connection: socket.socket) -> None:
        self.closed = asyncio.Event()
        """Set once the main process is gone."""
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        """What the main process sends, except replies."""
        self._connection = connection
        self._connection.setblocking(False)
        self._parser = MessageParser()
        self._unsent = bytearray()
        self._calls: dict[int, asyncio.Future[Message]] = {}
        self._ids = itertools.count(1)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection, self._on_readable)

    async def call(self, callback: str, values: dict[str, Any], body: bytes = b"", *, timeout_s: float) -> Message:
        """See MainProcess."""
        identity = next(self._ids)
        future: asyncio.Future[Message] = self._loop.create_future()
        self._calls[identity] = future
        try:
            request = encode({"kind": "call", "id": identity, "callback": callback, **values}, body)
            if len(self._unsent) + len(request) > _MAX_UNSENT:
                raise BusyError(
                    "main-process-busy",
                    "too many requests wait for the program",
                    cure="try again later",
                    retry_after_s=_BUSY_RETRY_S,
                )
            self._write(request)
            async with asyncio.timeout(timeout_s):
                reply = await future
        except TimeoutError:
            raise BusyError(
                "main-process-silent",
                f"the program has not answered for {timeout_s:g} s",
                cure="try again later",
                retry_after_s=_BUSY_RETRY_S,
            ) from None
        finally:
            self._calls.pop(identity, None)
        if "error" in reply.values:
            raise ReenactError.from_dict(reply.values["error"])
        return reply

    def send(self, values: dict[str, Any], body: bytes = b"") -> None:
        """See MainProcess. Statistics and sound are dropped while the main process does not read."""
        if values.get("kind") not in ("stats", "sound") or len(self._unsent) < _MAX_UNSENT:
            self._write(encode(values, body))

    def close(self) -> None:
        """Release the socket."""
        self.closed.set()
        self._loop.remove_reader(self._connection)
        self._loop.remove_writer(self._connection)
        self._connection.close()
        self._parser.close()

    def _write(self, data: bytes) -> None:
        if self.closed.is_set():
            return
        self._unsent += data
        self._on_writable()

    def _on_writable(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._connection.send(self._unsent)]
        except BlockingIOError:
            self._loop.add_writer(self._connection, self._on_writable)
            return
        except OSError:
            self.closed.set()
        self._loop.remove_writer(self._connection)

    def _on_readable(self) -> None:
        try:
            data, fds = receive(self._connection)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self._loop.remove_reader(self._connection)
            self.closed.set()
            return
        for message in self._parser.feed(data, fds):
            if message.values.get("kind") != "reply":
                self.messages.put_nowait(message)
                continue
            future = self._calls.get(message.values["id"])
            if future is not None and not future.done():
                future.set_result(message)
