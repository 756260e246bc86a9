"""Single keys from the terminal during a run. The terminal's mode is restored however the program ends."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from types import TracebackType

FOREGROUND_CHECK_S = 0.5
"""How often the program checks whether it has returned to the foreground."""


class Keys:
    """Calls ``on_key`` with each key, on a thread of its own, between ``__enter__`` and ``__exit__``.

    Does nothing if standard input is not a terminal. While the program runs in the background of its terminal, the
    terminal is left alone. Ctrl-C and Ctrl-Z remain signals. Signal handlers on the main thread may call ``restore``,
    ``pause`` and ``resume``.
    """

    def __init__(self, on_key: Callable[[str], None], fd: int | None = None) -> None:
        self._on_key = on_key
        self._fd = _standard_input() if fd is None else fd
        self._saved_mode: object = None
        self._thread: threading.Thread | None = None
        self._input: int | None = None
        """A descriptor of the same terminal that never blocks."""
        self._wake: tuple[int, int] | None = None
        self._over = threading.Event()
        self._mode_lock = threading.RLock()  # a signal handler may interrupt the thread that holds it
        self._in_key_mode = False
        self._paused = False

    @property
    def active(self) -> bool:
        """Whether keys are read."""
        return self._thread is not None

    def __enter__(self) -> Keys:
        if sys.platform == "win32":
            if self._fd is not None and os.isatty(self._fd):
                self._start(self._poll)
        elif self._fd is not None and self._enter_key_mode(self._fd):
            self._input = _open_non_blocking(self._fd)
            self._wake = os.pipe()
            self._start(self._read_keys)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._wake is not None:
            os.write(self._wake[1], b"x")
        if self._thread is not None:
            self._thread.join()
        for descriptor in (*(self._wake or ()), self._input):
            if descriptor is not None and descriptor != self._fd:
                os.close(descriptor)
        self.restore()

    def restore(self) -> None:
        """Restore the terminal's mode, unless another program is in the foreground by now. Idempotent."""
        if sys.platform != "win32" and self._fd is not None:
            import termios

            with self._mode_lock, contextlib.suppress(termios.error):  # the terminal may be gone
                changed, self._in_key_mode = self._in_key_mode, False
                if changed and _in_foreground(self._fd):
                    termios.tcsetattr(self._fd, termios.TCSANOW, self._saved_mode)  # type: ignore[arg-type]

    def pause(self) -> None:
        """Restore the terminal's mode until ``resume``."""
        with self._mode_lock:
            self._paused = True
            self.restore()

    def resume(self) -> None:
        """Read keys again as soon as the program is in the foreground; the shell has changed the mode meanwhile."""
        with self._mode_lock:
            self._paused = self._in_key_mode = False
            if self.active and self._fd is not None:
                self._enter_key_mode(self._fd)

    def _enter_key_mode(self, fd: int) -> bool:
        """Turn off line buffering and echo. Return True if they are off and the program is in the foreground."""
        if sys.platform == "win32":
            return False
        import termios
        import tty

        with self._mode_lock, contextlib.suppress(termios.error):
            if self._paused or not _in_foreground(fd):
                self._in_key_mode = False
            elif not self._in_key_mode:
                self._saved_mode = self._saved_mode or termios.tcgetattr(fd)
                tty.setcbreak(fd, termios.TCSANOW)
                self._in_key_mode = True
        return self._in_key_mode

    def _start(self, loop: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=loop, name="keys", daemon=True)
        self._thread.start()

    def _read_keys(self) -> None:
        assert self._wake is not None
        assert self._fd is not None
        assert self._input is not None
        if sys.platform != "win32":  # reading in the background is an error then, and does not stop the program
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTIN, signal.SIGTTOU})
        more = True
        while more:
            inputs = [self._input] if self._enter_key_mode(self._fd) else []
            ready, _, _ = select.select([self._wake[0], *inputs], [], [], FOREGROUND_CHECK_S)
            if self._wake[0] in ready:
                return
            if ready and _in_foreground(self._fd):
                more = self._read(self._input)

    def _read(self, descriptor: int) -> bool:
        """Call ``on_key`` for what was typed. Return False at the end of the input."""
        try:
            typed = os.read(descriptor, 64)
        except BlockingIOError:  # another program has read it meanwhile, or the mode has changed
            return True
        except OSError:
            return self._fd is not None and not _in_foreground(self._fd)
        for key in typed.decode("ascii", "ignore"):
            self._on_key(key)
        return bool(typed)

    def _poll(self) -> None:
        if sys.platform == "win32":
            import msvcrt

            while not self._over.wait(0.05):
                while msvcrt.kbhit():
                    self._on_key(msvcrt.getwch())


def _standard_input() -> int | None:
    try:
        return sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def _open_non_blocking(fd: int) -> int:
    """Open a terminal again for reading without blocking; return ``fd`` itself where its device cannot be opened.

    Between the moment input is announced and the moment it is read, the shell may have read it or changed the mode: a
    read that blocks would then wait for a whole line. O_NONBLOCK on ``fd`` itself would also apply to other programs.
    """
    if sys.platform == "win32":
        return fd
    try:
        return os.open(os.ttyname(fd), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return fd


def _in_foreground(fd: int) -> bool:
    """Return True for a terminal in whose foreground this process is: using another one would stop the process."""
    if sys.platform == "win32":
        return os.isatty(fd)
    try:
        return os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False
