"""The threads of a run: capture, compute (one thread live, two at the highest pace) and one for each sink.

Each closes the mailbox it fills when it ends, so that an end travels in the direction of the flow, and each closes
what it owns. What goes wrong in one ends the run through ``StopSignal``, not the thread alone.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from engines.errors import ReenactError, SinkError, SinkLost, SourceEnded, SourceError, SourceLost
from realtime.capture.source import Source
from realtime.core.frames import Frame
from realtime.core.latency import Durations, Ledger
from realtime.core.mailbox import Mailbox
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.animator import FaceObserver, PipelineParts, Seen
from realtime.pipeline.commands import Commands, answer, begin
from realtime.pipeline.publisher import FramePublisher, FrameRelay, Kind, PublishedFrame
from realtime.sinks.sink import Sink

FIRST_DELAY_S, LAST_DELAY_S = 0.1, 0.5
"""Waiting times between attempts to open again what was lost: doubled from the first up to the last."""

PATIENCE_S = 0.25
"""The portrait does not idle before frames have stayed away for this long, nor for three of a slow source's."""
IDLE_FPS = 60.0
"""At most, whatever rate a source announces."""

Notice = Callable[[str], None]


class CaptureThread(threading.Thread):
    """Reads the source into a mailbox, and opens it again when it was lost.

    ``reopen`` is None where that makes no sense, as with a file. With ``lossless`` it waits for room.
    """

    def __init__(
        self,
        source: Source,
        reopen: Callable[[], Source] | None,
        stop_signal: StopSignal,
        notice: Notice,
        *,
        lossless: bool,
    ) -> None:
        super().__init__(name="capture", daemon=True)
        self.inbox: Mailbox[Frame] = Mailbox()
        self.go = threading.Event()
        """Reading starts when this is set: a file would otherwise play while nobody is ready for it."""
        self.lost = False
        """Whether the source is away at the moment."""
        self.source = source
        self._reopen = reopen
        self._stop_signal = stop_signal
        self._notice = notice
        self._lossless = lossless
        self._reading = False
        self._skipped = 0

    @property
    def dropped(self) -> int:
        """Frames that a newer one pushed out before anybody took them, and those that the source passed over."""
        return self.inbox.dropped + self._skipped

    def run(self) -> None:
        """Read until the source ends, fails for good, or the run is over."""
        try:
            self.go.wait()
            while not self._stop_signal.over.is_set():
                try:
                    frame = self._read()
                except SourceLost as error:
                    self._open_again(error)
                    continue
                if self._lossless:
                    self.inbox.put_when_free(frame)
                else:
                    self.inbox.put(frame)
        except SourceEnded:
            pass
        except BaseException as error:
            self._stop_signal.fail(error)
        finally:
            self.inbox.close()
            self.source.close()

    def _read(self) -> Frame:
        """The next frame. What the source passes over meanwhile counts, but not what waited for the run to begin."""
        source = self.source
        before = source.skipped
        try:
            return source.read()
        finally:
            if self._reading:
                self._skipped += source.skipped - before
            self._reading = True

    def _open_again(self, lost: SourceLost) -> None:
        if self._reopen is None:
            raise lost
        self.source.close()
        self.lost = True
        self._notice(f"{lost}; trying to get it back")
        delay = FIRST_DELAY_S
        while not self._stop_signal.over.wait(delay):
            try:
                self.source = self._reopen()
            except SourceError:
                delay = min(2 * delay, LAST_DELAY_S)
                continue
            self.lost = False
            self._notice(f"{self.source.name} is back")
            return


@dataclass(frozen=True, slots=True)
class Limits:
    """When a run has done enough. Seconds are the run's own when live, the file's at the highest pace."""

    frames: int | None = None
    duration_ns: int | None = None

    def reached(self, frames: int, elapsed_ns: int) -> bool:
        """Whether that many frames or that much time are enough."""
        enough = self.frames is not None and frames >= self.frames
        return enough or (self.duration_ns is not None and elapsed_ns >= self.duration_ns)

    def of(self, frames: int | None, fps: float) -> int | None:
        """How many of a source's ``frames`` are enough, about; None where nobody knows."""
        seconds = None if self.duration_ns is None else math.ceil(self.duration_ns / 1e9 * fps)
        return min((count for count in (frames, self.frames, seconds) if count is not None), default=None)


