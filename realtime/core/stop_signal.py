"""The end of a run: one reason, seen by every thread."""

from __future__ import annotations

import threading


class StopSignal:
    """An event that ends a run, with the reason. The first call wins; later ones are often its consequences."""

    def __init__(self) -> None:
        self.over = threading.Event()
        """Set when the run is to end."""
        self.reason = ""
        self.complete = False
        """Whether all the work was done: then sinks get the time they need to finish."""
        self.error: BaseException | None = None
        self._lock = threading.Lock()

    def finish(self, reason: str) -> None:
        """End the run because all the work is done."""
        self._set(reason, None, complete=True)

    def stop(self, reason: str) -> None:
        """End the run on request."""
        self._set(reason, None)

    def fail(self, error: BaseException) -> None:
        """End the run because of an error."""
        self._set(str(error), error)

    def fail_closing(self, error: BaseException) -> None:
        """Note that closing failed, also after the run has ended otherwise: what it wrote may be incomplete."""
        self.fail(error)
        with self._lock:
            if self.error is None:
                self.error = error

    def _set(self, reason: str, error: BaseException | None, *, complete: bool = False) -> None:
        with self._lock:
            if not self.over.is_set():
                self.reason, self.error, self.complete = reason, error, complete
                self.over.set()
