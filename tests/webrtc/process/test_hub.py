"""The sweep over all peers: one that fails harms nobody else, and is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from realtime.webrtc.ipc.messages import Message
from realtime.webrtc.process import hub as hub_module
from realtime.webrtc.process.hub import Hub
from realtime.webrtc.process.main import _ended
from realtime.webrtc.process.sdp import Offer
from realtime.webrtc.settings import ServerSettings
from realtime.webrtc.video.shared_encoding import Stream
from tests.support.waiting import soon


class FakeLine:
    """The way to the daemon; ``error`` is raised for whatever is told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.error: Exception | None = None

    async def ask(self, _: str, __: dict[str, Any], ___: bytes = b"", *, timeout_s: float) -> Message:
        raise AssertionError(f"nobody asks, for {timeout_s} s")

    def tell(self, values: dict[str, Any]) -> None:
        if self.error is not None:
            raise self.error
        self.told.append(values)


class FakePeer:
    """A publisher that can be made to fail."""

    def __init__(self) -> None:
        self.figures: dict[str, Any] = {}
        self.measured = self.failed = 0
        self.error: Exception | None = None

    def lost(self, _: float) -> bool:
        return False

    async def measure(self) -> None:
        if self.error is not None:
            self.failed += 1
            raise self.error
        self.measured += 1


class FakeCodecs:
    def h264(self) -> str:
        return "libx264"


class Sweeping:
    """A hub with two publishers that is swept over."""

    def __init__(self) -> None:
        self.line = FakeLine()
        codecs: Any = FakeCodecs()
        self.hub = Hub(ServerSettings(), self.line, codecs)
        self.bad, self.good = FakePeer(), FakePeer()
        peers: Any = self.hub.publishers
        for name, peer in (("bad", self.bad), ("good", self.good)):
            peers[name] = peer
            self.hub.streams[name] = Stream(name)

    async def rounds(self, count: int) -> None:
        """Wait for so many more."""
        wanted = self.good.measured + count
        await soon(lambda: self.good.measured >= wanted, "the sweep has ended")


def sweep(monkeypatch: pytest.MonkeyPatch, check: Callable[[Sweeping], Awaitable[None]]) -> None:
    monkeypatch.setattr(hub_module, "SWEEP_S", 0.001)

    async def run() -> None:
        sweeping = Sweeping()
        task = asyncio.ensure_future(sweeping.hub.sweep())
        try:
            await check(sweeping)
        finally:
            task.cancel()

    asyncio.run(run())


def test_a_peer_that_fails_harms_no_other_and_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def check(sweeping: Sweeping) -> None:
        sweeping.bad.error = AttributeError("a mistake of ours")
        await sweeping.rounds(3)
        assert sweeping.bad.failed > 1
        assert sweeping.line.told
        assert caplog.text.count("AttributeError: a mistake of ours") == 1
        sweeping.bad.error = None
        await sweeping.rounds(2)
        sweeping.bad.error = KeyError("another")
        await sweeping.rounds(3)
        assert caplog.text.count("KeyError: 'another'") == 1

    sweep(monkeypatch, check)


def test_figures_that_cannot_be_told_do_not_end_the_sweep(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def check(sweeping: Sweeping) -> None:
        sweeping.line.error = ValueError("a message of great length")
        await sweeping.rounds(3)
        assert caplog.text.count("ValueError: a message of great length") == 1
        sweeping.line.error = None
        await sweeping.rounds(2)
        assert sweeping.line.told

    sweep(monkeypatch, check)


def test_a_viewer_whose_stream_ends_while_it_is_answered_is_not_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    async def run() -> None:
        codecs: Any = FakeCodecs()
        hub = Hub(ServerSettings(), FakeLine(), codecs)
        main = hub.streams[hub_module.MAIN]
        monkeypatch.setattr(Stream, "live", True)

        class EndingViewer:
            def __init__(self, stream: Stream, *_: object) -> None:
                self.stream = stream

            async def answer(self, _: object) -> str:
                assert hub.streams.pop(self.stream.name) is main
                return "an answer"

            async def close(self) -> None:
                closed.append(self.stream.name)

        monkeypatch.setattr(hub_module, "Viewer", EndingViewer)
        with pytest.raises(KeyError):
            await hub.watch(None, Offer("", (), frozenset()))
        assert not hub.viewers

    asyncio.run(run())
    assert closed == [hub_module.MAIN]


def test_the_end_of_the_sweep_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        async def fail() -> None:
            raise RuntimeError("boom")

        for work in (fail(), asyncio.sleep(100)):
            task = asyncio.ensure_future(work)
            task.add_done_callback(_ended)
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(check())
    assert caplog.text.count("the sweeper has failed") == 1