class ComputeThread(threading.Thread):
    """Tracks and generates.

    Until ``assemble`` has everything ready it shows a slate; then capture may begin. Live, it does both on its own
    thread, and goes on at the frame rate when frames stay away: the portrait idles. With ``lossless`` tracking has
    a thread of its own and every frame is answered in order. A failure leaves a slate behind and ends the run.
    """

    def __init__(
        self,
        assemble: Callable[[float], PipelineParts | None],
        capture: CaptureThread,
        publisher: FramePublisher,
        ledger: Ledger,
        commands: Commands,
        stop_signal: StopSignal,
        notice: Notice,
        *,
        fps: float,
        limits: Limits,
        lossless: bool,
        settled: Callable[[], object] = lambda: None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """``settled`` is called once everything is ready, before the first frame."""
        super().__init__(name="compute", daemon=True)
        self.parts: PipelineParts | None = None
        self._assemble = assemble
        self._capture = capture
        self._publisher = publisher
        self._ledger = ledger
        self._commands = commands
        self._stop_signal = stop_signal
        self._notice = notice
        self._period_ns = round(1e9 / min(fps, IDLE_FPS))
        # the rate wished for may be higher than what the source gives
        self._patience_ns = round(1e9 * max(PATIENCE_S, 3 / min(fps, capture.source.fps or fps)))
        self._limits = limits
        self._lossless = lossless
        self._settled = settled
        self._clock = clock

    def run(self) -> None:
        """Slate until ready, then a picture for each frame, until the source ends or the run is over."""
        try:
            self.parts = self._get_ready()
            if self.parts is not None:
                self._settled()
                self._capture.go.set()
                (self._work_through if self._lossless else self._work_live)(self.parts)
                self._tell_of_no_face()
                self._stop_signal.finish("the source has ended")
        except BaseException as error:
            self._stop_signal.fail(error)
            self._publisher.slate("reenact: stopped by an error", self._clock(), notice=True)
        finally:
            self._capture.inbox.close()
            self._capture.go.set()
            self._publisher.close()
            if self.parts is not None:
                self.parts.close()

    def _get_ready(self) -> PipelineParts | None:
        """the parts, or None when the run is over before."""
        while not self._stop_signal.over.is_set():
            self._publisher.slate("reenact: starting", self._clock(), notice=True)
            parts = self._assemble(0.1)
            if parts is not None:
                return parts
        return None

    def _obey(self, parts: PipelineParts) -> None:
        for order in self._commands.take():
            if not begin(order):
                continue
            said: str | ReenactError
            try:
                said = parts.command_handler.obey(order.name, order.value)
            except ReenactError as error:
                said = error
            answer(order, said)
            if order.answer is None:
                self._notice(str(said))

    def _tell_of_no_face(self) -> None:
        whole = self._lossless or not self._stop_signal.over.is_set()
        if whole and self._ledger.frames and not self._ledger.faces:
            self._notice(f"there was no face in {self._capture.source.name}, so the portrait kept still")

    def _work_live(self, parts: PipelineParts) -> None:
        ready_ns = self._clock()
        due_ns = ready_ns + self._patience_ns
        inbox = self._capture.inbox
        while not self._stop_signal.over.is_set():
            frame = inbox.get(max(0, due_ns - self._clock()) / 1e9)
            self._obey(parts)
            if frame is None and inbox.closed:
                return
            if frame is None:
                parts.animator.idle()
                due_ns = max(due_ns + self._period_ns, self._clock())
            elif frame.stamps.captured < ready_ns:
                self._ledger.starting += 1
            else:
                parts.animator.show(parts.observer.observe(frame))
                due_ns = self._clock() + self._patience_ns
            elapsed_ns = self._clock() - self._ledger.first_ns if self._ledger.frames else 0
            if self._limits.reached(self._ledger.frames, elapsed_ns):
                self._stop_signal.finish("done")

    def _work_through(self, parts: PipelineParts) -> None:
        track = TrackThread(parts.observer, self._capture.inbox, self._stop_signal)
        track.start()
        first_ns: int | None = None
        try:
            while not self._stop_signal.over.is_set() and (seen := track.seen.get()) is not None:
                self._obey(parts)
                first_ns = seen.frame.time_ns if first_ns is None else first_ns
                if self._limits.reached(0, seen.frame.time_ns - first_ns):
                    self._stop_signal.finish("done")
                    return
                parts.animator.show(seen)
                if self._limits.reached(self._ledger.frames, 0):
                    self._stop_signal.finish("done")
        finally:
            self._capture.inbox.close()
            track.seen.close()
            track.join(1.0)


class TrackThread(threading.Thread):
    """The first half of the compute stage at the highest pace: it tracks the next frame meanwhile."""

    def __init__(self, observer: FaceObserver, inbox: Mailbox[Frame], stop_signal: StopSignal) -> None:
        super().__init__(name="track", daemon=True)
        self.seen: Mailbox[Seen] = Mailbox()
        self._observer = observer
        self._inbox = inbox
        self._stop_signal = stop_signal

    def run(self) -> None:
        """Track every frame, in order, until there are no more or nobody takes them."""
        try:
            while (frame := self._inbox.get()) is not None:
                if not self.seen.put_when_free(self._observer.observe(frame)):
                    return
        except BaseException as error:
            self._stop_signal.fail(error)
        finally:
            self.seen.close()


class DeliveryThread(threading.Thread):
    """Sends what is published to one sink.

    A sink that is lost is opened again where ``reopen`` says how, while pictures for it are dropped; otherwise it has
    failed for good, ``error`` says why and ``failed`` is called once.
    """

    def __init__(
        self,
        label: str,
        sink: Sink | FrameRelay,
        inbox: Mailbox[PublishedFrame],
        reopen: Callable[[], Sink] | None,
        stop_signal: StopSignal,
        notice: Notice,
        failed: Callable[[], None],
        *,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(name=f"sink {label}", daemon=True)
        self.label = label
        self.age = Durations()
        """From capture to the return of ``send``, for generated pictures of a face."""
        self.sending = Durations()
        """How long ``send`` takes."""
        self.sent = 0
        self.error: SinkError | None = None
        self.inbox = inbox
        self.sink = sink
        self._reopen = reopen
        self._stop_signal = stop_signal
        self._notice = notice
        self._failed = failed
        self._clock = clock
        self._lost = 0

    @property
    def dropped(self) -> int:
        """Pictures that a newer one pushed out before they were sent, and those on which the sink was lost."""
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
            while (shown := self.inbox.get()) is not None:
                shown.release()
            if self.error is not None:
                self._failed()

    def _deliver(self) -> None:
        while (shown := self.inbox.get()) is not None:
            started = self._clock()
            try:
                self._send(shown)
            except SinkLost as error:
                self._lost += 1
                if not self._open_again(error):
                    return
                continue
            finally:
                shown.release()
            self.sent += 1
            now = self._clock()
            self.sending.record(now - started, now)
            if shown.face and shown.kind is Kind.GENERATED:
                self.age.record(now - shown.stamps.captured, now)

    def _send(self, shown: PublishedFrame) -> None:
        if isinstance(self.sink, FrameRelay):
            self.sink.relay(shown)
        else:
            self.sink.send(shown.frame(self.sink.format))

    def _open_again(self, lost: SinkLost) -> bool:
        """Whether there is a sink again; there is none if the run is over before."""
        if self._reopen is None:
            raise lost
        self._notice(f"{lost}; trying to get it back")
        self.sink.close()
        delay = FIRST_DELAY_S
        while not self._stop_signal.over.wait(delay):
            try:
                self.sink = self._reopen()
            except SinkError:
                delay = min(2 * delay, LAST_DELAY_S)
                continue
            self._notice(f"{self.sink.name} is back")
            return True
        return False
