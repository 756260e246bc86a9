"""The threads that track and generate: one when live, two at the highest pace."""

from __future__ import annotations

import threading

from engines.errors import ReenactError
from realtime.core.frames import Frame
from realtime.core.latency import FrameCounts
from realtime.core.mailbox import Mailbox
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.capture_thread import CaptureThread
from realtime.pipeline.commands import Commands
from realtime.pipeline.face_observer import FaceObserver, Observation
from realtime.pipeline.frame_publisher import FramePublisher
from realtime.pipeline.loader import PipelineLoader, PipelineParts
from realtime.pipeline.settings import RunHooks, RunSettings

PATIENCE_S = 0.25
"""Idling begins when no frame came for this long, or for three intervals of a slow source."""
IDLE_FPS = 60.0
"""The highest frame rate while idling, whatever rate a source announces."""
POLL_S = 0.1
"""How often a slate is published while the parts are being loaded."""


class ComputeThread(threading.Thread):
    """Tracks the face in each frame and generates a frame from it.

    Publishes a slate until ``loader`` has everything ready; only then does capture begin. Live, both steps run on
    this thread, and while frames stay away the portrait idles at the frame rate. With ``settings.lossless`` tracking
    has a thread of its own and a frame is generated for every driving frame, in order. After a failure the last thing
    published is a slate, and the run ends. The thread owns the parts, and closes them and the publisher when it ends.
    """

    def __init__(
        self,
        loader: PipelineLoader,
        capture: CaptureThread,
        publisher: FramePublisher,
        counts: FrameCounts,
        commands: Commands,
        stop_signal: StopSignal,
        settings: RunSettings,
        hooks: RunHooks,
    ) -> None:
        super().__init__(name="compute", daemon=True)
        self.parts: PipelineParts | None = None
        self._loader = loader
        self._capture = capture
        self._publisher = publisher
        self._counts = counts
        self._commands = commands
        self._stop_signal = stop_signal
        self._settings = settings
        self._hooks = hooks
        self._clock = hooks.clock
        self._period_ns = round(1e9 / min(settings.fps, IDLE_FPS))
        # the source may deliver fewer frames a second than the user asked for
        slowest_fps = min(settings.fps, capture.source.fps or settings.fps)
        self._patience_ns = round(1e9 * max(PATIENCE_S, 3 / slowest_fps))

    def run(self) -> None:
        """Publish slates until everything is ready, then generated frames, until the source or the run ends."""
        try:
            self.parts = self._load_parts()
            if self.parts is not None:
                self._hooks.ready()
                self._capture.start_reading.set()
                (self._generate_all if self._settings.lossless else self._generate_newest)(self.parts)
                self._report_no_face()
                self._stop_signal.finish("the source has ended")
        except BaseException as error:
            self._stop_signal.fail(error)
            self._publisher.slate("stopped by an error", self._clock(), notice=True)
        finally:
            self._capture.inbox.close()
            self._capture.start_reading.set()
            self._publisher.close()
            self._close_parts()

    def _close_parts(self) -> None:
        if self.parts is not None:
            try:
                self.parts.close()
            except BaseException as error:
                self._stop_signal.fail_closing(error)

    def _load_parts(self) -> PipelineParts | None:
        """Return the parts, or None if the run ends before they are ready."""
        while not self._stop_signal.over.is_set():
            self._publisher.slate(self._loader.status, self._clock(), notice=True)
            parts = self._loader.assemble(
                POLL_S, self._publisher, self._counts, quit_run=lambda: self._stop_signal.stop("quit")
            )
            if parts is not None:
                return parts
        return None

    def _run_commands(self, parts: PipelineParts) -> None:
        """Carry out the commands that are waiting."""
        for command in self._commands.take():
            if not command.start():
                continue
            outcome: str | ReenactError
            try:
                outcome = parts.command_handler.carry_out(command.name, command.value)
            except ReenactError as error:
                outcome = error
            command.finish(outcome)
            if command.result is None:
                self._hooks.notice(outcome if isinstance(outcome, str) else self._advice(outcome))

    def _advice(self, error: ReenactError) -> str:
        cure = self._hooks.cures.get(error.code, error.cure)
        return f"{error}; {cure}" if cure else str(error)

    def _report_no_face(self) -> None:
        complete = self._settings.lossless or not self._stop_signal.over.is_set()
        if complete and self._counts.frames and not self._counts.faces:
            self._hooks.notice(f"there was no face in {self._capture.source.name}, so the portrait did not move")

    def _generate_newest(self, parts: PipelineParts) -> None:
        """Track and generate the newest frame, and idle while there is none."""
        ready_ns = self._clock()
        due_ns = ready_ns + self._patience_ns
        inbox = self._capture.inbox
        while not self._stop_signal.over.is_set():
            frame = inbox.get(max(0, due_ns - self._clock()) / 1e9)
            self._run_commands(parts)
            if frame is None and inbox.closed:
                return
            if frame is None:
                parts.animator.idle()
                due_ns = max(due_ns + self._period_ns, self._clock())
            elif frame.stamps.captured < ready_ns:
                self._counts.starting += 1
            else:
                parts.animator.show(parts.observer.observe(frame))
                due_ns = self._clock() + self._patience_ns
            elapsed_ns = self._clock() - self._counts.first_ns if self._counts.frames else 0
            if self._settings.limits.reached(self._counts.frames, elapsed_ns):
                self._stop_signal.finish("done")

    def _generate_all(self, parts: PipelineParts) -> None:
        """Generate a frame for every driving frame, in order, while the tracking thread is at the next one."""
        track = TrackThread(parts.observer, self._capture.inbox, self._stop_signal)
        track.start()
        limits = self._settings.limits
        first_ns: int | None = None
        try:
            while not self._stop_signal.over.is_set() and (observation := track.observations.get()) is not None:
                self._run_commands(parts)
                first_ns = observation.frame.time_ns if first_ns is None else first_ns
                if limits.reached(0, observation.frame.time_ns - first_ns):
                    self._stop_signal.finish("done")
                    return
                parts.animator.show(observation)
                if limits.reached(self._counts.frames, 0):
                    self._stop_signal.finish("done")
        finally:
            self._capture.inbox.close()
            track.observations.close()
            track.join(1.0)


class TrackThread(threading.Thread):
    """Tracks every frame, in order, while the compute thread generates the one before."""

    def __init__(self, observer: FaceObserver, inbox: Mailbox[Frame], stop_signal: StopSignal) -> None:
        super().__init__(name="track", daemon=True)
        self.observations: Mailbox[Observation] = Mailbox()
        self._observer = observer
        self._inbox = inbox
        self._stop_signal = stop_signal

    def run(self) -> None:
        """Track until there are no more frames or ``observations`` is closed."""
        try:
            while (frame := self._inbox.get()) is not None:
                if not self.observations.put_when_free(self._observer.observe(frame)):
                    return
        except BaseException as error:
            self._stop_signal.fail(error)
        finally:
            self.observations.close()
