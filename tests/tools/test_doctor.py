"""The findings of tools.doctor on machines that lack something."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from realtime.capture import v4l2_devices
from realtime.tracking.model_files import target_path
from tools import doctor
from tools.doctor import State

FED = {True: "in use by a program", False: "free", None: "the driver does not report whether it is in use"}
PROJECT = '[project]\nname = "x"\ndependencies = ["{name}>=1; python_version < \'3.13\'", "{name}>=2"]\n'


def written(folder: Path, name: str, pin: str) -> tuple[Path, Path]:
    project, pins = folder / "pyproject.toml", folder / "constraints.txt"
    project.write_text(PROJECT.format(name=name))
    pins.write_text(f'# known to work\n{name}=={pin} ; python_version < "4"\n')
    return project, pins


def test_a_package_that_is_not_installed_is_a_problem(tmp_path: Path) -> None:
    finding = doctor.packages(*written(tmp_path, "no-such-package", "1"))
    assert finding.state is State.PROBLEM
    assert "no-such-package" in finding.text
    assert "pip install" in finding.cure


def test_another_version_than_the_pinned_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.version_info", (3, 12))
    finding = doctor.packages(*written(tmp_path, "numpy", "0.1"))
    assert finding.state is State.NOTE
    assert "pinned 0.1" in finding.text


def test_the_checkout_names_every_direct_dependency_once() -> None:
    names = doctor.direct_dependencies((doctor.ROOT / "pyproject.toml").read_text())
    assert len(names) == len(set(names))
    assert {"numpy", "mediapipe", "opencv-python"} <= set(names)


def test_virtual_cameras_are_listed_with_their_state(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        v4l2_devices.Node(f"/dev/video{i}", "reenact", v4l2_devices.LOOPBACK_DRIVER, has_producer=fed)
        for i, fed in enumerate(FED)
    ]
    monkeypatch.setattr(v4l2_devices, "list_nodes", lambda: nodes)
    texts = [finding.text for finding in doctor.every_camera()]
    assert [text.partition(": ")[2] for text in texts] == list(FED.values())


def test_a_camera_that_is_unplugged_meanwhile_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def unplugged(_: str) -> Iterator[int]:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        yield 0

    nodes = [
        v4l2_devices.Node("/dev/video0", "Cam", captures=True),
        v4l2_devices.Node("/dev/video1", "v", v4l2_devices.LOOPBACK_DRIVER),
    ]
    monkeypatch.setattr(v4l2_devices, "list_nodes", lambda: nodes)
    monkeypatch.setattr(v4l2_devices, "open_device", unplugged)
    gone, other = doctor.every_camera()
    assert gone.state is State.NOTE
    assert "/dev/video0 (Cam)" in gone.text
    assert "No such device" in gone.text
    assert gone.cure
    assert other.about == "virtual"


def test_two_versions_of_cv2_are_a_problem() -> None:
    versions = {"opencv-python": "4.11.0.86", "opencv-contrib-python": "4.12.0.88"}
    finding = doctor.opencv(versions.get)
    assert finding.state is State.PROBLEM
    assert "4.12.0.88" in finding.text
    assert doctor.opencv({"opencv-python": "4.11.0.86"}.get).state is State.OK


def test_a_damaged_model_file_is_a_problem_and_a_missing_one_a_note(own_cache: Path) -> None:
    assert [finding.state for finding in doctor.model_files()] == [State.NOTE]
    path = target_path("face_landmarker")
    assert own_cache in path.parents
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")
    (finding,) = doctor.model_files()
    assert finding.state is State.PROBLEM
    assert str(path) in finding.cure


def test_no_driver_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.gpu().state is State.NOTE


def test_a_driver_that_fails_is_not_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    program.write_text("#!/bin/sh\necho 'Good GPU, 8192 MiB, 550.1'\n")
    program.chmod(0o755)
    assert doctor.gpu().text.startswith("Good GPU, 8192 MiB, 550.1; torch")
    program.write_text("#!/bin/sh\nexit 9\n")
    assert doctor.gpu().state is State.NOTE


def test_a_folder_of_compiled_code_that_fills_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert doctor.compiled().state is State.NOTE
    (tmp_path / "engines_1").mkdir()
    (tmp_path / "engines_1" / "raster.warp.nbc").touch()
    assert doctor.compiled().text.startswith("1 functions cached")


def test_the_report_has_a_line_for_each_part_and_its_exit_code_follows(
    own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = doctor.main(["--json"])
    findings = json.loads(capsys.readouterr().out)
    assert not (own_cache / "reenact").exists()
    about = {finding["about"] for finding in findings}
    assert {"Python", "packages", "OpenCV"} <= about
    problems = [finding for finding in findings if finding["state"] == "problem"]
    assert code == (1 if problems else 0)
    if not problems:
        assert {"tracker", "camera", "virtual camera", "recording", "GPU", "TensorRT", "terminal"} <= about
    assert all(finding["cure"] for finding in problems)


def test_tensorrt_is_reported_with_what_is_still_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    installed: dict[str, str] = {}
    monkeypatch.setattr(doctor, "_version", installed.get)
    assert "not installed" in doctor.tensorrt().text
    installed["tensorrt"] = "11.4"
    assert ("not PyCUDA" in doctor.tensorrt().text, "[tensorrt]" in doctor.tensorrt().cure) == (True, True)
    installed["pycuda"] = "2026.1"
    assert "build_engine" in doctor.tensorrt().cure
    engine = tmp_path / "reenact" / "engines" / "frame.engine"
    engine.parent.mkdir(parents=True)
    engine.write_bytes(b"damaged")
    assert "no engine" in doctor.tensorrt().text
