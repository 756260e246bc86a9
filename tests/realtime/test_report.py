from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engines.errors import ConfigError, SinkLost
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


@pytest.mark.parametrize(("name", "code"), [("nowhere/report.json", "report-unwritable"), (".", "report-is-folder")])
def test_a_path_that_cannot_be_written_is_found_before_the_run(tmp_path: Path, name: str, code: str) -> None:
    with pytest.raises(ConfigError) as caught:
        report.check(tmp_path / name)
    assert caught.value.code == code


def test_a_report_that_is_write_protected_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    path.touch(0o444)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(ConfigError) as caught:
        report.check(path)
    assert caught.value.code == "report-write-protected"
    assert f"chmod u+w {path}" in caught.value.cure
    report.check(tmp_path / "new.json")


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="no device to write to")
def test_a_device_is_written_to_and_not_replaced() -> None:
    report.check(Path("/dev/null"))
    report.write(Path("/dev/null"), {})
    assert not Path("/dev/null").is_file()


def test_a_link_leads_to_the_file_that_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "kept" / "report.json")
    report.check(link)
    for frames in (1, 2):
        report.write(link, {"frames": frames})
        assert link.is_symlink()
        assert json.loads((tmp_path / "kept" / "report.json").read_text()) == {"frames": frames}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        report.check(path)
        report.write(path, {"frames": 1})
        assert json.loads(os.read(reader, 1000)) == {"frames": 1}
    finally:
        os.close(reader)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_without_a_reader_is_an_error_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    rescue = threading.Timer(10, lambda: os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    rescue.start()
    try:
        with pytest.raises(SinkLost) as caught:
            report.write(path, {"frames": 1})
        assert caught.value.code == "report-not-read"
    finally:
        rescue.cancel()


def test_a_folder_that_went_away_is_told_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkLost) as caught:
        report.write(tmp_path / "file" / "report.json", {"frames": 1})
    assert caught.value.code == "report-lost"


INTO_ITS_OWN_OUTPUT = """
import sys
from pathlib import Path
from realtime import report
print("said before", flush=True)
report.check(Path(sys.argv[1]))
report.write(Path(sys.argv[1]), {"frames": 1})
"""


def test_what_our_own_output_goes_to_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "said.txt"
    with open(path, "w") as said:
        subprocess.run([sys.executable, "-c", INTO_ITS_OWN_OUTPUT, str(path)], stdout=said, timeout=60, check=True)
    first, _, rest = path.read_text().partition("\n")
    assert first == "said before"
    assert json.loads(rest) == {"frames": 1}


@pytest.mark.skipif(sys.platform == "win32", reason="names and links of another kind")
@pytest.mark.parametrize("name", ["ring", "n" * 300, "file/report.json"])
def test_a_path_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    (tmp_path / "ring").symlink_to("ring")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as caught:
        report.check(tmp_path / name)
    assert caught.value.code == "report-unwritable"
