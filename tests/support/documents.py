"""The documents of the project: their links, anchors and commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^\n|\A)((?:^ {4,}\S.*\n|^\n(?= {4}))+)", re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]\[]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_OWN_COMMANDS = re.compile(r"^(?:\S*/)?(?:reenact|make|python\d?(?:\.\d+)?)$")


def documents() -> list[Path]:
    """Return the Markdown files of the project."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def without_code(text: str) -> str:
    """Return a document without its code."""
    return _SPAN.sub("", _INDENTED.sub("\n", _FENCE.sub("", text)))


def links(text: str) -> list[str]:
    """Return the targets of the links and pictures in a document."""
    return _LINK.findall(without_code(text))


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings in a document, as GitHub names them."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 1
        unique = anchor
        while unique in found:
            unique = f"{anchor}-{number}"
            number += 1
        found.add(unique)
    return found


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the project that a document names."""

    document: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document}: {' '.join(self.words)}"


def commands(document: Path) -> Iterator[Command]:
    """Return the commands in code blocks and code spans that start the program, a tool or make."""
    text = document.read_text("utf-8")
    fences = _FENCE.findall(text)
    rest = _FENCE.sub("", text)
    indented = _INDENTED.findall(rest)
    spans = _SPAN.findall(_INDENTED.sub("\n", rest))
    name = document.relative_to(ROOT).as_posix()
    for line in (line for block in (*fences, *indented, *spans) for line in _lines(block)):
        for words in _simple_commands(line):
            if _OWN_COMMANDS.match(words[0]):
                yield Command(name, words)


def _lines(block: str) -> Iterator[str]:
    """Return the lines of a block, joined where a line ends in a backslash or the next one is indented further."""
    joined = re.sub(r"\\\n\s*", " ", block)
    joined = re.sub(r"\n {6,}(?=\[)", " ", joined)
    yield from joined.splitlines()


def _simple_commands(line: str) -> Iterator[tuple[str, ...]]:
    """Return the words of each command in a shell line, without assignments and the brackets of a synopsis."""
    lexer = shlex.shlex(line.replace("[", "").replace("]", ""), posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    words: list[str] = []
    try:
        tokens = [*lexer, ";"]
    except ValueError:  # not a shell line
        return
    for token in tokens:
        if set(token) <= set(";&|"):
            if words:
                yield tuple(words)
            words = []
        elif words or not re.match(r"\w+=", token):
            words.append(token)
