"""Motions as files: what is written is what is read, and what is wrong with a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engines.errors import SourceMissing, UsageError
from engines.face.coefficients import NAMES
from realtime.motion.motion_file import COLUMNS, MAX_FPS, MotionRecorder, Recorded, read_motion, row_of
from realtime.motion.tracked import tracked_face

COUNT = 90


def faces(fps: float = 30) -> list[tuple[np.ndarray, np.ndarray, int]]:  # type: ignore[type-arg]
    random = np.random.default_rng(1)
    return [
        (
            random.uniform(0, 1, 52).astype(np.float32),
            random.uniform(-0.5, 0.5, 3).astype(np.float32),
            7_000_000_000 + round(number / fps * 1e9),
        )
        for number in range(COUNT)
    ]


def written(path: Path, fps: float = 30) -> Recorded:
    recorder = MotionRecorder(path)
    for number, (coefficients, turn, time_ns) in enumerate(faces(fps)):
        recorder.add(tracked_face(coefficients, turn, number, time_ns))
    recorder.close()
    return read_motion(path)


@pytest.mark.parametrize("fps", [24, 29.97, 30, 59.94, 60, 120])
def test_what_is_read_is_what_was_written(tmp_path: Path, fps: float) -> None:
    motion = written(tmp_path / "take.csv", fps)
    for number, (coefficients, turn, time_ns) in enumerate(faces(fps)):
        np.testing.assert_allclose(motion.coefficients[number], coefficients, atol=1e-5)
        np.testing.assert_allclose(motion.turns[number], turn, atol=1e-5)
        assert motion.times[number] == pytest.approx((time_ns - 7_000_000_000) / 1e9, abs=1e-4)
    assert motion.fps == pytest.approx(fps, rel=1e-3)


def test_the_sidecar_says_what_wrote_it_and_when(tmp_path: Path) -> None:
    written(tmp_path / "take.csv")
    about = json.loads((tmp_path / "take.json").read_text(encoding="utf-8"))
    assert about["program"] == "reenact"
    assert about["version"]
    assert about["date"]


def test_the_columns_are_those_of_the_app() -> None:
    assert COLUMNS[:3] == ("Timecode", "BlendShapeCount", "EyeBlinkLeft")
    assert COLUMNS[-9:-6] == ("HeadYaw", "HeadPitch", "HeadRoll")
    assert len(COLUMNS) == 63
    assert {name.lower() for name in COLUMNS[2:54]} == {name.lower() for name in NAMES}


def test_a_recording_over_midnight_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "night.csv"
    nothing = np.zeros(52, np.float32)
    rows = [row_of(nothing, nothing[:3], 86399.0 + number / 30) for number in range(60)]
    path.write_text(",".join(COLUMNS) + "\n" + "".join(rows), encoding="utf-8")
    assert read_motion(path).fps == pytest.approx(30, rel=1e-3)


def test_an_app_at_its_own_rate_and_without_angles_is_read(tmp_path: Path) -> None:
    path = tmp_path / "app.csv"
    names = COLUMNS[:54]
    rows = [f"00:43:{17 + n // 60:02d}:{n % 60:02d}.366,52," + ",".join(["0.25"] * 52) for n in range(120)]
    path.write_text("\ufeff" + ",".join(names) + "\r\n" + "\r\n".join(rows) + "\r\n", encoding="utf-8")
    motion = read_motion(path)
    assert motion.fps == pytest.approx(60, rel=1e-3)
    assert (motion.turns == 0).all()
    assert (motion.coefficients == 0.25).all()


def test_a_row_that_was_cut_off_and_unknown_columns_are_left_out_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    written(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    lines = [lines[0] + ",Mood"] + [line + ",1" for line in lines[1:]]
    path.write_text("\n".join(lines)[:-200], encoding="utf-8")
    motion = read_motion(path)
    assert len(motion.times) == COUNT - 1
    assert len(motion.notes) == 2


def _replaced(row: int, column: int, value: str) -> Callable[[list[list[str]]], None]:
    def change(rows: list[list[str]]) -> None:
        rows[row][column] = value

    return change


def _without_column(rows: list[list[str]]) -> None:
    for row in rows:
        del row[20]


def _fast(rows: list[list[str]]) -> None:
    for number, row in enumerate(rows[1:]):
        row[0] = f"00:00:{number // 1000:02d}:{number % 1000 * 60 / 1000:.3f}"


def _other_app(rows: list[list[str]]) -> None:
    rows[0][0] = "frame"


def _backwards(rows: list[list[str]]) -> None:
    rows[5][0] = rows[2][0]


def _short(rows: list[list[str]]) -> None:
    del rows[5][-1]


def _emptied(rows: list[list[str]]) -> None:
    del rows[1:]


BAD: dict[str, tuple[Callable[[list[list[str]]], None], str]] = {
    "NaN": (_replaced(5, 9, "nan"), "motion-bad-value"),
    "infinite": (_replaced(5, 9, "1e999"), "motion-bad-value"),
    "no number": (_replaced(5, 9, "much"), "motion-bad-value"),
    "percent": (_replaced(5, 9, "55"), "motion-bad-value"),
    "degrees": (_replaced(5, 54, "12.5"), "motion-bad-value"),
    "column missing": (_without_column, "motion-columns-missing"),
    "1000 Hz": (_fast, "motion-too-fast"),
    "another app": (_other_app, "motion-other-layout"),
    "bad timecode": (_replaced(5, 0, "12.5"), "motion-bad-timecode"),
    "backwards": (_backwards, "motion-not-in-order"),
    "short row": (_short, "motion-row-length"),
    "empty": (_emptied, "motion-empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path: Path, name: str) -> None:
    change, code = BAD[name]
    path = tmp_path / "take.csv"
    written(path)
    rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    change(rows)
    path.write_text("\n".join(",".join(row) for row in rows) + "\n", encoding="utf-8")
    with pytest.raises(SourceMissing) as caught:
        read_motion(path)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "motion-other-layout"), (b"\xff\xfe\x00\x01", "motion-not-csv"), (None, "motion-unreadable")],
)
def test_what_is_no_csv_is_refused(tmp_path: Path, content: bytes | None, code: str) -> None:
    path = tmp_path / "x.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceMissing) as caught:
        read_motion(path)
    assert caught.value.code == code


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        MotionRecorder(tmp_path / "none" / "x.csv")
    assert caught.value.code == "motion-not-writable"


@pytest.mark.parametrize("text", [b'{"mine": 1}', b"[]", b"", b"\xff", b'{"program": "reenact"}'])
def test_a_file_beside_it_that_is_no_sidecar_is_kept(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "take.json").write_bytes(text)
    with pytest.raises(UsageError) as caught:
        MotionRecorder(tmp_path / "take.csv")
    assert caught.value.code == "motion-sidecar-exists"
    assert [path.name for path in tmp_path.iterdir()] == ["take.json"]
    assert (tmp_path / "take.json").read_bytes() == text


def test_an_earlier_recording_is_written_over_with_its_sidecar(tmp_path: Path) -> None:
    for _ in range(2):
        MotionRecorder(tmp_path / "take.csv").close()
    assert json.loads((tmp_path / "take.json").read_text(encoding="utf-8"))["program"] == "reenact"


def test_the_limit_is_above_what_cameras_do() -> None:
    assert MAX_FPS >= 240
