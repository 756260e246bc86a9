"""Messages between the daemon and the media process: JSON, perhaps with bytes and file descriptors beside it.

A message on the stream socket: the lengths of both parts and the number of descriptors, three 4-byte big-endian
numbers, then JSON, then the bytes. Descriptors come along with the first byte of their message.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_JSON = 1 << 20
MAX_BODY = 20 << 20
_HEAD = struct.Struct("!III")
_MOST_FDS = 8
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Message:
    """What came: who takes it owns the descriptors."""

    values: dict[str, Any]
    body: bytes = b""
    fds: tuple[int, ...] = ()
    """Fewer than were sent where this process has too many files open."""


def encode(values: dict[str, Any], body: bytes = b"", fds: int = 0) -> bytes:
    """A message as it goes over the socket. Raises ValueError if it is too long."""
    text = json.dumps(values, separators=(",", ":")).encode()
    if len(text) > MAX_JSON or len(body) > MAX_BODY:
        raise ValueError(f"a message of {len(text)} and {len(body)} bytes, expected {MAX_JSON} and {MAX_BODY} at most")
    return _HEAD.pack(len(text), len(body), fds) + text + body


@dataclass(slots=True)
class Parser:
    """Puts messages together from what arrives. Raises ValueError for what no peer of ours sends."""

    _data: bytearray = field(default_factory=bytearray)
    _fds: deque[int] = field(default_factory=deque)

    def feed(self, data: bytes, fds: Sequence[int] = ()) -> Iterator[Message]:
        """Take in some bytes, and the descriptors that came with them; give what is complete."""
        self._data += data
        self._fds.extend(fds)
        while len(self._data) >= _HEAD.size:
            text, body, count = _HEAD.unpack_from(self._data)
            if text > MAX_JSON or body > MAX_BODY or count > _MOST_FDS:
                raise ValueError(f"a message of {text} and {body} bytes with {count} descriptors")
            end = _HEAD.size + text + body
            if len(self._data) < end:
                return
            values = json.loads(bytes(self._data[_HEAD.size : _HEAD.size + text]))
            content = bytes(self._data[_HEAD.size + text : end])
            del self._data[:end]
            yield Message(values, content, tuple(self._fds.popleft() for _ in range(min(count, len(self._fds)))))

    def close(self) -> None:
        """Close the descriptors that nobody has taken."""
        while self._fds:
            os.close(self._fds.popleft())


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """Some bytes and descriptors; no bytes at the end of the stream. Raises OSError."""
    space = socket.CMSG_SPACE(_MOST_FDS * array.array("i").itemsize)
    data, ancillary, _, _ = connection.recvmsg(_CHUNK, space)
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    for fd in fds:
        os.set_inheritable(fd, False)
    return data, list(fds)


class Wire:
    """One end, for threads: any may send, one receives. A peer that does not read for long counts as gone."""

    def __init__(self, connection: socket.socket, *, patience_s: float = 2.0) -> None:
        self._connection = connection
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(patience_s), 0))
        self._lock = threading.Lock()
        self._parser = Parser()

    def send(self, values: dict[str, Any], body: bytes = b"", fds: Sequence[int] = ()) -> bool:
        """Send a message; whether the peer is still there. The descriptors stay the caller's."""
        data = memoryview(encode(values, body, len(fds)))
        with self._lock:
            try:
                if fds:
                    sent = socket.send_fds(self._connection, [data], list(fds))
                    data = data[sent:]
                self._connection.sendall(data)
            except OSError:
                # half a message may be out: nothing after it would be understood
                self.end()
                return False
        return True

    def expect(self, within_s: float) -> None:
        """How long the peer may be silent from now on; for ever at first."""
        whole, part = divmod(within_s, 1)
        timeout = struct.pack("ll", int(whole), int(1e6 * part))
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)

    def messages(self) -> Iterator[Message]:
        """What arrives, until the peer is gone. Raises TimeoutError when it is silent for too long."""
        while True:
            try:
                data, fds = receive(self._connection)
            except BlockingIOError:
                raise TimeoutError from None
            except OSError:
                return
            if not data:
                return
            yield from self._parser.feed(data, fds)

    def end(self) -> None:
        """Wake whoever receives; both directions are over."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the socket."""
        self.end()
        self._connection.close()
        self._parser.close()
