"""Write to standard output without waiting for it: a terminal may accept nothing (Ctrl-S, an ssh that hangs)."""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import Any, TextIO

from realtime.terminal import std_streams

MOST_WAITING = 1000
"""The number of pieces of text that may wait to be printed; of more, the oldest are dropped."""


class Output:
    """A text stream whose ``write`` never waits and never fails. A thread of its own prints the text in order.

    Any thread may write. After an error, as on a full disk, nothing more is printed, and the error is reported on
    standard error once; a closed pipe is not reported. All other attributes are those of the stream.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._stderr = sys.stderr  # a live display replaces sys.stderr
        self._failed = False
        self._closed = False
        self._waiting: deque[str] = deque(maxlen=MOST_WAITING)
        self._changed = threading.Condition()
        self._printer: threading.Thread | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Queue text to be printed. Does nothing after ``close``."""
        with self._changed:
            if not self._closed:
                self._waiting.append(text)
                self._changed.notify()
                if self._printer is None:
                    self._printer = threading.Thread(target=self._print, name="output", daemon=True)
                    self._printer.start()
        return len(text)

    def flush(self) -> None:
        """Do nothing: the thread flushes the stream after each piece of text."""

    def close(self, timeout: float) -> None:
        """Accept no more text, and wait up to ``timeout`` seconds until all is printed. Further calls do not wait."""
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
            if not self._failed:
                self._print_one(text)

    def _print_one(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._failed = True
            std_streams.redirect_to_null(self._stream)
            if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
                message = f"reenact: standard output fails ({error.strerror}); the run continues without it"
                print(message, file=self._stderr)
