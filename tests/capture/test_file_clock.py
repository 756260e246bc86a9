"""Test the continuous time of joined files whose streams do not change over at the same moment."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from realtime.capture.file_clock import JoinShift, Timeline

NS = 1_000_000_000
MS = NS // 1000
PICTURE, SOUND = 40 * MS, 20 * MS
MPEG_TS = 0x200


def timelines(flags: int = MPEG_TS) -> tuple[Timeline, Timeline]:
    shift = JoinShift(cast(Any, SimpleNamespace(format=SimpleNamespace(flags=flags))))
    return Timeline(shift, leads=True), Timeline(shift, leads=False)


def fill(line: Timeline, seconds: float, length_ns: int) -> None:
    for at_ns in range(0, round(seconds * NS), length_ns):
        assert line.place(at_ns, length_ns) == at_ns


def filled(picture_s: float, sound_s: float) -> tuple[Timeline, Timeline]:
    """Return the timelines of video and audio after this many seconds without a jump."""
    picture, sound = timelines()
    fill(picture, picture_s, PICTURE)
    fill(sound, sound_s, SOUND)
    return picture, sound


def test_late_audio_of_the_part_before_stays_there() -> None:
    picture, sound = filled(3, 2.9)
    assert picture.place(0, PICTURE) == 3 * NS
    assert sound.place(2900 * MS, SOUND) == 2900 * MS
    assert sound.place(100 * MS, SOUND) == 3100 * MS
    assert sound.place(120 * MS, SOUND) == 3120 * MS


def test_audio_that_is_ahead_of_its_video_is_synchronised() -> None:
    picture, sound = filled(3, 2.8)
    assert sound.place(0, SOUND) == 2800 * MS
    assert picture.place(0, PICTURE) == 3 * NS
    assert sound.place(20 * MS, SOUND) == 3020 * MS


def test_audio_that_begins_late_in_its_part_keeps_its_time() -> None:
    picture, sound = filled(3, 3)
    fill_after = [picture.place(at, PICTURE) for at in range(0, 5 * NS, PICTURE)]
    assert fill_after[-1] == 8 * NS - PICTURE
    assert sound.place(5 * NS, SOUND) == 8 * NS


def test_audio_that_pauses_returns_in_sync() -> None:
    _, sound = filled(60, 3)
    assert sound.place(60 * NS, SOUND) == 60 * NS


def test_video_that_pauses_returns_in_sync_with_audio_that_continues() -> None:
    picture, sound = filled(3, 30)
    assert picture.place(30 * NS, PICTURE) == 30 * NS
    assert sound.place(30 * NS, SOUND) == 30 * NS


def test_a_jump_of_video_and_audio_is_a_join() -> None:
    picture, sound = filled(3, 3)
    assert sound.place(30 * NS, SOUND) == 3 * NS
    assert picture.place(30 * NS, PICTURE) == 3 * NS
    assert picture.place(30 * NS + PICTURE, PICTURE) == 3 * NS + PICTURE
    assert sound.place(30 * NS + SOUND, SOUND) == 3 * NS + SOUND


def test_audio_of_the_part_before_does_not_turn_a_join_into_a_pause() -> None:
    picture, sound = filled(30, 30)
    assert picture.place(0, PICTURE) == 30 * NS
    for at_ns in (0, NS, 2 * NS, 20 * NS):
        sound.place(at_ns, SOUND)
    assert picture.place(20 * NS, PICTURE) == 30 * NS + PICTURE


def test_one_wrong_timestamp_has_no_lasting_effect() -> None:
    picture, _ = timelines()
    fill(picture, 3, PICTURE)
    assert picture.place(70_000 * NS, PICTURE) == 3 * NS
    assert picture.place(3040 * MS, PICTURE) == 3040 * MS


@pytest.mark.parametrize(("flags", "pause_s", "kept"), [(MPEG_TS, 9, True), (MPEG_TS, 11, False), (0, 3500, True)])
def test_the_longest_pause_depends_on_the_format(flags: int, pause_s: int, kept: bool) -> None:
    picture, _ = timelines(flags)
    fill(picture, 1, PICTURE)
    assert picture.place((1 + pause_s) * NS, PICTURE) == ((1 + pause_s) * NS if kept else NS)


def test_reordered_pictures_are_not_a_join() -> None:
    picture, _ = timelines()
    fill(picture, 1, 100 * MS)
    for at_ms in (1400, 1200, 1000, 1100, 1300, 1800, 1600):
        assert picture.place(at_ms * MS, 100 * MS) == at_ms * MS


def test_a_picture_without_a_timestamp_follows_the_last() -> None:
    picture, _ = timelines()
    assert picture.place(None, PICTURE) == 0
    assert picture.place(None, PICTURE) == PICTURE
