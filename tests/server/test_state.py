"""The state of a run, as the page and ``GET /api/state`` show it."""

from __future__ import annotations

import pytest

from realtime.config import Config
from realtime.motion.controls import GROUPS
from realtime.server.models import Percentiles, State
from realtime.server.sessions import session_viewers
from realtime.server.state import run_state
from tests.support.fakes import FakeGenerator, FakeSink, FakeSource, FakeTracker
from tests.support.run import FakeRun, running
from tests.support.waiting import until

MS = 1_000_000


def state(run: FakeRun | None) -> State:
    pipeline = None if run is None else run.pipeline
    return run_state(pipeline, Config(), session=None, watch="main", viewers=0, network={})


def test_the_durations_are_recent_and_those_of_the_slowest_sink() -> None:
    sinks = [FakeSink("quick"), FakeSink("slow")]
    with running(FakeSource(), sinks) as run:
        pass  # its threads have ended: what they have sent is old
    quick, slow = (delivery.sending for delivery in run.pipeline.deliveries)
    for number in range(300):
        quick.record(900 * MS, number)
    for delivery, milliseconds in ((quick, 1), (slow, 3)):
        for number in range(300):
            delivery.record(milliseconds * MS, number)
    durations = state(run).stages_ms
    assert set(durations) == {"track", "generate", "send"}
    assert durations["send"] == Percentiles(p50=3.0, p99=3.0)
    assert durations["track"] == Percentiles(p50=0.0, p99=0.0)


def test_the_generator_is_its_key_before_and_after_the_first_frame() -> None:
    class Network(FakeGenerator):
        name = "liveportrait"
        label = "liveportrait, published, torch on cpu"

    assert (state(None).generator, state(None).generator_name) == ("mesh", "mesh")
    source = FakeSource()
    with running(source, [FakeSink()], generator=Network()) as run:
        source.feed(3)
        until(lambda: run.pipeline.counts.frames)
        assert state(run).generator == "liveportrait"
        assert state(run).generator_name == "liveportrait, published, torch on cpu"


@pytest.mark.parametrize("name", ["mesh", "liveportrait"])
def test_only_a_generator_that_is_directed_has_a_mix(name: str) -> None:
    generator = FakeGenerator()
    generator.name = name
    source = FakeSource()
    assert state(None).mix is None
    with running(source, [FakeSink()], generator=generator) as run:
        source.feed(1)
        until(lambda: run.pipeline.counts.frames)
        mix = state(run).mix
    assert mix is None if name == "liveportrait" else mix == dict.fromkeys(GROUPS, "added")


@pytest.mark.parametrize(
    ("network", "viewers"),
    [
        ({}, 0),
        ({"viewers": 2, "control": True}, 1),
        ({"viewers": 0, "control": True}, 0),
        ({"viewers": 2, "control": False}, 2),
    ],
)
def test_the_own_view_of_a_page_is_not_counted_as_a_viewer(network: dict[str, object], viewers: int) -> None:
    assert session_viewers(network) == viewers


def test_a_face_that_is_clicked_on_is_found_in_the_flipped_frame_and_told_as_it_was_clicked() -> None:
    source, tracker = FakeSource(), FakeTracker()
    with running(source, [FakeSink()], tracker=tracker) as run:
        parts = until(lambda: run.pipeline.compute.parts)
        assert parts is not None
        source.feed(1)
        until(lambda: run.pipeline.counts.frames)
        for command, value in (("set_mirror", True), ("set_driver", "0.25,0.5")):
            parts.command_handler.carry_out(command, value)
        assert str(tracker.driver) == "0.75,0.5"
        assert state(run).driver == "0.25,0.5"
        parts.command_handler.carry_out("set_driver", None)
        assert state(run).driver == "auto"
