"""Says whether a picture, a video, a camera or a stream carries this program's watermark.

    python -m tools.verify FILE|IMAGE|CAMERA|URL

Exits with 0 if it is marked, 1 if it is not, 2 if it could not be read. A picture that is not marked may be generated
all the same, by this program or another.
"""

from __future__ import annotations

import math
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer

from engines.errors import ReenactError, SourceMissing
from engines.marking.detector import Detection, Detector
from engines.types import Image
from tools.marking.frames import Luma, open_frames
from tools.support.command import new_app, run_app, with_cure
from tools.support.files import check_writable, write_json, write_picture

SECTION_S = 2.0
"""How much of a video is looked at as one: where a mark begins or ends is known to this."""
ERROR = 2
_UNMARKED = 3
"""What the command ends with where there is no mark: 1 is the exit code of any failure until ``main`` translates it."""
NOT_MARKED = (
    "not marked: no watermark of this program was found. That does not make it genuine: a watermark can be removed or "
    "damaged, and pictures that other programs generate do not carry it."
)
MARKED = (
    "The watermark says that reenact generated these frames, in which session and on which day; not who did, nor what "
    "the picture shows. Its key is public: a copy of the watermark can be put on any picture."
)


@dataclass(slots=True)
class Section:
    """A stretch of a video, and what was found in it."""

    start: float
    end: float
    """In seconds."""
    found: Detection

    def same(self, other: Section) -> bool:
        """Whether both carry the same mark, or none."""
        return self.found.marked == other.found.marked and self.found.payload == other.found.payload


@dataclass(slots=True)
class Evidence:
    """The frame and the map of the section in which the watermark is the clearest."""

    statistic: float
    luma: Luma
    where: Any
    """(h, w) float32, about 1 where the watermark is whole."""


class Examination:
    """Looks for the watermark in frames that come one after another, section by section."""

    def __init__(self, *, mapped: bool = False) -> None:
        """``mapped``: whether ``evidence`` is kept, whose maps take longer than the search."""
        self.sections: list[Section] = []
        self.evidence: Evidence | None = None
        self.damage: tuple[float, str] | None = None
        """From which second on not all could be read, and why."""
        self._mapped = mapped
        self._detector = Detector()
        self._last: Luma | None = None
        self._start = self._end = 0.0

    def add(self, at: float, luma: Luma) -> None:
        """Add a frame; one of another size begins a section."""
        changed = self._last is not None and self._last.shape != luma.shape
        if self._last is not None and (changed or at - self._start >= SECTION_S):
            self.finish()
        if self._last is None:
            self._start = at
        self._detector.add(luma)
        self._last, self._end = luma, at

    def finish(self) -> None:
        """End the section."""
        if self._last is None:
            return
        found = self._detector.detect()
        if self._mapped and (self.evidence is None or found.statistic > self.evidence.statistic):
            self.evidence = Evidence(found.statistic, self._last, self._detector.map(found))
        section = Section(self._start, self._end, found)
        if self.sections and self.sections[-1].same(section):
            last = self.sections[-1]
            last.end = section.end
            last.found = max(last.found, section.found, key=lambda each: each.statistic)
        else:
            self.sections.append(section)
        self._detector.clear()
        self._last = None

    def damaged(self, at: float, why: str) -> None:
        """Note that not all could be read from a second on; the first one counts."""
        if self.damage is None:
            self.damage = at, why

    @property
    def marked(self) -> bool:
        """Whether any section is marked."""
        return any(section.found.marked for section in self.sections)


def examine(what: str, seconds: float | None = None, *, mapped: bool = False) -> Examination:
    """Return what was found in a file, a camera or an address, in one section at least. Raises ReenactError."""
    examination = Examination(mapped=mapped)
    for at, luma in open_frames(what, seconds, examination.damaged):
        examination.add(at, luma)
    examination.finish()
    if not examination.sections:
        cure = "try again while it shows a picture"
        raise SourceMissing("verify-nothing-read", f"{what} ended before the first picture", cure=cure)
    return examination


