"""What can be asked of a running program: one table for the terminal's keys, the control channel and HTTP."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

from engines.errors import BusyError, CommandError, ReenactError
from engines.generator import GENERATORS, REGIONS
from realtime.motion.settings import MAX_GAIN

MOST_WAITING = 16
LARGEST = 2**53 - 1
"""Of whole numbers: what every reader of JSON keeps as it is."""
Setting = bool | float | int | str | None
"""The value of a command."""


@dataclass(frozen=True, slots=True)
class Value:
    """What a command takes."""

    kind: Literal["flag", "number", "choice", "portrait"]
    required: bool = True
    """A flag that is left out is turned over."""
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0

    def describe(self) -> str:
        """What is allowed, in words."""
        words = {
            "flag": "true or false",
            "number": f"a number from {self.low:g} to {self.high:g}",
            "choice": " or ".join(self.choices),
            "portrait": "a portrait's number, from 0 on, or its name",
        }[self.kind]
        return words if self.required else f"{words}, or nothing to turn it over"

    def schema(self) -> dict[str, object]:
        """The same as JSON Schema."""
        kinds: dict[str, dict[str, object]] = {
            "flag": {"type": "boolean"},
            "number": {"type": "number", "minimum": self.low, "maximum": self.high},
            "choice": {"enum": list(self.choices)},
            "portrait": {"type": ["integer", "string"], "minimum": 0, "maximum": LARGEST, "maxLength": 200},
        }
        return kinds[self.kind] if self.required else {"anyOf": [kinds[self.kind], {"type": "null"}]}

    def allows(self, value: Setting) -> bool:
        """Whether it may be given."""
        if value is None:
            return not self.required
        match self.kind:
            case "flag":
                return isinstance(value, bool)
            case "number":
                return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high
            case "choice":
                return isinstance(value, str) and value in self.choices
            case "portrait":
                if isinstance(value, str):
                    return len(value) <= 200
                return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


@dataclass(frozen=True, slots=True)
class Command:
    """One line of the table."""

    does: str
    key: str = ""
    """In the terminal; empty where there is none."""
    value: Value | None = None
    local: bool = False
    """Whether it is for the person at the terminal only."""


_FLAG = Value("flag", required=False)
COMMANDS: dict[str, Command] = {
    "calibrate": Command("take the face of the next half second as the neutral", "c"),
    "next_portrait": Command("next portrait", "n"),
    "previous_portrait": Command("previous portrait", "p"),
    "set_frozen": Command("freeze the picture, or go on", "f", _FLAG),
    "set_slate": Command("show the slate, or go on", "s", _FLAG),
    "set_mirror": Command("flip the driving picture left to right", "m", _FLAG),
    "increase_gain": Command("more motion", "+"),
    "decrease_gain": Command("less motion", "-"),
    "set_portrait": Command("put on this portrait", value=Value("portrait")),
    "set_gain": Command("strength of the expression", value=Value("number", low=0, high=MAX_GAIN)),
    "set_region": Command("what moves", value=Value("choice", choices=REGIONS)),
    "set_mouth": Command("the inside of an open mouth", value=Value("choice", choices=("driver", "painted"))),
    "set_generator": Command("what makes the picture", value=Value("choice", choices=GENERATORS)),
    "quit": Command("end", "q", local=True),
}

KEYS = {command.key: name for name, command in COMMANDS.items() if command.key}


def whole(value: Setting) -> Setting:
    """A whole number as an int where it is written with a point, such as 1.0; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def check(name: object, value: Setting) -> None:
    """Raise CommandError where there is no such command, or it does not take that value."""
    command = COMMANDS.get(name) if isinstance(name, str) else None
    if command is None:
        raise CommandError(
            "command-unknown", f"the command {str(name)[:60]!r}", "one of " + ", ".join(COMMANDS), "choose one of them"
        )
    if command.value is None:
        if value is not None:
            raise CommandError("command-bad-value", f"a value for {name}", "none", "leave the value out")
    elif not command.value.allows(value):
        found = f"no value for {name}" if value is None else f"the value {str(value)[:60]!r} for {name}"
        raise CommandError("command-bad-value", found, command.value.describe(), "give one that is allowed")


@dataclass(frozen=True, slots=True)
class Order:
    """A command on its way."""

    name: str
    value: Setting
    answer: Future[str] | None
    """Gets a few words on what came of it, or a ReenactError; None where nobody waits."""


class Commands:
    """Commands on their way to the compute stage, in order. A few at most wait; one too many is refused."""

    def __init__(self) -> None:
        self._waiting: deque[Order] = deque()
        self._lock = threading.Lock()

    def post(self, name: str, value: Setting = None) -> bool:
        """Ask for a command and do not wait; False when 16 are waiting already. Raises CommandError."""
        check(name, value)
        return self._put(Order(name, value, None))

    def ask(self, name: str, value: Setting = None, timeout_s: float = 3.0) -> str:
        """Ask for a command and wait for what comes of it, in a few words. Raises CommandError.

        One that is not begun in time is taken back; one that is begun gets half of that time more.
        """
        check(name, value)
        answer: Future[str] = Future()
        if not self._put(Order(name, value, answer)):
            raise _busy()
        try:
            return answer.result(timeout_s)
        except TimeoutError:
            if answer.cancel():
                raise _busy() from None
        try:
            return answer.result(timeout_s / 2)
        except TimeoutError:
            cure = "look at the state before you send it again"
            raise BusyError("command-pending", f"{name} still under way", "it to be done at once", cure) from None

    def take(self) -> list[Order]:
        """All that wait, oldest first; they wait no longer. Whoever takes one begins and answers it."""
        with self._lock:
            orders = list(self._waiting)
            self._waiting.clear()
        return orders

    def _put(self, order: Order) -> bool:
        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                return False
            self._waiting.append(order)
            return True


def _busy() -> BusyError:
    return BusyError("pipeline-busy", "a program that is busy", "one that is running", "try again in a moment")


def begin(order: Order) -> bool:
    """Whether an order is to be carried out. Not if it was taken back; from now on it cannot be any more."""
    return order.answer is None or order.answer.set_running_or_notify_cancel()


def answer(order: Order, said: str | ReenactError) -> None:
    """Tell whoever asked for it what came of an order that was begun."""
    if order.answer is None or order.answer.cancelled():
        return
    if isinstance(said, str):
        order.answer.set_result(said)
    else:
        order.answer.set_exception(said)
