"""The right that the user has to a portrait: asked once, and kept in a ledger on this machine.

The ledger is a text file with one JSON object a line. Each holds the SHA-256 of the line before and of itself, so that
a line which was changed, moved or removed shows. Nothing is sent anywhere.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs

from engines.errors import ConsentError, one_of
from realtime.core.file_lock import locked
from realtime.portraits.bundled import bundled_portraits

Right = Literal["self", "agreed", "fictional"]
RIGHTS: Mapping[Right, str] = {
    "self": "it shows me",
    "agreed": "who it shows has agreed",
    "fictional": "it shows no one who lives: a drawing, a statue, a generated or historical picture",
}
"""What each answer means."""
VARIABLE = "REENACT_CONSENT"
"""The environment variable that answers where there is no option, for programs that start this one."""
_FIRST = "0" * 64
"""What stands for the line before the first one."""

Ask = Callable[[str], Right | None]
"""Asks the user about a picture by its name; None where the user gives no answer."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the ledger."""

    time: str
    """In UTC, ISO 8601."""
    picture: str
    """The SHA-256 of the picture's file, in hexadecimal digits."""
    name: str
    """The name of the file, without its folder."""
    right: str | None
    """One of ``RIGHTS``; None where the answer is revoked."""


class Ledger:
    """The answers that were given on this machine."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = ledger_path() if path is None else path

    def entries(self) -> list[Entry]:
        """Return all lines, oldest first. Raises ConsentError where the ledger cannot be read or was changed."""
        try:
            text = self.path.read_text("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return []
        except (OSError, UnicodeDecodeError) as error:
            found = f"the ledger {self.path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}"
            raise ConsentError("consent-ledger-unreadable", found, cure="make it readable, or move it away") from None
        return [entry for entry, _ in _checked(self.path, text)]

    def rights(self) -> dict[str, Entry]:
        """Return the last answer for each picture, by its SHA-256, without those that were revoked."""
        last = {entry.picture: entry for entry in self.entries()}
        return {picture: entry for picture, entry in last.items() if entry.right is not None}

    def add(self, picture: str, name: str, right: Right | None) -> None:
        """Add an answer, or with None revoke one. Raises ConsentError where it cannot be written."""
        # a file's name may be no text: what UTF-8 cannot hold is replaced
        name = name.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a+", encoding="utf-8") as file, locked(file.fileno()):
                file.seek(0)
                lines = list(_checked(self.path, file.read()))
                before = lines[-1][1] if lines else _FIRST
                now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                file.write(_line(Entry(now, picture, name, right), before) + "\n")
                file.flush()  # while it is locked
        except OSError as error:
            found = f"the answer cannot be kept in {self.path}: {error.strerror}"
            raise ConsentError("consent-ledger-not-writable", found, cure="make its folder writable") from None


def ledger_path() -> Path:
    """Return the file of the ledger, which may not exist yet."""
    return platformdirs.user_data_path("reenact", appauthor=False) / "consent.jsonl"


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require(
    portraits: Sequence[Path],
    given: Right | None,
    ask: Ask | None,
    say: Callable[[str], None],
    ledger: Ledger | None = None,
) -> None:
    """Make sure that the user's right to each portrait is known. Bundled portraits are registered.

    ``given`` answers for those that are not known yet; otherwise ``ask`` does, or the environment. An answer that
    cannot be kept holds for this run, which ``say`` tells. Raises ConsentError.
    """
    bundled = {portrait.path for portrait in bundled_portraits()}
    own = {path: fingerprint(path) for path in portraits if path not in bundled and path.is_file()}
    if not own:
        return
    ledger = Ledger() if ledger is None else ledger
    known = ledger.rights()
    given = given or right_from_environment()
    for path, picture in own.items():
        if picture in known:
            continue
        right = given or (None if ask is None else ask(path.name))
        if right is None:
            raise ConsentError(
                "consent-missing",
                f"{path.name} is used for the first time, and nothing says what right you have to it",
                "--consent self, agreed or fictional",
                "give --consent self if it shows you, agreed if who it shows has agreed, fictional if it is no one",
            )
        try:
            ledger.add(picture, path.name, right)
        except ConsentError as error:
            if error.code != "consent-ledger-not-writable":
                raise
            say(f"{error}; it holds for this run")


def right_named(text: str, found: str) -> Right:
    """Return one of ``RIGHTS`` by its name; ``found`` says where it was given. Raises ConsentError."""
    for right in RIGHTS:
        if text == right:
            return right
    raise ConsentError("consent-unknown", found, one_of(RIGHTS), "give one of them")


def terminal_ask() -> Ask | None:
    """Return what asks the user in the terminal; None without a terminal."""
    terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
    return _ask_in_terminal if terminal else None


def _ask_in_terminal(name: str) -> Right | None:
    """Ask what right the user has to a picture; None where no answer is given."""
    print(f"{name} is used for the first time. What right do you have to show it moving?", file=sys.stderr)
    for number, (right, meaning) in enumerate(RIGHTS.items(), 1):
        print(f"  {number}  {right}: {meaning}", file=sys.stderr)
    print("number, or Enter for none of these: ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline().strip().lower()
    return next((right for number, right in enumerate(RIGHTS, 1) if answer in (str(number), right)), None)


def right_from_environment() -> Right | None:
    """Return the answer of the environment, if there is one. Raises ConsentError."""
    text = os.environ.get(VARIABLE)
    return right_named(text, f"{VARIABLE}={text}") if text else None


def _checked(path: Path, text: str) -> Iterator[tuple[Entry, str]]:
    """Yield the entries of a ledger and the hash of each line. Raises ConsentError at the first that was changed."""
    before = _FIRST
    # a name may hold other characters that end lines, such as U+2028
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), 1):
        try:
            values = json.loads(line)
            entry = Entry(values["time"], values["picture"], values["name"], values["right"])
            intact = line == _line(entry, before)
        except (ValueError, KeyError, TypeError):
            intact = False
        if not intact:
            found = f"line {number} of the ledger {path} is not as this program wrote it"
            cure = "restore it from a copy, or move it away and answer again"
            raise ConsentError("consent-ledger-changed", found, cure=cure)
        before = values["hash"]
        yield entry, before


def _line(entry: Entry, before: str) -> str:
    """Return the line of an entry, with the hash of the line before and its own."""
    values = {
        "time": entry.time,
        "picture": entry.picture,
        "name": entry.name,
        "right": entry.right,
        "before": before,
    }
    text = json.dumps(values, ensure_ascii=False)
    values["hash"] = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps(values, ensure_ascii=False)
