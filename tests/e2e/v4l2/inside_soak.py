"""Runs in the guest: run live for REENACT_SOAK_S seconds with a fault every 20 s, without failing or leaking."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.e2e.v4l2 import parts
from tests.e2e.v4l2.inside_faults import Setup

SECONDS = float(os.environ.get("REENACT_SOAK_S") or 60)
EVERY_S = 20.0 if SECONDS > 300 else 10.0
AWAY_S = 3.0
WARM_UP = 3
"""The rounds of faults after which memory must not grow."""


class Faults:
    """The faults, one after another, each of which is cured after a few seconds."""

    def __init__(self, setup: Setup, folder: Path) -> None:
        self.setup = setup
        self.folder = folder
        self.number = 0
        self.all: list[Callable[[], None]] = [
            self.camera_killed,
            self.reader_leaves,
            self.camera_silent,
            self.virtual_camera_gone,
        ]

    def next(self) -> str:
        fault = self.all[self.number % len(self.all)]
        self.number += 1
        fault()
        return fault.__name__

    def camera_killed(self) -> None:
        assert self.setup.feeder is not None
        self.setup.feeder.end(signal.SIGKILL)
        time.sleep(AWAY_S)
        self.setup.feeder = parts.feeder("/dev/video10")

    def camera_silent(self) -> None:
        assert self.setup.feeder is not None
        self.setup.feeder.process.send_signal(signal.SIGSTOP)
        time.sleep(AWAY_S)
        self.setup.feeder.process.send_signal(signal.SIGCONT)

    def reader_leaves(self) -> None:
        self.setup.watcher.process.end(signal.SIGKILL)
        time.sleep(AWAY_S)
        self.setup.watcher = parts.Watcher("/dev/video11", self.folder / f"seen{self.number}.jsonl")

    def virtual_camera_gone(self) -> None:
        device = Path("/dev/video11")
        number = device.stat().st_rdev
        device.unlink()
        time.sleep(AWAY_S)
        os.mknod(device, 0o660 | stat.S_IFCHR, number)


def footprint(process: int) -> tuple[float, int, int]:
    """Return the resident memory of a process in MiB, its open files and its threads."""
    folder = Path(f"/proc/{process}")
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / 1024, len(list((folder / "fd").iterdir())), int(status["Threads"])


def test_the_program_neither_fails_nor_leaks(tmp_path: Path) -> None:
    setup = Setup("ReenactCam", tmp_path, feeder=True)
    faults = Faults(setup, tmp_path)
    taken: list[tuple[float, int, int]] = []
    worst, pictures, shares = 0.0, 0, 0.0
    until = time.monotonic() + SECONDS
    try:
        setup.watcher.sees(parts.fresh, count=10)
        while time.monotonic() < until:
            began = time.monotonic()
            name = faults.next()
            cured = time.monotonic_ns()
            camera = setup.feeder if name == "camera_killed" else None
            back = setup.program.wait_for("is back", since=cured) if camera else cured
            seen = setup.watcher.sees(parts.fresh, since=back, count=5)
            recovered = (seen - back) / 1e9
            worst = max(worst, recovered)
            assert setup.program.process.poll() is None, setup.program.text()
            time.sleep(max(0.0, began + EVERY_S - time.monotonic()))
            looks = setup.watcher.looks()
            pictures += sum(look.at > began * 1e9 for look in looks)
            shares = max(shares, *(look.magenta for look in looks))
            taken.append(footprint(setup.program.process.pid))
            print(f"{faults.number}: {name}, followed again after {recovered:.2f} s, {taken[-1]}", flush=True)
    finally:
        status = setup.program.end(signal.SIGINT)
        text = setup.program.text()
        setup.close()
    assert status == 0, text
    assert "Traceback" not in text
    assert shares < 0.01, "the camera's picture is never shown"
    print(
        f"SOAK {SECONDS:g} s, {faults.number} faults, {pictures} pictures seen, slowest to follow again {worst:.2f} s"
    )
    memory = np.array([each[0] for each in taken])
    print(f"memory {memory[0]:.0f} to {memory[-1]:.0f} MiB, files {taken[0][1]} to {taken[-1][1]}")
    if len(taken) > 6 * len(faults.all):
        settled = taken[WARM_UP * len(faults.all) :]
        third = len(settled) // 3
        before, after = (np.median(np.array(part), axis=0) for part in (settled[:third], settled[-third:]))
        print(f"settled (MiB, files, threads) {before} then {after}")
        assert after[0] < 1.05 * before[0] + 5, "memory does not grow"
        assert after[1] <= before[1] + 2, "no file stays open"
        assert after[2] <= before[2] + 1, "no thread stays"
