"""Messages between the main process and the media process: JSON, with optional bytes and file descriptors beside it.

A message on the stream socket: the lengths of both parts and the number of descriptors, three 4-byte big-endian
numbers, then JSON, then the bytes. Descriptors arrive with the first byte of their message.

Every message has a ``kind``.

    main process to media process
    start     settings                            the first message
    source    session, and the writing end of a ring buffer as descriptors: a publisher's frames go there
    sink      stream, and the reading end of a ring buffer as descriptors: viewers' frames come from there
    push      session, message                    to send on the session's control channel
    mute      session, muted                      whether to leave out a publisher's sound
    hear      session                             to send a publisher's sound from now on
    end       session                             to close a publisher and its viewers
    reply     id, and ``error`` or the result     the answer to a call
    stop                                          the last message

    media process to main process
    ready                                         it serves
    failed    error                               it cannot serve
    stats     stats                               every second
    sound     session, times, a packet of Opus    a publisher's sound, where it was asked for
    closed    session                             its publisher is gone
    call      id, callback, arguments             to call one of ServerCallbacks
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
_MAX_FDS = 8
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Message:
    """A received message. The receiver owns the descriptors."""

    values: dict[str, Any]
    body: bytes = b""
    fds: tuple[int, ...] = ()
    """Fewer than were sent if this process has too many files open."""


def encode(values: dict[str, Any], body: bytes = b"", fds: int = 0) -> bytes:
    """Return a message as it is sent. Raises ValueError if it is too long."""
    text = json.dumps(values, separators=(",", ":")).encode()
    if len(text) > MAX_JSON or len(body) > MAX_BODY:
        raise ValueError(f"a message of {len(text)} and {len(body)} bytes, expected {MAX_JSON} and {MAX_BODY} at most")
    return _HEAD.pack(len(text), len(body), fds) + text + body


@dataclass(slots=True)
class MessageParser:
    """Assembles messages out of received bytes and descriptors."""

    _data: bytearray = field(default_factory=bytearray)
    _fds: deque[int] = field(default_factory=deque)

    def feed(self, data: bytes, fds: Sequence[int] = ()) -> Iterator[Message]:
        """Add received bytes with their descriptors, and yield the complete messages.

        Raises ValueError for a message that ``encode`` does not make.
        """
        self._data += data
        self._fds.extend(fds)
        while len(self._data) >= _HEAD.size:
            text, body, count = _HEAD.unpack_from(self._data)
            if text > MAX_JSON or body > MAX_BODY or count > _MAX_FDS:
                raise ValueError(f"a message of {text} and {body} bytes with {count} descriptors")
            end = _HEAD.size + text + body
            if len(self._data) < end:
                return
            values = json.loads(bytes(self._data[_HEAD.size : _HEAD.size + text]))
            content = bytes(self._data[_HEAD.size + text : end])
            del self._data[:end]
            yield Message(values, content, tuple(self._fds.popleft() for _ in range(min(count, len(self._fds)))))

    def close(self) -> None:
        """Close the descriptors of incomplete messages."""
        while self._fds:
            os.close(self._fds.popleft())


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """Receive bytes and descriptors; no bytes mean the end of the stream. Raises OSError."""
    space = socket.CMSG_SPACE(_MAX_FDS * array.array("i").itemsize)
    data, ancillary, _, _ = connection.recvmsg(_CHUNK, space)
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    for fd in fds:
        os.set_inheritable(fd, False)
    return data, list(fds)


class MessageSocket:
    """One end of the connection, for threads: any thread may send, one receives.

    A peer that does not read for ``send_timeout_s`` counts as gone.
    """

    def __init__(self, connection: socket.socket, *, send_timeout_s: float = 2.0) -> None:
        self._connection = connection
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(send_timeout_s))
        self._lock = threading.Lock()
        self._parser = MessageParser()

    def send(self, values: dict[str, Any], body: bytes = b"", fds: Sequence[int] = ()) -> bool:
        """Send a message. Return False if the peer is gone. The descriptors stay the caller's."""
        data = memoryview(encode(values, body, len(fds)))
        with self._lock:
            try:
                if fds:
                    sent = socket.send_fds(self._connection, [data], list(fds))
                    data = data[sent:]
                self._connection.sendall(data)
            except OSError:
                # half a message may have been sent: the peer could not parse what follows
                self.shutdown()
                return False
        return True

    def set_receive_timeout(self, timeout_s: float) -> None:
        """Set how long the peer may stay silent; at first there is no limit."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(timeout_s))

    def messages(self) -> Iterator[Message]:
        """Yield messages until the peer is gone.

        Raises TimeoutError if it stays silent for too long, ValueError for bytes that are no message.
        """
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

    def shutdown(self) -> None:
        """End both directions, which wakes the receiving thread."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Shut down and release the socket. close() is idempotent."""
        self.shutdown()
        self._connection.close()
        self._parser.close()


def _timeval(seconds: float) -> bytes:
    whole, part = divmod(seconds, 1)
    return struct.pack("ll", int(whole), int(1e6 * part))
