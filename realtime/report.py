"""The statistics of a run as JSON, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import ConfigError, SinkLost
from realtime import output_file
from realtime.config import Config
from realtime.core import paths
from realtime.core.latency import Durations, FrameCounts
from realtime.streams.target import shown, shown_camera

if TYPE_CHECKING:
    from realtime.pipeline.run import Run
    from realtime.server.server_application import ServerApplication

_PACKAGES = ("mediapipe", "numpy", "opencv-python", "numba", "av", "pyvirtualcam")


def check(path: Path) -> None:
    """Raise ConfigError if the report of a run that has not begun could not be written."""
    expected = "a file in a writable folder"
    cure = "give one with --report"
    try:
        if path.is_dir():
            raise ConfigError("report-is-folder", f"--report: {path} is a folder", expected, cure)
        if paths.is_write_protected(path):
            chmod = f"chmod u+w {path}, or give another file with --report"
            raise ConfigError("report-write-protected", f"--report: {path} is write-protected", expected, chmod)
        output_file.check(path)
    except OSError as error:
        found = f"--report: {path} cannot be written: {error.strerror}"
        raise ConfigError("report-unwritable", found, expected, cure) from None


def build(pipeline: Run | None, config: Config, application: ServerApplication | None = None) -> dict[str, Any]:
    """Return the statistics of a run that has ended; all zero for one that failed before it began (None)."""
    counts = pipeline.counts if pipeline else FrameCounts()
    age = pipeline.age if pipeline else Durations()
    served = {}
    if application is not None:
        figures = application.run_figures()["session"]
        served = {
            "sessions": {
                **application.counts(),
                "frames": figures.frames,
                "faces": figures.faces,
                "dropped": figures.dropped,
            }
        }
    return served | {
        "frames": counts.frames,
        "faces": counts.faces,
        "fps": round(counts.fps, 2),
        "dropped": pipeline.dropped if pipeline else {},
        "latency_ms": {
            "track": counts.track.summary(),
            "generate": counts.generate.summary(),
            "captured_to_sent": age.summary(),
        },
        "machine": machine(),
        "config": config.model_dump(mode="json")
        | {
            "size": "{}x{}".format(*config.size),
            "sink": [shown(spec) for spec in config.sink],
            "camera": shown_camera(config.camera),
        },
    }


def machine() -> dict[str, Any]:
    """Return what the run was measured on: system, processor, and the versions of packages."""
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


def write(path: Path, statistics: dict[str, Any]) -> None:
    """Write the report where links lead to; an older one is replaced only by a whole one. Raises SinkLost."""
    text = json.dumps(statistics, indent=2) + "\n"
    try:
        output_file.write(path, text)
    except OSError as error:
        if error.errno == errno.ENXIO:
            found = f"--report: the pipe {path} has no reader"
            raise SinkLost("report-not-read", found, cure="start the reader before the run ends") from None
        found = f"--report: {path} cannot be written: {error.strerror}"
        cure = "give --report a file in a folder that exists and has room when the run ends"
        raise SinkLost("report-lost", found, cure=cure) from None


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
