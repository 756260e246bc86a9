"""What is made ready on helper threads while the slate is on: the tracker, the generator, the portraits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engines.generator import Generator
from realtime.core.background_task import BackgroundTask
from realtime.core.latency import Ledger
from realtime.motion.relative import MotionTransfer
from realtime.pipeline.animator import Animator, CommandHandler, FaceObserver, PipelineParts
from realtime.pipeline.portrait_library import PortraitLibrary
from realtime.pipeline.publisher import FramePublisher
from realtime.portraits.portrait import PortraitPicture
from realtime.tracking.tracker import Tracker


class PipelineLoader:
    """Opens the tracker and the generator with the first portrait side by side, and assembles the parts from them."""

    def __init__(
        self,
        tracker: Callable[[], Tracker],
        generator: Callable[[], Generator],
        motion: Callable[[], MotionTransfer],
        loaders: Sequence[Callable[[], PortraitPicture]],
        *,
        mirror: bool,
        failed: Callable[[BaseException], None],
        notice: Callable[[str], None],
        another: Callable[[str], Generator] | None = None,
    ) -> None:
        """``another`` makes a generator by its name, for changing it on the way."""
        self._motion = motion
        self._another = another
        self._notice = notice
        self._mirror = mirror
        self._tracker = BackgroundTask("open tracker", tracker)
        self._library = BackgroundTask("prepare portrait", lambda: self._dress(generator, loaders, failed, notice))

    def start(self) -> None:
        """Begin, on helper threads."""
        self._tracker.start()
        self._library.start()

    def dismiss(self) -> None:
        """Let go of what was made ready and never assembled, as soon as it is."""
        self._tracker.then(lambda tracker: tracker.close())
        self._library.then(lambda library: library.close())

    def assemble(
        self, timeout: float, publisher: FramePublisher, ledger: Ledger, quit_: Callable[[], None]
    ) -> PipelineParts | None:
        """the parts, or None if it is not ready within ``timeout`` seconds. Raises what went wrong."""
        for task in (self._library, self._tracker):
            if not task.wait(timeout):
                return None
        library, tracker = self._library.result(), self._tracker.result()
        observer = FaceObserver(tracker, mirror=self._mirror)
        dress = None if self._another is None else self._dress_anew
        animator = Animator(
            self._motion(), library, publisher, ledger, mirror=self._mirror, dress=dress, notice=self._notice
        )
        BackgroundTask("prepare other portraits", library.prepare_others).start()
        return PipelineParts(observer, animator, CommandHandler(observer, animator, quit_))

    def _dress(
        self,
        generator: Callable[[], Generator],
        loaders: Sequence[Callable[[], PortraitPicture]],
        failed: Callable[[BaseException], None],
        notice: Callable[[str], None],
    ) -> PortraitLibrary:
        library = PortraitLibrary(generator(), loaders, failed=failed, notice=notice)
        try:
            library.load()
            library.prepare_first(self._motion())
        except BaseException:
            library.close()
            raise
        return library

    def _dress_anew(self, name: str, old: PortraitLibrary, wanted: int) -> PortraitLibrary:
        """Another generator with the same portraits, the one that is wanted prepared."""
        assert self._another is not None
        library = old.for_another(self._another(name), wanted)
        try:
            library.prepare_first(self._motion())
        except BaseException:
            library.close()
            raise
        return library
