"""Another tracker as a source, over loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from pythonosc.udp_client import SimpleUDPClient

from engines.errors import SourceMissing
from engines.face.coefficients import NAMES
from realtime.capture.tracker_link import MOST_READ, TrackerLink, parse_link
from realtime.core.frames import Frame
from realtime.motion.tracked import tracked_face
from realtime.sinks.tracker_sink import TrackerSink, parse_address
from tests.support.system import free_port


@pytest.fixture
def link() -> Iterator[TrackerLink]:
    opened = TrackerLink("vmc", "127.0.0.1", free_port(socket.SOCK_DGRAM))
    yield opened
    opened.close()


def send(link: TrackerLink, address: str, *values: object) -> None:
    """Send a message as an independent package does."""
    client = SimpleUDPClient("127.0.0.1", link.port)
    with closing(client._sock):
        client.send_message(address, list(values))


def with_face(link: TrackerLink) -> Frame:
    """Return the next frame with a face: what was sent is there in a moment."""
    for _ in range(2000):
        frame = link.read()
        if frame.face is not None:
            return frame
    raise AssertionError("no face came")


def test_an_independent_sender_drives_it(link: TrackerLink) -> None:
    send(link, "/VMC/Ext/Blend/Val", "JawOpen", 0.5)
    send(link, "/VMC/Ext/Blend/Apply")
    frame = with_face(link)
    assert frame.tracked
    assert frame.face is not None
    assert frame.face.expression is not None
    assert frame.face.expression[NAMES.index("jawOpen")] == 0.5


def test_silence_is_a_face_that_is_lost(link: TrackerLink) -> None:
    assert link.read().face is None
    send(link, "/VMC/Ext/Blend/Apply")
    with_face(link)
    assert link.read().face is None


@pytest.mark.parametrize("turn", [(0.0, 0.0, 0.0), (0.3, -0.5, 0.1), (-0.2, 0.4, -0.3)])
def test_our_sink_and_our_source_agree(link: TrackerLink, turn: tuple[float, float, float]) -> None:
    sink = TrackerSink("vmc", "127.0.0.1", link.port)
    coefficients = np.random.default_rng(3).uniform(0, 1, 52).astype(np.float32)
    sink.add(tracked_face(coefficients, np.array(turn, np.float32), 0, 5_000_000_000))
    sink.close()
    sink.close()
    face = with_face(link).face
    assert face is not None
    assert face.expression is not None
    assert face.turn is not None
    np.testing.assert_allclose(face.expression, coefficients, atol=1e-6)
    np.testing.assert_allclose(face.turn, turn, atol=1e-5)


def test_plain_osc_has_a_message_for_each_value() -> None:
    from pythonosc.osc_packet import OscPacket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(30)
        sink = TrackerSink(*parse_address(f"osc:127.0.0.1:{receiver.getsockname()[1]}"))
        coefficients = np.zeros(52, np.float32)
        coefficients[NAMES.index("jawOpen")] = 0.5
        sink.add(tracked_face(coefficients, np.array([0.1, 0, 0], np.float32), 0, 0))
        heard = {}
        while "/reenact/tongueOut" not in heard:
            for timed in OscPacket(receiver.recv(65536)).messages:
                heard[timed.message.address] = timed.message.params
        sink.close()
    assert heard["/reenact/jawOpen"] == [0.5]
    assert heard["/reenact/head"][0] == pytest.approx(-np.degrees(0.1), abs=1e-3)
    assert len(heard) == 54


def test_a_flood_is_dropped_and_the_link_goes_on(link: TrackerLink) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
        for _ in range(8 * MOST_READ):
            flood.sendto(b"\0" * 64, ("127.0.0.1", link.port))
    for _ in range(1000):
        link.read()
        if link.skipped:
            break
    assert link.skipped
    send(link, "/VMC/Ext/Blend/Apply")
    with_face(link)


def test_of_a_flood_the_newest_counts(link: TrackerLink) -> None:
    count = MOST_READ  # twice as many packets
    client = SimpleUDPClient("127.0.0.1", link.port)
    with closing(client._sock):
        for number in range(1, count + 1):
            client.send_message("/VMC/Ext/Blend/Val", ["JawOpen", number / count])
            client.send_message("/VMC/Ext/Blend/Apply", [])
    face = with_face(link).face
    assert face is not None
    assert face.expression is not None
    assert face.expression[NAMES.index("jawOpen")] == 1
    assert link.skipped


def test_a_port_in_use_is_refused(link: TrackerLink) -> None:
    with pytest.raises(SourceMissing) as caught:
        TrackerLink("livelink", "127.0.0.1", link.port)
    assert caught.value.code == "tracker-port"


def test_it_listens_to_this_machine_alone_unless_told_otherwise() -> None:
    assert parse_link("vmc:39539") == ("vmc", "127.0.0.1", 39539)
    assert parse_link("livelink:0.0.0.0:11111") == ("livelink", "0.0.0.0", 11111)
    assert parse_link("ifacialmocap:192.168.1.7") == ("ifacialmocap", "192.168.1.7", 49983)


@pytest.mark.parametrize("spec", ["vmc:", "vmc:x", "vmc:0", "vmc:70000", "livelink:host", "ifacialmocap:", "vmc:a b:1"])
def test_a_bad_address_is_refused(spec: str) -> None:
    with pytest.raises(SourceMissing) as caught:
        parse_link(spec)
    assert caught.value.code == "tracker-address"
