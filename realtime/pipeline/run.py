"""What a run is to whoever starts it, shows how it goes and ends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from realtime.core.latency import Durations, Ledger
    from realtime.core.stop_signal import StopSignal
    from realtime.pipeline.animator import PipelineParts
    from realtime.pipeline.commands import Commands
    from realtime.pipeline.threads import DeliveryThread


class Run(Protocol):
    """``Pipeline`` where there is a source, ``SharedSinks`` where browsers drive. One thread starts and closes it."""

    commands: Commands
    stop_signal: StopSignal
    ledger: Ledger
    deliveries: list[DeliveryThread]

    @property
    def parts(self) -> PipelineParts | None:
        """Whose portrait is on show, if anybody's."""

    @property
    def lost(self) -> bool:
        """Whether the driving picture is away at the moment."""

    @property
    def waiting(self) -> str:
        """What there is to say while there is no picture yet."""

    @property
    def total(self) -> int | None:
        """How many frames there will be, if anybody knows."""

    @property
    def notes(self) -> Sequence[str]:
        """What source and sinks have to say since they were opened."""

    @property
    def age(self) -> Durations:
        """From capture to sent, over all sinks; frames without a face left out."""

    @property
    def recent_age(self) -> tuple[float, float]:
        """The age's median and 99th percentile lately, in milliseconds."""

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many frames were dropped, by place."""

    def start(self) -> None:
        """Start every thread."""

    def finished(self, timeout: float) -> bool:
        """Wait for sinks that have the end of the flow still to deliver; whether they have."""

    def close(self, timeout: float = ...) -> bool:
        """Stop and wait, ``timeout`` seconds at most; whether everything has ended."""
