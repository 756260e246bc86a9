"""What is made ready on helper threads while the slate is on: the tracker, the generator, the portraits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engines.generator import Generator
from realtime.core.background_task import Task
from realtime.core.latency import Ledger
from realtime.motion.relative import MotionTransfer
from realtime.pipeline.animator import Animator, Crew, Desk, Observer
from realtime.pipeline.portrait_library import Wardrobe
from realtime.pipeline.publisher import Outlet
from realtime.portraits.portrait import PortraitPicture
from realtime.tracking.tracker import Tracker


class Backstage:
    """Opens the tracker and the generator with the first portrait side by side, and assembles the crew from them."""

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
        self._tracker = Task("open tracker", tracker)
        self._wardrobe = Task("prepare portrait", lambda: self._dress(generator, loaders, failed, notice))

    def start(self) -> None:
        """Begin, on helper threads."""
        self._tracker.start()
        self._wardrobe.start()

    def dismiss(self) -> None:
        """Let go of what was made ready and never assembled, as soon as it is."""
        self._tracker.then(lambda tracker: tracker.close())
        self._wardrobe.then(lambda wardrobe: wardrobe.close())

    def assemble(self, timeout: float, outlet: Outlet, ledger: Ledger, quit_: Callable[[], None]) -> Crew | None:
        """The crew, or None if it is not ready within ``timeout`` seconds. Raises what went wrong."""
        for task in (self._wardrobe, self._tracker):
            if not task.wait(timeout):
                return None
        wardrobe, tracker = self._wardrobe.result(), self._tracker.result()
        observer = Observer(tracker, mirror=self._mirror)
        dress = None if self._another is None else self._dress_anew
        animator = Animator(
            self._motion(), wardrobe, outlet, ledger, mirror=self._mirror, dress=dress, notice=self._notice
        )
        Task("prepare other portraits", wardrobe.prepare_others).start()
        return Crew(observer, animator, Desk(observer, animator, quit_))

    def _dress(
        self,
        generator: Callable[[], Generator],
        loaders: Sequence[Callable[[], PortraitPicture]],
        failed: Callable[[BaseException], None],
        notice: Callable[[str], None],
    ) -> Wardrobe:
        wardrobe = Wardrobe(generator(), loaders, failed=failed, notice=notice)
        try:
            wardrobe.load()
            wardrobe.prepare_first(self._motion())
        except BaseException:
            wardrobe.close()
            raise
        return wardrobe

    def _dress_anew(self, name: str, old: Wardrobe, wanted: int) -> Wardrobe:
        """Another generator with the same portraits, the one that is wanted prepared."""
        assert self._another is not None
        wardrobe = old.for_another(self._another(name), wanted)
        try:
            wardrobe.prepare_first(self._motion())
        except BaseException:
            wardrobe.close()
            raise
        return wardrobe
