"""What the daemon's side keeps of a session, without a media process."""

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
from tests.support.media import EchoDesk

SIZE = (64, 48)


class Publisher:
    """The media process' place on the wire: sends pictures as a publisher does."""

    def __init__(self) -> None:
        self.writer: RingWriter | None = None

    def send(self, values: dict[str, Any], _: bytes = b"", fds: Sequence[int] = ()) -> bool:
        assert values == {"do": "source", "session": "s"}
        self.close()
        self.writer = RingWriter(*(os.dup(fd) for fd in fds))
        self.show()
        return True

    def show(self, count: int = 1) -> None:
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
    """A link to which one session, ``s``, was granted."""
    made: Any = MediaLink(ServerSettings(), EchoDesk())
    made._wire, made._sessions, made._stats = publisher, {"s": True}, {"sessions": {"s": {}}}
    yield made
    made._wire = None
    made.close()


def dropped(link: MediaLink) -> int:
    return int(link.stats()["sessions"]["s"]["dropped"])


def test_what_a_publishers_stalls_leave_behind_is_a_number(link: MediaLink, publisher: Publisher) -> None:
    closed: list[weakref.ref[Source]] = []
    for stall in range(3):
        source = link.source("s", 30.0, 5.0)
        source.read()
        publisher.show(3)
        source.read()
        assert dropped(link) == 2 * (stall + 1)
        source.close()
        source.close()
        assert dropped(link) == 2 * (stall + 1)
        closed.append(weakref.ref(source))
        del source
    gc.collect()
    assert [each() for each in closed] == [None] * 3
