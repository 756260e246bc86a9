"""``GET /metrics``, and the health of a program in which browsers drive."""

from __future__ import annotations

import json

from engines.errors import SinkLost
from realtime.core.frames import Frame
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.delivery_thread import OpenedSink
from realtime.pipeline.settings import Limits
from realtime.server.shared_sinks import SharedSinks
from tests.support.fake_server import FakeServer
from tests.support.fakes import SIZE, FakeSink


def value(server: FakeServer, name: str) -> float:
    lines = server.request("GET", "/metrics").body.decode().splitlines()
    return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(name)))


def shared_sinks(sink: FakeSink) -> SharedSinks:
    outgoing = [OpenedSink("fake", sink)]
    return SharedSinks(outgoing, size=SIZE, limits=Limits(), stop_signal=StopSignal(), notice=lambda _: None)


def test_a_session_that_fails_before_its_first_frame_counts_as_an_error() -> None:
    server = FakeServer()
    assert value(server, 'reenact_errors_total{run="session"}') == 0
    server.link.silent.add("a")
    server.open("a")
    server.link.wait_for_error("a")
    server.disconnect("a")
    assert value(server, 'reenact_session_outcomes_total{outcome="failed"}') == 1
    assert value(server, 'reenact_errors_total{run="session"}') == 1
    server.application.close(3)


def test_frames_dropped_by_the_network_are_counted_and_stay_counted() -> None:
    server = FakeServer()
    server.open("a")
    server.drive("a")
    name = 'reenact_dropped_frames_total{place="network",run="session"}'
    server.link.wait_for(lambda: sum("state" in message for message in server.link.pushed["a"]) > 1)
    assert value(server, name) == 4
    server.disconnect("a")
    assert value(server, name) == 4
    server.application.close(3)


def test_the_programs_own_sinks_are_measured_where_browsers_drive() -> None:
    sink = FakeSink()
    own = shared_sinks(sink)
    server = FakeServer(own)
    own.start()
    server.open("a")
    server.drive("a")
    sink.wait_for(2)
    assert value(server, 'reenact_stage_seconds_count{run="main",stage="send"}') >= 1
    assert server.request("GET", "/healthz").status == 200
    server.disconnect("a")
    server.application.close(3)
    assert own.close(3)


def test_the_program_is_not_healthy_once_its_own_sinks_have_failed() -> None:
    def full(_: Frame) -> None:
        raise SinkLost("recording-disk-full", "the disk is full")

    own = shared_sinks(FakeSink(during=full))
    server = FakeServer(own)
    own.start()
    assert own.stop_signal.over.wait(5)
    reply = server.request("GET", "/healthz")
    assert (reply.status, json.loads(reply.body)["code"]) == (503, "run-failed")
    assert value(server, 'reenact_errors_total{run="main"}') == 2
    server.application.close(3)
    assert own.close(3)
