"""How a run ends: once, for one reason, noticed by every thread."""

from __future__ import annotations

import threading


class StopSignal:
    """The first reason stands; later ones, which are often its consequences, are left out."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.reason = ""
        self.complete = False
        """Whether all that was asked for has been done: then sinks get the time they need to finish."""
        self.error: BaseException | None = None
        self._lock = threading.Lock()

    def finish(self, reason: str) -> None:
        """End the run because there is nothing left to do."""
        self._end(reason, None, complete=True)

    def stop(self, reason: str) -> None:
        """End the run because somebody wants it to."""
        self._end(reason, None)

    def fail(self, error: BaseException) -> None:
        """End the run because of an error."""
        self._end(str(error), error)

    def _end(self, reason: str, error: BaseException | None, *, complete: bool = False) -> None:
        with self._lock:
            if not self.over.is_set():
                self.reason, self.error, self.complete = reason, error, complete
                self.over.set()
