"""Standard output that keeps nobody waiting, whatever the terminal does."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator

import pytest

from realtime.terminal.output_thread import MOST, Output


class Held(io.StringIO):
    """A terminal that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        self.asked.set()
        assert self.go.wait(10)
        return super().write(text)


@pytest.fixture
def held() -> Iterator[Held]:
    stream = Held()
    yield stream
    stream.go.set()


def test_what_is_written_is_printed_in_order() -> None:
    stream = io.StringIO()
    output = Output(stream)
    for number in range(MOST):
        output.write(f"{number}\n")
    output.close(10)
    assert stream.getvalue() == "".join(f"{number}\n" for number in range(MOST))


def test_a_terminal_that_is_held_keeps_nobody_and_gets_the_latest(held: Held) -> None:
    output = Output(held)
    output.write("first\n")
    assert held.asked.wait(5)
    for number in range(MOST + 5):
        output.write(f"{number}\n")
    held.go.set()
    output.close(10)
    assert held.getvalue().split() == ["first", *map(str, range(5, MOST + 5))]


def test_the_end_waits_for_a_held_terminal_once_and_not_for_ever(held: Held) -> None:
    output = Output(held)
    output.write("text")
    assert held.asked.wait(5)
    began = time.monotonic()
    output.close(0.1)
    output.close(60)
    assert 0.1 <= time.monotonic() - began < 5


def test_nothing_is_taken_after_the_end() -> None:
    stream = io.StringIO()
    output = Output(stream)
    output.write("before")
    output.close(10)
    output.write("after")
    assert stream.getvalue() == "before"
