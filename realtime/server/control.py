"""The control protocol: JSON messages, one version, the same over the data channel and HTTP.

    request   {"v": 1, "id": 7, "command": "set_gain", "value": 1.2}
    reply     {"v": 1, "id": 7, "ok": true, "said": "gain 1.2"}
              {"v": 1, "id": 7, "ok": false, "error": {"found": "...", "expected": "...", "cure": "..."}}

``id`` may be left out, and null is as good as left out. What commands there are, and what each takes, is in
``realtime.pipeline.commands``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from engines.errors import CommandError, ReenactError
from realtime.pipeline.commands import COMMANDS, LARGEST, Setting, check, whole

VERSION = 1
_EXPECTED = '{"v": 1, "command": NAME, "value": ...}'
_CURE = "see the README on controlling it"


@dataclass(frozen=True, slots=True)
class Request:
    """A message that was understood."""

    id: int | str | None
    command: str
    value: Setting


def reply(message: bytes, obey: Callable[[str, Setting], str]) -> bytes:
    """Answer one message with one; never raises for what the message says. How long one may be is the server's matter.

    ``obey`` carries out a command that is allowed from the network and says what came of it, or raises ReenactError.
    """
    return respond(message, obey)[1]


def respond(message: bytes, obey: Callable[[str, Setting], str]) -> tuple[int, bytes]:
    """The same for HTTP: the status and the reply."""
    identity: int | str | None = None
    try:
        values = _decode(message)
        identity = _identity(values)
        request = _read(values, identity)
        said = obey(request.command, request.value)
    except ReenactError as error:
        return status(error), encode({"v": VERSION, "id": identity, "ok": False, "error": problem(error)})
    return 200, encode({"v": VERSION, "id": identity, "ok": True, "said": said})


def status(error: ReenactError) -> int:
    """What an error is called over HTTP."""
    return 400 if type(error).status == 500 else error.status


def problem(error: ReenactError) -> dict[str, str]:
    """An error as every answer has it."""
    return {"code": error.code, "found": error.found, "expected": error.expected, "cure": error.cure}


def encode(values: dict[str, Any]) -> bytes:
    """JSON, as short as it gets; an ``id`` of None is left out."""
    kept = {key: value for key, value in values.items() if key != "id" or value is not None}
    return json.dumps(kept, separators=(",", ":"), allow_nan=False).encode()


def schema() -> dict[str, Any]:
    """The requests as JSON Schema (2020-12)."""
    variants = []
    for name, command in COMMANDS.items():
        if command.local:
            continue
        properties: dict[str, Any] = {
            "v": {"const": VERSION},
            "id": {"type": ["integer", "string", "null"], "minimum": -LARGEST, "maximum": LARGEST, "maxLength": 64},
            "command": {"const": name, "description": command.does},
        }
        required = ["v", "command"]
        if command.value is None:
            properties["value"] = {"type": "null"}
        else:
            properties["value"] = command.value.schema() | {"description": command.value.describe()}
            if command.value.required:
                required.append("value")
        variants.append(
            {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
        )
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "reenact control", "oneOf": variants}


def _decode(message: bytes) -> dict[str, Any]:
    try:
        values = json.loads(message, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise CommandError("message-not-json", "a message that is not JSON", _EXPECTED, _CURE) from None
    if not isinstance(values, dict):
        raise CommandError("message-not-object", "JSON that is no object", _EXPECTED, _CURE)
    return values


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _identity(values: dict[str, Any]) -> int | str | None:
    match whole(values.get("id")):
        case None:
            return None
        case str(text) if len(text) <= 64:
            return text
        case int(number) if not isinstance(number, bool) and abs(number) <= LARGEST:
            return number
    raise CommandError("message-bad-id", "an id of another kind", "a whole number or a short text", "leave it out")


def _read(values: dict[str, Any], identity: int | str | None) -> Request:
    if values.get("v") != VERSION or isinstance(values.get("v"), bool):
        raise CommandError("message-version", f"version {str(values.get('v'))[:20]}", f"version {VERSION}", _CURE)
    unknown = values.keys() - {"v", "id", "command", "value"}
    if unknown:
        raise CommandError(
            "message-unknown-key", f"the key {min(unknown)[:60]!r}", "v, id, command and value", "leave it out"
        )
    name, value = values.get("command"), whole(values.get("value"))
    if value is not None and not isinstance(value, bool | int | float | str):
        raise CommandError("command-bad-value", "a value that is a list or an object", "one value", _CURE)
    check(name, value)
    assert isinstance(name, str)
    if COMMANDS[name].local:
        raise CommandError(
            "command-local-only", f"{name} from the network", "it at the terminal only", "press its key there"
        )
    return Request(identity, name, value)
