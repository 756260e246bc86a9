"""Commands that install what is missing: they are right, and lead to this project and to nobody else's."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from engines.install_hint import command, install
from tests.support.modules import modules

ROOT = Path(__file__).parents[2]


def test_without_an_extra_it_is_the_project_alone() -> None:
    assert install() == "python -m pip install -c constraints.txt -e ."


def test_every_extra_that_a_person_is_told_to_install_is_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    told = {name for path in modules() for name in re.findall(r'\binstall\("(\w+)"\)', path.read_text())}
    assert {"neural", "tensorrt"} <= told <= extras.keys()
    assert install("neural").endswith("-e '.[neural]'")


def test_nobody_is_sent_to_a_registry_for_the_project() -> None:
    named = re.compile(r"pip install\b[^\n]*\breenact\b")
    for path in (ROOT / "README.md", *modules()):
        assert not named.search(path.read_text("utf-8")), path


@pytest.mark.parametrize(
    ("program", "name", "expected"),
    [
        ("/usr/bin/reenact", "", "reenact"),
        ("/usr/bin/reenact", "build-engine", "reenact build-engine"),
        ("C:/Scripts/reenact.exe", "models", "reenact models"),
        ("run.py", "", "python run.py"),
        ("/home/me/reenact/tools/doctor.py", "build-engine", "python -m tools.build_engine"),
        ("", "bench", "python -m tools.bench_latency"),
    ],
)
def test_a_command_is_named_as_the_program_was_started(program: str, name: str, expected: str) -> None:
    assert command(name, program) == expected
