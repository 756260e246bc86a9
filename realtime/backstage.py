"""What is made ready on helper threads while the slate is on: the tracker, the generator, the portraits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from engines.generator import Generator
from realtime.latency import Ledger
from realtime.motion import MotionTransfer
from realtime.outlet import Outlet
from realtime.portraits import PortraitPicture
from realtime.studio import Animator, Crew, Desk, Observer
from realtime.tracking import Tracker
from realtime.wardrobe import Wardrobe

T = TypeVar("T")


class Task(Generic[T]):
    """A piece of work on a thread of its own, which does not keep the program from ending."""

    def __init__(self, name: str, work: Callable[[], T]) -> None:
        self._work = work
        self._result: T | None = None
        self._error: BaseException | None = None
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._uses: list[Callable[[T], None]] = []
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is done, at most ``timeout`` seconds; whether it is."""
        return self._done.wait(timeout)

    def result(self) -> T:
        """Wait for the outcome: the result, or the exception that it raised."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]

    def then(self, use: Callable[[T], None]) -> None:
        """Hand the result to ``use`` once there is one, on whichever thread that is; nothing after a failure."""
        with self._lock:
            if not self._done.is_set():
                self._uses.append(use)
                return
        if self._error is None:
            use(self._result)  # type: ignore[arg-type]

    def _run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error
        with self._lock:
            self._done.set()
        for use in self._uses if self._error is None else ():
            use(self._result)  # type: ignore[arg-type]


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
    ) -> None:
        self._motion = motion
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
        self._wardrobe.then(lambda wardrobe: wardrobe.generator.close())

    def assemble(self, timeout: float, outlet: Outlet, ledger: Ledger, quit_: Callable[[], None]) -> Crew | None:
        """The crew, or None if it is not ready within ``timeout`` seconds. Raises what went wrong."""
        for task in (self._wardrobe, self._tracker):
            if not task.wait(timeout):
                return None
        wardrobe, tracker = self._wardrobe.result(), self._tracker.result()
        observer = Observer(tracker, mirror=self._mirror)
        animator = Animator(self._motion(), wardrobe, outlet, ledger, mirror=self._mirror)
        Task("prepare other portraits", wardrobe.prepare_others).start()
        return Crew(observer, animator, Desk(observer, animator, quit_), wardrobe)

    def _dress(
        self,
        generator: Callable[[], Generator],
        loaders: Sequence[Callable[[], PortraitPicture]],
        failed: Callable[[BaseException], None],
        notice: Callable[[str], None],
    ) -> Wardrobe:
        wardrobe = Wardrobe(generator(), loaders, failed=failed, notice=notice)
        wardrobe.prepare_first(self._motion())
        return wardrobe
