"""The program's own sinks where browsers drive: whose picture they show, and as what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from engines.types import Motion
from realtime.core.stop_signal import Ending
from realtime.pipeline.pipeline import Outgoing
from realtime.pipeline.threads import Limits
from realtime.server.shared_sinks import Lobby
from tests.support.fake_server import House, living
from tests.support.fakes import CAMERA, PORTRAIT, SIZE, FakeSink, is_generated
from tests.support.waiting import until


class Inn:
    """A house that has sinks of its own: a virtual camera's place is taken by ``camera``, a file's by ``file``."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.camera, self.file = FakeSink("camera"), FakeSink("file")
        self.ending = Ending()
        sinks = [Outgoing("camera", self.camera, None, False), Outgoing("file", self.file, None, True)]
        limits = limits or Limits()
        self.lobby = Lobby(sinks, size=SIZE, limits=limits, ending=self.ending, notice=lambda _: None)
        self.house = House(self.lobby)
        self.lobby.start()

    def feed(self, key: str) -> None:
        self.house.link.sources[key].feed()

    def set(self, key: str, command: str) -> None:
        assert self.house.control(key, command, True)["ok"]

    def ages(self) -> int:
        """How many pictures an age was counted for, over both sinks."""
        return self.lobby.age.count


@contextmanager
def inn(limits: Limits | None = None) -> Iterator[Inn]:
    made = Inn(limits)
    try:
        with living(made.house):
            yield made
    finally:
        closed = made.lobby.close(3)
    assert closed, "some thread did not end in time"


def test_own_sinks_show_the_first_browser_and_then_the_next() -> None:
    with inn() as made:
        house, camera = made.house, made.camera
        camera.wait_for(1)  # the card
        assert not camera.shows(PORTRAIT)
        house.open("a")
        house.drive("a")
        camera.wait_for(is_generated)
        assert made.lobby.crew is not None
        house.open("b")
        house.drive("b")
        house.send_away("a")
        seen = made.lobby.ledger.frames

        def goes_on() -> bool:
            made.feed("b")
            return made.lobby.ledger.frames > seen

        until(goes_on, "the second browser is not on show")
        assert not camera.shows(CAMERA)
    assert camera.closed.is_set()
    assert made.file.closed.is_set()


def test_own_sinks_have_enough_when_the_limit_is_reached() -> None:
    with inn(Limits(frames=2)) as made:
        made.house.open("a")
        made.house.drive("a", 10)
        assert made.ending.over.wait(5)
        assert made.ending.complete
    assert made.lobby.finished(3)


def test_a_recording_gets_no_cards_of_start_up_and_failure() -> None:
    with inn() as made:
        house = made.house
        house.open("a")
        made.camera.wait_for(lambda frame: not is_generated(frame))
        house.drive("a")
        made.file.wait_for(is_generated)

        def fail(_: Motion) -> None:
            raise ValueError("boom")

        house.generators[0].during = fail
        made.feed("a")
        house.link.wait_for(lambda: any("error" in message for message in house.link.pushed["a"]))
        house.send_away("a")
    assert all(is_generated(frame) for frame in made.file.frames)
    assert any(not is_generated(frame) for frame in made.camera.frames)


def test_only_pictures_are_counted() -> None:
    with inn() as made:
        house = made.house
        house.open("a")
        house.link.wait_for(lambda: house.link.pushed["a"])
        made.camera.wait_for(3)
        assert made.lobby.ledger.frames == 0
        house.drive("a")
        session = house.media.sessions.get("a")
        house.send_away("a")
        assert session is not None
        assert session.daemon is not None
        dropped = session.daemon.dropped["local"]
        assert 0 < made.lobby.ledger.frames <= session.daemon.ledger.frames
        assert made.lobby.ledger.frames + dropped >= session.daemon.ledger.frames


def test_a_face_is_counted_for_pictures_that_one_drove() -> None:
    with inn() as made:
        house, ledger = made.house, made.lobby.ledger
        house.open("a")
        house.drive("a")
        until(lambda: ledger.faces)
        house.trackers[0].present = False

        def without() -> bool:
            frames, faces = ledger.frames, ledger.faces
            made.feed("a")
            until(lambda: ledger.frames > frames)
            return ledger.faces == faces

        until(without, "faces are counted where there is none")
        ages, faces = made.ages(), ledger.faces
        for _ in range(3):
            assert without()
        assert (made.ages(), ledger.faces) == (ages, faces)


def test_what_a_session_holds_is_no_new_picture() -> None:
    """Neither is a card of its own: both are counted, and have neither face nor age."""
    for command in ("freeze", "slate"):
        with inn() as made:
            house, ledger = made.house, made.lobby.ledger
            house.open("a")
            house.drive("a")
            until(lambda ledger=ledger: ledger.faces)  # type: ignore[misc]
            made.set("a", command)

            def held(made: Inn = made) -> bool:
                """Whether three pictures more have neither."""
                frames, faces, ages = made.lobby.ledger.frames, made.lobby.ledger.faces, made.ages()
                sent = len(made.file.frames)
                made.feed("a")
                until(lambda: made.lobby.ledger.frames >= frames + 3 and len(made.file.frames) >= sent + 3)
                return (made.lobby.ledger.faces, made.ages()) == (faces, ages)

            until(held, f"{command} counts as a face")
            assert held()
