"""How a run ends: once, for one reason, noticed by every thread."""

from __future__ import annotations

import threading


class Ending:
    """The first reason stands; later ones, which are often its consequences, are left out."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.reason = ""
        self.error: BaseException | None = None
        self._lock = threading.Lock()

    def stop(self, reason: str) -> None:
        """End the run as it should end, for this reason."""
        self._end(reason, None)

    def fail(self, error: BaseException) -> None:
        """End the run because of an error."""
        self._end(str(error), error)

    def _end(self, reason: str, error: BaseException | None) -> None:
        with self._lock:
            if not self.over.is_set():
                self.reason, self.error = reason, error
                self.over.set()
