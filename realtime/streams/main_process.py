"""What the process of a stream hears of the main process, and the sign of life that it sends back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from realtime.core.sound import SoundPacket
from realtime.webrtc.ipc.messages import Message

ALIVE_S = 1.0
"""Time between two signs of life."""
ALIVE = {"kind": "alive"}
"""The sign of life."""


def start_receiving(
    incoming: Iterator[Message], hear: Callable[[SoundPacket], object], stop: Callable[[], object]
) -> None:
    """Start a thread that passes on sound, and calls ``stop`` once the main process says so or is gone."""
    threading.Thread(target=_receive, args=(incoming, hear, stop), name="messages", daemon=True).start()


def _receive(incoming: Iterator[Message], hear: Callable[[SoundPacket], object], stop: Callable[[], object]) -> None:
    for message in incoming:
        values = message.values
        if values["kind"] == "sound":
            hear(SoundPacket(message.body, values["time_ns"], values["pts"]))
        elif values["kind"] == "stop":
            break
    stop()