def picture_of(evidence: Evidence) -> Image:
    """Return the frame, darker and grey where there is no watermark and green where there is, (H, W, 3) uint8 RGB."""
    height, width = evidence.luma.shape
    share = cv2.resize(np.clip(evidence.where / 0.4, 0, 1), (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    grey = np.repeat(evidence.luma[..., None], 3, axis=2).astype(np.float32)
    green = np.array([90, 230, 130], np.float32)
    shown = grey * 0.45 * (1 - share) + (0.6 * grey + 0.4 * green) * share
    return np.asarray(np.clip(shown, 0, 255), np.uint8)


def describe(section: Section, *, still: bool) -> str:
    """Return a line about a section."""
    found = section.found
    when = "" if still else f"{_clock(section.start)} to {_clock(section.end)}: "
    if not found.marked:
        return f"{when}not marked (statistic {found.statistic:.1f})"
    payload = "payload unreadable" if found.payload is None else str(found.payload)
    notes = ", mirrored" if found.mirrored else ""
    notes += f", tiles at {100 * found.scale:.0f} %" if abs(found.scale - 1) > 0.01 else ""
    chance = math.floor(-math.log10(max(found.false_alarm, 1e-99)))  # rounded up it would promise more
    return f"{when}marked, {payload}{notes} (statistic {found.statistic:.1f}, false alarm below 1 in 10^{chance})"


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{seconds % 60:04.1f}"


def as_json(examination: Examination) -> dict[str, Any]:
    """Return what was found, for a file."""
    return {
        "marked": examination.marked,
        "damaged_from_s": None if examination.damage is None else round(examination.damage[0], 3),
        "sections": [
            {
                "start_s": round(each.start, 3),
                "end_s": round(each.end, 3),
                "marked": each.found.marked,
                "statistic": round(each.found.statistic, 2),
                "false_alarm": each.found.false_alarm,
                "session": None if each.found.payload is None else f"{each.found.payload.session:07x}",
                "day": None if each.found.payload is None else each.found.payload.date.isoformat(),
                "format": None if each.found.payload is None else each.found.payload.version,
                "mirrored": each.found.mirrored if each.found.marked else None,
                "scale": round(each.found.scale, 4) if each.found.marked else None,
            }
            for each in examination.sections
        ],
    }


def verify_command(
    what: Annotated[str, typer.Argument(metavar="FILE|IMAGE|CAMERA|URL", help="What to check.")],
    show: Annotated[Path | None, typer.Option(help="Draw where the watermark is into this PNG file.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write what was found to this file.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Read this much; 10 of a camera or a stream.")] = None,
) -> None:
    """Say whether WHAT carries this program's watermark: exit 0 marked, 1 not marked, 2 an error."""
    try:
        for option, path in (("--show", show), ("--json", json_path)):
            if path is not None:
                check_writable(path, option)
        examination = examine(what, seconds, mapped=show is not None)
        if json_path is not None:
            write_json(json_path, as_json(examination), "--json")
        if show is not None and examination.evidence is not None:
            write_picture(show, picture_of(examination.evidence), "--show")
    except ReenactError as error:
        print(with_cure(error), file=sys.stderr)
        raise typer.Exit(ERROR) from None
    if examination.damage is not None:
        at, why = examination.damage
        print(f"damaged: from {_clock(at)} on not all of {what} could be read ({why})", file=sys.stderr)
    still = examination.sections[-1].end == 0
    if examination.marked:
        for section in examination.sections:
            print(describe(section, still=still))
        print(MARKED)
    else:
        print(NOT_MARKED)
    raise typer.Exit(0 if examination.marked else _UNMARKED)


def main(arguments: list[str] | None = None, prog: str = "python -m tools.verify") -> int:
    """Run the command line and return its exit code: 0 marked, 1 not marked, 2 an error."""
    app = new_app()
    app.command()(verify_command)
    try:
        code = run_app(app, prog, arguments)
    except Exception:
        # Python would exit with 1, which says here that the picture is not marked
        traceback.print_exc()
        return ERROR
    return {0: 0, _UNMARKED: 1}.get(code, ERROR)


if __name__ == "__main__":
    sys.exit(main())
