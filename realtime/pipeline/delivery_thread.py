"""The threads that send what is published, one for each sink."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from engines.errors import SinkError, SinkLost
from realtime.core.latency import Durations
from realtime.core.mailbox import Mailbox
from realtime.core.sound import SoundPacket
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.frame_publisher import FrameKind, FramePublisher, FrameRelay, PublishedFrame
from realtime.pipeline.reopen import reopen
from realtime.pipeline.settings import RunHooks
from realtime.sinks.sink import HearingSink, Sink

MAX_SOUNDS = 500
"""The packets of sound that wait for a frame, 10 s of them; the oldest are dropped."""


@dataclass(frozen=True, slots=True)
class OpenedSink:
    """A sink of a run."""

    label: str
    """Its short name in the statistics."""
    sink: Sink | FrameRelay
    open_again: Callable[[], Sink] | None = None
    """Opens it again after it was lost; None where that is impossible."""
    recording: bool = False
    """Whether it keeps what it gets: a recording is sent no notices."""


class DeliveryThread(threading.Thread):
    """Sends published frames to one sink.

    A sink that is lost is opened again if ``opened.open_again`` is given; frames published meanwhile are dropped.
    Otherwise it has failed for good: ``error`` holds the reason, and ``failed`` is called once. The thread owns the
    sink and closes it when it ends.
    """

    def __init__(
        self,
        opened: OpenedSink,
        inbox: Mailbox[PublishedFrame],
        stop_signal: StopSignal,
        hooks: RunHooks,
        failed: Callable[[], None],
    ) -> None:
        super().__init__(name=f"sink {opened.label}", daemon=True)
        self.label = opened.label
        self.age = Durations()
        """From capture to the return of ``send``, for generated frames that show a tracked face."""
        self.sending = Durations()
        """How long ``send`` takes."""
        self.sent = 0
        self.error: SinkError | None = None
        self.inbox = inbox
        self._use(opened.sink)
        self._open_again = opened.open_again
        self._stop_signal = stop_signal
        self._notice = hooks.notice
        self._clock = hooks.clock
        self._failed = failed
        self._lost = 0
        self._sounds: deque[SoundPacket] = deque(maxlen=MAX_SOUNDS)

    def _use(self, sink: Sink | FrameRelay) -> None:
        """Send to this sink from now on. What it is is found out here: for each frame that would take too long."""
        self.sink = sink
        self._hearing = sink if isinstance(sink, HearingSink) else None
        self._send: Callable[[PublishedFrame], None] = (
            sink.relay if isinstance(sink, FrameRelay) else partial(self._send_to, sink)
        )

    @property
    def hears(self) -> bool:
        """Whether the sink takes sound."""
        return self._hearing is not None

    def hear(self, packet: SoundPacket) -> None:
        """Send sound to the sink, before the next frame. Any thread may call it."""
        if self.hears:
            self._sounds.append(packet)

    @property
    def dropped(self) -> int:
        """The number of frames that a newer one replaced before they were sent, or during which the sink was lost."""
        return self.inbox.dropped + self._lost

    def run(self) -> None:
        """Deliver until the publisher closes or the sink fails for good, then close the sink."""
        try:
            try:
                self._deliver()
            finally:
                self.sink.close()
        except SinkError as error:
            self.error = error
        except BaseException as error:
            self._stop_signal.fail(error)
        finally:
            self.inbox.close()
            while (published := self.inbox.get()) is not None:
                published.release()
            if self.error is not None:
                self._failed()

    def _deliver(self) -> None:
        while (published := self.inbox.get()) is not None:
            started = self._clock()
            try:
                self._send(published)
            except SinkLost as error:
                self._lost += 1
                if not self._reopen(error):
                    return
                continue
            finally:
                published.release()
            self.sent += 1
            now = self._clock()
            self.sending.record(now - started, now)
            if published.face and published.kind is FrameKind.GENERATED:
                self.age.record(now - published.stamps.captured, now)

    def _send_to(self, sink: Sink, published: PublishedFrame) -> None:
        if self._hearing is not None:
            while self._sounds:
                self._hearing.hear(self._sounds.popleft())
        sink.send(published.frame(sink.format))

    def _reopen(self, error: SinkLost) -> bool:
        """Return True once there is a sink again, False if the run ends first."""
        if self._open_again is None:
            raise error
        sink = reopen(self._open_again, self.sink, error, SinkError, self._stop_signal, self._notice)
        if sink is None:
            return False
        self._use(sink)
        return True


class Deliveries:
    """The delivery threads of a run. The run fails when the last of its sinks has failed."""

    def __init__(
        self,
        sinks: Sequence[OpenedSink],
        publisher: FramePublisher,
        stop_signal: StopSignal,
        hooks: RunHooks,
    ) -> None:
        self._stop_signal = stop_signal
        self._notice = hooks.notice
        self._threads = [
            DeliveryThread(
                each,
                publisher.attach(each.sink.format, recording=each.recording),
                stop_signal,
                hooks,
                self._sink_failed,
            )
            for each in sinks
        ]
        self._initial_notes = {note for each in sinks for note in each.sink.notes}

    def __iter__(self) -> Iterator[DeliveryThread]:
        return iter(self._threads)

    def __len__(self) -> int:
        return len(self._threads)

    def start(self) -> None:
        """Start every thread."""
        for thread in self._threads:
            thread.start()

    @property
    def hear_sound(self) -> bool:
        """Whether one of the sinks takes sound."""
        return any(thread.hears for thread in self._threads)

    def hear(self, packet: SoundPacket) -> None:
        """Send sound to the sinks that take it. Any thread may call it."""
        for thread in self._threads:
            thread.hear(packet)

    @property
    def age(self) -> Durations:
        """From capture to sent, over all sinks; frames without a face are left out."""
        total = Durations()
        for thread in self._threads:
            total.add(thread.age)
        return total

    @property
    def recent_age(self) -> tuple[float, float]:
        """The recent median and 99th percentile of the age in milliseconds, at the sink where each is highest."""
        p50, p99 = (max((each.age.recent_ms(q) for each in self._threads), default=0.0) for q in (50, 99))
        return p50, p99

    @property
    def dropped(self) -> dict[str, int]:
        """The number of dropped frames by label; sinks that share a label are added up."""
        dropped: dict[str, int] = {}
        for thread in self._threads:
            dropped[thread.label] = dropped.get(thread.label, 0) + thread.dropped
        return dropped

    @property
    def notes(self) -> list[str]:
        """What the sinks have noted since they were opened."""
        notes = [note for thread in self._threads for note in thread.sink.notes]
        return [note for note in notes if note not in self._initial_notes]

    def _sink_failed(self) -> None:
        """End the run if no sink is left. Called on the thread of the sink that failed."""
        failed = [thread.error for thread in self._threads if thread.error is not None]
        if len(failed) == len(self._threads):
            self._stop_signal.fail(failed[-1])
        else:
            self._notice(f"{failed[-1]}; the other sinks continue")


def join_all(threads: Sequence[threading.Thread], timeout: float) -> bool:
    """Wait up to ``timeout`` seconds in all for the threads. Return True if every one has ended."""
    deadline = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)
