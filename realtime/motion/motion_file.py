"""Motions as files, in the CSV layout of Epic's Live Link Face: what a face did, and no picture of it.

One row a frame: a timecode, the number of values, 52 coefficients, and the angles of head and eyes in radians. The
timecode is ``HH:MM:SS:FF.fff`` at the app's rate, a fraction of a frame at its end.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import engines
from engines.errors import SinkLost, SourceMissing, UsageError
from engines.face.coefficients import NAMES
from engines.face.perspective import seen_turn
from engines.install_hint import version
from engines.types import FaceState, Floats

if TYPE_CHECKING:
    from io import TextIOWrapper


ORDER = (
    "EyeBlinkLeft", "EyeLookDownLeft", "EyeLookInLeft", "EyeLookOutLeft", "EyeLookUpLeft", "EyeSquintLeft",
    "EyeWideLeft", "EyeBlinkRight", "EyeLookDownRight", "EyeLookInRight", "EyeLookOutRight", "EyeLookUpRight",
    "EyeSquintRight", "EyeWideRight", "JawForward", "JawRight", "JawLeft", "JawOpen", "MouthClose", "MouthFunnel",
    "MouthPucker", "MouthRight", "MouthLeft", "MouthSmileLeft", "MouthSmileRight", "MouthFrownLeft", "MouthFrownRight",
    "MouthDimpleLeft", "MouthDimpleRight", "MouthStretchLeft", "MouthStretchRight", "MouthRollLower", "MouthRollUpper",
    "MouthShrugLower", "MouthShrugUpper", "MouthPressLeft", "MouthPressRight", "MouthLowerDownLeft",
    "MouthLowerDownRight", "MouthUpperUpLeft", "MouthUpperUpRight", "BrowDownLeft", "BrowDownRight", "BrowInnerUp",
    "BrowOuterUpLeft", "BrowOuterUpRight", "CheekPuff", "CheekSquintLeft", "CheekSquintRight", "NoseSneerLeft",
    "NoseSneerRight", "TongueOut",
)  # fmt: skip
"""The coefficients in the order of the app, which its packets have, too."""
HEAD = ("HeadYaw", "HeadPitch", "HeadRoll")
EYES = ("LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll", "RightEyeYaw", "RightEyePitch", "RightEyeRoll")
COLUMNS = ("Timecode", "BlendShapeCount", *ORDER, *HEAD, *EYES)
IN_ORDER = np.array([NAMES.index(name[0].lower() + name[1:]) for name in ORDER], np.intp)
"""(52,): where each of ``ORDER`` is among ``NAMES``."""
EYE_ANGLE = math.radians(30)
"""How far an eye turns at a coefficient of 1."""
BUNDLED = Path(engines.__file__).parent / "assets" / "motions"
"""The motions that come with the program; ``tools.animation.motions`` writes them."""
TIMECODE_FPS = 60
MAX_FPS = 240.0
MAX_BYTES = 256 << 20
_PROGRAM = "reenact"
_SIDECAR_CHARACTERS = 4096
"""A sidecar is shorter."""
_TIMECODE = re.compile(r"(\d{1,3}):(\d{1,2}):(\d{1,2})[:;](\d{1,3}(?:\.\d{1,9})?)")
_RATES = (24, 25, 30, 48, 50, 60, 100, 120, 240, 1000)
_DAY_S = 86400.0
_CURE = "export it from Live Link Face, or record it with --record-motion"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A motion: N frames."""

    times: NDArray[np.float64]
    """(N,) seconds from the first frame, rising."""
    coefficients: Floats
    """(N, 52) in the order of ``NAMES``."""
    turns: Floats
    """(N, 3) radians, see ``FaceState.turn``."""
    notes: tuple[str, ...] = ()

    @property
    def fps(self) -> float:
        """The mean rate."""
        return (len(self.times) - 1) / float(self.times[-1])

    @property
    def duration(self) -> float:
        """How long it is from one beginning to the next, in seconds."""
        return float(self.times[-1]) + 1 / self.fps


def head_angles(turn: Floats) -> tuple[float, float, float]:
    """Return yaw, pitch and roll of the file for a turn of the head: to the face's left, up, to its right shoulder."""
    return -float(turn[1]), -float(turn[0]), -float(turn[2])


def turn_of(yaw: float, pitch: float, roll: float) -> Floats:
    """Return the turn of the head for the angles of a file, radians."""
    return np.array([-pitch, -yaw, -roll], np.float32)


def eye_angles(coefficients: Floats) -> tuple[float, ...]:
    """Return the angles of both eyes, as ``EYES``, for coefficients (52,), radians."""
    values = dict(zip(NAMES, coefficients.tolist(), strict=True))
    angles: list[float] = []
    for side, sign in (("Left", 1), ("Right", -1)):
        yaw = sign * (values[f"eyeLookOut{side}"] - values[f"eyeLookIn{side}"])
        pitch = values[f"eyeLookUp{side}"] - values[f"eyeLookDown{side}"]
        angles += [yaw * EYE_ANGLE, pitch * EYE_ANGLE, 0.0]
    return tuple(angles)


