"""The packaging: its name, its commands, the files that it contains, and the versions that are known to work."""

from __future__ import annotations

import importlib
import re
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from engines.install_hint import DISTRIBUTION, SUBCOMMANDS

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]


def _name_of(requirement: str) -> str:
    """Return the normalized name of the distribution in a requirement."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s=<>!~;\[]", requirement, maxsplit=1)[0]).lower()


def _constrained() -> set[str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return {_name_of(line) for line in lines if line and not line.startswith("#")}


def test_the_distribution_is_not_called_as_the_unrelated_project() -> None:
    assert PROJECT["name"] == DISTRIBUTION == "reenact-live"


def test_the_console_script_exists() -> None:
    module, _, function = PROJECT["scripts"]["reenact"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("module", SUBCOMMANDS.values())
def test_every_subcommand_has_a_tool(module: str) -> None:
    assert callable(importlib.import_module(f"tools.{module}").main)


def test_the_private_names_of_aiortc_are_those_of_one_minor_version() -> None:
    requirement = next(each for each in PROJECT["dependencies"] if _name_of(each) == "aiortc")
    assert re.fullmatch(r"aiortc>=1\.(\d+),<1\.(\d+)", requirement)


def test_every_requirement_has_a_version_that_is_known_to_work() -> None:
    extras = PROJECT["optional-dependencies"]
    names = {_name_of(each) for each in (*PROJECT["dependencies"], *extras["neural"], *extras["dev"])}
    assert names <= _constrained()


def test_the_constraints_name_no_host() -> None:
    assert "://" not in (ROOT / "constraints.txt").read_text("utf-8")


def _is_packaged(path: Path) -> bool:
    """Return True if the package data of the project includes a file."""
    for package, patterns in PYPROJECT["tool"]["setuptools"]["package-data"].items():
        folder = ROOT / package.replace(".", "/")
        if path.is_relative_to(folder):
            inside = path.relative_to(folder).as_posix()
            if any(fnmatch(inside, pattern) for pattern in patterns):
                return True
    return False


def test_the_wheel_contains_every_file_of_the_packages() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "engines", "realtime", "tools"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0 or not listed.stdout:
        pytest.skip("not a git checkout")
    data = [ROOT / name for name in listed.stdout.splitlines() if not name.endswith(".py")]
    assert [path for path in data if path.is_file() and not _is_packaged(path)] == []


def test_every_folder_of_code_is_a_package() -> None:
    """Only packages are found by setuptools; a folder without __init__.py would be left out of the wheel."""
    folders = {path.parent for name in ("engines", "realtime", "tools") for path in (ROOT / name).rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_the_hooks_use_the_tools_of_the_project() -> None:
    entries = re.findall(r"entry: (\S+)", (ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    assert {Path(each).name for each in entries} == {"ruff", "mypy"}
    assert all(each.startswith(".venv/bin/") for each in entries)


def test_the_workflow_runs_the_same_as_before_a_change_lands() -> None:
    assert "run: bash .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
