"""What can be asked of a running daemon, by name, from any thread: by a key now, by a control channel later."""

from __future__ import annotations

import threading
from collections import deque

from engines.errors import UsageError

COMMANDS = {
    "calibrate": ("c", "take the face of the next half second as the neutral"),
    "next": ("n", "next portrait"),
    "previous": ("p", "previous portrait"),
    "freeze": ("f", "freeze the picture, or go on"),
    "slate": ("s", "show the slate, or go on"),
    "mirror": ("m", "flip the driving picture left to right"),
    "stronger": ("+", "more motion"),
    "weaker": ("-", "less motion"),
    "quit": ("q", "end"),
}
"""Name of each command: its key, and what it does."""

KEYS = {key: name for name, (key, _) in COMMANDS.items()}


class Commands:
    """Commands on their way to the compute stage, in order. A few at most wait; one too many is refused."""

    def __init__(self) -> None:
        self._waiting: deque[str] = deque()
        self._lock = threading.Lock()

    def post(self, name: str) -> bool:
        """Ask for a command; False when 16 are waiting already. Raises UsageError for an unknown name."""
        if name not in COMMANDS:
            raise UsageError(f"{name!r} is not a command", cure=f"choose one of: {', '.join(COMMANDS)}")
        with self._lock:
            if len(self._waiting) >= 16:
                return False
            self._waiting.append(name)
            return True

    def take(self) -> list[str]:
        """All that wait, oldest first; they wait no longer."""
        with self._lock:
            names = list(self._waiting)
            self._waiting.clear()
        return names
