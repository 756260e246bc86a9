from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from engines.errors import BusyError
from engines.types import FaceState, Image, Portrait
from realtime.motion.relative import MotionTransfer
from realtime.pipeline.portrait_library import PortraitLibrary
from realtime.portraits.portrait import PortraitPicture
from tests.support.fakes import FakeGenerator, portrait


class Slow(FakeGenerator):
    """Takes its time over the portrait of that name: until ``go``."""

    def __init__(self, over: str) -> None:
        super().__init__()
        self.over = over
        self.began, self.go = threading.Event(), threading.Event()
        self.prepared_closed = False

    def prepare(self, name: str, image: Image, face: FaceState) -> Portrait:
        if name == self.over:
            self.began.set()
            assert self.go.wait(5)
            self.prepared_closed |= self.closed
        return super().prepare(name, image, face)


def library(
    generator: FakeGenerator, *names: str, failed: Callable[[BaseException], None] = lambda _: None
) -> PortraitLibrary:
    def loader(name: str) -> Callable[[], PortraitPicture]:
        return lambda: portrait(name)

    made = PortraitLibrary(generator, [loader(name) for name in names], failed=failed, notice=lambda _: None)
    made.prepare_first(MotionTransfer())
    return made


def test_portraits_keep_their_places_whichever_is_the_first() -> None:
    old = library(FakeGenerator(), "one", "two", "three")
    new = old.for_generator(FakeGenerator(), 1)
    new.prepare_first(MotionTransfer())
    assert new.names == {1: "two"}
    assert new.get(0) is None
    new.prepare_others()
    assert new.names == {0: "one", 1: "two", 2: "three"}


def test_a_portrait_that_came_meanwhile_is_taken_over() -> None:
    old = library(FakeGenerator(), "one")
    new = old.for_generator(FakeGenerator(), 0)
    new.prepare_first(MotionTransfer())
    assert old.add(portrait("sent")) == 1
    old.close()
    new.catch_up(old)
    assert len(new) == 2
    new.prepare_others()
    assert new.names == {0: "one", 1: "sent"}


def test_a_generator_is_closed_when_the_portrait_in_hand_is_done() -> None:
    slow, failures = Slow("two"), list[BaseException]()
    old = library(slow, "one", "two", "three", failed=failures.append)
    others = threading.Thread(target=old.prepare_others)
    others.start()
    assert slow.began.wait(5)
    old.close()
    assert not slow.closed
    slow.go.set()
    others.join(5)
    assert slow.closed
    assert not slow.prepared_closed
    assert slow.portraits == ["one", "two"], "no more is prepared"
    assert not failures


def test_nobody_prepares_anything_for_one_that_is_closed() -> None:
    generator = FakeGenerator()
    old = library(generator, "one")
    old.close()
    assert generator.closed
    with pytest.raises(BusyError, match="changed meanwhile"):
        old.add(portrait("sent"))
    assert generator.portraits == ["one"]
    assert len(old) == 1


def test_a_portrait_that_fails_for_a_generator_no_longer_used_ends_nothing() -> None:
    failures, go, began = list[BaseException](), threading.Event(), threading.Event()

    def unreadable() -> PortraitPicture:
        began.set()
        assert go.wait(5)
        raise OSError("the disk is gone")

    for over in (False, True):
        go.clear()
        began.clear()
        made = PortraitLibrary(
            FakeGenerator(), [lambda: portrait("one"), unreadable], failed=failures.append, notice=lambda _: None
        )
        made.prepare_first(MotionTransfer())
        others = threading.Thread(target=made.prepare_others)
        others.start()
        assert began.wait(5)
        if over:
            made.close()
        go.set()
        others.join(5)
    assert [str(error) for error in failures] == ["the disk is gone"]
