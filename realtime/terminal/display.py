"""What the person sees in the terminal while it runs."""

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

    from realtime.pipeline.run import Run

EVERY_S = 5.0
"""How often the status is said where it cannot stand in one place."""
LAST_S = 1.0
"""How long what was said last may take to be printed."""


def line(run: Run, aside: str = "") -> str:
    """The state of a run in one line; ``aside`` is what else there is to say."""
    end = f" | {aside}" if aside else ""
    parts = run.parts
    ledger = run.ledger
    if parts is None or not ledger.frames:
        return run.waiting + end
    p50, p99 = run.recent_age
    age = f"age p50 {p50:.1f} ms, p99 {p99:.1f} ms" if p99 else "age unknown without a face"
    dropped = ", ".join(f"{place} {count}" for place, count in run.dropped.items() if count)
    face = "camera lost" if run.lost else f"face {'found' if parts.animator.face_found else 'lost'}"
    noise = " | random weights: the picture is noise" if parts.animator.generator.random_weights else ""
    held = "slate | " if parts.animator.slated else "frozen | " if parts.animator.frozen else ""
    return (
        f"{held}{ledger.fps_now(time.monotonic_ns()):4.1f} fps | {age} | dropped {dropped or 'none'} | {face}"
        f" | {parts.animator.portrait}, gain {parts.animator.motion.gain:g}{noise}{end}"
    )


def summary(run: Run) -> str:
    """A finished run in one line."""
    ledger, age = run.ledger, run.age
    if not ledger.frames:
        return "no frame was made"
    text = f"{ledger.frames} frames, {ledger.faces} with a face, {ledger.fps:.1f} fps"
    if age.count:
        text += f", captured to sent p50 {age.percentile_ms(50):.1f} ms, p99 {age.percentile_ms(99):.1f} ms"
    dropped = sum(run.dropped.values()) - ledger.starting
    if run.parts is not None and run.parts.animator.generator.random_weights:
        text += ", random weights"
    return f"{text}, {dropped} dropped" + (f" (and {ledger.starting} while starting)" if ledger.starting else "")


def tell(error: ReenactError) -> str:
    """An error as one line: what was found and expected, and what to do."""
    text = " ".join(str(error).split())
    return f"reenact: {text}; {error.cure}" if error.cure else f"reenact: {text}"


class Display:
    """Lines of text, and under them one that changes: a status when live, a progress bar through a file.

    In a terminal that line stands in one place; elsewhere, and where TERM is dumb, it is printed every five seconds.
    With ``quiet`` there is neither. Any thread may call ``say``; the rest belongs to the main thread. Nothing waits for
    standard output, and where it fails, nothing more is said.
    """

    def __init__(self, *, quiet: bool, lossless: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet = quiet
        self._lossless = lossless
        self._clock = clock
        self._lock = threading.Lock()
        self._console: Console | None = None
        self._live: Live | None = None
        self._progress: Progress | None = None
        self._last = clock()
        self._task: TaskID
        self._output = Output(sys.stdout)
        if not quiet and sys.stdout.isatty():
            from rich.console import Console

            self._console = Console(file=cast("TextIO", self._output), highlight=False, markup=False, soft_wrap=True)

    def say(self, text: str, label: str = "") -> None:
        """Print a line, with a label in front where one is given; nothing after ``close``."""
        if self._quiet:
            return
        text = f"{label:<10}{text}" if label else text
        with self._lock:
            if self._console is not None:
                self._console.print(text)
            else:
                self._output.write(f"{text}\n")

    def keys(self) -> None:
        """Say which keys do what."""
        self.say(", ".join(f"{key} {name}" for key, name in KEYS.items()), "keys")

    def begin(self, total: int | None) -> None:
        """Begin the line that changes; ``total`` is how many frames there will be, if anybody knows."""
        if self._quiet or self._console is None or self._console.is_dumb_terminal:
            return
        if self._lossless:
            from rich import progress

            columns = (
                progress.BarColumn(),
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

    def update(self, run: Run, aside: str = "") -> None:
        """Bring the line that changes up to date; called a few times a second."""
        if self._progress is not None:
            speed = f"{run.ledger.fps:.0f} fps"
            self._progress.update(self._task, total=run.total, completed=run.ledger.frames, description=speed)
        elif self._live is not None:
            from rich.text import Text

            self._live.update(Text(line(run, aside), no_wrap=True, overflow="ellipsis"))
        elif not self._quiet and self._clock() - self._last >= EVERY_S:
            self._last = self._clock()
            self.say(line(run, aside))

    def end(self) -> None:
        """Take the line that changes away. May be called twice."""
        for moving in (self._live, self._progress):
            if moving is not None:
                moving.stop()
        self._live = self._progress = None

    def close(self) -> None:
        """End, and see that all is printed, where standard output takes it. May be called twice."""
        self.end()
        self._output.close(LAST_S)
