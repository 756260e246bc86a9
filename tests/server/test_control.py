"""The control protocol: what it accepts, and that no message breaks it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import GeneratorError
from engines.generator import GENERATORS, MOUTHS, REGIONS
from realtime.pipeline.commands import LOCAL_COMMANDS, Setting
from realtime.server import control
from realtime.server.models import ControlFailure, ControlReply
from realtime.tracking.settings import DRIVERS
from tests.support.fakes import FakeSink, FakeSource
from tests.support.run import running
from tests.support.waiting import until

COMMANDS = sorted(control.request_types())
TOGGLES: tuple[list[Setting], list[Setting]] = ([True, False, None], [1, "true", 0.0])
NONE: tuple[list[Setting], list[Setting]] = ([None], [True, 0, ""])
NAMED: tuple[list[Setting], list[Setting]] = (["smile", "my own"], ["", None, 1, True, "x" * 41])
VALUES: dict[str, tuple[list[Setting], list[Setting]]] = {
    "set_portrait": ([0, 3, "mona"], [-1, 1.5, 2**53, True, None, "x" * 201]),
    "set_gain": ([0, 1, 0.5, 4.0], [True, "1", -0.1, 4.1, None]),
    "set_region": (list(REGIONS), ["", "none", 1, None, True]),
    "set_mouth": (list(MOUTHS), ["", "none", 1, None, True]),
    "set_background": (["keep", "blur", "transparent", "#00ff00", "image:1"], ["", 1, None, True, "x" * 81]),
    "set_driver": (
        [*DRIVERS, 1, 8, None, "0,1", "0.4,0.25"],
        ["", "none", 0, 9, 1.5, True, "0.4", "1.1,0", "-0.1,0", "0.4,0.25,0", "nan,0"],
    ),
    "set_generator": (list(GENERATORS), ["", "none", 1, None, True]),
    "set_frozen": TOGGLES,
    "set_slate": TOGGLES,
    "set_refined": TOGGLES,
    "set_mirror": TOGGLES,
    "set_muted": TOGGLES,
    "set_expression": (
        [{}, {"smile": 0.5, "AU12": -1, "jawOpen": 1}],
        [None, 1, "smile", {"smile": 1.1}, {"smile": "1"}, {"smile": None}, {"x" * 41: 1}, {"smile": True}],
    ),
    "set_mix": ([{}, {"mouth": "fixed", "head": "driver"}], [None, "fixed", {"nose": "fixed"}, {"mouth": "loud"}]),
    "reset_expression": NONE,
    "toggle_look": NONE,
    "next_preset": NONE,
    "use_preset": NAMED,
    "save_preset": NAMED,
    "delete_preset": NAMED,
    "next_portrait": NONE,
    "previous_portrait": NONE,
    "increase_gain": NONE,
    "decrease_gain": NONE,
    "calibrate": NONE,
}
"""Values that each command takes, and values that it does not."""

values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
"""The scalars of JSON, which has no NaN."""
anything = st.recursive(values, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


def send(message: object) -> Any:
    """Return the reply to a message. A command answers with its name and value."""
    return json.loads(control.execute(json.dumps(message).encode(), lambda name, value: f"{name} {value}").message())


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_takes_its_values_and_no_others(name: str) -> None:
    good, bad = VALUES[name]
    for value in good:
        assert send({"v": 1, "command": name, "value": value})["ok"], value
    for value in bad:
        error = send({"v": 1, "command": name, "value": value})["error"]
        assert error["code"] == "command-bad-value"
        assert error["expected"] == control.request_types()[name].model_fields["value"].description


def test_every_command_has_its_action() -> None:
    source = FakeSource()
    with running(source, [FakeSink()]) as run:
        parts = until(lambda: run.pipeline.compute.parts)
        assert parts is not None
        assert parts.command_handler.actions.keys() == {*COMMANDS, *LOCAL_COMMANDS}


def test_a_request_gets_its_reply() -> None:
    reply = send({"v": 1, "id": 7, "command": "set_gain", "value": 1.2})
    assert reply == {"v": 1, "id": 7, "ok": True, "said": "set_gain 1.2"}
    assert send({"v": 1, "command": "next_portrait"}) == {"v": 1, "ok": True, "said": "next_portrait None"}
    ControlReply.model_validate(reply)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"v": 2, "command": "next_portrait"}, "message-version"),
        ({"command": "next_portrait"}, "message-version"),
        ({"v": True, "command": "next_portrait"}, "message-version"),
        ({"v": 1}, "command-unknown"),
        ({"v": 1, "command": "dance"}, "command-unknown"),
        ({"v": 1, "command": ["next_portrait"]}, "command-unknown"),
        ({"v": 1, "command": "set_gain"}, "command-bad-value"),
        ({"v": 1, "command": "set_gain", "value": {}}, "command-bad-value"),
        ({"v": 1, "command": "next_portrait", "extra": 1}, "message-unknown-key"),
        ({"v": 1, "command": "quit"}, "command-local-only"),
        ({"v": 1, "id": {}, "command": "next_portrait"}, "message-bad-id"),
        ([1], "message-not-object"),
    ],
)
def test_a_bad_message_is_answered_with_a_code(message: object, code: str) -> None:
    reply = send(message)
    assert reply["ok"] is False
    assert reply["error"]["code"] == code
    assert set(reply["error"]) == {"code", "found", "expected", "cure"}
    assert reply["error"]["cure"]
    ControlFailure.model_validate(reply)


@pytest.mark.parametrize("message", [b"", b"{", b"\xff\xfe", b"NaN", b'{"v":NaN}', b"[" * 20_000, b" " * 20_000])
def test_a_message_that_is_not_json_is_refused(message: bytes) -> None:
    outcome = control.execute(message, lambda *_: "")
    assert outcome.error is not None
    assert outcome.error.code == "message-not-json"


@given(st.binary(max_size=300) | anything.map(lambda value: json.dumps(value).encode()))
def test_any_message_gets_a_reply(message: bytes) -> None:
    reply = json.loads(control.execute(message, lambda *_: "done").message())
    assert reply["v"] == 1
    assert isinstance(reply["ok"], bool)


@given(st.sampled_from(COMMANDS), values)
def test_any_value_gets_a_reply(name: str, value: Setting) -> None:
    reply = send({"v": 1, "id": "x", "command": name, "value": value})
    assert reply["id"] == "x"
    assert reply["ok"] or reply["error"]["found"]


def test_an_error_of_a_command_is_part_of_the_outcome() -> None:
    error = GeneratorError("gpu-out-of-memory", "the GPU has no memory left", cure="choose a smaller size")

    def fail(_: str, __: Setting) -> str:
        raise error

    outcome = control.execute(b'{"v":1,"id":3,"command":"next_portrait"}', fail)
    assert outcome.error is error
    assert json.loads(outcome.message())["error"]["code"] == "gpu-out-of-memory"


def test_a_bug_in_a_command_is_raised() -> None:
    def fail(_: str, __: Setting) -> str:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        control.execute(b'{"v":1,"command":"next_portrait"}', fail)


# --- the JSON Schema

SCHEMA = control.request_schema()


def test_the_schema_requires_a_value_where_a_command_does() -> None:
    assert SCHEMA["$defs"]["SetGain"]["required"] == ["v", "command", "value"]
    assert SCHEMA["$defs"]["SetFrozen"]["required"] == ["v", "command"]


TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda each: isinstance(each, dict),
    "string": lambda each: isinstance(each, str),
    "boolean": lambda each: isinstance(each, bool),
    "null": lambda each: each is None,
    "number": lambda each: isinstance(each, int | float) and not isinstance(each, bool),
    "integer": lambda each: TYPES["number"](each) and (isinstance(each, int) or each.is_integer()),
}
"""JSON Schema's, where 1.0 is an integer."""


