"""Every tool as a command: its entry, its exit codes, and the names it is called by."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = (
    "api_docs",
    "bench_costs",
    "bench_engines",
    "bench_latency",
    "bench_marking",
    "bench_webrtc",
    "build_engine",
    "consent",
    "doctor",
    "faults.run",
    "fidelity",
    "marking.panic",
    "models",
    "readme_picture",
    "render_assets",
    "train_expression",
    "verify",
)
ALIASES = ("bench", "picture")


@pytest.mark.parametrize("name", [*TOOLS, *ALIASES])
def test_help_names_the_command_as_it_was_called(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module(f"tools.{name}").main
    assert main(["--help"], "reenact something") == 0
    assert "reenact something" in " ".join(capsys.readouterr().out.split())[:80]


@pytest.mark.parametrize("name", [*TOOLS, *ALIASES])
def test_an_unknown_option_is_wrong_usage(name: str) -> None:
    assert importlib.import_module(f"tools.{name}").main(["--no-such-option"]) == 2


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("bench_latency nonsense", ("nonsense", "stages", "device", "webrtc", "screen", "all")),
        ("bench_latency --fps fast", ("--fps", "number")),
        ("bench_latency --seconds 0", ("--seconds", "1")),
        ("bench_latency --no-such-option", ("--no-such-option",)),
        ("models nonsense", ("nonsense",)),
        ("fidelity", ("driver",)),
    ],
)
def test_wrong_usage_is_one_line(words: str, named: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    name, *rest = words.split()
    assert importlib.import_module(f"tools.{name}").main(rest, "reenact something") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(each in line for each in (*named, "reenact something --help"))
    assert "Value error" not in line


@pytest.mark.parametrize("name", ALIASES)
def test_an_earlier_name_runs_the_tool(name: str) -> None:
    command = [sys.executable, "-m", f"tools.{name}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


def test_a_missing_clip_has_a_message_and_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module("tools.bench_costs").main
    assert main(["cost", "--driver", str(tmp_path / "nothing.mp4")]) == 1
    printed = capsys.readouterr().err
    assert "nothing.mp4" in printed
    assert "Traceback" not in printed
