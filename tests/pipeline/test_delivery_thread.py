from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from engines.errors import SinkLost, SinkMissing
from realtime.core.frames import Frame, Stamps
from realtime.core.sound import SoundPacket
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.delivery_thread import DeliveryThread, OpenedSink
from realtime.pipeline.frame_publisher import FramePublisher
from realtime.pipeline.settings import RunHooks
from realtime.sinks.sink import Sink
from tests.support.fakes import PORTRAIT, SIZE, FakeSink, driving, picture


class Delivery:
    """A publisher, a sink and the delivery thread between them."""

    def __init__(self, sink: Sink, open_again: Callable[[], Sink] | None = None) -> None:
        self.notices: list[str] = []
        self.failures: list[bool] = []
        self.stop_signal = StopSignal()
        self.publisher = FramePublisher(SIZE)
        self.thread = DeliveryThread(
            OpenedSink("sink", sink, open_again),
            self.publisher.attach(sink.format, recording=False),
            self.stop_signal,
            RunHooks(self.notices.append),
            lambda: self.failures.append(True),
        )
        self.thread.start()

    def show(self, seq: int, *, face: bool = True) -> None:
        now = time.monotonic_ns()
        frame = replace(driving(seq), time_ns=now, stamps=Stamps(now))
        self.publisher.show(picture(PORTRAIT), frame, face=face)

    def close(self) -> None:
        self.publisher.close()
        self.thread.join(5)
        assert not self.thread.is_alive()


def test_a_run_that_stops_while_a_sink_is_lost_leaves_the_sink_closed() -> None:
    tried, sends = threading.Event(), []

    def fail(frame: Frame) -> None:
        sends.append(frame.seq)
        raise SinkLost("sink-lost", "the device is gone")

    def open_again() -> Sink:
        tried.set()
        raise SinkMissing("sink-missing", "no device")

    sink = FakeSink(during=fail)
    delivery = Delivery(sink, open_again)
    delivery.show(1)
    assert tried.wait(5)
    delivery.show(2)  # waits for the sink to come back
    delivery.stop_signal.stop("quit")
    delivery.close()
    assert sends == [1], "nothing more is sent to a closed sink"
    assert len(delivery.notices) == 1
    assert sink.closed.is_set()
    assert (delivery.thread.error, delivery.failures) == (None, [])
    assert delivery.publisher.pool.made <= 3


def test_a_frame_on_which_a_sink_is_lost_is_dropped() -> None:
    back = threading.Event()

    def fail(_: Frame) -> None:
        raise SinkLost("sink-lost", "the device is gone")

    again = FakeSink()

    def open_again() -> Sink:
        back.set()
        return again

    delivery = Delivery(FakeSink(during=fail), open_again)
    delivery.show(1)
    assert back.wait(5)
    delivery.show(2)
    again.wait_for(1)
    delivery.close()
    assert (delivery.thread.sent, delivery.thread.dropped) == (1, 1)


def test_the_age_is_that_of_generated_frames_with_a_face() -> None:
    sink = FakeSink()
    delivery = Delivery(sink)
    delivery.show(1)
    sink.wait_for(1)
    delivery.publisher.hold(time.monotonic_ns())
    sink.wait_for(2)
    delivery.publisher.slate("back in a moment", time.monotonic_ns())
    sink.wait_for(3)
    delivery.show(2, face=False)
    sink.wait_for(4)
    delivery.close()
    assert delivery.thread.sent == delivery.thread.sending.count == 4
    assert delivery.thread.age.count == 1


def test_what_a_sink_takes_is_not_found_out_again_for_each_frame() -> None:
    looked: list[bool] = []

    class HearingFake(FakeSink):
        heard = 0

        @property
        def hear(self) -> Callable[[SoundPacket], None]:
            looked.append(True)
            return self.take

        def take(self, _: SoundPacket) -> None:
            self.heard += 1

    sink = HearingFake()
    delivery = Delivery(sink)
    at_first = len(looked)
    for number in range(1, 11):
        delivery.thread.hear(SoundPacket(b"", 0, number))
        delivery.show(number)
        sink.wait_for(number)
    delivery.close()
    assert sink.heard == 10
    assert len(looked) == at_first + 10, "once for each packet that is passed on"


def test_sound_goes_to_the_sink_that_was_opened_again() -> None:
    heard: list[SoundPacket] = []

    class HearingFake(FakeSink):
        def hear(self, packet: SoundPacket) -> None:
            heard.append(packet)

    def fail(_: Frame) -> None:
        raise SinkLost("sink-lost", "the device is gone")

    again, back = HearingFake(), threading.Event()

    def open_again() -> Sink:
        back.set()
        return again

    delivery = Delivery(FakeSink(during=fail), open_again)
    assert not delivery.thread.hears
    delivery.show(1)
    assert back.wait(5)
    delivery.show(2)
    again.wait_for(1)
    delivery.thread.hear(SoundPacket(b"", 0, 1))
    delivery.show(3)
    again.wait_for(2)
    delivery.close()
    assert len(heard) == 1
