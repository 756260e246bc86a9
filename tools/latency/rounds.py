"""Rounds of the part ``stages``: the clip they play, and an older version of the program in turn with this one."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from engines.errors import ConfigError, ReenactError
from realtime.config import Config
from realtime.core.frames import Frame, PixelFormat, Stamps
from tools.latency.figures import Part, Round, disturbance, rounds_of
from tools.latency.stages import WARM_S, clock_figures, start_round, words_for

ROOT = Path(__file__).parents[2]
ROUNDS = 6
TITLE = "stages: a recorded clip through the program's own threads"

Say = Callable[[str], None]


class Older:
    """What ``--against`` names: a report and, where it can be had, the program that it was taken with."""

    def __init__(self, path: Path) -> None:
        """Read the report. Raises ConfigError."""
        try:
            self.found: Any = json.loads(path.read_text())
        except OSError as error:
            raise ConfigError(f"--against: {path} cannot be read: {error.strerror}") from None
        except ValueError:
            raise ConfigError(f"--against: {path} is not JSON", cure="give a file that --json wrote") from None
        rounds_of(self.found, "stages")
        self.commit = str(self.found.get("commit") or "")
        self.clean = self.found.get("changed") is False

    @contextmanager
    def program(self) -> Iterator[Path | None]:
        """A folder with the old program while the block runs; None where it cannot be had again."""
        with TemporaryDirectory() as folder:
            yield Path(folder) if self.clean and self._unpack(Path(folder)) else None

    def _unpack(self, folder: Path) -> bool:
        if not self.commit:
            return False
        command = ["git", "-C", str(ROOT), "archive", self.commit]
        packed = subprocess.run(command, capture_output=True, check=False)
        if packed.returncode:
            return False
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(folder, filter="data")
        return (folder / "tools" / "latency" / "stages.py").is_file()


def commit() -> tuple[str, bool]:
    """The commit of this checkout and whether files differ from it; ``("", True)`` outside of one."""
    try:
        head = _git("rev-parse", "HEAD").strip()
        return head, bool(_git("status", "--porcelain", "--", "realtime", "engines", "tools", "run.py").strip())
    except (OSError, subprocess.CalledProcessError):
        return "", True


def _git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout


def stages(config: Config, fps: float, seconds: float, old: Older | None, say: Say) -> Part:
    """Measure. Where the old program can be had it runs in turn with this one: new, old, old, new, new, old ...

    Raises ReenactError.
    """
    rounds: list[Round] = []
    olds: list[Round] = []
    length = max(2.0, seconds / ROUNDS)
    with TemporaryDirectory() as folder:
        clip = Path(folder) / "performer.mp4"
        say("rendering the clip")
        record(clip, config.size, fps, length + WARM_S + 1.5)
        with old.program() if old else _nothing() as program:
            for number in range(ROUNDS):
                turn = [(rounds, None)] if program is None else [(rounds, None), (olds, program)]
                for into, root in turn if number % 2 == 0 else turn[::-1]:
                    say(f"round {number + 1} of {ROUNDS}{' of the older program' if root else ''}")
                    into.append(start_round(clip, length, words_for(config), Path(folder), root))
    part = Part("stages", TITLE, rounds, old_rounds=olds, apart=True)
    part.figures.update(_instrument(rounds))
    if part.missed > part.frames // 2:
        raise ReenactError("most frames had no face", cure="measure with a larger --size")
    return part


@contextmanager
def _nothing() -> Iterator[None]:
    yield None


def _instrument(rounds: list[Round]) -> dict[str, float | str]:
    clock = clock_figures()
    age_ms = float(np.median(np.concatenate([each.whole for each in rounds])))
    share = 100 * clock["marks_us"] / 1000 / age_ms
    figures: dict[str, float | str] = {
        "clock": f"resolution {clock['resolution_ns']:.0f} ns, a reading takes {clock['reading_ns']:.0f} ns",
        "taking the times": f"{clock['marks_us']:.1f} µs a frame, {share:.2f} % of its age",
    }
    found = disturbance(rounds)
    if found is not None:
        figures["disturbance"] = (
            f"{found[0]:+.2f} ± {found[1]:.2f} % (frames with all times against neighbours with two)"
        )
    return figures


def record(path: Path, size: tuple[int, int], fps: float, seconds: float) -> None:
    """Render the performer into a video, so that no other work of this tool is measured."""
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
