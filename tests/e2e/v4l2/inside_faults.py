"""Runs in the guest: faults of cameras, and what the program shows and prints meanwhile.

Each test checks that the camera's picture is never shown, that the gap in the result is short, and that the program
recovers by itself within two seconds of the cure, or ends with one clear line.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.v4l2 import parts
from tests.e2e.v4l2.parts import unplugged

RECOVERY_S = 2.0
AWAY_S = 3.0
STALL_S = 1.5
"""The longest gap in the result, which continues while the camera is away."""


def set_control(name: str, value: int = 1) -> None:
    subprocess.run(["v4l2-ctl", "-d", "0", "-c", f"{name}={value}"], check=True)


def any_picture(_: parts.Look) -> bool:
    return True


class Setup:
    """The program between a camera and a watcher of the result."""

    def __init__(self, camera: str, folder: Path, feeder: bool) -> None:
        self.feeder = parts.feeder("/dev/video10") if feeder else None
        if feeder:
            first = parts.Watcher("/dev/video10", folder / "camera.jsonl")
            first.sees(parts.fresh)
            first.process.end(signal.SIGKILL)
        self.words = (camera, "virtualcam:/dev/video11")
        self.program = parts.program(*self.words)
        self.watcher = parts.Watcher("/dev/video11", folder / "seen.jsonl")
        self.watcher.sees(lambda look: look.mean > 20, count=20)
        self.program.wait_for("ReenactCam|vivid")

    def close(self) -> None:
        for process in (self.watcher.process, self.program, self.feeder):
            if process is not None:
                process.end(signal.SIGKILL)

    def outcome(self, fault: str, since: int, recovered_s: float | None) -> None:
        """Print and check what the watcher received."""
        gap = self.watcher.longest_gap_s(since)
        share = max(look.magenta for look in self.watcher.looks())
        took = "did not stop" if recovered_s is None else f"back {recovered_s:.2f} s after the cure"
        print(f"OUTCOME {fault}: {took}; longest gap {gap:.2f} s; camera pictures shown: {share > 0.01}")
        assert share < 0.01, "the camera's picture is never shown"
        assert recovered_s is None or recovered_s <= RECOVERY_S
        assert "Traceback" not in self.program.text()


@pytest.fixture
def vivid(tmp_path: Path) -> Iterator[Setup]:
    setup = Setup("vivid", tmp_path, feeder=False)
    yield setup
    setup.close()


@pytest.fixture
def fed(tmp_path: Path) -> Iterator[Setup]:
    setup = Setup("ReenactCam", tmp_path, feeder=True)
    setup.watcher.sees(parts.fresh, count=10)
    yield setup
    setup.close()


def lasting(setup: Setup, fault: str, cause: Callable[[], None], cure: Callable[[], None], says: str) -> None:
    began = time.monotonic_ns()
    cause()
    setup.program.wait_for(says, since=began)
    time.sleep(AWAY_S)
    cured = time.monotonic_ns()
    cure()
    back = setup.program.wait_for("is back", since=cured, seconds=10)
    setup.watcher.sees(any_picture, since=back, count=10)
    setup.outcome(fault, began, (back - cured) / 1e9)


def test_the_program_recovers_from_failures_of_the_camera(vivid: Setup) -> None:
    with unplugged():
        began = time.monotonic_ns()
        vivid.program.wait_for("was unplugged", since=began)
        time.sleep(AWAY_S)
        cured = time.monotonic_ns()
    back = vivid.program.wait_for("is back", since=cured, seconds=10)
    vivid.watcher.sees(any_picture, since=back, count=10)
    vivid.outcome("camera unplugged for 3 s", began, (back - cured) / 1e9)
    assert vivid.watcher.longest_gap_s(began) < STALL_S

    drop = "percentage_of_dropped_buffers"
    lasting(
        vivid,
        "camera silent for 3 s",
        lambda: set_control(drop, 100),
        lambda: set_control(drop, 0),
        "stopped sending frames",
    )
    assert vivid.watcher.longest_gap_s(began) < STALL_S, "the result continues meanwhile"
    for fault, says in (("inject_fatal_streaming_error", "is back"), ("inject_vidioc_qbuf_error", "is back")):
        began = time.monotonic_ns()
        set_control(fault)
        back = vivid.program.wait_for(says, since=began, seconds=10)
        vivid.watcher.sees(any_picture, since=back, count=10)
        vivid.outcome(fault, began, (back - began) / 1e9)
    for fault, value in (("inject_v4l2_buf_flag_error", 1), (drop, 50)):
        began = time.monotonic_ns()
        set_control(fault, value)
        time.sleep(1)
        set_control(drop, 0)
        assert not [line for at, line in vivid.program.lines if at >= began and "trying" in line]
        vivid.outcome(f"{fault} {value}", began, None)


def test_a_camera_that_returns_is_found_by_its_name(fed: Setup) -> None:
    """Kill the program that acts as the camera, wait, and start another one."""
    assert fed.feeder is not None
    began = time.monotonic_ns()
    fed.feeder.end(signal.SIGKILL)
    fed.program.wait_for("trying to reconnect", since=began)
    time.sleep(AWAY_S)
    fed.feeder = parts.feeder("/dev/video10")
    returned = fed.feeder.wait_for("feeding")
    fed.program.wait_for("is back", since=began)
    seen = fed.watcher.sees(parts.fresh, since=returned, seconds=10)
    fed.outcome("feeding program killed and started again", began, (seen - returned) / 1e9)
    assert fed.watcher.longest_gap_s(began) < STALL_S, "the result continues meanwhile"


def test_the_program_is_killed_and_started_again(fed: Setup) -> None:
    began = time.monotonic_ns()
    fed.program.end(signal.SIGKILL)
    fed.program = parts.program(*fed.words)
    fed.program.wait_for("FaceCam")
    opened = time.monotonic_ns()
    seen = fed.watcher.sees(parts.fresh, since=opened)
    print(f"OUTCOME killed with SIGKILL: the same reader sees the face {(seen - began) / 1e9:.1f} s after the kill")
    fed.outcome("killed and started again, reader stayed", opened, None)


def test_a_reader_leaves_and_returns(fed: Setup, tmp_path: Path) -> None:
    fed.watcher.process.end(signal.SIGKILL)
    time.sleep(1)
    began = time.monotonic_ns()
    fed.watcher = parts.Watcher("/dev/video11", tmp_path / "again.jsonl")
    seen = fed.watcher.sees(parts.fresh, count=5)
    first = fed.watcher.looks()[0]
    print(f"the first picture is {first}, five followed within {(seen - began) / 1e9:.1f} s of the start of the reader")
    assert [line for _, line in fed.program.lines if "trying" in line] == []
    fed.outcome("reader left and came back", began, None)


def test_the_virtual_camera_disappears_and_returns(fed: Setup) -> None:
    device = Path("/dev/video11")
    number = device.stat().st_rdev

    def restore() -> None:
        with suppress(FileExistsError):
            os.mknod(device, 0o660 | stat.S_IFCHR, number)

    lasting(fed, "virtual camera gone for 3 s", device.unlink, restore, "has been removed; trying")
    assert fed.watcher.longest_gap_s(0) < AWAY_S + RECOVERY_S


@pytest.mark.parametrize("camera", ["vivid", "/dev/video0"])
def test_a_busy_camera_or_virtual_camera_is_one_line(vivid: Setup, camera: str) -> None:
    ended = [parts.program(camera, "null"), parts.program("performer", "virtualcam:/dev/video11")]
    for process, expected in zip(ended, ("is in use by", "is in use by"), strict=True):
        assert process.process.wait(parts.START_S) == 1, process.text()
        process.end()
        assert expected in process.text()
        assert str(vivid.program.process.pid) in process.text(), "it names the program"
        assert "Traceback" not in process.text()
        print(f"OUTCOME busy: {process.text().splitlines()[-2:]}")
    vivid.outcome("another program tries to open both", 0, None)


NO_PERMISSION = "may not be opened by this user"


@pytest.mark.parametrize(
    ("node", "options"),
    [("/dev/video0", ["--camera", "0", "--sink", "null"]), ("/dev/video11", ["--sink", "virtualcam:11"])],
)
def test_without_permission_it_ends_with_one_line(node: str, options: list[str]) -> None:
    os.chmod(node, 0o600)
    home = os.environ["REENACT_USER_HOME"]
    settings = ["env", f"HOME={home}", f"XDG_CACHE_HOME={home}", f"NUMBA_CACHE_DIR={home}"]
    as_user = [*settings, "setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]
    camera = [] if "--camera" in options else ["--camera", "performer"]
    try:
        ends_with_one_line([*as_user, *PROGRAM, *camera, *options], NO_PERMISSION)
    finally:
        os.chmod(node, 0o660)


def test_without_such_a_device_it_ends_with_one_line() -> None:
    ends_with_one_line([*PROGRAM, "--camera", "/dev/video7", "--sink", "null"], "no camera /dev/video7")


def test_without_such_a_virtual_camera_it_ends_with_one_line() -> None:
    options = ["--camera", "performer", "--sink", "virtualcam:Zoom"]
    ends_with_one_line([*PROGRAM, *options], "no virtual camera 'Zoom'")


PROGRAM = [sys.executable, str(parts.ROOT / "run.py"), "--size", "320x240"]


def ends_with_one_line(command: list[str], expected: str) -> None:
    """Check that the program ends by itself with code 1 and prints an error without a traceback."""
    process = parts.Process(*command)
    assert process.process.wait(parts.START_S) == 1, process.text()
    process.end()
    assert expected in process.text()
    assert "Traceback" not in process.text()
    print(f"OUTCOME {' '.join(command[-4:])}: {process.text().splitlines()[-2:]}")
