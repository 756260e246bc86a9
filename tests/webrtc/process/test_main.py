"""The media process: its connection to the main process, and the parts of aiortc it replaces."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing

import pytest

from engines.errors import BusyError, NotFoundError, ReenactError, SinkMissing
from realtime.webrtc.ipc.messages import MessageSocket
from realtime.webrtc.process import aiortc_setup, main_process_connection
from realtime.webrtc.process.main_process_connection import MainProcessConnection


def with_connection(check: Callable[[MainProcessConnection, MessageSocket], Awaitable[None]]) -> None:
    """Run ``check`` with a connection and the main process's end of it."""

    async def work() -> None:
        ours, theirs = socket.socketpair()
        with closing(MessageSocket(theirs)) as main:
            connection = MainProcessConnection(ours)
            try:
                async with asyncio.timeout(10):
                    await check(connection, main)
            finally:
                connection.close()

    asyncio.run(work())


def test_a_main_process_that_does_not_read_gets_no_more_calls_and_misses_no_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(main_process_connection, "_MAX_UNSENT", 1 << 21)

    async def check(connection: MainProcessConnection, main: MessageSocket) -> None:
        calls = [asyncio.ensure_future(connection.call("request", {}, bytes(1 << 20), timeout_s=10)) for _ in range(8)]
        refused, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert refused
        assert waiting
        for task in refused:
            with pytest.raises(BusyError) as caught:
                task.result()
            assert caught.value.code == "main-process-busy"
        connection.send({"kind": "closed", "session": "s"})
        assert not connection.closed.is_set(), "the process would end"
        received = main.messages()
        for _ in waiting:
            message = await asyncio.to_thread(next, received)
            main.send({"kind": "reply", "id": message.values["id"]})
        await asyncio.gather(*waiting)
        assert (await asyncio.to_thread(next, received)).values == {"kind": "closed", "session": "s"}
        assert not connection.closed.is_set()

    with_connection(check)


def test_a_main_process_that_does_not_answer_is_an_error() -> None:
    async def check(connection: MainProcessConnection, _: MessageSocket) -> None:
        with pytest.raises(BusyError) as caught:
            await connection.call("request", {}, timeout_s=0.01)
        assert caught.value.code == "main-process-silent"
        assert caught.value.retry_after_s

    with_connection(check)


def test_the_error_of_a_callback_is_raised_with_its_fields() -> None:
    async def check(connection: MainProcessConnection, main: MessageSocket) -> None:
        call = asyncio.ensure_future(connection.call("request", {}, timeout_s=10))
        message = await asyncio.to_thread(next, main.messages())
        error = NotFoundError("session-not-found", "no session", "one that is open", "open one")
        main.send({"kind": "reply", "id": message.values["id"], "error": error.to_dict()})
        with pytest.raises(ReenactError) as caught:
            await call
        assert caught.value.to_dict() == error.to_dict()
        assert type(caught.value) is NotFoundError

    with_connection(check)


@pytest.mark.parametrize(("version", "known"), [("1.16.0", True), ("1.16.3", True), ("1.17.0", False), ("1.1", False)])
def test_only_the_known_version_of_aiortc_is_used(monkeypatch: pytest.MonkeyPatch, version: str, known: bool) -> None:
    import aiortc

    monkeypatch.setattr(aiortc, "__version__", version)
    if known:
        aiortc_setup.check_version()
        return
    with pytest.raises(SinkMissing) as caught:
        aiortc_setup.check_version()
    assert caught.value.code == "webrtc-aiortc-version"
    assert "aiortc>=1.16,<1.17" in caught.value.cure
