"""The registry of peers: its sweep over all peers, viewers and control messages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from engines.errors import BusyError, NotFoundError
from realtime.core.protocol import MAIN_STREAM, VERSION
from realtime.webrtc.process import peer_registry
from realtime.webrtc.process.background_tasks import BackgroundTasks
from realtime.webrtc.process.control_channel import CHANNEL, MAX_MESSAGE, ControlChannel
from realtime.webrtc.process.peer_registry import PeerRegistry
from realtime.webrtc.process.sdp import Offer
from realtime.webrtc.settings import ServerSettings
from realtime.webrtc.video.shared_encoding import Stream
from tests.support.waiting import soon
from tests.support.webrtc import FakeMainProcess


class FakePeer:
    """A publisher that can be made to fail."""

    def __init__(self) -> None:
        self.figures: dict[str, Any] = {}
        self.measured = self.failed = 0
        self.error: Exception | None = None

    def is_lost(self, _: float) -> bool:
        return False

    async def measure(self) -> None:
        if self.error is not None:
            self.failed += 1
            raise self.error
        self.measured += 1


class FakeCodecs:
    def h264_encoder(self) -> str:
        return "libx264"


class Sweeping:
    """A registry with two publishers whose peers are swept."""

    def __init__(self) -> None:
        self.main_process = FakeMainProcess()
        codecs: Any = FakeCodecs()
        self.registry = PeerRegistry(ServerSettings(), self.main_process, codecs)
        self.bad, self.good = FakePeer(), FakePeer()
        peers: Any = self.registry.publishers
        for name, peer in (("bad", self.bad), ("good", self.good)):
            peers[name] = peer
            self.registry.streams[name] = Stream(name)

    async def rounds(self, count: int) -> None:
        """Wait for ``count`` more sweeps."""
        wanted = self.good.measured + count
        await soon(lambda: self.good.measured >= wanted, "the sweep has ended")


def sweep(monkeypatch: pytest.MonkeyPatch, check: Callable[[Sweeping], Awaitable[None]]) -> None:
    monkeypatch.setattr(peer_registry, "SWEEP_S", 0.001)

    async def run() -> None:
        sweeping = Sweeping()
        task = asyncio.ensure_future(sweeping.registry.sweep())
        try:
            await check(sweeping)
        finally:
            task.cancel()

    asyncio.run(run())


def test_a_peer_that_fails_affects_no_other_and_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def check(sweeping: Sweeping) -> None:
        sweeping.bad.error = AttributeError("a mistake of ours")
        await sweeping.rounds(3)
        assert sweeping.bad.failed > 1
        assert sweeping.main_process.sent
        assert caplog.text.count("AttributeError: a mistake of ours") == 1
        sweeping.bad.error = None
        await sweeping.rounds(2)
        sweeping.bad.error = KeyError("another")
        await sweeping.rounds(3)
        assert caplog.text.count("KeyError: 'another'") == 1

    sweep(monkeypatch, check)


def test_statistics_that_cannot_be_sent_do_not_end_the_sweep(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def check(sweeping: Sweeping) -> None:
        sweeping.main_process.send_error = ValueError("a message of great length")
        await sweeping.rounds(3)
        assert caplog.text.count("ValueError: a message of great length") == 1
        sweeping.main_process.send_error = None
        await sweeping.rounds(2)
        assert sweeping.main_process.sent

    sweep(monkeypatch, check)


def test_a_viewer_whose_stream_ends_during_the_answer_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    async def run() -> None:
        codecs: Any = FakeCodecs()
        registry = PeerRegistry(ServerSettings(), FakeMainProcess(), codecs)
        main = registry.streams[MAIN_STREAM]
        monkeypatch.setattr(Stream, "live", True)

        class EndingViewer:
            def __init__(self, stream: Stream, *_: object) -> None:
                self.stream = stream

            async def answer(self, _: object) -> str:
                assert registry.streams.pop(self.stream.name) is main
                return "an answer"

            async def close(self) -> None:
                closed.append(self.stream.name)

        monkeypatch.setattr(peer_registry, "Viewer", EndingViewer)
        with pytest.raises(NotFoundError):
            await registry.watch(None, Offer("", (), frozenset()))
        assert not registry.viewers

    asyncio.run(run())
    assert closed == [MAIN_STREAM]


def test_a_background_task_that_fails_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        async def fail() -> None:
            raise RuntimeError("boom")

        tasks = BackgroundTasks()
        tasks.spawn(fail())
        tasks.spawn(asyncio.sleep(100))
        await asyncio.sleep(0)
        tasks.cancel()
        await tasks.wait()

    asyncio.run(check())
    assert caplog.text.count("RuntimeError: boom") == 1
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("message", "identity"),
    [
        (b'{"v":1,"id":7,"command":"next_portrait"}', 7),
        (b'{"id":"seven"}', "seven"),
        (b'{"command":"next_portrait"}', None),
        (b'{"id":true}', None),
        (b'{"id":{}}', None),
        (b"[7]", None),
        (b"{", None),
        (b"\xff", None),
        (b"[" * MAX_MESSAGE, None),
        (b'{"id":7}' + b" " * MAX_MESSAGE, None),
    ],
)
def test_a_command_that_is_not_answered_gets_an_error_with_its_id(message: bytes, identity: object) -> None:
    async def check() -> None:
        main_process, codecs = FakeMainProcess(), FakeCodecs()
        made: Any = codecs
        main_process.error = BusyError("main-process-silent", "no answer for 5 s", cure="try again")
        reply = json.loads(await PeerRegistry(ServerSettings(), main_process, made).control("s", message))
        assert (reply["v"], reply["ok"], reply["error"]["code"]) == (VERSION, False, "main-process-silent")
        assert reply.get("id") == identity

    asyncio.run(check())


def test_messages_above_the_rate_limit_are_refused_with_their_id() -> None:
    sent: list[dict[str, Any]] = []

    class FakeChannel:
        label = CHANNEL
        readyState = "open"  # noqa: N815
        bufferedAmount = 0  # noqa: N815

        def on(self, _: str, handler: Any) -> None:
            self.receive = handler

        def send(self, text: str) -> None:
            sent.append(json.loads(text))

    async def handle(_: bytes) -> bytes:
        raise AssertionError("nothing is handled yet")

    channel: Any = FakeChannel()
    assert ControlChannel(handle).attach(channel)
    for number in range(100):
        channel.receive(json.dumps({"v": VERSION, "id": number, "command": "next_portrait"}))
    assert [each["error"]["code"] for each in sent] == ["control-too-many-messages"] * len(sent)
    assert [each["id"] for each in sent] == list(range(100 - len(sent), 100))
