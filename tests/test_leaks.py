"""A leaked thread or task is blamed on the test that leaked it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.leaks import Leaks, watching_loops
from tests.support.waiting import until

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
LEAKING = """
import asyncio, threading

def test_innocent():
    pass

def test_leaks_a_thread():
    threading.Thread(target=threading.Event().wait, name="forgotten", daemon=True).start()

def test_leaks_a_task():
    async def work():
        asyncio.get_running_loop().left = asyncio.create_task(asyncio.sleep(99), name="left over")
    asyncio.run(work())

def test_innocent_too():
    asyncio.run(asyncio.sleep(0))
"""


@pytest.fixture
def leaks() -> Iterator[Leaks]:
    """A watch that begins with the test, of the test's loops alone."""
    leaks = Leaks()
    with watching_loops(leaks):
        leaks.begin()
        yield leaks


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing."""
    monkeypatch.setattr("tests.support.leaks.DEADLINE_S", 0.0)


@pytest.mark.usefixtures("at_once")
def test_a_thread_that_goes_on_is_named_with_its_stack(leaks: Leaks) -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="forgotten", daemon=True)
    thread.start()
    (found,) = leaks.found()
    over.set()
    thread.join()
    assert "'forgotten'" in found
    assert "in wait" in found
    assert leaks.found() == []


def test_a_thread_that_is_about_to_end_is_waited_for(leaks: Leaks) -> None:
    over = threading.Event()
    threading.Thread(target=over.wait).start()
    threading.Timer(0.02, over.set).start()
    assert leaks.found() == []


@pytest.mark.usefixtures("at_once")
def test_a_thread_of_before_is_not_blamed_again(leaks: Leaks) -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait, daemon=True)
    thread.start()
    leaks.begin()
    assert leaks.found() == []
    over.set()
    thread.join()


async def waits_for_ever() -> None:
    await asyncio.Event().wait()


@pytest.mark.usefixtures("at_once")
def test_a_task_left_pending_is_named_with_its_stack(leaks: Leaks) -> None:
    kept = []

    async def work() -> None:
        kept.append(asyncio.create_task(waits_for_ever(), name="left over"))

    asyncio.run(work())
    (found,) = leaks.found()
    assert "'left over'" in found
    assert "await asyncio.Event().wait()" in found


def test_a_task_that_ends_or_was_cancelled_is_not_blamed(leaks: Leaks) -> None:
    async def work() -> None:
        tasks = [asyncio.create_task(asyncio.sleep(0.02)), asyncio.create_task(waits_for_ever())]
        await asyncio.sleep(0)
        tasks[1].cancel()

    asyncio.run(work())
    assert leaks.found() == []


def test_the_test_that_leaks_fails_and_no_other(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest(
        """
        from tests.conftest import _leaks, _nothing_leaks
        from tests.support import leaks
        leaks.DEADLINE_S = 0.05
        """
    )
    pytester.makepyfile(LEAKING)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=4, errors=2)
    result.stdout.fnmatch_lines(
        [
            "*at teardown of test_leaks_a_thread *",
            "the thread 'forgotten' is still running:",
            "*at teardown of test_leaks_a_task *",
            "the task 'left over' is still pending*",
        ]
    )


@pytest.mark.usefixtures("at_once")
def test_the_pool_of_a_loop_that_goes_on_is_no_leak_unless_it_works(leaks: Leaks) -> None:
    loop, over = asyncio.new_event_loop(), threading.Event()
    loop.run_until_complete(loop.run_in_executor(None, int))
    until(lambda: leaks.found() == [])  # an idle thread of the pool
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("asyncio_")]
    work = loop.run_in_executor(None, over.wait)
    (found,) = until(leaks.found)
    over.set()
    assert "'asyncio_0' is still running" in found
    loop.run_until_complete(work)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
