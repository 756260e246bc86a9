"""What the link keeps of a session, without a media process."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from realtime.capture.source import Source
from realtime.webrtc.ipc.frame_ring import RingWriter
from realtime.webrtc.link import MediaLink
from realtime.webrtc.settings import ServerSettings
from tests.support.media import EchoCallbacks

SIZE = (64, 48)


class Publisher:
    """The media process's end of the connection: sends frames as a publisher does."""

    def __init__(self) -> None:
        self.writer: RingWriter | None = None

    def send(self, values: dict[str, Any], _: bytes = b"", fds: Sequence[int] = ()) -> bool:
        assert values == {"kind": "source", "session": "s"}
        self.close()
        self.writer = RingWriter(*(os.dup(fd) for fd in fds))
        self.send_frames()
        return True

    def send_frames(self, count: int = 1) -> None:
        assert self.writer is not None
        for _ in range(count):
            assert self.writer.write((np.zeros((SIZE[1] * 3 // 2, SIZE[0]), np.uint8),), SIZE, 1, 1)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    made = Publisher()
    yield made
    made.close()


@pytest.fixture
def link(publisher: Publisher) -> Iterator[MediaLink]:
    """A link with one open session, ``s``."""
    made: Any = MediaLink(ServerSettings(), EchoCallbacks())
    made._connection, made._sessions, made._stats = publisher, {"s": True}, {"sessions": {"s": {}}}
    yield made
    made._connection = None
    made.close()


def dropped(link: MediaLink) -> int:
    return int(link.stats()["sessions"]["s"]["dropped"])


def test_of_closed_sources_only_the_count_of_dropped_frames_is_kept(link: MediaLink, publisher: Publisher) -> None:
    closed: list[weakref.ref[Source]] = []
    for stall in range(3):
        source = link.source("s", 30.0, 5.0)
        source.read()
        publisher.send_frames(3)
        source.read()
        assert dropped(link) == 2 * (stall + 1)
        source.close()
        source.close()
        assert dropped(link) == 2 * (stall + 1)
        closed.append(weakref.ref(source))
        del source
    gc.collect()
    assert [each() for each in closed] == [None] * 3
