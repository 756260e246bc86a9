"""What requests of programs are answered with."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.fake_server import FakeServer


@pytest.mark.parametrize(
    ("session", "message", "status"),
    [
        ("starting", {"v": 1, "id": 7, "command": "set_slate", "value": True}, 200),
        ("nobody", {"v": 1, "id": 7, "command": "next_portrait"}, 404),
        (None, {"v": 1, "id": 7, "command": "next_portrait"}, 404),
        ("starting", {"v": 1, "id": 7, "command": "dance"}, 400),
    ],
)
def test_a_command_over_http_is_answered_in_its_own_words(
    session: str | None, message: dict[str, Any], status: int
) -> None:
    server = FakeServer()
    server.link.missing.add("starting")
    server.open("starting")
    reply = server.ask("POST", "/api/control", session, json.dumps(message).encode())
    assert reply.status == status
    assert json.loads(reply.body).keys() == {"v", "id", "ok", "said" if status == 200 else "error"}
    server.media.closed("starting")
    server.media.close(3)
