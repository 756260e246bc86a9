"""Keeping the log output of native libraries off the terminal."""

from __future__ import annotations

import os

import pytest

from realtime.core.quiet_libraries import quiet_libraries, stderr_descriptor


def test_other_output_on_standard_error_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_libraries():
        os.write(2, b"I0000 00:00:1.2  3 task_runner.cc:85] GPU is not there\nours\nWARNING: ours too\n")
        assert capfd.readouterr().err == ""
    assert capfd.readouterr().err == "ours\nWARNING: ours too\n"


def test_standard_error_can_be_written_to_while_it_is_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_libraries(), stderr_descriptor() as error:
        os.write(error, b"within\n")
        assert capfd.readouterr().err == "within\n"
    with stderr_descriptor() as error:
        os.write(error, b"outside\n")
    assert capfd.readouterr().err == "outside\n"


def test_without_a_temporary_file_nothing_is_held_back(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def nowhere(*_: object) -> None:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr("os.memfd_create", nowhere, raising=False)
    monkeypatch.setattr("tempfile.TemporaryFile", nowhere)
    with quiet_libraries():
        os.write(2, b"I0000 00:00:1.2  3 task_runner.cc:85] GPU is not there\n")
        assert "GPU is not there" in capfd.readouterr().err