def fits(value: Any, wanted: dict[str, Any]) -> bool:
    """Return True if a value matches a JSON Schema, for the keywords that ours use."""
    if "$ref" in wanted:
        return fits(value, SCHEMA["$defs"][wanted["$ref"].rpartition("/")[2]])
    number = TYPES["number"](value)
    checks: dict[str, Callable[[Any], bool]] = {
        "type": lambda types: any(TYPES[each](value) for each in ([types] if isinstance(types, str) else types)),
        "const": lambda same: value == same and isinstance(value, bool) == isinstance(same, bool),
        "enum": lambda names: isinstance(value, str) and value in names,
        "minimum": lambda low: not number or value >= low,
        "maximum": lambda high: not number or value <= high,
        "pattern": lambda pattern: not isinstance(value, str) or re.fullmatch(pattern, value) is not None,
        "minLength": lambda least: not isinstance(value, str) or len(value) >= least,
        "maxLength": lambda most: not isinstance(value, str) or len(value) <= most,
        "oneOf": lambda variants: sum(fits(value, each) for each in variants) == 1,
        "anyOf": lambda variants: any(fits(value, each) for each in variants),
        "properties": lambda known: all(fits(value[key], each) for key, each in known.items() if key in value),
        "required": lambda names: all(name in value for name in names),
        "additionalProperties": lambda other: all(
            other is not False and fits(each, other)
            for key, each in value.items()
            if key not in wanted.get("properties", {})
        ),
        "propertyNames": lambda names: all(fits(key, names) for key in value),
        "maxProperties": lambda most: len(value) <= most,
    }
    keywords = wanted.keys() - {"$schema", "$defs", "title", "description", "default", "discriminator"}
    return all(checks[key](wanted[key]) for key in sorted(keywords, key=lambda key: key != "type"))