def face_turn(face: FaceState) -> Floats:
    """Return how far a face's head is turned, (3,) radians."""
    return face.turn if face.turn is not None else np.asarray(seen_turn(face.pixels(), face.size), np.float32)


def row_of(coefficients: Floats, turn: Floats, seconds: float) -> str:
    """Return the line of a frame at a time of the day."""
    minutes, second = divmod(seconds % _DAY_S, 60)
    hour, minute = divmod(int(minutes), 60)
    whole = int(second)
    # rounded down: a frame that would be the 60th of its second is none
    part = math.floor((second - whole) * TIMECODE_FPS * 1e4) / 1e4
    values = (*coefficients[IN_ORDER].tolist(), *head_angles(turn), *eye_angles(coefficients))
    timecode = f"{hour:02d}:{minute:02d}:{whole:02d}:{part:07.4f}"
    return f"{timecode},{len(values)}," + ",".join(f"{value:.7f}" for value in values) + "\n"


def check_sidecar(path: Path) -> None:
    """Raise UsageError if the sidecar of a motion to be recorded would overwrite a file of another kind.

    It is not the file that the user names: only one that an earlier recording wrote is replaced.
    """
    sidecar = path.with_suffix(".json")
    try:
        with sidecar.open(encoding="utf-8") as file:
            about = json.loads(file.read(_SIDECAR_CHARACTERS))
        ours = about["program"] == _PROGRAM and "timecode_fps" in about
    except FileNotFoundError:
        return
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        ours = False
    if not ours:
        found = f"--record-motion {path}, beside which {sidecar.name} is another file"
        raise UsageError("motion-sidecar-exists", found, "a name that is free with .json too", "name another one")


