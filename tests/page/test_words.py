"""The texts in the page itself: each is written in English, and has a key in the tables of words."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from realtime.webrtc.process.http_server import PAGE

ENGLISH = json.loads((PAGE / "words/en.js").read_text("utf-8").split("export default ", 1)[1].rstrip().rstrip(";"))
FREE = re.compile(r"reenact|\W*|\W?[\d.]+")
"""What is the same in every language: the name, figures and keys."""
SILENT = {"script", "style", "noscript", "title", "kbd", "svg"}
VOID = {"meta", "link", "img", "input", "br", "path"}


class Texts(HTMLParser):
    """Collects what is shown or said, each with its key; None without one."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str | None, str]] = []
        self._open: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        for name in ("aria-label", "title", "alt", "placeholder"):
            if values.get(name):
                self.found.append((values.get(f"data-t-{name}"), str(values[name])))
        if tag not in VOID:
            self._open.append((tag, values.get("data-t")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        text = data.strip()
        if text and not FREE.fullmatch(text) and not SILENT & {tag for tag, _ in self._open} and self._open:
            self.found.append((self._open[-1][1], text))


@pytest.mark.parametrize("name", ["index.html", "guest/index.html"])
def test_every_text_of_the_page_has_a_key(name: str) -> None:
    texts = Texts()
    texts.feed((PAGE / name).read_text("utf-8"))
    assert len(texts.found) > 7
    assert [(key, text) for key, text in texts.found if key is None or ENGLISH.get(key) != text] == []
