"""The program's own sinks where browsers drive: the first browser's portrait, or a card while there is none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from realtime.core.latency import Durations, Ledger
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.commands import Commands
from realtime.pipeline.delivery_thread import Deliveries, OpenedSink, join_all
from realtime.pipeline.frame_publisher import FrameKind, FramePublisher, FrameRelay, PublishedFrame
from realtime.pipeline.pipeline import STOP_S
from realtime.pipeline.settings import Limits, RunHooks

if TYPE_CHECKING:
    from realtime.pipeline.loader import PipelineParts
    from realtime.server.sessions import Session

WAITING = "reenact: waiting for a browser"
CARD_S = 0.2
"""How often the card is sent while nobody drives: a virtual camera's readers want frames."""


class Feed(FrameRelay):
    """Leaves a session's pictures to the shared sinks."""

    name = "the program's own sinks"

    def __init__(self, shared_sinks: SharedSinks, session: Session) -> None:
        self._shared_sinks = shared_sinks
        self._session = session

    def relay(self, shown: PublishedFrame) -> None:
        """Show the picture if this session is the one on show."""
        self._shared_sinks.show(self._session, shown)

    def close(self) -> None:
        """Nothing to let go of."""


class SharedSinks:
    """A run without a source of its own: sinks, and whichever session came first of those that are here.

    The thread that makes it starts it, waits for its end and closes it, as with ``Pipeline``.
    """

    total: int | None = None

    def __init__(
        self,
        sinks: Sequence[OpenedSink],
        *,
        size: tuple[int, int],
        limits: Limits,
        stop_signal: StopSignal,
        notice: Callable[[str], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.commands = Commands()
        self.ledger = Ledger()
        self.stop_signal = stop_signal
        self.notes: list[str] = []
        self._limits = limits
        self._notice = notice
        self._clock = clock
        self._began_ns = clock()
        self._lock = threading.Lock()
        self._sessions: list[Session] = []
        self._shown_ns = 0
        self._publisher = FramePublisher(size, clock=clock)
        self.deliveries = Deliveries(sinks, self._publisher, stop_signal, RunHooks(notice, clock=clock))
        self._thread = threading.Thread(target=self._host, name="shared sinks", daemon=True)

    @property
    def parts(self) -> PipelineParts | None:
        """That of the session on show."""
        first = self._first()
        return None if first is None or first.pipeline is None else first.pipeline.compute.parts

    @property
    def lost(self) -> bool:
        """Whether the browser on show sends nothing at the moment."""
        first = self._first()
        return first is not None and first.pipeline is not None and first.pipeline.capture.lost

    @property
    def waiting(self) -> str:
        """What there is to say before the first picture, or between two browsers."""
        return "waiting for a browser"

    @property
    def age(self) -> Durations:
        """From capture to sent, over all sinks."""
        return self.deliveries.age

    @property
    def recent_age(self) -> tuple[float, float]:
        """The age's median and 99th percentile lately, in milliseconds, at the sink where they are worst."""
        return self.deliveries.recent_age

    @property
    def dropped(self) -> dict[str, int]:
        """How many frames were dropped before each sink."""
        return self.deliveries.dropped

    def enter(self, session: Session) -> Feed:
        """A session has come: where its pictures go."""
        with self._lock:
            self._sessions.append(session)
        return Feed(self, session)

    def leave(self, session: Session) -> None:
        """A session has gone; the next one is on show."""
        with self._lock:
            if session in self._sessions:
                self._sessions.remove(session)

    def show(self, session: Session, shown: PublishedFrame) -> None:
        """Publish a session's picture if it is the first; called on the threads of sessions."""
        with self._lock:
            if self.stop_signal.over.is_set() or not self._sessions or self._sessions[0] is not session:
                return
            self._shown_ns = self._clock()
            self._publisher.relay(shown, self._shown_ns)
            if shown.kind is FrameKind.NOTICE:
                return
            self.ledger.faces += shown.face and shown.kind is FrameKind.GENERATED
            self.ledger.record(self._clock())
        self._check_limits()

    def start(self) -> None:
        """Start every thread."""
        for thread in (*self.deliveries, self._thread):
            thread.start()

    def finished(self, timeout: float) -> bool:
        """Wait for sinks that have the end of the flow still to deliver; whether they have."""
        return self._joined(timeout)

    def close(self, timeout: float = STOP_S) -> bool:
        """Stop and wait, ``timeout`` seconds at most; whether everything has ended."""
        self.stop_signal.stop("stopped")
        return self._joined(timeout)

    def _joined(self, timeout: float) -> bool:
        return join_all((self._thread, *self.deliveries), timeout)

    def _first(self) -> Session | None:
        with self._lock:
            return self._sessions[0] if self._sessions else None

    def _host(self) -> None:
        """Show the card while nobody drives, and pass the terminal's commands on."""
        try:
            while not self.stop_signal.over.wait(CARD_S):
                self._check_limits()
                self._obey()
                with self._lock:
                    if self._clock() - self._shown_ns > 1e9:
                        self._publisher.slate(WAITING, self._clock(), notice=True)
        except BaseException as error:
            self.stop_signal.fail(error)
        finally:
            with self._lock:
                self._publisher.close()

    def _check_limits(self) -> None:
        """End the run when it has done enough: so many pictures, or so long from its start on, whoever drives."""
        if self._limits.reached(self.ledger.frames, self._clock() - self._began_ns):
            self.stop_signal.finish("done")

    def _obey(self) -> None:
        """Pass on what came from the terminal's keys, which wait for no answer."""
        first = self._first()
        for order in self.commands.take():
            if first is not None and first.pipeline is not None:
                first.pipeline.commands.post(order.name, order.value)
            else:
                self._notice("no browser drives")
