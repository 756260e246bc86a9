"""The process of one stream, started by PushSink with its end of a socket and of a ring buffer.

Messages, as in ``realtime.webrtc.ipc.messages``: ``start`` with the target, the format and the settings, ``sound`` and
``stop`` come in; ``up``, ``down`` with an error, and ``alive`` every second go out.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from realtime.core.child_process import end_with_parent
from realtime.streams.target import Target
from realtime.webrtc.ipc.frame_ring import RingReader
from realtime.webrtc.ipc.messages import Message, MessageSocket
from realtime.webrtc.settings import ServerSettings

logger = logging.getLogger(__name__)


def main() -> None:
    """Run ``python -m realtime.streams.process CONNECTION MEMORY WAKE``: descriptors of this process."""
    connection_fd, memory, wake = (int(each) for each in sys.argv[1:4])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.CRITICAL)
    end_with_parent(connection_fd)
    connection = socket.socket(fileno=connection_fd)
    reader = RingReader(memory, wake)
    messages = MessageSocket(connection)
    incoming = messages.messages()
    start = next(incoming).values
    target = Target(**start["target"])
    try:
        _push(target, start, messages, incoming, reader)
    except Exception:
        logger.critical("the stream has failed\n%s", without_secrets(traceback.format_exc(), target))
        os._exit(1)
    # codec threads may still run: their results are not needed
    os._exit(0)


def _push(
    target: Target, start: dict[str, Any], messages: MessageSocket, incoming: Iterator[Message], reader: RingReader
) -> None:
    settings = ServerSettings.from_json(start["media"])
    if target.kind == "rtmp":
        from realtime.streams.rtmp import RtmpPush

        size = (start["size"][0], start["size"][1])
        RtmpPush(target, size, start["fps"], settings, messages).run(reader, incoming)
    else:
        from realtime.streams.whip import WhipPush

        WhipPush(target, settings, messages).run(reader, incoming)


def without_secrets(text: str, target: Target) -> str:
    """Return a traceback without the address, the key and the token of a stream: FFmpeg's errors name the address."""
    key = target.url.rpartition("/")[2] if target.kind == "rtmp" else ""
    for secret, shown in ((target.url, target.shown), (key, "..."), (target.token, "...")):
        if secret:
            text = text.replace(secret, shown)
    return text


if __name__ == "__main__":
    main()
