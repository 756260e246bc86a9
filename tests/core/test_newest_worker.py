"""Work for the newest job only, on a thread of its own."""

from __future__ import annotations

import logging
import threading

import pytest

from realtime.core.newest_worker import NewestWorker


def test_only_the_newest_job_is_done_in_the_background() -> None:
    begun, go_on, finished = threading.Event(), threading.Event(), threading.Event()
    done: list[int] = []

    def work(job: int) -> int:
        begun.set()
        assert go_on.wait(10)
        done.append(job)
        return job

    worker = NewestWorker("work", work, finished.set, threaded=True)
    assert worker.take() is None
    worker.offer(0)
    assert begun.wait(10)
    for job in (1, 2, 3):
        worker.offer(job)
    go_on.set()
    worker.close()
    worker.close()
    assert finished.is_set()
    assert done == [0, 3]
    assert (worker.take(), worker.take()) == (3, None)


@pytest.mark.parametrize("background", [True, False])
def test_an_error_is_logged_and_ends_the_work(caplog: pytest.LogCaptureFixture, background: bool) -> None:
    finished = threading.Event()

    def work(job: int) -> int:
        raise ValueError(f"no job {job}")

    worker = NewestWorker("work", work, finished.set, threaded=background)
    with caplog.at_level(logging.ERROR):
        worker.offer(1)
        assert finished.wait(10)
        worker.offer(2)
        worker.close()
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is not None
