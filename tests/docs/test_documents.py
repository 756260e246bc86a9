"""The documents: their links exist, their commands name options that exist, and they are short and plain."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from functools import cache
from pathlib import Path

import pytest

from engines.install_hint import SUBCOMMANDS
from realtime import config
from realtime.config import Config
from tests.support.documents import ROOT, Command, anchors, commands, documents, links
from tests.support.modules import modules

README_LINES = 150
BANNED = re.compile(
    r"\b(who(so)?ever|(no|some)body|the\s+person|so\s+manieth|anew|another's|one's\s+own|(another|one)\s+person's)\b",
    re.IGNORECASE,
)
OPTION = re.compile(r"--[a-z][\w-]*")
COMMANDS = [command for document in documents() for command in commands(document)]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("document", documents(), ids=_name)
def test_every_link_leads_somewhere(document: Path) -> None:
    text = document.read_text("utf-8")
    for link in links(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target.read_text("utf-8")), link


def test_every_document_is_listed() -> None:
    index = ROOT / "docs" / "index.md"
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in links(index.read_text("utf-8"))}
    missing = set(documents()) - listed - {index}
    assert {_name(path) for path in missing} == set()


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_every_file_that_is_named_exists(name: str) -> None:
    """Files of ``realtime`` and of its packages may be named without the folders before them."""
    text = (ROOT / name).read_text("utf-8")
    folders = [ROOT / each for each in ("engines", "realtime", "tools", "tests", "docs")]
    code = {_name(path) for folder in folders for path in folder.rglob("*.[pj][ys]")}
    named = set(re.findall(r"`([\w/.-]+\.(?:py|js))`", text))
    assert len(named) > 10
    missing = {each for each in named if not any(file == each or file.endswith(f"/{each}") for file in code)}
    assert missing == set()


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_every_folder_that_is_named_exists(name: str) -> None:
    named = set(
        re.findall(r"`((?:engines|realtime|tests|tools|docs)(?:/[\w-]+)*)/?`", (ROOT / name).read_text("utf-8"))
    )
    assert len(named) > 5
    assert {each for each in named if not (ROOT / each).is_dir()} == set()


def test_the_readme_takes_five_minutes() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= README_LINES


@cache
def _program_options() -> frozenset[str]:
    """Return the options of the program itself."""
    names = {config.option_name(key) for key in Config.model_fields}
    flags = {f"--no-{key.replace('_', '-')}" for key in Config.model_fields if config.kind(key) == "flag"}
    return frozenset(names | flags | {"--config", "--version", "--help"})


@cache
def _tool_options(module: str, subcommand: str) -> frozenset[str]:
    """Return the options of a tool in ``tools``, or of one of its subcommands, from its help."""
    main = importlib.import_module(f"tools.{module}").main
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert main([*([subcommand] if subcommand else []), "--help"]) == 0
    return frozenset(OPTION.findall(output.getvalue()))


def _options_of(command: Command) -> frozenset[str]:
    """Return the options that a command of the program or of a tool takes."""
    program, *words = command.words
    if program.endswith("reenact"):
        module = SUBCOMMANDS.get(words[0]) if words else None
        words = words[1:] if module else words
    elif words and words[0].endswith("run.py"):
        module, words = None, words[1:]
    else:
        module, words = words[1].removeprefix("tools."), words[2:]
    if module is None:
        return _program_options()
    subcommand = words[0] if words and words[0] in ("list", "fetch", "where", "suite") else ""
    return _tool_options(module, subcommand)


def _starts_the_program(command: Command) -> bool:
    program, *words = command.words
    if program.endswith("reenact"):
        return True
    return bool(words) and (words[0].endswith("run.py") or (words[0] == "-m" and words[1].startswith("tools.")))


@pytest.mark.parametrize("command", [each for each in COMMANDS if _starts_the_program(each)], ids=str)
def test_every_option_exists(command: Command) -> None:
    if command.words[1:2] == ("-m",):
        assert (ROOT / command.words[2].replace(".", "/")).with_suffix(".py").is_file()
    elif command.words[0].endswith("reenact") and command.words[1:] and not command.words[1].startswith("-"):
        assert command.words[1] in {*SUBCOMMANDS, "..."}
    given = {word.partition("=")[0] for word in command.words if OPTION.match(word)}
    assert given <= _options_of(command)


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = [each for each in COMMANDS if each.words[0] == "make" and each.words[1:]]
    assert len(named) > 5
    for command in named:
        assert command.words[1].rstrip(",") in targets, command


def test_the_documents_name_many_commands() -> None:
    """The search for commands must not silently find nothing."""
    assert sum(map(_starts_the_program, COMMANDS)) > 30


def test_no_document_installs_the_unrelated_project_of_that_name() -> None:
    pattern = re.compile(r"(?:pip|pipx|uv tool) install\b[^\n]*\sreenact(?![-\w])")
    for document in documents():
        assert not pattern.search(document.read_text("utf-8")), document


def _plain_sources() -> list[Path]:
    """Return the code and the documents whose wording is checked."""
    page = ROOT / "realtime" / "webrtc" / "page"
    pages = [path for path in page.iterdir() if path.suffix in (".js", ".html", ".css")]
    examples = [path for path in (ROOT / "docs" / "examples").iterdir() if path.is_file()]
    return [*modules(), *pages, *examples, *documents(), *sorted((ROOT / "tools").rglob("*.js"))]


def test_no_banned_word_is_used() -> None:
    found = [
        f"{_name(path)}:{number}: {line.strip()}"
        for path in _plain_sources()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if BANNED.search(line)
    ]
    assert found == []
