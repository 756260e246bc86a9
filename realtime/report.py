"""The figures of a run as JSON, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import json
import os
import platform
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.atomic_write import whole
from engines.errors import ConfigError, SinkLost
from realtime.config import Config
from realtime.core import paths
from realtime.core.latency import Durations, Ledger

if TYPE_CHECKING:
    from realtime.pipeline.run import Run
    from realtime.server.service import MediaService

_PACKAGES = ("mediapipe", "numpy", "opencv-python", "numba", "av", "pyvirtualcam")


def check(path: Path) -> None:
    """Make sure, before a run begins, that its report can be written. Raises ConfigError."""
    cure = "give --report a file in a folder that exists and may be written"
    try:
        if path.is_dir():
            raise ConfigError(f"--report: {path} is a folder, expected a file", cure=cure)
        if paths.is_write_protected(path):
            raise ConfigError(
                f"--report: {path} is write-protected", cure=f"chmod u+w {path}, or write to another file"
            )
        if not _written_into(path):
            with tempfile.TemporaryFile(dir=paths.resolve(path).parent):
                pass
    except OSError as error:
        raise ConfigError(f"--report: {path} cannot be written: {error.strerror}", cure=cure) from None


def build(pipeline: Run | None, config: Config, media: MediaService | None = None) -> dict[str, Any]:
    """The figures of a run that has ended; all zero for one that failed before it began (None)."""
    ledger = pipeline.ledger if pipeline else Ledger()
    age = pipeline.age if pipeline else Durations()
    served = {}
    if media is not None:
        tally = media.tallies()["session"]
        served = {
            "sessions": {**media.counts(), "frames": tally.frames, "faces": tally.faces, "dropped": tally.dropped}
        }
    return served | {
        "frames": ledger.frames,
        "faces": ledger.faces,
        "fps": round(ledger.fps, 2),
        "dropped": pipeline.dropped if pipeline else {},
        "latency_ms": {
            "track": ledger.track.summary(),
            "generate": ledger.generate.summary(),
            "captured_to_sent": age.summary(),
        },
        "machine": machine(),
        "config": config.model_dump(mode="json") | {"size": "{}x{}".format(*config.size)},
    }


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": versions,
    }


def write(path: Path, figures: dict[str, Any]) -> None:
    """Write the figures; an older report gives way to a whole one only, where a link leads to. Raises SinkLost."""
    text = json.dumps(figures, indent=2) + "\n"
    try:
        if _written_into(path):
            with open(path, "a", encoding="utf-8", opener=paths.open_without_waiting) as file:
                file.write(text)
            return
        with whole(paths.resolve(path)) as partial:
            partial.write_text(text, "utf-8")
            partial.chmod(0o644)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise SinkLost(f"--report: nobody reads {path}", cure="start what reads it before the run ends") from None
        raise SinkLost(
            f"--report: {path} cannot be written: {error.strerror}",
            cure="give --report a file in a folder that is there and has room when the run ends",
        ) from None


def _written_into(path: Path) -> bool:
    """Whether what is there is not replaced: a pipe, a device, or where our own output goes, as with /dev/stdout."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(there.st_mode) or any(os.path.samestat(there, own) for own in _own_output())


def _own_output() -> Iterator[os.stat_result]:
    for number in (1, 2):
        with contextlib.suppress(OSError):
            yield os.fstat(number)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
