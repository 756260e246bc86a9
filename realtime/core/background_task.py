"""A function that runs on a thread of its own, and its result."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

from engines.errors import ReenactError

T = TypeVar("T")

_log = logging.getLogger(__name__)


class BackgroundTask(Generic[T]):
    """A function that runs on a daemon thread: a Future with a thread of its own.

    An error that no call of ``result()`` raises is logged when the task is discarded, with its traceback unless it is
    a ReenactError.
    """

    def __init__(self, name: str, work: Callable[[], T]) -> None:
        self._name = name
        self._future: Future[T] = Future()
        self._work = work
        self._retrieved = False

    def start(self) -> None:
        """Start the thread. A task starts once."""
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to ``timeout`` seconds. Return True if the task has finished."""
        return bool(wait([self._future], timeout).done)

    def result(self) -> T:
        """Wait for the task. Return its result, or raise the exception that it raised."""
        self._retrieved = True
        return self._future.result()

    def then(self, use: Callable[[T], object]) -> None:
        """Call ``use(result)`` when the task has succeeded; never if it fails.

        The call is made on the task's thread, or at once where the task has finished already. An exception that
        ``use`` raises is logged.
        """

        def callback(future: Future[T]) -> None:
            if future.exception() is None:
                use(future.result())

        self._future.add_done_callback(callback)

    def _run(self) -> None:
        try:
            result = self._work()
        except BaseException as error:
            self._future.set_exception(error)
        else:
            self._future.set_result(result)
        finally:
            # The traceback refers to this frame: without the reference to the task it is discarded at once.
            del self

    def __del__(self) -> None:
        error = self._future.exception(0) if self._future.done() else None
        if error is None or self._retrieved:
            return
        if isinstance(error, ReenactError):
            _log.warning("%s: %s", self._name, error)
        else:
            _log.error("%s failed", self._name, exc_info=error)
