"""The program's own sinks where browsers drive: they show the first session's portrait, or a slate without one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from realtime.core.latency import Durations, FrameCounts
from realtime.core.sound import SoundPacket
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.commands import Commands
from realtime.pipeline.delivery_thread import Deliveries, OpenedSink, join_all
from realtime.pipeline.frame_publisher import FrameKind, FramePublisher, FrameRelay, PublishedFrame
from realtime.pipeline.pipeline import STOP_S, Pipeline
from realtime.pipeline.settings import Limits, Notice, RunHooks

if TYPE_CHECKING:
    from realtime.pipeline.loader import PipelineParts
    from realtime.server.sessions import Session

SLATE_TEXT = "waiting for a browser"
SLATE_INTERVAL_S = 0.2
"""Time between two slates without a session: readers of a virtual camera expect frames."""
SLATE_AFTER_NS = 1_000_000_000
"""How long the last frame of a session stays before the slate replaces it."""


class SessionRelay(FrameRelay):
    """Passes a session's frames to the shared sinks."""

    name = "the program's own sinks"

    def __init__(self, shared_sinks: SharedSinks, session: Session) -> None:
        self._shared_sinks = shared_sinks
        self._session = session
        if shared_sinks.deliveries.hear_sound:
            self.hear = partial(shared_sinks.hear, session)

    def relay(self, published: PublishedFrame) -> None:
        """Publish the frame if this session is the selected one."""
        self._shared_sinks.publish(self._session, published)

    def close(self) -> None:
        """Release nothing: the sinks are shared."""


class SharedSinks:
    """A Run without a source of its own: its sinks show the session that has been open for longest.

    The thread that creates it starts it, waits for its end and closes it, as with ``Pipeline``.
    """

    total: int | None = None

    def __init__(
        self,
        sinks: Sequence[OpenedSink],
        *,
        size: tuple[int, int],
        limits: Limits,
        stop_signal: StopSignal,
        notice: Notice,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.commands = Commands()
        self.counts = FrameCounts()
        self.stop_signal = stop_signal
        self.notes: list[str] = []
        self._limits = limits
        self._notice = notice
        self._clock = clock
        self._started_ns = clock()
        self._lock = threading.Lock()
        self._sessions: list[Session] = []
        self._published_ns = 0
        self._publisher = FramePublisher(size, clock=clock)
        self.deliveries = Deliveries(sinks, self._publisher, stop_signal, RunHooks(notice, clock=clock))
        self._thread = threading.Thread(target=self._run, name="shared sinks", daemon=True)

    @property
    def parts(self) -> PipelineParts | None:
        """The parts of the selected session's pipeline."""
        pipeline = self._selected_pipeline()
        return None if pipeline is None else pipeline.compute.parts

    @property
    def lost(self) -> bool:
        """Whether the selected session receives no video at the moment."""
        pipeline = self._selected_pipeline()
        return pipeline is not None and pipeline.capture.lost

    @property
    def waiting(self) -> str:
        """The status before the first frame."""
        return "waiting for a browser"

    @property
    def age(self) -> Durations:
        """Time from capture to sent, over all sinks."""
        return self.deliveries.age

    @property
    def recent_age(self) -> tuple[float, float]:
        """The recent median and 99th percentile of the age, in milliseconds, at the sink where they are largest.

        Without sinks of its own, at those of the selected session.
        """
        pipeline = None if len(self.deliveries) else self._selected_pipeline()
        return self.deliveries.recent_age if pipeline is None else pipeline.recent_age

    @property
    def dropped(self) -> dict[str, int]:
        """Frames dropped before each sink, by its label."""
        return self.deliveries.dropped

    def attach(self, session: Session) -> SessionRelay:
        """Add a session, and return the relay for its frames."""
        with self._lock:
            self._sessions.append(session)
        return SessionRelay(self, session)

    def detach(self, session: Session) -> None:
        """Remove a session. If it was the selected one, the next is selected."""
        with self._lock:
            if session in self._sessions:
                self._sessions.remove(session)

    def publish(self, session: Session, shown: PublishedFrame) -> None:
        """Publish a session's frame if the session is the selected one. Called on the sessions' threads."""
        with self._lock:
            if self.stop_signal.over.is_set() or not self._sessions or self._sessions[0] is not session:
                return
            self._published_ns = self._clock()
            # at the time of the picture, which is that of its sound
            self._publisher.relay(shown, shown.time_ns)
            if shown.kind is FrameKind.NOTICE:
                return
            self.counts.faces += shown.face and shown.kind is FrameKind.GENERATED
            self.counts.record(self._clock())
        self._check_limits()

    def hear(self, session: Session, packet: SoundPacket) -> None:
        """Pass a session's sound to the sinks if the session is the selected one."""
        with self._lock:
            if self._sessions and self._sessions[0] is session:
                self.deliveries.hear(packet)

    def start(self) -> None:
        """Start every thread."""
        for thread in (*self.deliveries, self._thread):
            thread.start()

    def finished(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for sinks that still deliver. Return True if all have finished."""
        return self._join(timeout)

    def close(self, timeout: float = STOP_S) -> bool:
        """Stop, and wait up to ``timeout`` seconds. Return True if every thread has ended."""
        self.stop_signal.stop("stopped")
        return self._join(timeout)

    def _join(self, timeout: float) -> bool:
        return join_all((self._thread, *self.deliveries), timeout)

    def _selected_pipeline(self) -> Pipeline | None:
        with self._lock:
            return self._sessions[0].pipeline if self._sessions else None

    def _run(self) -> None:
        """Publish the slate while no session sends frames, and pass on the terminal's commands."""
        try:
            while not self.stop_signal.over.wait(SLATE_INTERVAL_S):
                self._check_limits()
                self._pass_on_commands()
                with self._lock:
                    if self._clock() - self._published_ns > SLATE_AFTER_NS:
                        self._publisher.slate(SLATE_TEXT, self._clock(), notice=True)
        except BaseException as error:
            self.stop_signal.fail(error)
        finally:
            with self._lock:
                self._publisher.close()

    def _check_limits(self) -> None:
        """End the run when it has reached its number of frames or its duration."""
        if self._limits.reached(self.counts.frames, self._clock() - self._started_ns):
            self.stop_signal.finish("done")

    def _pass_on_commands(self) -> None:
        """Pass the commands of the terminal's keys to the selected session. Their sender does not wait for a result."""
        pipeline = self._selected_pipeline()
        for command in self.commands.take():
            if pipeline is None:
                self._notice("no browser drives")
            else:
                pipeline.commands.post(command.name, command.value)
