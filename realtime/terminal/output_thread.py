"""Standard output that keeps nobody waiting: a terminal that is held (Ctrl-S, an ssh that hangs) takes no more."""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import Any, TextIO

from realtime.terminal import std_streams

MOST = 1000
"""Pieces of text that may wait to be printed; of more, the oldest are dropped."""


class Output:
    """A text stream that a run can do without. What is written is printed in order, on a thread of its own.

    Any thread may write, which never waits and never fails. Once printing fails, as on a full disk, nothing more is
    tried. That is said on standard error; a closed pipe is given up quietly. All else is the stream's own.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._errors = sys.stderr  # what shows a status puts itself in its place
        self._lost = False
        self._closed = False
        self._waiting: deque[str] = deque(maxlen=MOST)
        self._changed = threading.Condition()
        self._printer: threading.Thread | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Have it printed; nothing after ``close``."""
        with self._changed:
            if not self._closed:
                self._waiting.append(text)
                self._changed.notify()
                if self._printer is None:
                    self._printer = threading.Thread(target=self._print, name="output", daemon=True)
                    self._printer.start()
        return len(text)

    def flush(self) -> None:
        """As of any file; everything is flushed as it is printed."""

    def close(self, timeout: float) -> None:
        """Take no more, and wait ``timeout`` seconds at most until all is printed; a second call waits no more."""
        with self._changed:
            waits = self._printer is not None and not self._closed
            self._closed = True
            self._changed.notify()
        if waits and self._printer is not None:
            self._printer.join(timeout)

    def _print(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                text = self._waiting.popleft()
            if not self._lost:
                self._try(text)

    def _try(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._lost = True
            std_streams.give_up(self._stream)
            if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
                found = f"reenact: standard output fails ({error.strerror}); the run goes on without it"
                print(found, file=self._errors)
