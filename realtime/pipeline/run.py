"""What every kind of run has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from realtime.core.latency import Durations, FrameCounts
    from realtime.core.stop_signal import StopSignal
    from realtime.pipeline.commands import Commands
    from realtime.pipeline.delivery_thread import Deliveries
    from realtime.pipeline.loader import PipelineParts


class Run(Protocol):
    """A ``Pipeline``, which has a source, or ``SharedSinks``, where browsers drive.

    One thread starts it, waits for its end and closes it.
    """

    commands: Commands
    stop_signal: StopSignal
    counts: FrameCounts
    deliveries: Deliveries

    @property
    def parts(self) -> PipelineParts | None:
        """The parts that make the published frames, if any do at the moment."""

    @property
    def lost(self) -> bool:
        """Whether the source is lost at the moment."""

    @property
    def waiting(self) -> str:
        """What the status line says before the first frame."""

    @property
    def total(self) -> int | None:
        """About how many frames there will be; None if unknown."""

    @property
    def notes(self) -> Sequence[str]:
        """What source and sinks have noted since they were opened."""

    @property
    def age(self) -> Durations:
        """From capture to sent, over all sinks; frames without a face are left out."""

    @property
    def recent_age(self) -> tuple[float, float]:
        """The recent median and 99th percentile of the age in milliseconds."""

    @property
    def dropped(self) -> Mapping[str, int]:
        """The number of dropped frames, by where they were dropped."""

    def start(self) -> None:
        """Start every thread."""

    def finished(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the last frames to be delivered. Return True if they have been."""

    def close(self, timeout: float = ...) -> bool:
        """Stop within ``timeout`` seconds. Return True if every thread has ended."""
