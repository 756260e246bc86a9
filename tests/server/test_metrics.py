"""What Prometheus and whoever watches over the program are told."""

from __future__ import annotations

import json

from engines.errors import SinkLost
from realtime.core.frames import Frame
from realtime.core.stop_signal import Ending
from realtime.pipeline.pipeline import Outgoing
from realtime.pipeline.threads import Limits
from realtime.server.shared_sinks import Lobby
from tests.support.fake_server import House
from tests.support.fakes import SIZE, FakeSink


def value(house: House, name: str) -> float:
    lines = house.ask("GET", "/metrics").body.decode().splitlines()
    return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(name)))


def end(house: House, key: str) -> None:
    """Let a session's publisher leave, and wait until it is forgotten."""
    session = house.media.sessions.get(key)
    assert session is not None
    house.media.closed(key)
    house.link.sources[key].end()
    assert session.join(5)


def lobby(sink: FakeSink) -> Lobby:
    outgoing = [Outgoing("fake", sink, None, False)]
    return Lobby(outgoing, size=SIZE, limits=Limits(), ending=Ending(), notice=lambda _: None)


def test_a_session_that_fails_before_its_first_picture_is_an_error() -> None:
    house = House()
    assert value(house, 'reenact_errors_total{run="session"}') == 0
    house.link.missing.add("a")
    house.open("a")
    house.link.wait_for(lambda: any("error" in message for message in house.link.pushed["a"]))
    end(house, "a")
    assert value(house, 'reenact_session_outcomes_total{outcome="failed"}') == 1
    assert value(house, 'reenact_errors_total{run="session"}') == 1
    house.media.close(3)


def test_what_the_network_brought_in_vain_is_counted_and_stays_counted() -> None:
    house = House()
    house.open("a")
    house.drive("a")
    name = 'reenact_dropped_frames_total{place="network",run="session"}'
    house.link.wait_for(lambda: sum("state" in message for message in house.link.pushed["a"]) > 1)
    assert value(house, name) == 4
    end(house, "a")
    assert value(house, name) == 4
    house.media.close(3)


def test_the_programs_own_sinks_are_seen_where_browsers_drive() -> None:
    sink = FakeSink()
    own = lobby(sink)
    house = House(own)
    own.start()
    house.open("a")
    house.drive("a")
    sink.wait_for(2)
    assert value(house, 'reenact_stage_seconds_count{run="main",stage="send"}') >= 1
    assert house.ask("GET", "/healthz").status == 200
    end(house, "a")
    house.media.close(3)
    assert own.close(3)


def test_the_program_is_not_well_once_its_own_sinks_have_failed() -> None:
    def full(_: Frame) -> None:
        raise SinkLost("the disk is full")

    own = lobby(FakeSink(during=full))
    house = House(own)
    own.start()
    assert own.ending.over.wait(5)
    reply = house.ask("GET", "/healthz")
    assert (reply.status, json.loads(reply.body)["ok"]) == (503, False)
    assert value(house, 'reenact_errors_total{run="main"}') == 2
    house.media.close(3)
    assert own.close(3)
