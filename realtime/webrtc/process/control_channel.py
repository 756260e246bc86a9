"""The data channel between a publisher's page and the main process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from engines.errors import BusyError, ReenactError, RequestError
from realtime.core import problem
from realtime.core.protocol import VERSION

if TYPE_CHECKING:
    from aiortc import RTCDataChannel

CHANNEL = "control"
"""The label of the data channel."""
MAX_MESSAGE = 4096
MAX_BUFFERED = 1 << 16
"""A channel with more than this many bytes to send is congested: nothing is added."""
_MAX_QUEUED = 32
_MESSAGES_PER_S, _BURST = 30.0, 60.0
_MAX_ID = 64
"""The longest ``id`` that is repeated in a reply, in characters."""


class ControlChannel:
    """Passes messages to ``handle`` one by one and sends its replies. Limits their rate with a token bucket."""

    def __init__(self, handle: Callable[[bytes], Awaitable[bytes]]) -> None:
        self._handle = handle
        self._channel: RTCDataChannel | None = None
        self._messages: asyncio.Queue[bytes] = asyncio.Queue(_MAX_QUEUED)
        self._tokens, self._refilled_s = _BURST, time.monotonic()

    @property
    def open(self) -> bool:
        """Whether messages can be sent."""
        return self._channel is not None and self._channel.readyState == "open"

    def attach(self, channel: RTCDataChannel) -> bool:
        """Use a data channel of the peer. Return False, and close it, if it is another one than is wanted."""
        if channel.label != CHANNEL or self._channel is not None:
            channel.close()
            return False
        self._channel = channel
        channel.on("message", self._on_message)
        return True

    def push(self, text: str) -> None:
        """Send a message, unless the channel is not open or is congested."""
        channel = self._channel
        if channel is not None and self.open and channel.bufferedAmount < MAX_BUFFERED:
            with contextlib.suppress(ConnectionError):
                channel.send(text)

    async def run(self) -> None:
        """Handle messages in order, for ever."""
        while True:
            reply = await self._handle(await self._messages.get())
            if reply:
                self.push(reply.decode("utf-8", "replace"))

    def _on_message(self, message: str | bytes) -> None:
        data = message.encode() if isinstance(message, str) else message
        now = time.monotonic()
        self._tokens = min(_BURST, self._tokens + (now - self._refilled_s) * _MESSAGES_PER_S)
        self._refilled_s = now
        if self._tokens < 1 or self._messages.full():
            expected = f"{_MESSAGES_PER_S:g} a second at most"
            self._refuse(BusyError("control-too-many-messages", "too many messages", expected, "send fewer"), data)
            return
        self._tokens -= 1
        if len(data) > MAX_MESSAGE:
            found, expected = f"a message of {len(data)} bytes", f"{MAX_MESSAGE} at most"
            self._refuse(RequestError("control-message-too-long", found, expected, "send a shorter one"), data)
            return
        self._messages.put_nowait(data)

    def _refuse(self, error: ReenactError, message: bytes) -> None:
        self.push(error_reply(error, message).decode())


def error_reply(error: ReenactError, message: bytes) -> bytes:
    """Return the reply to a control message that failed; it repeats the message's ``id``, if there is one."""
    values = {"v": VERSION, "ok": False, "error": problem.fields(error)}
    identity = _read_id(message)
    if identity is not None:
        values["id"] = identity
    return json.dumps(values, separators=(",", ":")).encode()


def _read_id(message: bytes) -> int | str | None:
    """Return the ``id`` of a control message; None if it has none, or is too long or cannot be parsed."""
    if len(message) > MAX_MESSAGE:
        return None
    try:
        values = json.loads(message)
    except (ValueError, RecursionError):
        return None
    identity = values.get("id") if isinstance(values, dict) else None
    if isinstance(identity, str):
        return identity if len(identity) <= _MAX_ID else None
    return identity if isinstance(identity, int) and not isinstance(identity, bool) else None
