"""The media process, from within: its line to the daemon."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing

import pytest

from realtime.webrtc.ipc.messages import Wire
from realtime.webrtc.process import main
from realtime.webrtc.process.hub import CallbackError
from realtime.webrtc.process.main import MainProcessLine


def with_line(check: Callable[[MainProcessLine, Wire], Awaitable[None]]) -> None:
    """Run ``check`` with a line and the daemon's end of it."""

    async def work() -> None:
        ours, theirs = socket.socketpair()
        with closing(Wire(theirs)) as pipeline:
            line = MainProcessLine(ours)
            try:
                async with asyncio.timeout(10):
                    await check(line, pipeline)
            finally:
                line.close()

    asyncio.run(work())


def test_a_daemon_that_does_not_read_is_asked_no_more_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "_MOST_UNSENT", 1 << 21)

    async def check(line: MainProcessLine, pipeline: Wire) -> None:
        asked = [asyncio.ensure_future(line.ask("request", {}, bytes(1 << 20), timeout_s=10)) for _ in range(8)]
        refused, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        assert refused
        assert waiting
        for task in refused:
            with pytest.raises(CallbackError, match="no more requests"):
                task.result()
        line.tell({"say": "closed", "session": "s"})
        assert not line.over.is_set(), "the process would end"
        received = pipeline.messages()
        for _ in waiting:
            message = await asyncio.to_thread(next, received)
            pipeline.send({"do": "reply", "id": message.values["id"]})
        await asyncio.gather(*waiting)
        assert (await asyncio.to_thread(next, received)).values == {"say": "closed", "session": "s"}
        assert not line.over.is_set()

    with_line(check)
