"""Find the threads and tasks that a test leaves behind, so that the test which leaked them fails and no later one."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

ALLOWED_THREADS = {
    "tqdm_monitor": "tqdm starts one for the process, which ends with it",
}
"""Names of threads that may outlive a test, and why."""
ALLOWED_TASKS = {
    "Connection.query_consent": "aioice begins it where a connection is closed while it succeeds, also in clients",
}
"""Names of coroutines whose tasks may be pending at the end of a loop, and why."""
DEADLINE_S = 5.0
"""How long the threads and tasks that a test has told to end may take. Only a test that leaks one waits for so long."""


class Leaks:
    """What was started since the last ``begin`` and has not ended."""

    def __init__(self) -> None:
        self._before: set[threading.Thread] = set()
        self._tasks: list[str] = []

    def begin(self) -> None:
        """Start again: what runs by now was started by another one."""
        self._before, self._tasks = set(threading.enumerate()), []

    def add_tasks(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note and cancel the tasks that are pending at the end of a loop, as ``asyncio.run`` does without a word."""
        if pending := _pending(loop):
            # a library may let the tasks of what was closed run out
            loop.run_until_complete(asyncio.wait(pending, timeout=DEADLINE_S))
        for task in _pending(loop):
            self._tasks.append(_task_text(task))
            task.cancel()

    def found(self) -> list[str]:
        """Return a text for each leaked thread and task, with its name and stack.

        Wait up to ``DEADLINE_S`` for threads that are about to end.
        """
        deadline = time.monotonic() + DEADLINE_S
        started = [thread for thread in threading.enumerate() if thread not in self._before and not _allowed(thread)]
        for thread in started:
            thread.join(max(0.0, deadline - time.monotonic()))
        alive = [thread for thread in started if thread.is_alive() and not _waits_in_pool(thread)]
        return [*(_thread_text(thread) for thread in alive), *self._tasks]


@contextmanager
def watching_loops(leaks: Leaks) -> Iterator[None]:
    """Tell ``leaks`` about every loop of ``asyncio.run`` and ``asyncio.Runner`` before it is closed."""
    close = asyncio.Runner.close

    def noting(runner: asyncio.Runner) -> None:
        loop = getattr(runner, "_loop", None)  # get_loop() would create the loop of a runner that was never used
        if loop is not None and not loop.is_closed():
            leaks.add_tasks(loop)
        close(runner)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.Runner, "close", noting)
        yield


def _pending(loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[object]]:
    """Return the tasks of a loop that have neither ended nor been told to."""
    tasks = [task for task in asyncio.all_tasks(loop) if not task.cancelling()]
    return [task for task in tasks if getattr(task.get_coro(), "__qualname__", "") not in ALLOWED_TASKS]


def _allowed(thread: threading.Thread) -> bool:
    """Return True if a thread may outlive a test: that of a library, for the whole process."""
    # Python makes an object for a thread of another language that calls it, and keeps it until the process ends
    foreign = isinstance(thread, threading._DummyThread)
    return foreign or thread is threading.current_thread() or thread.name in ALLOWED_THREADS


def _waits_in_pool(thread: threading.Thread) -> bool:
    """Return True for an idle thread of the pool of an event loop, which lives as long as the loop.

    A loop that tests share, such as Playwright's, starts the threads of its pool in any of them.
    """
    frame = sys._current_frames().get(thread.ident or 0)
    return thread.name.startswith("asyncio_") and frame is not None and frame.f_code.co_name == "_worker"


def _thread_text(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    stack = "".join(traceback.format_stack(frame)) if frame is not None else "  it has just ended\n"
    return f"the thread {thread.name!r} is still running:\n{stack}"


def _task_text(task: asyncio.Task[object]) -> str:
    stack = "".join(line for frame in task.get_stack() for line in traceback.format_stack(frame, limit=1))
    return f"the task {task.get_name()!r} is still pending, {task.get_coro()!r}:\n{stack}"
