"""The method ``stages``: its clip, its rounds, and an older version of the program that alternates with this one."""

from __future__ import annotations

import filecmp
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from engines.errors import ConfigError, ReenactError
from realtime.config import Config
from realtime.core.frames import Frame, PixelFormat, Stamps
from tools.latency.figures import Measurement, Round, overhead, rounds_of
from tools.latency.stages import WARM_UP_S, clock_figures, round_options, run_in_process
from tools.support.command import Notice

ROOT = Path(__file__).parents[2]
ROUNDS = 6
TITLE = "stages: a recorded clip through the program's own threads"

_MODULES = {"tools/latency/stages.py": "tools.latency.stages", "tools/latency_stages.py": "tools.latency_stages"}
"""The module that runs a round, by its path; older commits have the second."""


@dataclass(frozen=True, slots=True)
class Program:
    """A version of the program on disk."""

    root: Path
    module: str
    """The module that runs a round."""


THIS_PROGRAM = Program(ROOT, "tools.latency.stages")


class OlderReport:
    """The report that ``--against`` names and, if possible, the program that it was measured with."""

    def __init__(self, path: Path) -> None:
        """Read the report. Raises ConfigError."""
        try:
            self.values: Any = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise ConfigError(
                "against-unreadable", f"--against: {path} cannot be read: {error.strerror}", cure="check the path"
            ) from None
        except ValueError:
            raise ConfigError(
                "against-not-a-report", f"--against: {path} is not JSON", cure="give a file from --json"
            ) from None
        rounds_of(self.values, "stages")
        self.commit = str(self.values.get("commit") or "")
        self.clean = self.values.get("changed") is False
        self.reason = "only the method stages runs it"
        """Why the older program was not run again; empty where it was."""

    @contextmanager
    def program(self) -> Iterator[Program | None]:
        """Unpack the older program while the block runs. Yield None, with a ``reason``, where it cannot be run."""
        with TemporaryDirectory() as name:
            folder = Path(name)
            self.reason = self._unpack(folder)
            path = _module_path(folder)
            yield None if self.reason or path is None else Program(folder, _MODULES[path])

    def _unpack(self, folder: Path) -> str:
        """Unpack the program into ``folder``. Return why it cannot be run, or an empty text."""
        if not self.commit:
            return "the report names no commit"
        if not self.clean:
            return "its files differed from its commit"
        archive = subprocess.run(["git", "-C", str(ROOT), "archive", self.commit], capture_output=True, check=False)
        if archive.returncode:
            return f"commit {self.commit[:10]} is not in this checkout"
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as file:
            file.extractall(folder, filter="data")
        share_machine_code(ROOT, folder)
        if _module_path(folder) is None:
            return f"commit {self.commit[:10]} has neither {' nor '.join(_MODULES)}"
        return ""


def share_machine_code(here: Path, there: Path) -> None:
    """Give the program in ``there`` what numba has compiled for the same functions in ``here``: a minute less to wait.

    numba knows a cached function by its file's size and time, and not what it calls in other files. So all files with
    machine code must be the same, or nothing is shared.
    """
    cached = {path.parent.parent / f"{path.name.partition('.')[0]}.py" for path in here.glob("engines/**/*.nbi")}
    pairs = [(source, there / source.relative_to(here)) for source in cached if source.is_file()]
    if not all(copy.is_file() and filecmp.cmp(source, copy, shallow=False) for source, copy in pairs):
        return
    for source, copy in pairs:
        shutil.copystat(source, copy)
        folder = copy.parent / "__pycache__"
        folder.mkdir(exist_ok=True)
        for path in (source.parent / "__pycache__").glob(f"{source.stem}.*.nb[ic]"):
            shutil.copy2(path, folder)


def _module_path(root: Path) -> str | None:
    return next((path for path in _MODULES if (root / path).is_file()), None)


def commit() -> tuple[str, bool]:
    """Return the commit of this checkout and whether files differ from it; ``("", True)`` without a checkout."""
    try:
        head = _git("rev-parse", "HEAD").strip()
        return head, bool(_git("status", "--porcelain", "--", "realtime", "engines", "tools", "run.py").strip())
    except (OSError, subprocess.CalledProcessError):
        return "", True


def _git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout


def measure_stages(config: Config, fps: float, seconds: float, old: OlderReport | None, notice: Notice) -> Measurement:
    """Measure this program and, where it can be run, the older one in the order new, old, old, new, new, old ...

    Raises ReenactError.
    """
    rounds: list[Round] = []
    old_rounds: list[Round] = []
    length = max(2.0, seconds / ROUNDS)
    with TemporaryDirectory() as folder, old.program() if old else nullcontext() as old_program:
        clip = Path(folder) / "performer.mp4"
        notice("rendering the clip")
        record(clip, config.size, fps, length + WARM_UP_S + 1.5)
        turns = [(rounds, THIS_PROGRAM)] + ([(old_rounds, old_program)] if old_program else [])
        for number in range(ROUNDS):
            for results, program in turns if number % 2 == 0 else turns[::-1]:
                notice(f"round {number + 1} of {ROUNDS}{'' if program is THIS_PROGRAM else ' of the older program'}")
                options = round_options(config)
                out = Path(folder) / "round.json"
                results.append(run_in_process(program.root, program.module, clip, length, out, options))
    measurement = Measurement("stages", TITLE, rounds, old_rounds=old_rounds, restarted=True)
    measurement.figures.update(_instrument_figures(rounds))
    if measurement.missed > measurement.frames // 2:
        raise ReenactError("measure-no-face", "most frames had no face", cure="measure with a larger --size")
    return measurement


def _instrument_figures(rounds: list[Round]) -> dict[str, float | str]:
    """Return what taking the timestamps costs."""
    clock = clock_figures()
    age_ms = float(np.median(np.concatenate([each.whole for each in rounds])))
    share = 100 * clock["timestamps_us"] / 1000 / age_ms
    figures: dict[str, float | str] = {
        "clock": f"resolution {clock['resolution_ns']:.0f} ns, a reading takes {clock['reading_ns']:.0f} ns",
        "taking the timestamps": f"{clock['timestamps_us']:.1f} µs per frame, {share:.2f} % of its age",
    }
    measured = overhead(rounds)
    if measured is not None:
        figures["overhead"] = (
            f"{measured[0]:+.2f} ± {measured[1]:.2f} % (frames with all timestamps against neighbours with two)"
        )
    return figures


def record(path: Path, size: tuple[int, int], fps: float, seconds: float) -> None:
    """Render the performer into a video, so that rendering it is not part of the measurement."""
    from realtime.capture.performer import PerformerSource
    from realtime.sinks.sink import open_sink

    source = PerformerSource(size, fps, paced=False)
    sink = open_sink(f"file:{path}", size=size, fps=fps)
    try:
        for index in range(round(seconds * fps)):
            time_ns = round((index + 1) * 1e9 / fps)
            i420 = np.asarray(cv2.cvtColor(source.read().pixels, cv2.COLOR_RGB2YUV_I420), np.uint8)
            sink.send(Frame(i420, PixelFormat.I420, index, Stamps(time_ns), time_ns))
    finally:
        sink.close()
        source.close()
