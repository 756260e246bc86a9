"""Test the description of video devices on a machine that may have none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from realtime.capture import v4l2_devices

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="V4L2 exists on Linux only")


def test_nodes_are_in_the_order_of_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sort by number, not by name, and leave out what is not a video device."""
    there = ["/dev/video10", "/dev/video2", "/dev/video0", "/dev/video7"]
    monkeypatch.setattr(Path, "glob", lambda *_: map(Path, there))
    monkeypatch.setattr(
        v4l2_devices, "inspect", lambda path: None if path == "/dev/video7" else v4l2_devices.Node(path, "Cam")
    )
    assert [node.path for node in v4l2_devices.list_nodes()] == ["/dev/video0", "/dev/video2", "/dev/video10"]


@pytest.mark.parametrize("path", ["/dev/null", "/dev/video9999", "/tmp", __file__])
def test_a_path_that_is_not_a_video_device_is_not_described(path: str) -> None:
    assert v4l2_devices.inspect(path) is None
    assert not v4l2_devices.is_busy(path)
    v4l2_devices.reset_output(path)


def test_nodes_are_named_by_path_and_label() -> None:
    node = v4l2_devices.Node("/dev/video12", "reenact", v4l2_devices.LOOPBACK_DRIVER)
    assert str(node) == "/dev/video12 (reenact)"
    assert (node.index, node.loopback) == (12, True)
    assert v4l2_devices.Node("/dev/v4l/by-id/usb-cam", "Cam").index == -1


def test_only_the_name_of_a_device_that_may_not_be_opened_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError

    for device in ("video10", "video11"):
        (tmp_path / device).mkdir()
        (tmp_path / device / "name").write_text("Some Cam\n")
    (tmp_path / "video11" / "max_openers").write_text("10\n")
    monkeypatch.setattr(v4l2_devices, "_SYSFS", tmp_path)
    monkeypatch.setattr(os, "open", refuse)
    assert v4l2_devices.inspect("/dev/video10") == v4l2_devices.Node("/dev/video10", "Some Cam", permission_denied=True)
    assert v4l2_devices.inspect("/dev/video11") == v4l2_devices.Node(
        "/dev/video11", "Some Cam", v4l2_devices.LOOPBACK_DRIVER, permission_denied=True
    )


@pytest.mark.parametrize(("format_", "size"), [("YU12:640x360@30/1", (640, 360)), ("", None), ("nothing yet", None)])
def test_the_size_of_a_virtual_camera(
    format_: str, size: tuple[int, int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "video10").mkdir()
    (tmp_path / "video10" / "format").write_text(format_)
    monkeypatch.setattr(v4l2_devices, "_SYSFS", tmp_path)
    assert v4l2_devices.producer_size("/dev/video10") == size
    assert v4l2_devices.producer_size("/dev/video11") is None


def test_the_programs_that_have_a_device_open_are_listed() -> None:
    program = "import sys; device = open('/dev/full', 'wb', 0); print('open', flush=True); sys.stdin.read()"
    with (
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
        open("/dev/full", "wb"),
    ):
        assert other.stdout is not None
        other.stdout.readline()
        found = v4l2_devices.programs_using("/dev/full")
        assert [user for user in found if user.endswith(f"(process {other.pid})")]
        assert not [user for user in found if user.endswith(f"(process {os.getpid()})")]
        other.communicate()
    assert v4l2_devices.programs_using("/dev/there-is-no-such-device") == []
