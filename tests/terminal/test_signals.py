from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from realtime.terminal.signals import EXIT_CODE, SAME_REQUEST_S, Interrupts

CHILD = """
import itertools, threading, time
from realtime.terminal.signals import Interrupts
seconds = itertools.count()
with Interrupts(lambda: print("before exit", flush=True), clock=lambda: next(seconds)) as interrupts:
    print("ready", flush=True)
    while not interrupts.count:
        time.sleep(0.01)
    print("ending", flush=True)
    threading.Event().wait()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_the_program_to_end_and_the_second_ends_it(number: signal.Signals) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(number)
        assert child.stdout.readline() == "ending\n"
        child.send_signal(number)
        assert child.stdout.readline() == "before exit\n"
        assert child.wait(5) == EXIT_CODE


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
def test_signals_of_the_same_request_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [7.0]
    ended: list[object] = []
    monkeypatch.setattr("os._exit", ended.append)
    with Interrupts(lambda: ended.append("before exit"), clock=lambda: now[0]) as interrupts:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(number)
        now[0] += SAME_REQUEST_S
        signal.raise_signal(signal.SIGHUP)
        assert (interrupts.count, ended) == (1, [])
        signal.raise_signal(signal.SIGINT)
        assert ended == ["before exit", EXIT_CODE]


def test_the_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts(lambda: None):
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
def test_a_closed_terminal_ends_the_program_except_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with Interrupts(lambda: None) as interrupts:
            signal.raise_signal(signal.SIGHUP)
            assert interrupts.count == 1
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with Interrupts(lambda: None) as interrupts:
            signal.raise_signal(signal.SIGHUP)
            assert interrupts.count == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
