"""Define every error that reenact raises on purpose.

    ReenactError                    printed as it is, without a traceback
    ├── UsageError                  the user asked for something impossible (exit code 2)
    │   ├── ConfigError             a key or a value of the configuration
    │   ├── PortraitError           a portrait that cannot be used
    │   ├── ConsentError            what right the user has to a portrait is not known
    │   ├── CommandError            a command that cannot be carried out
    │   ├── RequestError            an HTTP request or an SDP offer that cannot be answered
    │   ├── NotFoundError           what was named does not exist
    │   └── AccessDenied            the token, Host or Origin of a request is not accepted
    ├── BusyError                   not now: retry after ``retry_after_s``
    │   └── ServerFull              no room for another session, viewer or connection
    ├── SourceError                 the driving video
    │   ├── SourceMissing           there is no such camera or file
    │   │   └── NoReadableFormat    the camera offers no format that can be read
    │   ├── SourceLost              it was there and went away; a live source is reopened
    │   └── SourceEnded             a file has no more frames; not a failure
    ├── TrackerError                face tracking cannot start
    ├── GeneratorError              a generator cannot produce frames
    │   └── BackendError            what runs its networks is missing, or fails
    └── SinkError                   the result cannot be delivered
        ├── SinkMissing             there is no such device
        │   └── AddressInUse        the address to listen on is in use
        └── SinkLost                it was there and went away

Any other exception that escapes is a bug of ours and is logged with its traceback.

Each error has a stable ``code``, which tests, the page and the API rely on, and up to three sentences for people: what
was found, what was expected, and the cure. docs/errors.md lists the codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def one_of(choices: Iterable[str]) -> str:
    """Return choices as a text for ``expected`` or a cure, such as ``all, expression or pose``."""
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last


class ReenactError(Exception):
    """An error for the user who runs the program.

    ``code`` is lower-case words joined by hyphens, such as ``portrait-no-face``. ``found`` and ``expected`` make up
    ``str(error)``, one line without a full stop. ``cure`` says what to do about it, often a command; it may be empty.
    """

    status = 500
    """The HTTP status that answers a request which raises this error."""
    retry_after_s: float | None = None
    """How long to wait before a retry, in seconds; None where a retry does not help by itself."""

    def __init__(self, code: str, found: str, expected: str = "", cure: str = "") -> None:
        super().__init__(code, found, expected, cure)
        self.code = code
        self.found = found
        self.expected = expected
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.found}, expected {self.expected}" if self.expected else self.found

    def to_dict(self) -> dict[str, Any]:
        """Return the error as plain values for JSON. ``from_dict`` turns them back into the same error."""
        values: dict[str, Any] = {
            "kind": type(self).__name__,
            "code": self.code,
            "found": self.found,
            "expected": self.expected,
            "cure": self.cure,
        }
        if self.status != type(self).status:
            values["status"] = self.status
        if self.retry_after_s is not None or type(self).retry_after_s is not None:
            values["retry_after_s"] = self.retry_after_s
        return values

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> ReenactError:
        """Return the error that ``to_dict`` described. An unknown ``kind`` becomes a plain ReenactError."""
        kinds = {kind.__name__: kind for kind in _tree(ReenactError)}
        kind = kinds.get(str(values.get("kind")), ReenactError)
        error = kind.__new__(kind)
        ReenactError.__init__(error, *(str(values.get(key, "")) for key in ("code", "found", "expected", "cure")))
        if "status" in values:
            error.status = int(values["status"])
        if "retry_after_s" in values:
            seconds = values["retry_after_s"]
            error.retry_after_s = None if seconds is None else float(seconds)
        return error


class UsageError(ReenactError):
    """What the user asked for cannot be done."""

    status = 400


class ConfigError(UsageError):
    """A key or a value of the configuration is wrong."""


class PortraitError(UsageError):
    """A portrait cannot be used: unreadable, without a face, or with one that is too small or in profile."""


class ConsentError(UsageError):
    """It is not known what right the user has to a portrait, or the answer cannot be kept."""


class CommandError(UsageError):
    """A command cannot be carried out."""


class RequestError(UsageError):
    """An HTTP request or an SDP offer cannot be answered."""

    def __init__(self, code: str, found: str, expected: str = "", cure: str = "", *, status: int = 400) -> None:
        super().__init__(code, found, expected, cure)
        self.status = status


class NotFoundError(UsageError):
    """What was named does not exist."""

    status = 404


class AccessDenied(UsageError):
    """The token, Host or Origin of a request is not accepted."""

    status = 401

    def __init__(
        self,
        code: str,
        found: str,
        expected: str = "",
        cure: str = "",
        *,
        status: int = 401,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(code, found, expected, cure)
        self.status = status
        self.retry_after_s = retry_after_s


class BusyError(ReenactError):
    """It cannot be done now; a retry later may succeed."""

    status = 503
    retry_after_s: float | None = 1.0

    def __init__(
        self, code: str, found: str, expected: str = "", cure: str = "", *, retry_after_s: float | None = 1.0
    ) -> None:
        super().__init__(code, found, expected, cure)
        self.retry_after_s = retry_after_s


class ServerFull(BusyError):
    """There is no room for another session, viewer or connection."""


class SourceError(ReenactError):
    """The driving video is not available."""


class SourceMissing(SourceError):
    """There is no such camera or file, or it cannot be opened."""


class NoReadableFormat(SourceMissing):
    """A camera offers no pixel format that can be read."""


class SourceLost(SourceError):
    """A source that worked stopped working."""


class SourceEnded(SourceError):
    """A source has no more frames."""


class TrackerError(ReenactError):
    """The face tracker cannot start."""


class GeneratorError(ReenactError):
    """A generator cannot produce frames."""


class BackendError(GeneratorError):
    """What runs a generator's networks is missing, answers wrongly, or fails."""


class SinkError(ReenactError):
    """The result cannot be delivered."""


class SinkMissing(SinkError):
    """There is no such device, or it cannot be opened."""


class AddressInUse(SinkMissing):
    """The address to listen on is in use by another program."""


class SinkLost(SinkError):
    """A sink that worked stopped working."""


def _tree(kind: type[ReenactError]) -> Iterator[type[ReenactError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _tree(each)
