"""One time out of a file's: where the streams of a joined file go that do not change over at the same moment."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from realtime.capture.file_clock import Joins, Timeline

NS = 1_000_000_000
MS = NS // 1000
PICTURE, SOUND = 40 * MS, 20 * MS
MPEG_TS = 0x200


def timelines(flags: int = MPEG_TS) -> tuple[Timeline, Timeline]:
    joins = Joins(cast(Any, SimpleNamespace(format=SimpleNamespace(flags=flags))))
    return Timeline(joins, leads=True), Timeline(joins, leads=False)


def fill(line: Timeline, seconds: float, length_ns: int) -> None:
    for at_ns in range(0, round(seconds * NS), length_ns):
        assert line.place(at_ns, length_ns) == at_ns


def filled(picture_s: float, sound_s: float) -> tuple[Timeline, Timeline]:
    """Picture and sound of a file whose clock has run evenly so far, for so many seconds each."""
    picture, sound = timelines()
    fill(picture, picture_s, PICTURE)
    fill(sound, sound_s, SOUND)
    return picture, sound


def test_sound_of_the_part_before_stays_there() -> None:
    picture, sound = filled(3, 2.9)
    assert picture.place(0, PICTURE) == 3 * NS
    assert sound.place(2900 * MS, SOUND) == 2900 * MS
    assert sound.place(100 * MS, SOUND) == 3100 * MS
    assert sound.place(120 * MS, SOUND) == 3120 * MS


def test_sound_that_is_ahead_of_its_picture_falls_in_with_it() -> None:
    picture, sound = filled(3, 2.8)
    assert sound.place(0, SOUND) == 2800 * MS
    assert picture.place(0, PICTURE) == 3 * NS
    assert sound.place(20 * MS, SOUND) == 3020 * MS


def test_sound_that_begins_late_in_its_part() -> None:
    picture, sound = filled(3, 3)
    fill_after = [picture.place(at, PICTURE) for at in range(0, 5 * NS, PICTURE)]
    assert fill_after[-1] == 8 * NS - PICTURE
    assert sound.place(5 * NS, SOUND) == 8 * NS


def test_sound_that_pauses_comes_back_with_its_picture() -> None:
    _, sound = filled(60, 3)
    assert sound.place(60 * NS, SOUND) == 60 * NS


def test_a_picture_that_stays_long_comes_back_to_the_sound_that_goes_on() -> None:
    picture, sound = filled(3, 30)
    assert picture.place(30 * NS, PICTURE) == 30 * NS
    assert sound.place(30 * NS, SOUND) == 30 * NS


def test_a_clock_that_leaps_for_picture_and_sound_is_a_join() -> None:
    picture, sound = filled(3, 3)
    assert sound.place(30 * NS, SOUND) == 3 * NS
    assert picture.place(30 * NS, PICTURE) == 3 * NS
    assert picture.place(30 * NS + PICTURE, PICTURE) == 3 * NS + PICTURE
    assert sound.place(30 * NS + SOUND, SOUND) == 3 * NS + SOUND


def test_sound_of_the_part_before_does_not_make_a_pause_of_a_join() -> None:
    picture, sound = filled(30, 30)
    assert picture.place(0, PICTURE) == 30 * NS
    for at_ns in (0, NS, 2 * NS, 20 * NS):
        sound.place(at_ns, SOUND)
    assert picture.place(20 * NS, PICTURE) == 30 * NS + PICTURE


def test_one_wrong_time_moves_nothing_for_good() -> None:
    picture, _ = timelines()
    fill(picture, 3, PICTURE)
    assert picture.place(70_000 * NS, PICTURE) == 3 * NS
    assert picture.place(3040 * MS, PICTURE) == 3040 * MS


@pytest.mark.parametrize(("flags", "pause_s", "kept"), [(MPEG_TS, 9, True), (MPEG_TS, 11, False), (0, 3500, True)])
def test_how_long_a_pause_may_be(flags: int, pause_s: int, kept: bool) -> None:
    picture, _ = timelines(flags)
    fill(picture, 1, PICTURE)
    assert picture.place((1 + pause_s) * NS, PICTURE) == ((1 + pause_s) * NS if kept else NS)


def test_pictures_out_of_order_are_no_join() -> None:
    picture, _ = timelines()
    fill(picture, 1, 100 * MS)
    for at_ms in (1400, 1200, 1000, 1100, 1300, 1800, 1600):
        assert picture.place(at_ms * MS, 100 * MS) == at_ms * MS


def test_what_has_no_time_follows() -> None:
    picture, _ = timelines()
    assert picture.place(None, PICTURE) == 0
    assert picture.place(None, PICTURE) == PICTURE
