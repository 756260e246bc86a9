from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

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


def test_the_slate_is_asked_for() -> None:
    with HTTPServer(("127.0.0.1", 0), Page) as server:
        serving = threading.Thread(target=server.handle_request)
        serving.start()
        assert panic.main([f"http://127.0.0.1:{server.server_port}/", "--token", "hush"]) == 0
        serving.join()
    assert Page.asked == [("/api/control", "Bearer hush", {"v": 1, "command": "set_slate", "value": True})]


def test_without_a_program_it_says_so() -> None:
    assert panic.main(["http://127.0.0.1:9"]) == 1
