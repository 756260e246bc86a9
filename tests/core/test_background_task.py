from __future__ import annotations

import logging
import threading

import pytest

from engines.errors import SourceMissing
from realtime.core.background_task import BackgroundTask
from tests.support.waiting import until


def fail() -> int:
    raise ValueError("a bug")


def refuse() -> int:
    raise SourceMissing("camera-missing", "no camera /dev/video9")


def test_a_task_returns_its_result_and_passes_it_on() -> None:
    go = threading.Event()
    passed_on: list[int] = []
    task = BackgroundTask("test", lambda: 7 if go.wait(5) else 0)
    task.then(passed_on.append)
    task.start()
    assert not task.wait(0)
    go.set()
    assert task.result() == 7
    assert task.wait()
    until(lambda: passed_on == [7])
    task.then(passed_on.append)
    assert passed_on == [7, 7]


def test_a_result_raises_the_error_of_the_task_and_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    task = BackgroundTask("test", fail)
    passed_on: list[int] = []
    task.then(passed_on.append)
    task.start()
    with pytest.raises(ValueError, match="a bug"):
        task.result()
    del task
    assert not passed_on
    assert not caplog.records


def test_an_error_of_a_task_that_nothing_waits_for_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    BackgroundTask("prepare", fail).start()
    (record,) = until(lambda: list(caplog.records), "nothing was logged")
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "prepare failed")
    assert "in fail" in caplog.text


def test_an_error_is_logged_when_a_task_is_discarded_after_waiting(caplog: pytest.LogCaptureFixture) -> None:
    task = BackgroundTask("prepare", fail)
    task.start()
    assert task.wait(5)
    del task
    until(lambda: "prepare failed" in caplog.text)


def test_a_mistake_of_the_user_is_logged_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    BackgroundTask("open", refuse).start()
    until(lambda: "no camera /dev/video9" in caplog.text)
    assert "Traceback" not in caplog.text


def test_an_error_of_a_callback_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    task = BackgroundTask("test", lambda: 0)
    task.start()
    task.result()
    task.then(lambda result: 1 // result)
    assert "ZeroDivisionError" in caplog.text
