"""The commands in messages work, and never install an unrelated project."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from engines import install_hint
from engines.install_hint import command, install_command, python
from tests.support.modules import modules

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a virtual environment that is not activated, which seems to run this program."""
    folder = tmp_path / "checkout/.venv"
    (folder / "bin").mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(folder))
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(sys, "executable", str(folder / "bin/python"))
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    return folder


@pytest.fixture
def activated(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Activate the environment."""
    monkeypatch.setenv("VIRTUAL_ENV", str(environment))


@pytest.mark.skipif(sys.platform == "win32", reason="paths of Unix")
def test_the_interpreter_of_an_environment_that_is_not_activated_is_named(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(environment.parent)
    assert python() == ".venv/bin/python"
    assert command("models", "run.py") == ".venv/bin/python -m tools.models"
    assert install_command("neural") == ".venv/bin/python -m pip install -c constraints.txt -e '.[neural]'"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert python() == str(environment / "bin/python")
    (tmp_path / "elsewhere").rmdir()
    assert python() == str(environment / "bin/python")


def test_an_interpreter_is_named_plainly_where_that_is_enough(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", str(environment))
    assert python() == "python"
    monkeypatch.delenv("VIRTUAL_ENV")
    monkeypatch.setattr(sys, "base_prefix", str(environment))
    assert python() == "python"


@pytest.mark.usefixtures("activated")
def test_in_a_checkout_it_is_installed_editable() -> None:
    assert install_command() == "python -m pip install -c constraints.txt -e ."
    assert install_command("neural") == "python -m pip install -c constraints.txt -e '.[neural]'"


@pytest.mark.usefixtures("activated")
@pytest.mark.parametrize(
    ("left_by_the_installer", "installer"),
    [
        ("pipx_metadata.json", "pipx install --force"),
        ("uv-receipt.toml", "uv tool install --force"),
        ("pyvenv.cfg", "python -m pip install"),
    ],
)
def test_elsewhere_it_is_installed_again_by_the_same_installer_and_from_no_index(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_by_the_installer: str, installer: str
) -> None:
    monkeypatch.setattr(install_hint, "_ROOT", tmp_path)
    (environment / left_by_the_installer).touch()
    assert f"{installer} WHEEL," in install_command()
    assert f"{installer} 'WHEEL[neural]'," in install_command("neural")
    assert "reenact" not in install_command("neural")


def test_every_extra_in_a_message_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pattern = re.compile(r'\binstall_command\("(\w+)"\)')
    named = {name for path in modules() for name in pattern.findall(path.read_text("utf-8"))}
    assert {"neural", "tensorrt"} <= named <= extras.keys()


def test_no_message_installs_the_unrelated_project_of_that_name() -> None:
    pattern = re.compile(r"pip install\b[^\n]*\breenact\b(?!-live)")
    for path in (ROOT / "README.md", *modules()):
        assert not pattern.search(path.read_text("utf-8")), path


@pytest.mark.usefixtures("activated")
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
