"""Single keys from the terminal while the program runs. The terminal is given back as it was, however it ends."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from collections.abc import Callable
from types import TracebackType


class Keys:
    """Calls ``pressed`` with each key, from a thread of its own, between ``__enter__`` and ``__exit__``.

    Does nothing where standard input is no terminal, or one that belongs to somebody else (a job in the background).
    Ctrl-C stays a signal. ``restore`` may be called from a signal handler.
    """

    def __init__(self, pressed: Callable[[str], None], fd: int | None = None) -> None:
        self._pressed = pressed
        self._fd = _standard_input() if fd is None else fd
        self._saved: object = None
        self._thread: threading.Thread | None = None
        self._wake: tuple[int, int] | None = None
        self._over = threading.Event()

    @property
    def active(self) -> bool:
        """Whether keys are listened to."""
        return self._thread is not None

    def __enter__(self) -> Keys:
        if sys.platform == "win32":
            if self._fd is not None and os.isatty(self._fd):
                self._listen(self._poll)
        elif self._fd is not None and _is_ours(self._fd):
            self._quieten(self._fd)
            self._wake = os.pipe()
            self._listen(self._select)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._wake is not None:
            os.write(self._wake[1], b"x")
        if self._thread is not None:
            self._thread.join()
        if self._wake is not None:
            for end in self._wake:
                os.close(end)
        self.restore()

    def restore(self) -> None:
        """Give the terminal its own mode back. May be called twice."""
        if sys.platform != "win32" and self._saved is not None and self._fd is not None:
            import termios

            saved, self._saved = self._saved, None
            with contextlib.suppress(termios.error):  # the terminal may have gone
                termios.tcsetattr(self._fd, termios.TCSANOW, saved)  # type: ignore[arg-type]

    def _quieten(self, fd: int) -> None:
        """No line buffering and no echo."""
        if sys.platform != "win32":
            import termios
            import tty

            self._saved = termios.tcgetattr(fd)
            tty.setcbreak(fd, termios.TCSANOW)

    def _listen(self, loop: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=loop, name="keys", daemon=True)
        self._thread.start()

    def _select(self) -> None:
        assert self._wake is not None
        assert self._fd is not None
        while True:
            ready, _, _ = select.select([self._fd, self._wake[0]], [], [])
            if self._wake[0] in ready:
                return
            try:
                pressed = os.read(self._fd, 64)
            except OSError:
                return
            if not pressed:
                return
            for key in pressed.decode("ascii", "ignore"):
                self._pressed(key)

    def _poll(self) -> None:
        if sys.platform == "win32":
            import msvcrt

            while not self._over.wait(0.05):
                while msvcrt.kbhit():
                    self._pressed(msvcrt.getwch())


def _standard_input() -> int | None:
    try:
        return sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def _is_ours(fd: int) -> bool:
    """Whether it is a terminal in whose foreground this process runs: touching another's stops the process."""
    if sys.platform == "win32":
        return os.isatty(fd)
    try:
        return os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False
