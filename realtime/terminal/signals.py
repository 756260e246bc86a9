"""Signal handlers: the first signal asks the program to end, the second ends it; Ctrl-Z suspends it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType, TracebackType

EXIT_CODE = 130
SAME_REQUEST_S = 0.5
"""Signals that follow the first sooner count as one: ``timeout`` sends one to the program and one to its group."""


class _Handlers:
    """Signal handlers that ``__exit__`` restores. All methods belong to the main thread."""

    def __init__(self) -> None:
        self._previous: dict[int, object] = {}

    def _set(self, number: int, handler: Callable[[int, FrameType | None], None]) -> None:
        self._previous[number] = signal.signal(number, handler)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


class Interrupts(_Handlers):
    """Counts SIGINT, SIGTERM and SIGHUP between ``__enter__`` and ``__exit__``, on the main thread.

    If SIGHUP is ignored, it stays so: under nohup the program outlives its terminal.

    The handler sets a number that the main thread polls, and acquires no lock, because the main thread may hold it.
    At the second signal it calls ``before_exit`` and ends the process with code 130. SIGHUP, which the shell and the
    system send when a terminal is closed, never counts as the second.
    """

    def __init__(self, before_exit: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.count = 0
        self._before_exit = before_exit
        self._clock = clock
        self._first = 0.0

    def __enter__(self) -> Interrupts:
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
            number = getattr(signal, name, None)
            if number is not None and not (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                self._set(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        now = self._clock()
        if not self.count:
            self.count, self._first = 1, now
        elif number != getattr(signal, "SIGHUP", None) and now - self._first >= SAME_REQUEST_S:
            self._before_exit()
            os._exit(EXIT_CODE)


class Suspensions(_Handlers):
    """Handles Ctrl-Z between ``__enter__`` and ``__exit__``, on the main thread.

    ``pause`` is called before the program is suspended, and ``resume``, which must be idempotent, when it continues, in
    the foreground or not, also if it was suspended by SIGSTOP. If SIGTSTP is ignored, it stays so.
    """

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        super().__init__()
        self._pause = pause
        self._resume = resume

    def __enter__(self) -> Suspensions:
        if sys.platform != "win32" and signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN:
            self._set(signal.SIGTSTP, self._suspend)
            self._set(signal.SIGCONT, self._continue)
        return self

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._pause()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)  # returns when the program continues; at once if no shell could continue it
        signal.signal(number, self._suspend)
        self._resume()

    def _continue(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._resume()
