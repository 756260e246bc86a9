"""Commands to a running program: the terminal's keys for them, and their way to the compute thread.

What each command takes over the network is in ``realtime.server.models``; what it does, in
``realtime.pipeline.command_handler``.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from engines.errors import BusyError, ReenactError

MAX_WAITING = 16
"""Commands that may wait at the same time."""
Setting = bool | float | int | str | Mapping[str, Any] | None
"""The value of a command."""

KEYS = {
    "c": "calibrate",
    "n": "next_portrait",
    "p": "previous_portrait",
    "f": "set_frozen",
    "s": "set_slate",
    "m": "set_mirror",
    "d": "set_driver",
    "+": "increase_gain",
    "-": "decrease_gain",
    "e": "next_preset",
    "l": "toggle_look",
    "0": "reset_expression",
    "q": "quit",
}
"""The command for each key in the terminal. A command that switches something on or off toggles it."""
LOCAL_COMMANDS = frozenset({"quit"})
"""Commands for the terminal only; the network cannot send them."""


@dataclass(frozen=True, slots=True)
class QueuedCommand:
    """A command on its way to the compute thread."""

    name: str
    value: Setting
    result: Future[str] | None
    """Receives what the command answers, or a ReenactError; None where the sender does not wait for it."""

    def start(self) -> bool:
        """Return True if the command is to be carried out, False if its sender has withdrawn it.

        A command that was started cannot be withdrawn.
        """
        return self.result is None or self.result.set_running_or_notify_cancel()

    def finish(self, outcome: str | ReenactError) -> None:
        """Set the result of a started command."""
        if self.result is None:
            return
        if isinstance(outcome, str):
            self.result.set_result(outcome)
        else:
            self.result.set_exception(outcome)


class Commands:
    """A bounded queue of commands to the compute thread, in order. Any thread may add to it.

    Names and values are trusted here: those from the network are validated by ``realtime.server.control``.
    """

    def __init__(self) -> None:
        self._waiting: deque[QueuedCommand] = deque()
        self._lock = threading.Lock()

    def post(self, name: str, value: Setting = None) -> bool:
        """Add a command without waiting for its result. Return False if ``MAX_WAITING`` commands wait already."""
        return self._put(QueuedCommand(name, value, None))

    def ask(self, name: str, value: Setting = None, timeout_s: float = 3.0) -> str:
        """Add a command, wait for its result and return what it answers, in a few words.

        A command that does not start within ``timeout_s`` is withdrawn; one that has started gets half as long again.

        Raises BusyError if there is no result in time, and whatever ReenactError the command raises.
        """
        result: Future[str] = Future()
        if not self._put(QueuedCommand(name, value, result)):
            raise _busy(name)
        try:
            return result.result(timeout_s)
        except TimeoutError:
            if result.cancel():
                raise _busy(name) from None
        try:
            return result.result(timeout_s / 2)
        except TimeoutError:
            cure = "check the state before you send it again"
            raise BusyError("command-pending", f"{name} has started and not finished", "", cure) from None

    def take(self) -> list[QueuedCommand]:
        """Remove and return all waiting commands, oldest first. The caller starts and finishes each of them."""
        with self._lock:
            commands = list(self._waiting)
            self._waiting.clear()
        return commands

    def _put(self, command: QueuedCommand) -> bool:
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                return False
            self._waiting.append(command)
            return True


def _busy(name: str) -> BusyError:
    return BusyError("pipeline-busy", f"the program is too busy for {name}", "", "try again in a moment")
