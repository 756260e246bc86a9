"""A run with a source: its threads, how they are connected, and the order in which they stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from realtime.capture.source import Source
from realtime.core.latency import Durations, FrameCounts
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.capture_thread import CaptureThread
from realtime.pipeline.commands import Commands
from realtime.pipeline.compute_thread import ComputeThread
from realtime.pipeline.delivery_thread import Deliveries, OpenedSink, join_all
from realtime.pipeline.frame_publisher import FramePublisher
from realtime.pipeline.loader import PipelineLoader, PipelineParts
from realtime.pipeline.settings import RunHooks, RunSettings

STOP_S = 2.0
"""A run has stopped this long after it was told to, whatever hangs."""


class Pipeline:
    """A run with a source. The thread that makes it starts it, waits for its end and closes it.

    It takes over the open source and sinks: its threads close them. Commands that wait in ``commands`` are carried out
    before the first frame.
    """

    def __init__(
        self,
        loader: PipelineLoader,
        source: Source,
        open_source_again: Callable[[], Source] | None,
        sinks: Sequence[OpenedSink],
        settings: RunSettings,
        hooks: RunHooks,
        stop_signal: StopSignal,
        commands: Commands | None = None,
    ) -> None:
        """``open_source_again`` opens the source again after it was lost; None where that is impossible."""
        self.commands = Commands() if commands is None else commands
        self.counts = FrameCounts()
        self.missed: int | None = None
        """Frames that a network delivered and a newer one replaced before they were read; set from outside."""
        self.stop_signal = stop_signal
        self.publisher = FramePublisher(
            settings.size,
            lossless=settings.lossless,
            relay_code=settings.relay_code,
            marking=settings.marking,
            clock=hooks.clock,
        )
        self.capture = CaptureThread(source, open_source_again, stop_signal, hooks.notice, lossless=settings.lossless)
        self.deliveries = Deliveries(sinks, self.publisher, stop_signal, hooks)
        self.compute = ComputeThread(
            loader, self.capture, self.publisher, self.counts, self.commands, stop_signal, settings, hooks
        )
        self._loader = loader
        self._limits = settings.limits
        self._initial_notes = set(source.notes)

    def start(self) -> None:
        """Start every thread. The source is read as soon as everything else is ready."""
        self.deliveries.start()
        self.compute.start()
        self.capture.start()

    def finished(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the last frames to be delivered. Return True if they have been."""
        return join_all((self.compute, *self.deliveries), timeout)

    def close(self, timeout: float = STOP_S) -> bool:
        """Stop in the order of the flow, within ``timeout`` seconds. Return True if every thread has ended."""
        self.stop_signal.stop("stopped")
        deadline = time.monotonic() + timeout
        self.capture.inbox.close()
        self.compute.join(timeout / 3)
        self.publisher.close()
        ended = join_all((self.compute, *self.deliveries, self.capture), deadline - time.monotonic())
        if self.compute.parts is None:
            self._loader.discard()
        return ended

    @property
    def parts(self) -> PipelineParts | None:
        """Observer, animator and portraits, once they are ready."""
        return self.compute.parts

    @property
    def lost(self) -> bool:
        """Whether the source is lost at the moment."""
        return self.capture.lost

    @property
    def waiting(self) -> str:
        """What the status line says before the first frame."""
        return self._loader.status

    @property
    def total(self) -> int | None:
        """About how many frames there will be; None if unknown."""
        source = self.capture.source
        return self._limits.expected_frames(source.frames, source.fps)

    @property
    def notes(self) -> list[str]:
        """What source and sinks have noted since they were opened."""
        notes = [note for note in self.capture.source.notes if note not in self._initial_notes]
        return notes + self.deliveries.notes

    @property
    def age(self) -> Durations:
        """From capture to sent, over all sinks; frames without a face are left out."""
        return self.deliveries.age

    @property
    def recent_age(self) -> tuple[float, float]:
        """The recent median and 99th percentile of the age in milliseconds, at the sink where each is highest."""
        return self.deliveries.recent_age

    @property
    def dropped(self) -> dict[str, int]:
        """The number of dropped frames: on arrival, before everything was ready, before compute, before each sink."""
        network = {} if self.missed is None else {"network": self.missed}
        dropped = network | {"starting": self.counts.starting, "capture": self.capture.dropped}
        for label, count in self.deliveries.dropped.items():
            dropped[label] = dropped.get(label, 0) + count
        return dropped