class MotionRecorder:
    """Writes a motion while it happens. Used by one thread."""

    def __init__(self, path: Path) -> None:
        """Open the file and write its header, and the sidecar. Raises UsageError."""
        check_sidecar(path)
        self.path = path
        self._first_ns: int | None = None
        self._start = datetime.now(UTC).astimezone()
        about = {
            "program": _PROGRAM,
            "version": version(),
            "date": self._start.isoformat(timespec="seconds"),
            "timecode_fps": TIMECODE_FPS,
            "angles": "radians",
        }
        with ExitStack() as stack:
            try:
                self._file: TextIOWrapper | None = stack.enter_context(path.open("w", encoding="utf-8", newline=""))
                self._file.write(",".join(COLUMNS) + "\n")
                path.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
            except OSError as error:
                found = f"--record-motion: {path} cannot be written: {error.strerror}"
                raise UsageError("motion-not-writable", found, "a file", "name another one") from None
            stack.pop_all()

    def add(self, face: FaceState) -> None:
        """Write what a face does. Raises SinkLost."""
        if self._file is None or face.expression is None:
            return
        if self._first_ns is None:
            self._first_ns = face.time_ns
        start = self._start
        day = start.hour * 3600 + start.minute * 60 + start.second
        try:
            self._file.write(row_of(face.expression, face_turn(face), day + (face.time_ns - self._first_ns) / 1e9))
        except OSError as error:
            raise _not_written(self.path, error) from None

    def close(self) -> None:
        """Finish the file. Idempotent. Raises SinkLost."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                raise _not_written(self.path, error) from None


def _not_written(path: Path, error: OSError) -> SinkLost:
    return SinkLost("motion-not-written", f"{path} cannot be written: {error.strerror}", cure="free some space")


def bundled_motions() -> tuple[str, ...]:
    """Return the names of the motions that come with the program."""
    return tuple(sorted(path.stem for path in BUNDLED.glob("*.csv")))


def with_bundled_motion(path: Path) -> Path:
    """Return the file of a motion: ``path``, or where there is no such file the bundled motion of that name."""
    bundled = BUNDLED / f"{path.name}.csv"
    return bundled if path.parent == Path() and not path.exists() and bundled.is_file() else path


def read_motion(path: Path) -> Recorded:
    """Read a motion. A last row that was cut off is left out, and columns that are not known are, with a note.

    Raises SourceMissing.
    """
    rows = _read_rows(path)
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if "timecode" not in header:
        found, expected = f"{path}, whose first line has no Timecode", "a motion in the layout of Live Link Face"
        raise SourceMissing("motion-other-layout", found, expected, _CURE)
    missing = [name for name in ORDER if name.lower() not in header]
    if missing:
        found = f"{path}, in which {len(missing)} columns are missing, such as {missing[0]}"
        raise SourceMissing("motion-columns-missing", found, "52 coefficients", _CURE)
    notes = []
    unknown = [name for name in rows[0] if name.strip().lower() not in {each.lower() for each in COLUMNS}]
    if unknown:
        notes.append(f"{len(unknown)} columns of {path.name} are not known and left out, such as {unknown[0][:40]}")
    body = rows[1:]
    if body and len(body[-1]) < len(header):
        body = body[:-1]
        notes.append(f"the last row of {path.name} was cut off and is left out")
    for number, row in enumerate(body, 2):
        if len(row) != len(header):
            found = f"row {number} of {path} with {len(row)} values"
            raise SourceMissing("motion-row-length", found, f"{len(header)}, as in its first line", _CURE)
    times = _times([row[header.index("timecode")] for row in body], path)
    values = _numbers(body, header, path)
    return Recorded(times, values[:, : len(NAMES)], values[:, len(NAMES) :], tuple(notes))


def _read_rows(path: Path) -> list[list[str]]:
    try:
        if path.stat().st_size > MAX_BYTES:
            found = f"{path}, larger than {MAX_BYTES >> 20} MB"
            raise SourceMissing("motion-too-large", found, "a shorter motion", "cut it")
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [row for row in csv.reader(file) if row]
    except OSError as error:
        raise SourceMissing("motion-unreadable", f"{path} cannot be read: {error.strerror}", cure=_CURE) from None
    except (UnicodeDecodeError, csv.Error):
        raise SourceMissing("motion-not-csv", f"{path}, which is no text", "a CSV file", _CURE) from None


def _times(codes: Sequence[str], path: Path) -> NDArray[np.float64]:
    """Return the seconds of timecodes from the first one on."""
    parts: list[tuple[int, float]] = []
    for number, code in enumerate(codes, 2):
        match = _TIMECODE.fullmatch(code.strip())
        if match is None:
            found = f"the timecode {code[:30]!r} in row {number} of {path}"
            raise SourceMissing("motion-bad-timecode", found, "HH:MM:SS:FF.fff", _CURE)
        parts.append((3600 * int(match[1]) + 60 * int(match[2]) + int(match[3]), float(match[4])))
    if len(parts) < 2:
        raise SourceMissing("motion-empty", f"{path} with {len(parts)} frames", "two at least", _CURE)
    largest = max(frame for _, frame in parts)
    rate = next((rate for rate in _RATES if largest < rate), _RATES[-1])
    if rate < TIMECODE_FPS and _span(parts) < 1.5:
        rate = TIMECODE_FPS  # too short for the frames to tell; the app's own rate
    times = np.array([second + frame / rate for second, frame in parts])
    times += _DAY_S * np.cumsum(np.concatenate([[0], np.diff(times) < -_DAY_S / 2]))
    times -= times[0]
    steps = np.diff(times)
    if (steps <= 0).any():
        found = f"row {int(np.argmax(steps <= 0)) + 3} of {path} is not later than the one before"
        raise SourceMissing("motion-not-in-order", found, "rising timecodes", _CURE)
    fps = len(steps) / times[-1]
    if fps > MAX_FPS:
        expected = f"{MAX_FPS:g} at most"
        raise SourceMissing("motion-too-fast", f"{path} with {fps:.0f} frames per second", expected, "thin it out")
    return times


def _span(parts: Sequence[tuple[int, float]]) -> float:
    return abs(parts[-1][0] - parts[0][0])


def _numbers(body: Sequence[Sequence[str]], header: Sequence[str], path: Path) -> Floats:
    """Return coefficients and turns, (N, 55)."""
    columns = [header.index(name.lower()) for name in ORDER]
    heads = [header.index(name.lower()) if name.lower() in header else None for name in HEAD]
    values = np.zeros((len(body), len(NAMES) + 3), np.float32)
    for number, row in enumerate(body):
        try:
            numbers = [float(row[at]) for at in columns]
            angles = [0.0 if at is None else float(row[at]) for at in heads]
        except ValueError:
            bad = next(row[at] for at in (*columns, *(at for at in heads if at is not None)) if not _is_number(row[at]))
            raise _bad(path, number, f"{bad[:30]!r}", "numbers") from None
        if not all(map(math.isfinite, (*numbers, *angles))):
            raise _bad(path, number, "a value that is no finite number", "numbers")
        if not all(-0.5 <= each <= 1.5 for each in numbers) or not all(abs(each) <= math.pi for each in angles):
            raise _bad(path, number, "a value out of range", "coefficients from 0 to 1, and angles in radians")
        values[number, IN_ORDER] = np.clip(numbers, 0, 1)
        values[number, len(NAMES) :] = turn_of(*angles)
    return values


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _bad(path: Path, number: int, what: str, expected: str) -> SourceMissing:
    return SourceMissing("motion-bad-value", f"{what} in row {number + 2} of {path}", expected, _CURE)
