"""The application behind the page: its start and end, health and readiness, the limit of sessions, the status line."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator

import pytest

from engines.errors import GeneratorError, ServerFull, SinkMissing
from realtime.core.protocol import MAIN_STREAM
from tests.support.fake_server import FakeLink, FakeServer, closing
from tests.support.fakes import FakeSink, FakeSource, driving
from tests.support.run import running
from tests.support.waiting import until


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with closing(FakeServer()) as made:
        yield made


def send_until_live(server: FakeServer) -> None:
    """Send frames of the main run until its viewers get them."""
    sink = server.application.main_sink()

    def send() -> bool:
        sink.send(driving())
        return sink.live

    until(send)


class FailingLink(FakeLink):
    """A media process whose address is known and which then fails to start."""

    def __init__(self) -> None:
        super().__init__()
        self.fail = threading.Event()

    def start(self) -> str:
        assert self.fail.wait(5)
        raise SinkMissing("media-process-not-ready", "the media process is not ready after 30 s")


def test_a_media_process_that_fails_before_its_address_is_known_raises() -> None:
    link = FailingLink()
    link.address = ""
    link.fail.set()
    with pytest.raises(SinkMissing) as caught:
        FakeServer(link=link)
    assert caught.value.code == "media-process-not-ready"


def test_frames_of_the_main_run_reach_its_viewers(server: FakeServer) -> None:
    send_until_live(server)
    assert server.link.sinks[MAIN_STREAM].frames


def test_a_control_message_without_a_run_is_answered(server: FakeServer) -> None:
    assert server.control(None, "next_portrait")["error"]["code"] == "run-not-found"
    assert server.control("unknown", "next_portrait")["error"]["code"] == "session-not-found"


def test_a_main_run_is_ready_once_its_viewers_have_been_sent_a_frame() -> None:
    with closing(FakeServer(camera="0")) as server:
        reply = server.request("GET", "/readyz")
        assert (reply.status, json.loads(reply.body)["code"]) == (503, "stream-not-started")
        assert server.request("GET", "/healthz").status == 200
        assert server.control(None, "next_portrait")["error"]["code"] == "run-starting"
        send_until_live(server)
        assert server.request("GET", "/readyz").status == 200


def test_a_failed_main_run_is_neither_healthy_nor_ready() -> None:
    with closing(FakeServer(camera="0")) as server, running(FakeSource(), [FakeSink()]) as run:
        send_until_live(server)
        server.application.run_started(run.pipeline)
        assert server.request("GET", "/readyz").status == 200
        run.pipeline.stop_signal.fail(GeneratorError("generator-failed", "no memory left"))
        for path in ("/healthz", "/readyz"):
            reply = server.request("GET", path)
            assert (reply.status, json.loads(reply.body)["code"]) == (503, "run-failed")


def test_the_status_line_does_not_count_the_own_view_of_a_browser(server: FakeServer) -> None:
    server.open("a")
    assert server.link.stats()["viewers"] == 3
    assert server.application.summary() == "1 browser, 2 viewers"


# --- how many sessions the machine sustains


def test_the_measured_capacity_is_the_limit() -> None:
    with closing(FakeServer(limit=None, measured=2)) as server:
        server.open("a")
        with pytest.raises(ServerFull) as caught:
            server.open("b")
        assert caught.value.expected.startswith("at most 1, until")
        server.let_measure.set()
        until(lambda: server.application.limit == 2)
        until(lambda: any("2 at a time" in notice for notice in server.notices))
        server.open("b")
        with pytest.raises(ServerFull) as caught:
            server.open("c")
        assert caught.value.expected.startswith("at most 2, which")


@pytest.mark.parametrize("error", [GeneratorError("weights-missing", "no weights"), ValueError("no such codec")])
def test_a_capacity_that_cannot_be_measured_is_reported_and_one_browser_may_drive(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(FakeServer(limit=None, measured=error)) as server:
        server.let_measure.set()
        until(lambda: any("could not be measured" in notice for notice in server.notices))
        server.open("a")
        with pytest.raises(ServerFull) as caught:
            server.open("b")
        assert "could not be measured" in caught.value.expected
    tracebacks = [
        record.exc_info[1] for record in caplog.records if record.exc_info and record.levelno == logging.ERROR
    ]
    assert tracebacks == ([error] if isinstance(error, ValueError) else [])
