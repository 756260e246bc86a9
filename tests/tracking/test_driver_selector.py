"""Which face drives."""

from __future__ import annotations

import pytest

from realtime.tracking.driver_selector import DriverSelector
from realtime.tracking.face_watch import Look, WatchedFace
from realtime.tracking.landmark_model import FaceBox
from realtime.tracking.settings import Driver, Place, parse_driver, parse_place

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


def test_a_place_is_two_shares() -> None:
    assert parse_place("0.4,0.25") == (0.4, 0.25)
    assert str(Place(0.4, 0.25)) == "0.4,0.25"
    for value in ("0.4", "1.1,0", "0.4,0.25,1", "left", 2, None, "nan,0"):
        assert parse_place(value) is None


@pytest.mark.parametrize(
    ("degrees", "mirror", "expected"),
    [
        (0, False, (0.2, 0.4)),
        (0, True, (0.8, 0.4)),
        (90, False, (0.6, 0.2)),
        (180, True, (0.2, 0.6)),
        (270, False, (0.4, 0.8)),
    ],
)
def test_a_place_of_the_cameras_picture_is_found_in_the_turned_frame(
    degrees: int, mirror: bool, expected: tuple[float, float]
) -> None:
    assert Place(0.2, 0.4).in_frame(degrees, mirror=mirror) == pytest.approx(expected)


def place_of(box: FaceBox) -> Place:
    """Return a place in a face, a little off its middle."""
    return Place((box.x + 0.3 * box.side) / SIZE[0], (box.y - 0.3 * box.side) / SIZE[1])


@pytest.mark.parametrize(
    ("at", "expected"), [(LEFT, LEFT), (RIGHT, RIGHT), (CENTRE, None), (FaceBox(640, 20, 30), None)]
)
def test_the_face_at_a_place_drives_with_the_next_look(at: FaceBox, expected: FaceBox | None) -> None:
    """A place without a face changes nothing."""
    selector = following(CENTRE)
    faces = (living(0, CENTRE), living(1, RIGHT), living(2, LEFT))
    selector.driver = place_of(at)
    assert selector.consider(look(*faces, followed=0)) == expected
    assert selector.driver_id == (expected is not None)


def test_the_face_that_was_picked_keeps_driving_among_others_that_come_and_go() -> None:
    """It moves through the picture, past a larger one, and others appear at its left and right."""
    selector = following(CENTRE)
    selector.driver = place_of(LEFT)
    assert selector.consider(look(living(0, CENTRE), living(1, LEFT), followed=0)) == LEFT
    driver_id = selector.driver_id
    for step in range(30):
        mine = LEFT._replace(x=LEFT.x + 20 * step)
        selector.found(mine, step * 100_000_000)
        others = [living(2, FaceBox(90, 200, 260)), living(3, FaceBox(1150, 360, 200))][step % 3 :]
        assert selector.consider(look(living(1, mine), *others, followed=1)) is None
    assert selector.driver_id == driver_id


def test_the_face_that_was_picked_drives_again_when_it_is_back_in_its_place() -> None:
    selector = following(CENTRE)
    selector.driver = place_of(LEFT)
    selector.consider(look(living(0, CENTRE), living(1, LEFT), followed=0))
    selector.lost()
    assert selector.order([CENTRE], SIZE) == [CENTRE]
    selector.found(CENTRE, 1_000_000_000)
    both = look(living(0, CENTRE), living(2, LEFT), followed=0)
    assert selector.consider(look(living(0, CENTRE), followed=0)) is None
    assert [selector.consider(both) for _ in range(2)] == [None, LEFT]
    selector.lost()
    assert selector.order([CENTRE, LEFT], SIZE) == [LEFT, CENTRE]


def test_a_place_that_is_given_while_no_face_is_there_counts_for_the_next_ones() -> None:
    selector = DriverSelector()
    selector.driver = place_of(RIGHT)
    assert selector.consider(look(living(0, CENTRE), followed=None)) is None
    assert selector.order([CENTRE, RIGHT], SIZE) == [RIGHT, CENTRE]


def test_a_face_is_a_picture_once_it_was_watched_and_never_moved() -> None:
    selector = following(CENTRE)
    assert not selector.is_picture
    selector.consider(look(picture(0, CENTRE), followed=0))
    assert selector.is_picture
    small = FaceBox(200, 500, 80)
    assert selector.consider(look(picture(0, CENTRE), living(1, small), followed=0)) == small
    assert not selector.is_picture
