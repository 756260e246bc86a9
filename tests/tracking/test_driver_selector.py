"""Which face drives."""

from __future__ import annotations

import pytest

from realtime.tracking.driver_selector import DriverSelector
from realtime.tracking.face_watch import Look, WatchedFace
from realtime.tracking.landmark_model import FaceBox
from realtime.tracking.settings import Driver, parse_driver

SIZE = (1280, 720)
CENTRE = FaceBox(640, 360, 200)
LEFT = FaceBox(250, 360, 200)
RIGHT = FaceBox(1000, 360, 200)


def living(key: int, box: FaceBox) -> WatchedFace:
    return WatchedFace(key, box, visible=True, moving=True, still=False)


def picture(key: int, box: FaceBox) -> WatchedFace:
    return WatchedFace(key, box, visible=True, moving=False, still=True)


def look(*faces: WatchedFace, followed: int | None) -> Look:
    return Look(0, SIZE, faces, followed)


def following(box: FaceBox, driver: Driver = "auto") -> DriverSelector:
    selector = DriverSelector(driver)
    selector.found(box, 0)
    return selector


def test_a_picture_is_not_followed_once_a_person_has_been_seen() -> None:
    selector = following(CENTRE)
    wall = FaceBox(1100, 130, 90)
    assert selector.consider(look(living(0, CENTRE), picture(1, wall), followed=0)) is None
    selector.lost()
    assert selector.order([wall], SIZE) == []
    assert selector.order([wall, LEFT], SIZE) == [LEFT]


def test_a_picture_that_is_the_only_face_is_used_until_a_person_comes() -> None:
    selector = following(CENTRE)
    assert selector.consider(look(picture(0, CENTRE), followed=0)) is None
    assert selector.box == CENTRE
    assert selector.certain
    assert selector.order([CENTRE], SIZE) == [CENTRE]
    driver_id = selector.driver_id
    small = FaceBox(200, 500, 80)
    assert selector.consider(look(picture(0, CENTRE), living(1, small), followed=0)) == small
    assert selector.driver_id != driver_id


def test_a_picture_that_the_model_slips_over_to_is_dropped() -> None:
    selector = following(CENTRE)
    selector.consider(look(living(0, CENTRE), followed=0))
    selector.found(RIGHT, 1)
    assert selector.consider(look(picture(1, RIGHT), followed=1)) is None
    assert selector.box is None
    assert selector.order([RIGHT], SIZE) == []


def test_a_person_who_is_new_is_followed_at_once_after_a_loss() -> None:
    selector = following(CENTRE)
    selector.consider(look(living(0, CENTRE), followed=0))
    selector.lost()
    assert selector.order([LEFT], SIZE) == [LEFT]
    driver_id = selector.driver_id
    selector.found(LEFT, 2_000_000_000)
    assert selector.driver_id == driver_id  # the driver comes back to another place


def test_a_face_far_away_in_the_next_frame_is_another_person() -> None:
    selector = following(CENTRE)
    driver_id = selector.driver_id
    selector.found(CENTRE._replace(x=700), 40_000_000)
    assert selector.driver_id == driver_id
    selector.found(RIGHT._replace(x=1100), 80_000_000)
    assert selector.driver_id != driver_id


@pytest.mark.parametrize("driver", ["auto", "largest", "left", "right", 1, 2])
def test_two_alike_never_alternate(driver: Driver) -> None:
    """Their boxes tremble by some pixels."""
    followed = 0 if driver in ("left", 1) else 1 if driver in ("right", 2) else 0
    boxes = [FaceBox(440, 360, 200), FaceBox(840, 360, 200)]
    selector = following(boxes[followed], driver)
    for step in range(200):
        shaken = [
            box._replace(x=box.x + 9 * (-1) ** step, side=box.side * (1 + 0.08 * (-1) ** (step + key)))
            for key, box in enumerate(boxes)
        ]
        selector.found(shaken[followed], step * 500_000_000)
        seen = look(living(0, shaken[0]), living(1, shaken[1]), followed=followed)
        assert selector.consider(seen) is None
    assert selector.driver_id == 0


def test_a_much_larger_person_drives_after_a_while() -> None:
    selector = following(LEFT._replace(side=80))
    seen = look(living(0, LEFT._replace(side=80)), living(1, CENTRE), followed=0)
    assert [selector.consider(seen) for _ in range(3)] == [None, None, CENTRE]


def test_a_face_that_passes_by_does_not_drive() -> None:
    selector = following(LEFT._replace(side=80))
    mine = living(0, LEFT._replace(side=80))
    for _ in range(5):
        assert selector.consider(look(mine, living(1, CENTRE), followed=0)) is None
        assert selector.consider(look(mine, living(1, CENTRE), followed=0)) is None
        assert selector.consider(look(mine, followed=0)) is None


@pytest.mark.parametrize(
    ("driver", "expected"), [("left", LEFT), ("right", RIGHT), (1, LEFT), (2, None), (3, RIGHT), (8, RIGHT)]
)
def test_the_driver_that_the_user_chooses_drives_with_the_next_look(driver: Driver, expected: FaceBox | None) -> None:
    selector = following(CENTRE)
    faces = (living(0, CENTRE), living(1, RIGHT), living(2, LEFT))
    assert selector.consider(look(*faces, followed=0)) is None
    selector.driver = driver
    assert selector.waiting
    assert selector.consider(look(*faces, followed=0)) == expected
    assert not selector.waiting
    assert selector.driver_id == (expected is not None)


@pytest.mark.parametrize(("driver", "expected"), [("left", LEFT), ("right", RIGHT), ("auto", CENTRE), (2, CENTRE)])
def test_the_first_face_is_the_one_that_was_asked_for(driver: Driver, expected: FaceBox) -> None:
    assert DriverSelector(driver).order([RIGHT, LEFT, CENTRE], SIZE)[0] == expected


def test_a_driver_is_a_word_or_a_number() -> None:
    assert [parse_driver(value) for value in ("auto", "left", "2", 8)] == ["auto", "left", 2, 8]
    for value in ("", "up", 0, 9, True, None, 1.5, "²"):
        with pytest.raises(ValueError, match="driver"):
            parse_driver(value)
