"""Loading the parts of a run in the background while a slate is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from engines.generator import Generator
from realtime.core.background_task import BackgroundTask
from realtime.core.latency import FrameCounts
from realtime.motion.motion_transfer import MotionTransfer
from realtime.motion.tracked import FaceListener
from realtime.pipeline.animator import Animator
from realtime.pipeline.command_handler import CommandHandler
from realtime.pipeline.face_observer import FaceObserver
from realtime.pipeline.frame_publisher import FramePublisher
from realtime.pipeline.portrait_library import PictureLoader, PortraitLibrary
from realtime.pipeline.settings import Notice
from realtime.portraits.background import KEEP, Background
from realtime.tracking.camera_rotation import CameraRotation
from realtime.tracking.tracker import Tracker

STARTING = "starting"
COMPILING = "compiling for this machine, once (30 s to a minute)"


@dataclass(frozen=True, slots=True)
class PartFactories:
    """The functions that open the parts of a run; each may take seconds."""

    tracker: Callable[[], Tracker]
    generator: Callable[[], Generator]
    motion: Callable[[], MotionTransfer]
    portraits: Sequence[PictureLoader]
    checked: int | None = None
    """How many of the portraits are checked before the first frame; None for all."""
    generator_named: Callable[[str], Generator] | None = None
    """Creates another generator by its name; None if the run keeps the one it has."""
    background: Callable[[], Background] = lambda: KEEP
    """Opens the background. Raises UsageError."""
    listeners: Callable[[], Sequence[FaceListener]] = tuple
    """Opens what is given every face of the driver. Raises UsageError, SinkMissing."""
    rotation: Callable[[Notice], CameraRotation] = lambda _: CameraRotation("0")
    """Creates what turns the driving video, without loading models; it is given what says so to the user."""


@dataclass(frozen=True, slots=True)
class PipelineParts:
    """What the compute thread works with once everything is ready. ``close`` closes tracker and generator."""

    observer: FaceObserver
    animator: Animator
    command_handler: CommandHandler

    @property
    def library(self) -> PortraitLibrary:
        """The portraits to choose from."""
        return self.animator.library

    def close(self) -> None:
        """Release everything. Idempotent. Raises SinkLost if what a listener wrote could not be finished."""
        try:
            self.observer.close()
        finally:
            self.animator.close()


class PipelineLoader:
    """Opens the tracker, and the generator with the first portrait, in parallel, and assembles the parts.

    ``failed`` is called with the error of a portrait that cannot be prepared later on.
    """

    def __init__(
        self,
        factories: PartFactories,
        *,
        mirror: bool,
        failed: Callable[[BaseException], None],
        notice: Notice,
    ) -> None:
        self._factories = factories
        self._mirror = mirror
        self._failed = failed
        self._notice = notice
        self._status = STARTING
        self._tracker = BackgroundTask("open tracker", factories.tracker)
        self._library = BackgroundTask("prepare portrait", self._open_library)

    @property
    def status(self) -> str:
        """What is going on, in a few words for the slate and the status line."""
        return self._status

    def start(self) -> None:
        """Begin to load, on background threads."""
        self._tracker.start()
        self._library.start()

    def discard(self) -> None:
        """Close what was loaded but never assembled, as soon as it is loaded."""
        self._tracker.then(lambda tracker: tracker.close())
        self._library.then(lambda library: library.close())

    def assemble(
        self, timeout: float, publisher: FramePublisher, counts: FrameCounts, quit_run: Callable[[], None]
    ) -> PipelineParts | None:
        """Wait up to ``timeout`` seconds. Return the parts, or None if they are not ready by then.

        Raises what went wrong as soon as it has: a bad portrait does not wait for the tracker.
        """
        for task in (self._library, self._tracker):
            if task.wait(0):
                task.result()
        if not (self._library.wait(timeout) and self._tracker.wait(timeout)):
            return None
        library, tracker = self._library.result(), self._tracker.result()
        with ExitStack() as stack:
            listeners = self._factories.listeners()
            for listener in listeners:
                stack.callback(listener.close)
            rotation = self._factories.rotation(self._notice)
            stack.callback(rotation.close)
            observer = FaceObserver(tracker, rotation, mirror=self._mirror, listeners=listeners)
            animator = Animator(
                self._factories.motion(),
                library,
                publisher,
                counts,
                mirror=self._mirror,
                library_for=None if self._factories.generator_named is None else self._library_for,
                notice=self._notice,
            )
            stack.pop_all()
        BackgroundTask("prepare other portraits", library.prepare_others).start()
        return PipelineParts(observer, animator, CommandHandler(observer, animator, quit_run))

    def _open_library(self) -> PortraitLibrary:
        factories = self._factories
        generator = factories.generator()
        library = PortraitLibrary(
            generator,
            factories.portraits,
            failed=self._failed,
            notice=self._notice,
            background=factories.background(),
        )
        try:
            library.load(factories.checked)
            self._prepare_first(library)
        except BaseException:
            library.close()
            raise
        return library

    def _library_for(self, name: str, old: PortraitLibrary, first: int) -> PortraitLibrary:
        """Return the portraits of ``old`` with the generator called ``name``, the one at index ``first`` prepared."""
        assert self._factories.generator_named is not None
        library = old.for_generator(self._factories.generator_named(name), first)
        try:
            self._prepare_first(library)
        except BaseException:
            library.close()
            raise
        return library

    def _prepare_first(self, library: PortraitLibrary) -> None:
        library.prepare_first(self._factories.motion(), self._show_compiling)
        self._status = STARTING

    def _show_compiling(self, count: int, total: int) -> None:
        if self._status == STARTING:
            self._notice(COMPILING)
        self._status = f"{COMPILING}: {count} of {total}"
