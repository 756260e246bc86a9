"""Single keys from the terminal while the program runs. The terminal is given back as it was, however it ends."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from types import TracebackType

LOOK_S = 0.5
"""How soon a terminal that is ours again is noticed."""


class Keys:
    """Calls ``pressed`` with each key, from a thread of its own, between ``__enter__`` and ``__exit__``.

    Does nothing where standard input is no terminal, or one that belongs to somebody else (a job in the background).
    One that is given to somebody else meanwhile is left alone until it is ours again. Ctrl-C and Ctrl-Z stay signals.
    ``restore``, ``pause`` and ``resume`` may be called from signal handlers on the main thread.
    """

    def __init__(self, pressed: Callable[[str], None], fd: int | None = None) -> None:
        self._pressed = pressed
        self._fd = _standard_input() if fd is None else fd
        self._saved: object = None
        self._thread: threading.Thread | None = None
        self._wake: tuple[int, int] | None = None
        self._over = threading.Event()
        self._mode = threading.RLock()  # a signal handler may come while its own thread holds it
        self._taken = False
        self._paused = False

    @property
    def active(self) -> bool:
        """Whether keys are listened to."""
        return self._thread is not None

    def __enter__(self) -> Keys:
        if sys.platform == "win32":
            if self._fd is not None and os.isatty(self._fd):
                self._listen(self._poll)
        elif self._fd is not None and self._take(self._fd):
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
        """Give the terminal its own mode back, unless it is somebody else's by now. May be called twice."""
        if sys.platform != "win32" and self._fd is not None:
            import termios

            with self._mode, contextlib.suppress(termios.error):  # the terminal may have gone
                taken, self._taken = self._taken, False
                if taken and _is_ours(self._fd):
                    termios.tcsetattr(self._fd, termios.TCSANOW, self._saved)  # type: ignore[arg-type]

    def pause(self) -> None:
        """Give the terminal back until ``resume``."""
        with self._mode:
            self._paused = True
            self.restore()

    def resume(self) -> None:
        """Take the terminal again, as soon as it is ours; a shell has set its mode meanwhile."""
        with self._mode:
            self._paused = self._taken = False
            if self.active and self._fd is not None:
                self._take(self._fd)

    def _take(self, fd: int) -> bool:
        """Whether the terminal is ours to read; from here on without line buffering and echo."""
        if sys.platform == "win32":
            return False
        import termios
        import tty

        with self._mode, contextlib.suppress(termios.error):
            if self._paused or not _is_ours(fd):
                self._taken = False
            elif not self._taken:
                self._saved = self._saved or termios.tcgetattr(fd)
                tty.setcbreak(fd, termios.TCSANOW)
                self._taken = True
        return self._taken

    def _listen(self, loop: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=loop, name="keys", daemon=True)
        self._thread.start()

    def _select(self) -> None:
        assert self._wake is not None
        assert self._fd is not None
        if sys.platform != "win32":  # a terminal that has just become somebody else's is an error, and stops nothing
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTIN, signal.SIGTTOU})
        heard = True
        while heard:
            taken = [self._fd] if self._take(self._fd) else []
            ready, _, _ = select.select([self._wake[0], *taken], [], [], LOOK_S)
            if self._wake[0] in ready:
                return
            if ready and _is_ours(self._fd):
                heard = self._read(self._fd)

    def _read(self, fd: int) -> bool:
        """Pass on what was typed; False when nothing more will come."""
        try:
            typed = os.read(fd, 64)
        except OSError:
            return not _is_ours(fd)
        for key in typed.decode("ascii", "ignore"):
            self._pressed(key)
        return bool(typed)

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
