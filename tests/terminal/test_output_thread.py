"""Test output that never waits for the terminal."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator

import pytest

from realtime.terminal.output_thread import MOST_WAITING, Output


class BlockedTerminal(io.StringIO):
    """A terminal that accepts nothing until ``go`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.writing = threading.Event()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        self.writing.set()
        assert self.go.wait(10)
        return super().write(text)


@pytest.fixture
def blocked() -> Iterator[BlockedTerminal]:
    stream = BlockedTerminal()
    yield stream
    stream.go.set()


def test_text_is_printed_in_order() -> None:
    stream = io.StringIO()
    output = Output(stream)
    for number in range(MOST_WAITING):
        output.write(f"{number}\n")
    output.close(10)
    assert stream.getvalue() == "".join(f"{number}\n" for number in range(MOST_WAITING))


def test_a_blocked_terminal_blocks_no_writer_and_gets_the_latest_text(blocked: BlockedTerminal) -> None:
    output = Output(blocked)
    output.write("first\n")
    assert blocked.writing.wait(5)
    for number in range(MOST_WAITING + 5):
        output.write(f"{number}\n")
    blocked.go.set()
    output.close(10)
    assert blocked.getvalue().split() == ["first", *map(str, range(5, MOST_WAITING + 5))]


def test_close_waits_for_a_blocked_terminal_once_and_not_for_ever(blocked: BlockedTerminal) -> None:
    output = Output(blocked)
    output.write("text")
    assert blocked.writing.wait(5)
    began = time.monotonic()
    output.close(0.1)
    output.close(60)
    assert 0.1 <= time.monotonic() - began < 5


def test_nothing_is_printed_after_close() -> None:
    stream = io.StringIO()
    output = Output(stream)
    output.write("before")
    output.close(10)
    output.write("after")
    assert stream.getvalue() == "before"
