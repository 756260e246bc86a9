"""What the user sees in the terminal during a run."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO, cast

from engines.errors import ReenactError
from realtime.pipeline.commands import KEYS
from realtime.terminal.output_thread import Output

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.progress import Progress, TaskID

    from realtime.motion.motion_transfer import MotionTransfer
    from realtime.pipeline.run import Run

STATUS_INTERVAL_S = 5.0
"""Time between two status lines where the status cannot stay in one place."""
FLUSH_S = 1.0
"""How long ``close`` waits for the last output to be printed."""


def status_line(run: Run, clients: str = "") -> str:
    """Return the status of a live run in one line, the most important first, because a terminal may cut it off.

    ``clients`` is how many browsers and viewers are connected.
    """
    parts = run.parts
    counts = run.counts
    if parts is None or not counts.frames:
        return " | ".join(filter(None, (run.waiting, clients)))
    animator = parts.animator
    p50, p99 = run.recent_age
    dropped = sum(run.dropped.values()) - counts.starting
    fields = (
        "slate" if animator.slated else "frozen" if animator.frozen else "",
        "calibrating" if animator.motion.calibrating else "",
        f"{_short(counts.fps_now(time.monotonic_ns()))} fps",
        f"frame age {_short(p50)} ms, p99 {_short(p99)}" if p99 else "",
        _face(run),
        clients,
        f"dropped {dropped}",
        _portrait(run),
    )
    return " | ".join(filter(None, fields))


def progress_line(run: Run) -> str:
    """Return the progress through a file in one line. Frames have no age there: they wait for each other."""
    counts, total = run.counts, run.total
    if run.parts is None or not counts.frames:
        return run.waiting
    progress = f"{counts.frames} frames"
    if total:
        progress = f"{min(100, 100 * counts.frames // total)} %"
        if counts.fps:
            progress += f", {_duration(max(0, total - counts.frames) / counts.fps)} left"
    return " | ".join((progress, f"{_short(counts.fps)} fps", _face(run), _portrait(run)))


def summary(run: Run, *, lossless: bool = False) -> str:
    """Return a finished run in one line. Frames have no age in a lossless run."""
    counts, age = run.counts, run.age
    if not counts.frames:
        return "no frame was generated"
    text = f"{counts.frames} frames, {counts.faces} with a face, {counts.fps:.1f} fps"
    if age.count and not lossless:
        text += f", frame age p50 {age.percentile_ms(50):.1f} ms, p99 {age.percentile_ms(99):.1f} ms"
    dropped = sum(run.dropped.values()) - counts.starting
    if run.parts is not None and run.parts.animator.generator.random_weights:
        text += ", random weights"
    return f"{text}, {dropped} dropped" + (f" (and {counts.starting} while starting)" if counts.starting else "")


def format_error(error: ReenactError) -> str:
    """Return an error in one line: what was found and expected, and the cure."""
    text = " ".join(str(error).split())
    return f"reenact: {text}; {error.cure}" if error.cure else f"reenact: {text}"


class Display:
    """Lines of text, and below them a line that changes: the status of a live run, or a progress bar for a file.

    In a terminal that line stays in one place; elsewhere, and where TERM is dumb, it is printed every five seconds.
    With ``quiet`` nothing is printed. Any thread may call ``say``; the other methods belong to the main thread. No
    method waits for standard output, and after it has failed, nothing more is printed.
    """

    def __init__(self, *, quiet: bool, lossless: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet = quiet
        self._lossless = lossless
        self._clock = clock
        self._lock = threading.Lock()
        self._console: Console | None = None
        self._live: Live | None = None
        self._progress: Progress | None = None
        self._calibrating: MotionTransfer | None = None
        self._last = clock()
        self._line = ""
        """The status line that was printed last, where lines are only added."""
        self._task: TaskID
        self._output = Output(sys.stdout)
        if not quiet and sys.stdout.isatty():
            from rich.console import Console

            self._console = Console(file=cast("TextIO", self._output), highlight=False, markup=False, soft_wrap=True)

    def say(self, text: str, label: str = "") -> None:
        """Print a line, in a column after ``label`` if there is one. Does nothing after ``close``."""
        if self._quiet:
            return
        text = f"{label:<10}{text}" if label else text
        with self._lock:
            if self._console is not None:
                self._console.print(text)
            else:
                self._output.write(f"{text}\n")

    def show_keys(self) -> None:
        """Print the keys and their commands."""
        self.say(", ".join(f"{key} {name}" for key, name in KEYS.items()), "keys")

    def begin(self, total: int | None) -> None:
        """Show the line that changes. ``total`` is the number of frames, if known."""
        if self._quiet or self._console is None or self._console.is_dumb_terminal:
            return
        if self._lossless:
            from rich import progress

            columns = (
                progress.BarColumn(),
                progress.TaskProgressColumn(),
                progress.MofNCompleteColumn(),
                progress.TextColumn("{task.description}"),
                progress.TimeRemainingColumn(),
            )
            self._progress = progress.Progress(*columns, console=self._console, transient=True)
            self._task = self._progress.add_task("starting", total=total)
            self._progress.start()
        else:
            from rich.live import Live

            self._live = Live("starting", console=self._console, refresh_per_second=4, transient=True)
            self._live.start()

    def update(self, run: Run, clients: str = "") -> None:
        """Update the line that changes, and print what has happened. Call it a few times a second."""
        self._note_calibration(run)
        if self._progress is not None:
            speed = f"{run.counts.fps:.0f} fps"
            self._progress.update(self._task, total=run.total, completed=run.counts.frames, description=speed)
        elif self._live is not None:
            from rich.text import Text

            self._live.update(Text(status_line(run, clients), no_wrap=True, overflow="ellipsis"))
        elif not self._quiet and self._clock() - self._last >= STATUS_INTERVAL_S:
            self._last = self._clock()
            line = progress_line(run) if self._lossless else status_line(run, clients)
            if line != self._line:
                self.say(line)
            self._line = line

    def end(self) -> None:
        """Remove the line that changes. end() is idempotent."""
        for moving in (self._live, self._progress):
            if moving is not None:
                moving.stop()
        self._live = self._progress = None

    def close(self) -> None:
        """End, and wait for a moment until everything is printed. close() is idempotent."""
        self.end()
        self._output.close(FLUSH_S)

    def _note_calibration(self, run: Run) -> None:
        """Print a line when a calibration has finished."""
        motion = None if run.parts is None else run.parts.animator.motion
        before, self._calibrating = self._calibrating, motion if motion is not None and motion.calibrating else None
        if before is not None and before is motion and self._calibrating is None:
            self.say("calibrated")


def _face(run: Run) -> str:
    if run.lost:
        return "camera lost"
    return "face found" if run.parts is not None and run.parts.animator.face_found else "no face"


def _portrait(run: Run) -> str:
    """Return the portrait, the gain if it is not 1, and a warning where the picture is noise."""
    if run.parts is None:
        return ""
    animator = run.parts.animator
    noise = "random weights: the picture is noise | " if animator.generator.random_weights else ""
    gain = animator.motion.gain
    return f"{noise}{animator.portrait}" + ("" if gain == 1 else f", gain {gain:g}")


def _short(value: float) -> str:
    """Return two significant digits, so that the important fields fit into 80 columns."""
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
