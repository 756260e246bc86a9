from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from engines.errors import BusyError
from engines.types import FaceState, Image, Mask, Motion, Portrait
from realtime.motion.motion_transfer import MotionTransfer
from realtime.pipeline.portrait_library import ListedPortrait, PortraitLibrary
from realtime.portraits.portrait import PortraitPicture
from tests.support.fakes import FakeGenerator, portrait
from tests.support.waiting import until


class SlowGenerator(FakeGenerator):
    """Prepares the portrait of one name only when ``go`` is set."""

    def __init__(self, over: str) -> None:
        super().__init__()
        self.over = over
        self.began, self.go = threading.Event(), threading.Event()
        self.prepared_closed = False

    def prepare(
        self, name: str, image: Image, face: FaceState, matte: Mask | None = None, behind: Image | None = None
    ) -> Portrait:
        if name == self.over:
            self.began.set()
            assert self.go.wait(5)
            self.prepared_closed |= self.closed
        return super().prepare(name, image, face, matte, behind)


def library(
    generator: FakeGenerator, *names: str, failed: Callable[[BaseException], None] = lambda _: None
) -> PortraitLibrary:
    def loader(name: str) -> Callable[[], PortraitPicture]:
        return lambda: portrait(name)

    made = PortraitLibrary(generator, [loader(name) for name in names], failed=failed, notice=lambda _: None)
    made.prepare_first(MotionTransfer())
    return made


def test_portraits_keep_their_index_whichever_is_prepared_first() -> None:
    old = library(FakeGenerator(), "one", "two", "three")
    new = old.for_generator(FakeGenerator(), 1)
    new.prepare_first(MotionTransfer())
    assert new.names == {1: "two"}
    assert new.get(0) is None
    new.prepare_others()
    assert new.names == {0: "one", 1: "two", 2: "three"}


def test_a_portrait_that_was_added_meanwhile_is_taken_over() -> None:
    old = library(FakeGenerator(), "one")
    new = old.for_generator(FakeGenerator(), 0)
    new.prepare_first(MotionTransfer())
    assert old.add(portrait("sent")) == 1
    old.close()
    new.catch_up(old)
    assert len(new) == 2
    new.prepare_others()
    assert new.names == {0: "one", 1: "sent"}


def test_a_listed_portrait_is_prepared_when_it_is_chosen_and_not_before() -> None:
    loaded, failures = list[str](), list[BaseException]()

    def listed(name: str) -> ListedPortrait:
        def load() -> PortraitPicture:
            loaded.append(name)
            return portrait(name)

        return ListedPortrait(name, load, lambda: np.full((40, 80, 3), 7, np.uint8))

    generator = SlowGenerator("two")
    made = PortraitLibrary(
        generator, [listed(name) for name in ("one", "two", "three")], failed=failures.append, notice=lambda _: None
    )
    made.prepare_first(MotionTransfer())
    made.prepare_others()
    assert loaded == ["one"]
    assert made.names == {0: "one", 1: "two", 2: "three"}
    small = made.thumbnail(2)
    assert small is not None
    assert (small == 7).all()

    assert made.get(1) is None
    assert generator.began.wait(5)
    assert made.get(1) is None  # not prepared twice
    generator.go.set()
    until(lambda: made.get(1) is not None)
    assert (loaded, failures) == (["one", "two"], [])
    assert made.add(portrait("sent")) == 3
    made.close()


def test_a_generator_is_closed_when_the_current_portrait_is_prepared() -> None:
    slow, failures = SlowGenerator("two"), list[BaseException]()
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


def test_nothing_is_prepared_for_a_closed_library() -> None:
    generator = FakeGenerator()
    old = library(generator, "one")
    old.close()
    assert generator.closed
    with pytest.raises(BusyError) as caught:
        old.add(portrait("sent"))
    assert caught.value.code == "generator-changed"
    assert generator.portraits == ["one"]
    assert len(old) == 1


def test_a_portrait_that_fails_for_a_generator_no_longer_used_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    failures, go, began = list[BaseException](), threading.Event(), threading.Event()

    def unreadable() -> PortraitPicture:
        began.set()
        assert go.wait(5)
        raise ZeroDivisionError("a bug")

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
    assert [str(error) for error in failures] == ["a bug"]
    (record,) = caplog.records
    assert record.exc_info is not None


class TimedGenerator(FakeGenerator):
    """A generator whose frames take the given seconds on a clock that only it advances."""

    def __init__(self, *seconds: float) -> None:
        super().__init__()
        self.now = 0.0
        self._seconds = iter(seconds)

    def drive(self, portrait: Portrait, motion: Motion, driving: Image | None) -> Image:
        self.now += next(self._seconds)
        return super().drive(portrait, motion, driving)


@pytest.mark.parametrize(
    ("seconds", "compiling", "slow"),
    [
        ((9.0, 1.7, 0.01, 0.01, 0.01), True, False),
        ((9.0, 0.01, 0.01, 0.01), False, False),
        ((9.0, 1.7), False, True),
        ((9.0, 3.0, 1.7), True, True),
    ],
)
def test_only_a_warm_frame_is_timed(
    seconds: tuple[float, ...], compiling: bool, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, notices = TimedGenerator(*seconds), list[str]()
    monkeypatch.setattr("realtime.pipeline.portrait_library.time.perf_counter", lambda: generator.now)

    @contextmanager
    def watch(_: object) -> Iterator[object]:
        """Report that the second frame, and no other, had something compiled."""
        counts = iter((0, 1) if compiling else (0, 0))
        yield type("Compilation", (), {"count": property(lambda _: next(counts))})()

    monkeypatch.setattr("engines.jit.watch", watch)
    made = PortraitLibrary(generator, [portrait], failed=lambda _: None, notice=notices.append)
    made.prepare_first(MotionTransfer())
    assert bool(notices) == slow
    assert ("--generator mesh" in "".join(notices)) == (slow and generator.name != "mesh")


def test_a_mesh_that_is_slow_is_not_advised_to_be_the_mesh() -> None:
    generator, notices = FakeGenerator(), list[str]()
    generator.name = "mesh"
    made = PortraitLibrary(generator, [portrait], failed=lambda _: None, notice=notices.append)
    made._notice_slow(1.7)
    assert "1.7 s" in notices[0]
    assert "--generator" not in notices[0]
