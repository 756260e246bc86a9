"""The link and a media process that dies, hangs or sends nonsense: short scripts stand in for the process."""

from __future__ import annotations

import socket
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from engines.errors import ReenactError, ServerFull, SinkLost, SinkMissing
from realtime.config import Config
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.loader import PipelineLoader
from realtime.pipeline.settings import Limits
from realtime.server.server_application import ServerApplication
from realtime.server.shared_sinks import SharedSinks
from realtime.webrtc import link as links
from realtime.webrtc.callbacks import ApiReply, ApiRequest, ServerCallbacks
from realtime.webrtc.link import MediaLink
from realtime.webrtc.settings import ServerSettings
from tests.support.media import EchoCallbacks, serve
from tests.support.system import cannot_start, open_descriptors
from tests.support.waiting import until

BEGIN = """
    import socket, sys, time
    from realtime.webrtc.ipc.messages import MessageSocket
    connection = MessageSocket(socket.socket(fileno=int(sys.argv[1])))
    messages = connection.messages()
    next(messages)
    connection.send({"kind": "ready"})
"""
DIES = BEGIN + "    sys.exit(3)"
HANGS = BEGIN + "    time.sleep(100)"
SENDS_NONSENSE = BEGIN + "    connection._connection.sendall(bytes([255] * 100)); time.sleep(100)"

CALLS = (
    BEGIN
    + """
    values = {"kind": "call", "callback": "request", "method": "GET", "query": {}, "content_type": "", "session": None}
    for number in range(20):
        connection.send(values | {"id": number, "path": "/api/slow"})
    connection.send(values | {"id": 100, "path": "/readyz"})
    connection.send({"kind": "stats", "stats": {"sessions": {}, "reply": next(messages).values}})
    time.sleep(100)
"""
)


class Notices:
    """What a link has reported."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.lost: list[SinkLost] = []
        self._news = threading.Condition()

    def notice(self, text: str) -> None:
        with self._news:
            self.notices.append(text)
            self._news.notify_all()

    def on_lost(self, error: SinkLost) -> None:
        with self._news:
            self.lost.append(error)
            self._news.notify_all()

    def wait(self, condition: Callable[[], object]) -> None:
        with self._news:
            assert self._news.wait_for(condition, 20), (self.notices, self.lost)


@contextmanager
def started(
    monkeypatch: pytest.MonkeyPatch, script: str, callbacks: ServerCallbacks | None = None
) -> Iterator[tuple[MediaLink, Notices]]:
    """Return a link whose media process runs this script."""
    monkeypatch.setattr(links, "_COMMAND", (sys.executable, "-c", textwrap.dedent(script)))
    reported = Notices()
    link = MediaLink(ServerSettings(port=0), callbacks or EchoCallbacks(), reported.notice, reported.on_lost)
    link.start()
    try:
        yield link, reported
    finally:
        link.close()


def test_a_process_that_dies_repeatedly_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_RESTART_DELAYS_S", (0.0, 0.01))
    with started(monkeypatch, DIES) as (link, reported):
        reported.wait(lambda: reported.lost)
        assert len(reported.notices) == 2
        assert all("exit code 3" in notice for notice in reported.notices)
        assert reported.lost[0].code == "media-process-lost"
        assert reported.lost[0].cure
        port = int(link.address.rstrip("/").rpartition(":")[2])
        with closing(socket.socket()) as client, pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.1", port))
        with pytest.raises(SinkMissing):
            link.sink("main", (64, 64))


def test_a_process_that_cannot_be_started_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "start_process", cannot_start)
    before = open_descriptors()
    with pytest.raises(SinkMissing) as caught:
        serve(EchoCallbacks())
    assert caught.value.code == "media-process-no-start"
    del caught
    assert open_descriptors() <= before


def test_the_back_off_begins_anew_after_a_process_that_ran_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_RESTART_DELAYS_S", (0.0,))
    monkeypatch.setattr(links, "_STEADY_S", 0.0)
    with started(monkeypatch, DIES) as (_, reported):
        reported.wait(lambda: len(reported.notices) == 3)
        assert not reported.lost


@pytest.mark.parametrize(("script", "why"), [(HANGS, "sent nothing for 0.2 s"), (SENDS_NONSENSE, "invalid message")])
def test_a_process_that_hangs_is_killed_and_restarted(monkeypatch: pytest.MonkeyPatch, script: str, why: str) -> None:
    monkeypatch.setattr(links, "_SILENCE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(links, "_RESTART_DELAYS_S", (0.0,))
    with started(monkeypatch, script) as (_, reported):
        reported.wait(lambda: reported.notices)
        assert why in reported.notices[0]


def test_closing_does_not_wait_for_the_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_RESTART_DELAYS_S", (100.0,))
    with started(monkeypatch, DIES) as (link, reported):
        reported.wait(lambda: reported.notices)
        receiver = link._receiver
        assert receiver is not None
        link.close()
        assert not receiver.is_alive()
        assert not reported.lost


def test_monitoring_is_answered_however_many_requests_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    proceed = threading.Event()

    class BusyCallbacks(EchoCallbacks):
        def request(self, request: ApiRequest) -> ApiReply:
            if request.path == "/api/slow":
                proceed.wait(20)
            return super().request(request)

    with started(monkeypatch, CALLS, BusyCallbacks()) as (link, _):
        try:
            assert until(link.stats)["reply"]["id"] == 100
        finally:
            proceed.set()


CALL = (
    BEGIN
    + """
    connection.send({"kind": "call", "id": 1, "callback": "open", "session": "s", "watch": "w"})
    connection.send({"kind": "stats", "stats": {"sessions": {}, "reply": next(messages).values}})
    connection.send({"kind": "closed", "session": "s"})
    time.sleep(100)
