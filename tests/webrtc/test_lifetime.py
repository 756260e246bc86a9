"""The daemon's side of a media process that dies or hangs: processes of a few lines stand in for it."""

from __future__ import annotations

import socket
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from engines.errors import SinkLost, SinkMissing
from realtime.config import Config
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.loader import PipelineLoader
from realtime.pipeline.settings import Limits
from realtime.server.service import MediaService
from realtime.server.shared_sinks import SharedSinks
from realtime.webrtc import link as links
from realtime.webrtc.callbacks import ApiReply, ApiRequest, ServerCallbacks
from realtime.webrtc.link import MediaLink
from realtime.webrtc.settings import ServerSettings
from tests.support.media import EchoDesk

BEGIN = """
    import socket, sys, time
    from realtime.webrtc.ipc.messages import Wire
    wire = Wire(socket.socket(fileno=int(sys.argv[1])))
    messages = wire.messages()
    next(messages)
    wire.send({"say": "ready"})
"""
DIES = BEGIN + "    sys.exit(3)"
HANGS = BEGIN + "    time.sleep(100)"
SPEAKS_NONSENSE = BEGIN + "    wire._connection.sendall(bytes([255] * 100)); time.sleep(100)"

ASKS = (
    BEGIN
    + """
    values = {"say": "ask", "what": "request", "method": "GET", "query": {}, "type": "", "session": None}
    for number in range(20):
        wire.send(values | {"id": number, "path": "/api/slow"})
    wire.send(values | {"id": 100, "path": "/healthz"})
    wire.send({"say": "note", "text": f"answered: {next(messages).values['id']}"})
    time.sleep(100)
"""
)


class Told:
    """What a link has told the person and whoever owns it."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.lost: list[SinkLost] = []
        self._news = threading.Condition()

    def notice(self, text: str) -> None:
        with self._news:
            self.notices.append(text)
            self._news.notify_all()

    def end(self, error: SinkLost) -> None:
        with self._news:
            self.lost.append(error)
            self._news.notify_all()

    def wait(self, condition: Callable[[], object]) -> None:
        with self._news:
            assert self._news.wait_for(condition, 20), (self.notices, self.lost)


@contextmanager
def started(
    monkeypatch: pytest.MonkeyPatch, script: str, callbacks: ServerCallbacks | None = None
) -> Iterator[tuple[MediaLink, Told]]:
    """A link whose media process runs this."""
    monkeypatch.setattr(links, "_COMMAND", (sys.executable, "-c", textwrap.dedent(script)))
    told = Told()
    link = MediaLink(ServerSettings(port=0), callbacks or EchoDesk(), told.notice, told.end)
    link.start()
    try:
        yield link, told
    finally:
        link.close()


def test_a_process_that_dies_again_and_again_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_DELAYS_S", (0.0, 0.01))
    with started(monkeypatch, DIES) as (link, told):
        told.wait(lambda: told.lost)
        assert len(told.notices) == 2
        assert all("exit code 3" in notice and "started again" in notice for notice in told.notices)
        assert "no WebRTC any more" in str(told.lost[0])
        port = int(link.address.rstrip("/").rpartition(":")[2])
        with closing(socket.socket()) as client, pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.1", port))
        with pytest.raises(SinkMissing):
            link.sink("main", (64, 64), 30)


def test_one_that_lived_for_long_is_started_again_as_the_first_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_DELAYS_S", (0.0,))
    monkeypatch.setattr(links, "_STEADY_S", 0.0)
    with started(monkeypatch, DIES) as (_, told):
        told.wait(lambda: len(told.notices) == 3)
        assert not told.lost


@pytest.mark.parametrize(("script", "why"), [(HANGS, "said nothing for 0.2 s"), (SPEAKS_NONSENSE, "no message")])
def test_one_that_hangs_is_ended_and_started_again(monkeypatch: pytest.MonkeyPatch, script: str, why: str) -> None:
    monkeypatch.setattr(links, "_SILENCE_S", 0.2)
    monkeypatch.setattr(links, "_DELAYS_S", (0.0,))
    with started(monkeypatch, script) as (_, told):
        told.wait(lambda: told.notices)
        assert why in told.notices[0]


def test_closing_does_not_wait_for_the_next_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_DELAYS_S", (100.0,))
    with started(monkeypatch, DIES) as (link, told):
        told.wait(lambda: told.notices)
        receiver = link._receiver
        assert receiver is not None
        link.close()
        assert not receiver.is_alive()
        assert not told.lost


def test_health_is_told_however_many_requests_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    class BusyDesk(EchoDesk):
        def request(self, request: ApiRequest) -> ApiReply:
            if request.path == "/api/slow":
                answered.wait(20)
            return super().request(request)

    with started(monkeypatch, ASKS, BusyDesk()) as (_, told):
        told.wait(lambda: told.notices)
        assert told.notices == ["answered: 100"]
        answered.set()


@pytest.mark.parametrize("before", [True, False])
def test_where_browsers_drive_the_run_ends_with_the_media_server(before: bool) -> None:
    media = MediaService(Config(), lambda _: MediaLink(ServerSettings(port=0), EchoDesk()), prepare, None, notice=print)
    stop_signal = StopSignal()
    shared_sinks = SharedSinks([], size=(64, 64), limits=Limits(), stop_signal=stop_signal, notice=print)
    error = SinkLost("gone")
    if before:
        media.media_process_lost(error)
    media.attach_shared_sinks(shared_sinks)
    if not before:
        media.media_process_lost(error)
    assert stop_signal.error is error
    media.close()


def prepare(*_: object) -> PipelineLoader:
    raise AssertionError("no session is opened")
