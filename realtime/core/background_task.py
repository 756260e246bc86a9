"""A piece of work on a thread of its own, and its outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class BackgroundTask(Generic[T]):
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
