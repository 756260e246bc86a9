"""The commands in messages work, and never install an unrelated project."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from engines import install_hint
from engines.install_hint import command, install_command
from tests.support.modules import modules

ROOT = Path(__file__).parents[2]


def test_in_a_checkout_it_is_installed_editable() -> None:
    assert install_command() == "python -m pip install -c constraints.txt -e ."
    assert install_command("neural") == "python -m pip install -c constraints.txt -e '.[neural]'"


def test_elsewhere_the_distribution_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install_hint, "_ROOT", tmp_path)
    assert install_command() == "python -m pip install reenact-live"
    assert install_command("neural") == "python -m pip install 'reenact-live[neural]'"


def test_every_extra_in_a_message_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pattern = re.compile(r'\binstall_command\("(\w+)"\)')
    named = {name for path in modules() for name in pattern.findall(path.read_text("utf-8"))}
    assert {"neural", "tensorrt"} <= named <= extras.keys()


def test_no_message_installs_the_unrelated_project_of_that_name() -> None:
    pattern = re.compile(r"pip install\b[^\n]*\breenact\b(?!-live)")
    for path in (ROOT / "README.md", *modules()):
        assert not pattern.search(path.read_text("utf-8")), path


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