"""
)


class FailingCallbacks(EchoCallbacks):
    """Callbacks whose ``open`` raises ``error``, and whose ``closed`` has a bug."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__(echo=False)
        self.error = error

    def open(self, session: str, watch: str) -> None:
        if self.error is not None:
            raise self.error
        super().open(session, watch)

    def closed(self, _session: str) -> None:
        raise KeyError("a bug at the end")


def test_a_bug_of_a_callback_is_logged_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with started(monkeypatch, CALL, FailingCallbacks(RuntimeError("a bug"))) as (link, _):
        error = ReenactError.from_dict(until(link.stats)["reply"]["error"])
        assert (error.code, error.status, error.retry_after_s) == ("internal-error", 500, None)
    assert "RuntimeError: a bug" in caplog.text
    assert "Traceback" in caplog.text


def test_a_bug_at_the_end_of_a_session_is_logged_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with started(monkeypatch, CALL, FailingCallbacks(None)) as (_, reported):
        until(lambda: "KeyError: 'a bug at the end'" in caplog.text)
        assert not reported.notices


def test_the_error_of_a_callback_crosses_with_its_fields(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full = ServerFull("server-full", "2 browsers", "room for one more", "try again later", retry_after_s=7.5)
    with started(monkeypatch, CALL, FailingCallbacks(full)) as (link, _):
        assert ReenactError.from_dict(until(link.stats)["reply"]["error"]).to_dict() == full.to_dict()
    assert not caplog.records


@pytest.mark.parametrize("before", [True, False])
def test_a_run_driven_by_browsers_ends_with_the_media_server(before: bool) -> None:
    application = ServerApplication(
        Config(), lambda _: MediaLink(ServerSettings(port=0), EchoCallbacks()), prepare, None, notice=print
    )
    stop_signal = StopSignal()
    shared_sinks = SharedSinks([], size=(64, 64), limits=Limits(), stop_signal=stop_signal, notice=print)
    error = SinkLost("media-process-lost", "gone")
    if before:
        application.media_process_lost(error)
    application.attach_shared_sinks(shared_sinks)
    if not before:
        application.media_process_lost(error)
    assert stop_signal.error is error
    application.close()


def prepare(*_: object) -> PipelineLoader:
    raise AssertionError("no session is opened")
