from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from realtime.config import TOKEN_VARIABLE
from tools.marking import panic


class Page(BaseHTTPRequestHandler):
    asked: list[tuple[str, str | None, Any]] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, self.headers["Authorization"], body))
        answer = json.dumps({"said": "slate"}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def asked(*words: str, path: str = "/") -> tuple[str, str | None, Any]:
    """Return path, authorization and body of what the command line asks a page for."""
    Page.asked.clear()
    with HTTPServer(("127.0.0.1", 0), Page) as server:
        serving = threading.Thread(target=server.handle_request)
        serving.start()
        assert panic.main([f"http://127.0.0.1:{server.server_port}{path}", *words]) == 0
        serving.join()
    return Page.asked[0]


def test_the_slate_is_asked_for() -> None:
    body = {"v": 1, "command": "set_slate", "value": True}
    assert asked("--token", "hush") == ("/api/control", "Bearer hush", body)


@pytest.mark.parametrize("path", ["/?token=hu%26sh", "/#token=hu%26sh", "?token=hu%26sh", "/?a=b&token=hu%26sh"])
def test_an_address_may_hold_the_token(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "another")
    assert asked(path=path)[:2] == ("/api/control", "Bearer hu&sh")


def test_the_token_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "hush")
    assert asked()[1] == "Bearer hush"


def test_the_name_of_a_session_is_quoted() -> None:
    path = asked("--session", "a b&value=false#é")[0]
    assert parse_qs(urlsplit(path).query) == {"session": ["a b&value=false#é"]}


def test_without_a_program_it_says_so_and_keeps_the_token_to_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert panic.main(["http://127.0.0.1:9/?token=hush"]) == 1
    assert "hush" not in capsys.readouterr().err


@pytest.mark.parametrize("address", ["nowhere", "http://[::1", "localhost:8080"])
def test_what_is_no_address_is_told(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert panic.main([address]) in (1, 2)
    assert address in capsys.readouterr().err
