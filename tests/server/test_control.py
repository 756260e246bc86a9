"""The control protocol: what it understands, and that nothing anybody sends breaks it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import BusyError, CommandError, GeneratorError
from realtime.pipeline.commands import (
    COMMANDS,
    MOST_WAITING,
    Commands,
    Order,
    Setting,
    answer,
    begin,
    check,
)
from realtime.server import control
from tests.support.waiting import until

GOOD: dict[str, list[Setting]] = {
    "flag": [True, False, None],
    "number": [0, 1, 0.5, 4.0],
    "choice": [],
    "portrait": [0, 3, "mona"],
}
BAD: dict[str, list[Setting]] = {
    "flag": [1, "true", 0.0],
    "number": [True, "1", -0.1, 4.1, float("nan"), float("inf"), None],
    "choice": ["", "none", 1, None, True],
    "portrait": [-1, 1.5, 2**53, True, None, "x" * 201],
}

values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
"""What JSON can say; that it has no NaN is tested by itself."""
anything = st.recursive(values, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


def ask(message: object) -> Any:
    return json.loads(control.reply(json.dumps(message).encode(), lambda name, value: f"{name} {value}"))


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_takes_what_it_says(name: str) -> None:
    value = COMMANDS[name].value
    if value is None:
        check(name, None)
        with pytest.raises(CommandError, match="none"):
            check(name, True)
        return
    for good in GOOD[value.kind] + list(value.choices):
        check(name, good)
    for bad in BAD[value.kind]:
        with pytest.raises(CommandError) as caught:
            check(name, bad)
        assert caught.value.expected == value.describe()


def test_a_request_gets_its_reply() -> None:
    assert ask({"v": 1, "id": 7, "command": "set_gain", "value": 1.2}) == {
        "v": 1,
        "id": 7,
        "ok": True,
        "said": "set_gain 1.2",
    }
    assert ask({"v": 1, "command": "next_portrait"}) == {"v": 1, "ok": True, "said": "next_portrait None"}


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ({"v": 2, "command": "next_portrait"}, "version 2"),
        ({"command": "next_portrait"}, "version None"),
        ({"v": True, "command": "next_portrait"}, "version True"),
        ({"v": 1, "command": "dance"}, "the command 'dance'"),
        ({"v": 1, "command": ["next_portrait"]}, "the command \"['next_portrait']\""),
        ({"v": 1, "command": "set_gain"}, "no value for set_gain"),
        ({"v": 1, "command": "set_gain", "value": {}}, "a value that is a list or an object"),
        ({"v": 1, "command": "next_portrait", "extra": 1}, "the key 'extra'"),
        ({"v": 1, "command": "quit"}, "quit from the network"),
        ({"v": 1, "id": {}, "command": "next_portrait"}, "an id of another kind"),
        ([1], "JSON that is no object"),
    ],
)
def test_a_mistake_is_told_in_three_parts(message: object, found: str) -> None:
    reply = ask(message)
    assert reply["ok"] is False
    assert reply["error"]["found"] == found
    assert set(reply["error"]) == {"code", "found", "expected", "cure"}
    assert reply["error"]["cure"]


@pytest.mark.parametrize("message", [b"", b"{", b"\xff\xfe", b"NaN", b'{"v":NaN}', b"[" * 20_000, b" " * 20_000])
def test_what_is_not_json_is_refused(message: bytes) -> None:
    assert json.loads(control.reply(message, lambda *_: ""))["ok"] is False


@given(st.binary(max_size=300) | anything.map(lambda value: json.dumps(value).encode()))
def test_nothing_breaks_it(message: bytes) -> None:
    reply = json.loads(control.reply(message, lambda *_: "obeyed"))
    assert reply["v"] == 1
    assert isinstance(reply["ok"], bool)


@given(st.sampled_from(sorted(COMMANDS)), values)
def test_no_value_breaks_it(name: str, value: Setting) -> None:
    reply = ask({"v": 1, "id": "x", "command": name, "value": value})
    assert reply["id"] == "x"
    assert reply["ok"] or reply["error"]["found"]


def test_an_error_of_ours_is_told_not_raised() -> None:
    def fail(_: str, __: Setting) -> str:
        raise GeneratorError("the graphics card has no memory left", cure="choose a smaller size")

    reply = json.loads(control.reply(b'{"v":1,"command":"next_portrait"}', fail))
    assert reply["error"]["cure"] == "choose a smaller size"


def test_the_schema_names_every_command_of_the_network() -> None:
    variants = {each["properties"]["command"]["const"]: each for each in control.schema()["oneOf"]}
    assert variants.keys() == {name for name, command in COMMANDS.items() if not command.local}
    assert variants["set_gain"]["required"] == ["v", "command", "value"]
    assert variants["set_frozen"]["required"] == ["v", "command"]


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
    """Whether a value is as a JSON Schema wants it, as far as ours go."""
    number = TYPES["number"](value)
    checks: dict[str, Callable[[Any], bool]] = {
        "type": lambda types: any(TYPES[each](value) for each in ([types] if isinstance(types, str) else types)),
        "const": lambda same: value == same and isinstance(value, bool) == isinstance(same, bool),
        "enum": lambda names: isinstance(value, str) and value in names,
        "minimum": lambda low: not number or value >= low,
        "maximum": lambda high: not number or value <= high,
        "maxLength": lambda most: not isinstance(value, str) or len(value) <= most,
        "oneOf": lambda variants: sum(fits(value, each) for each in variants) == 1,
        "anyOf": lambda variants: any(fits(value, each) for each in variants),
        "properties": lambda known: all(fits(value[key], each) for key, each in known.items() if key in value),
        "required": lambda names: all(name in value for name in names),
        "additionalProperties": lambda _: value.keys() <= wanted["properties"].keys(),
    }
    said = wanted.keys() - {"$schema", "title", "description"}
    return all(checks[key](wanted[key]) for key in sorted(said, key=lambda key: key != "type"))


edges = st.sampled_from([0, -0.0, 1.0, 1.5, 4, 4.0, 4.1, -1, 2**53 - 1, 2**53, 2**53 + 2.0, -(2**53), 10**400, 1e300])
given_values = (
    values | edges | st.sampled_from(["all", "mesh", "painted", "x" * 64, "x" * 65, "x" * 200, "x" * 201, [], {}])
)
requests = st.fixed_dictionaries(
    {"v": st.sampled_from([1, 1.0, True, 2, "1"]) | st.just(1), "command": st.sampled_from([*COMMANDS, "dance", 1])},
    optional={"id": given_values, "value": given_values, "extra": values},
)


@given(requests)
@settings(max_examples=500)
def test_what_the_schema_allows_is_allowed_and_nothing_else(message: dict[str, Any]) -> None:
    assert ask(message)["ok"] == fits(message, control.schema())


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
def test_numbers_and_null_are_taken_as_the_schema_has_them(message: dict[str, Any], ok: bool) -> None:
    message = {"v": 1} | message
    assert (ask(message)["ok"], fits(message, control.schema())) == (ok, ok)


def test_a_portrait_s_number_is_a_whole_one_however_it_is_written() -> None:
    assert ask({"v": 1, "id": 2.0, "command": "set_portrait", "value": 3.0}) == {
        "v": 1,
        "id": 2,
        "ok": True,
        "said": "set_portrait 3",
    }


# --- on their way


def test_whoever_asks_hears_what_came_of_it() -> None:
    commands = Commands()
    got: list[str] = []
    asking = threading.Thread(target=lambda: got.append(commands.ask("set_gain", 2.0)))
    asking.start()
    (order,) = until(commands.take)
    assert begin(order)
    answer(order, "gain 2")
    asking.join(5)
    assert got == ["gain 2"]


def test_a_program_that_does_not_answer_is_said_to_be_busy() -> None:
    commands = Commands()
    with pytest.raises(BusyError, match="busy"):
        commands.ask("next_portrait", timeout_s=0.01)
    (order,) = commands.take()
    assert not begin(order), "what is asked for again would be done twice"


def test_a_command_that_is_begun_is_not_taken_back() -> None:
    class Prompt(Commands):
        def _put(self, order: Order) -> bool:
            return begin(order) and super()._put(order)

    commands = Prompt()
    with pytest.raises(BusyError, match="set_frozen still under way"):
        commands.ask("set_frozen", timeout_s=0.01)
    (order,) = commands.take()
    answer(order, "too late")  # nobody waits any more


def test_a_full_line_is_said_to_be_busy() -> None:
    commands = Commands()
    assert [commands.post("next_portrait") for _ in range(MOST_WAITING + 1)] == [True] * MOST_WAITING + [False]
    with pytest.raises(BusyError, match="busy"):
        commands.ask("next_portrait")
