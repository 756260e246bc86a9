"""A run from start to end: the threads, who feeds whom, and the order in which they stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from realtime.capture.source import Source
from realtime.core.latency import Durations, Ledger
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.animator import PipelineParts
from realtime.pipeline.commands import Commands
from realtime.pipeline.loader import PipelineLoader
from realtime.pipeline.publisher import FramePublisher, FrameRelay
from realtime.pipeline.threads import CaptureThread, ComputeThread, DeliveryThread, Limits
from realtime.sinks.sink import Sink

STOP_S = 2.0
"""A run that is told to stop has ended after this long, whatever hangs."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An open sink; how to open it again (None: it cannot be); whether it keeps what it gets."""

    label: str
    """Its short name in the figures."""
    sink: Sink | FrameRelay
    reopen: Callable[[], Sink] | None
    recording: bool


class Pipeline:
    """One run. The thread that makes it starts it, waits for its end and closes it.

    Takes over the open source and sinks: its threads close them. ``settled`` is called once everything is ready. What
    waits in ``commands`` is carried out before the first picture.
    """

    def __init__(
        self,
        loader: PipelineLoader,
        source: Source,
        reopen: Callable[[], Source] | None,
        sinks: Sequence[Outgoing],
        *,
        size: tuple[int, int],
        fps: float,
        lossless: bool,
        limits: Limits,
        stop_signal: StopSignal,
        notice: Callable[[str], None],
        relay_code: bool = False,
        commands: Commands | None = None,
        settled: Callable[[], object] = lambda: None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.commands = Commands() if commands is None else commands
        self._loader = loader
        self._notice = notice
        self._limits = limits
        self._told = {*source.notes, *(note for each in sinks for note in each.sink.notes)}
        self.ledger = Ledger()
        self.missed: int | None = None
        """Pictures that a network brought and a newer one replaced before they were read; told by whoever knows."""
        self.stop_signal = stop_signal
        self.publisher = FramePublisher(size, lossless=lossless, relay_code=relay_code, clock=clock)
        self.capture = CaptureThread(source, reopen, stop_signal, notice, lossless=lossless)
        self.deliveries = [self._delivery(outgoing, notice, clock) for outgoing in sinks]
        self.compute = ComputeThread(
            lambda timeout: loader.assemble(timeout, self.publisher, self.ledger, lambda: stop_signal.stop("quit")),
            self.capture,
            self.publisher,
            self.ledger,
            self.commands,
            stop_signal,
            notice,
            fps=fps,
            limits=limits,
            lossless=lossless,
            settled=settled,
            clock=clock,
        )

    def start(self) -> None:
        """Start every thread; the source is read from the moment that the rest is ready."""
        for thread in (*self.deliveries, self.compute, self.capture):
            thread.start()

    def finished(self, timeout: float) -> bool:
        """Wait for sinks that have the end of the flow still to deliver; whether they have."""
        deadline = time.monotonic() + timeout
        for thread in (self.compute, *self.deliveries):
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in (self.compute, *self.deliveries))

    def close(self, timeout: float = STOP_S) -> bool:
        """Stop in the order of the flow and wait, ``timeout`` seconds at most; whether everything has ended."""
        self.stop_signal.stop("stopped")
        deadline = time.monotonic() + timeout
        self.capture.inbox.close()
        self.compute.join(timeout / 3)
        self.publisher.close()
        threads = (self.compute, *self.deliveries, self.capture)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self.compute.parts is None:
            self._loader.dismiss()
        return not any(thread.is_alive() for thread in threads)

    @property
    def parts(self) -> PipelineParts | None:
        """Observer, animator and portraits, once they are ready."""
        return self.compute.parts

    @property
    def lost(self) -> bool:
        """Whether the source is away at the moment."""
        return self.capture.lost

    @property
    def waiting(self) -> str:
        """What there is to say before the first picture."""
        return "starting"

    @property
    def total(self) -> int | None:
        """How many frames there will be, if anybody knows."""
        source = self.capture.source
        return self._limits.of(source.frames, source.fps)

    @property
    def notes(self) -> list[str]:
        """What source and sinks have to say since they were opened."""
        notes = [*self.capture.source.notes, *(note for each in self.deliveries for note in each.sink.notes)]
        return [note for note in notes if note not in self._told]

    @property
    def age(self) -> Durations:
        """From capture to sent, over all sinks; frames without a face left out."""
        total = Durations()
        for delivery in self.deliveries:
            total.add(delivery.age)
        return total

    @property
    def recent_age(self) -> tuple[float, float]:
        """The age's median and 99th percentile lately, in milliseconds, at the sink where they are worst."""
        p50, p99 = (max(delivery.age.recent_ms(q) for delivery in self.deliveries) for q in (50, 99))
        return p50, p99

    @property
    def dropped(self) -> dict[str, int]:
        """How many frames were dropped: on arrival, before everything was ready, before compute, before each sink."""
        network = {} if self.missed is None else {"network": self.missed}
        places = network | {"starting": self.ledger.starting, "capture": self.capture.dropped}
        for delivery in self.deliveries:
            places[delivery.label] = places.get(delivery.label, 0) + delivery.dropped
        return places

    def _delivery(self, outgoing: Outgoing, notice: Callable[[str], None], clock: Callable[[], int]) -> DeliveryThread:
        inbox = self.publisher.attach(outgoing.sink.format, recording=outgoing.recording)
        return DeliveryThread(
            outgoing.label,
            outgoing.sink,
            inbox,
            outgoing.reopen,
            self.stop_signal,
            notice,
            self._sink_failed,
            clock=clock,
        )

    def _sink_failed(self) -> None:
        """End the run when no sink is left. Called on the thread of the sink that failed, which may be any."""
        errors = [delivery.error for delivery in self.deliveries]
        failed = [error for error in errors if error is not None]
        if len(failed) == len(errors):
            self.stop_signal.fail(failed[-1])
        else:
            self._notice(f"{failed[-1]}; the other sinks go on")
