from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engines.errors import ConfigError
from realtime import report
from realtime.config import load


def test_a_run_that_never_began_has_a_report_of_zeros() -> None:
    figures = report.build(None, load({"size": "640x480"}))
    assert (figures["frames"], figures["dropped"]) == (0, {})
    assert figures["latency_ms"]["captured_to_sent"] == {"p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0}
    assert figures["config"]["size"] == "640x480"
    assert figures["machine"]["cores"] == os.cpu_count()
    json.dumps(figures)


def test_an_older_report_gives_way_to_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    report.check(path)
    assert path.read_text() == "old"
    report.write(path, {"frames": 1})
    assert json.loads(path.read_text()) == {"frames": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with pytest.raises(TypeError):
        report.write(path, {"frames": object()})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["nowhere/report.json", "."])
def test_a_path_that_cannot_be_written_is_found_before_the_run(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="--report"):
        report.check(tmp_path / name)


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="no device to write to")
def test_a_device_is_written_to_and_not_replaced() -> None:
    report.check(Path("/dev/null"))
    report.write(Path("/dev/null"), {})
    assert not Path("/dev/null").is_file()
