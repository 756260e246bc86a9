"""Signals: the first asks the program to end, the second ends it; Ctrl-Z stops it for a while."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType, TracebackType

EXIT_CODE = 130
APART_S = 0.5
"""Signals that follow the first sooner mean the same request: ``timeout`` sends to the program and to its group."""


class _Handlers:
    """Signal handlers that are given back at ``__exit__``, all on the main thread."""

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

    A SIGHUP that is ignored stays so: under nohup the program outlives its terminal.

    The handler sets a number that the main thread looks at, and nothing that takes a lock: the main thread may hold
    that very lock. At the second signal it calls ``last_words`` and ends the process with code 130. Nobody insists with
    a SIGHUP, which comes from the shell and from the system when a terminal is closed: it is never the second.
    """

    def __init__(self, last_words: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.count = 0
        self._last_words = last_words
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
        elif number != getattr(signal, "SIGHUP", None) and now - self._first >= APART_S:
            self._last_words()
            os._exit(EXIT_CODE)


class Suspensions(_Handlers):
    """Hears Ctrl-Z between ``__enter__`` and ``__exit__``, on the main thread.

    ``pause`` is called before the program stops, and ``resume`` when it goes on, in the foreground or not, even where
    it was stopped unheard; it may be called twice. A SIGTSTP that is ignored stays so.
    """

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        super().__init__()
        self._pause = pause
        self._resume = resume

    def __enter__(self) -> Suspensions:
        if sys.platform != "win32" and signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN:
            self._set(signal.SIGTSTP, self._stop)
            self._set(signal.SIGCONT, self._continue)
        return self

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._pause()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)  # comes back when the program goes on, at once where nobody could continue it
        signal.signal(number, self._stop)
        self._resume()

    def _continue(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._resume()
