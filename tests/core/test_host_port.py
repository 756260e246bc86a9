from __future__ import annotations

import pytest

from realtime.core.host_port import parse_host_port


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9000", ("localhost", 9000)),
        (":9000", ("localhost", 9000)),
        ("a-b.example:1", ("a-b.example", 1)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_the_host_may_be_left_out_and_an_ipv6_address_has_brackets(text: str, expected: tuple[str, int]) -> None:
    assert parse_host_port(text, "localhost") == expected


@pytest.mark.parametrize("text", ["", "a", "a:", "a:0", "a:65536", "a:-1", "a b:1", "::1:80", "a:1\n", "a:\u0661"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_host_port(text, "localhost")


@pytest.mark.parametrize("text", ["9000", ":9000"])
def test_without_a_default_the_host_is_needed(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_host_port(text)


def test_port_0_may_be_allowed() -> None:
    assert parse_host_port("a:0", lowest_port=0) == ("a", 0)
