"""A worker thread that does the newest job only, so that its caller never waits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from realtime.core.mailbox import Mailbox

Job = TypeVar("Job")
Result = TypeVar("Result")

CLOSE_S = 1.0
"""How long ``close`` waits for a job that is being worked on."""

_log = logging.getLogger(__name__)


class NewestWorker(Generic[Job, Result]):
    """Runs ``work`` for the newest of the jobs that are offered, and keeps the newest result.

    With ``threaded`` the thread starts with the first job, and ``finish`` is called on it in the end; jobs that are
    offered while one is worked on replace each other. Otherwise ``offer`` does the work itself, so that results do not
    depend on the machine's speed. An exception of ``work`` is logged, and no more jobs are accepted.
    """

    def __init__(self, name: str, work: Callable[[Job], Result], finish: Callable[[], None], *, threaded: bool) -> None:
        self._name = name
        self._work = work
        self._finish = finish
        self._threaded = threaded
        self._jobs: Mailbox[Job] = Mailbox()
        self._results: Mailbox[Result] = Mailbox()
        self._thread: threading.Thread | None = None

    def offer(self, job: Job) -> None:
        """Have a job done, unless the worker is closed."""
        if self._jobs.closed:
            return
        if not self._threaded:
            self._do(job)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def take(self) -> Result | None:
        """Remove and return the newest result; None if there is no new one. Does not wait."""
        return self._results.get(0)

    def close(self) -> None:
        """Accept no more jobs, and call ``finish`` after the last one. close() is idempotent."""
        if self._jobs.closed:
            return
        self._jobs.close()
        if self._thread is None:
            self._finish()
        else:
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                self._do(job)
        finally:
            self._finish()

    def _do(self, job: Job) -> None:
        try:
            self._results.put(self._work(job))
        except Exception:
            _log.exception("%s has failed and ends", self._name)
            self._jobs.close()
            if self._thread is None:
                self._finish()
