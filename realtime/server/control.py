"""The control protocol: JSON commands and replies, the same over the data channel and HTTP.

    request   {"v": 1, "id": 7, "command": "set_gain", "value": 1.2}
    reply     {"v": 1, "id": 7, "ok": true, "said": "gain 1.2"}
    failure   {"v": 1, "id": 7, "ok": false, "error": {"code": ..., "found": ..., "expected": ..., "cure": ...}}

Over HTTP a failure is answered by a problem document (RFC 9457) instead. ``id`` is optional. The commands are in
``realtime.server.models``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn, get_args

from pydantic import BaseModel, ValidationError

from engines.errors import CommandError, ReenactError, one_of
from realtime.core import problem
from realtime.core.protocol import VERSION
from realtime.pipeline.commands import LOCAL_COMMANDS, Setting
from realtime.server.models import (
    CONTROL_REQUEST,
    REQUEST_ID,
    VERSION_OF_REQUEST,
    ControlFailure,
    ControlReply,
    ControlRequest,
    ErrorFields,
    Request,
)

_EXPECTED = '{"v": 1, "command": NAME, "value": ...}'
_CURE = "see docs/api.md"
_KEYS = {"v", "id", "command", "value"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command came to."""

    id: int | str | None
    """Of the request; None if it had none, or not a valid one."""
    said: str = ""
    error: ReenactError | None = None

    def message(self) -> bytes:
        """Return the reply for the data channel."""
        answer: BaseModel
        if self.error is None:
            answer = ControlReply(id=self.id, said=self.said)
        else:
            answer = ControlFailure(id=self.id, error=ErrorFields(**problem.fields(self.error)))
        return to_json(answer)


def execute(message: bytes, run_command: Callable[[str, Setting], str]) -> Outcome:
    """Validate one message, run its command and return the outcome, which holds the error if there was one.

    ``run_command`` takes the command's name and value and returns a few words on the result, or raises ReenactError.
    The caller bounds the length of the message.
    """
    identity: int | str | None = None
    try:
        values = _decode(message)
        identity = _request_id(values)
        request = _parse(values)
        return Outcome(identity, run_command(request.command, request.value))
    except ReenactError as error:
        return Outcome(identity, error=error)


def to_json(document: BaseModel) -> bytes:
    """Return compact JSON. A member ``id`` that is None is left out."""
    values = document.model_dump(mode="json")
    if values.get("id", "") is None:
        del values["id"]
    return json.dumps(values, separators=(",", ":"), allow_nan=False).encode()


def request_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a request."""
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, "title": "reenact control", **CONTROL_REQUEST.json_schema()}


@cache
def request_types() -> Mapping[str, type[Request]]:
    """Return the model of each command that the network may send, by the command's name."""
    union, _ = get_args(ControlRequest)
    return {get_args(model.model_fields["command"].annotation)[0]: model for model in get_args(union)}


def _decode(message: bytes) -> dict[str, Any]:
    try:
        values = json.loads(message, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        raise CommandError("message-not-json", "a message that is not JSON", _EXPECTED, _CURE) from None
    if not isinstance(values, dict):
        raise CommandError("message-not-object", "JSON that is not an object", _EXPECTED, _CURE)
    return values


def _reject_constant(constant: str) -> NoReturn:
    """Reject NaN and Infinity, which are no JSON."""
    raise ValueError(constant)


def _request_id(values: dict[str, Any]) -> int | str | None:
    try:
        return REQUEST_ID.validate_python(values.get("id"))
    except ValidationError:
        expected = "an integer or a short string"
        raise CommandError("message-bad-id", "an id of another type", expected, "leave it out") from None


def _parse(values: dict[str, Any]) -> ControlRequest:
    try:
        return CONTROL_REQUEST.validate_python(values)
    except ValidationError:
        raise _explain(values) from None


def _explain(values: dict[str, Any]) -> CommandError:
    """Return the error for a request that is not valid, by the first of its members that is wrong."""
    try:
        VERSION_OF_REQUEST.validate_python(values.get("v"))
    except ValidationError:
        return CommandError("message-version", f"version {str(values.get('v'))[:20]}", f"version {VERSION}", _CURE)
    unknown = values.keys() - _KEYS
    if unknown:
        found = f"the key {min(unknown)[:60]!r}"
        return CommandError("message-unknown-key", found, "v, id, command and value", "leave it out")
    name, value = values.get("command"), values.get("value")
    if not isinstance(name, str) or name not in request_types():
        return _unknown_command(name)
    expected = request_types()[name].model_fields["value"].description or ""
    found = f"no value for {name}" if value is None else f"the value {json.dumps(value)[:60]} for {name}"
    return CommandError("command-bad-value", found, expected, f"give {name} such a value")


def _unknown_command(name: object) -> CommandError:
    if isinstance(name, str) and name in LOCAL_COMMANDS:
        found, cure = f"{name} was sent over the network", "press its key in the terminal"
        return CommandError("command-local-only", found, "its key in the terminal", cure)
    found = "no command" if name is None else f"the command {str(name)[:60]!r}"
    return CommandError("command-unknown", found, one_of(request_types()), "choose one of them")