edges = st.sampled_from([0, -0.0, 1.0, 1.5, 4, 4.0, 4.1, -1, 2**53 - 1, 2**53, 2**53 + 2.0, -(2**53), 10**400, 1e300])
given_values = (
    values
    | edges
    | st.sampled_from(
        ["0.4,0.25", "0.4,0.25\n", "1.5,0", "all", "mesh", "painted", "x" * 64, "x" * 65, "x" * 200, "x" * 201, [], {}]
    )
)
requests = st.fixed_dictionaries(
    {
        "v": st.sampled_from([1, 1.0, True, 2, "1"]) | st.just(1),
        "command": st.sampled_from([*COMMANDS, "quit", "dance", 1]),
    },
    optional={"id": given_values, "value": given_values, "extra": values},
)


@given(requests)
@settings(max_examples=500)
def test_the_schema_allows_what_is_accepted_and_nothing_else(message: dict[str, Any]) -> None:
    assert send(message)["ok"] == fits(message, SCHEMA)


@pytest.mark.parametrize(
    ("message", "ok"),
    [
        ({"id": 1.0, "command": "next_portrait"}, True),
        ({"id": 2**53, "command": "next_portrait"}, False),
        ({"id": None, "command": "next_portrait", "value": None}, True),
        ({"command": "set_frozen", "value": None}, True),
        ({"command": "set_portrait", "value": 1.0}, True),
        ({"command": "set_portrait", "value": 2**53}, False),
        ({"command": "set_gain", "value": 10**400}, False),
    ],
)
def test_numbers_and_null_are_accepted_as_the_schema_says(message: dict[str, Any], ok: bool) -> None:
    message = {"v": 1} | message
    assert (send(message)["ok"], fits(message, SCHEMA)) == (ok, ok)


def test_an_integral_number_is_an_integer_however_it_is_written() -> None:
    assert send({"v": 1, "id": 2.0, "command": "set_portrait", "value": 3.0}) == {
        "v": 1,
        "id": 2,
        "ok": True,
        "said": "set_portrait 3",
    }
