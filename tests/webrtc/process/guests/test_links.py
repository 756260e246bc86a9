"""Links for guests: what opens one, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import AccessDenied, NotFoundError, RequestError
from realtime.webrtc.process.guests.links import LIFETIME_S, MAX_LIFETIME_S, MAX_LINKS, MAX_TOKEN, GuestLinks


class Clock:
    """A clock that the test sets."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def _refusal(links: GuestLinks, token: str) -> tuple[str, int]:
    with pytest.raises(AccessDenied) as caught:
        links.check(token)
    return caught.value.code, caught.value.status


def test_a_link_opens_its_stream_for_an_hour() -> None:
    clock = Clock()
    links = GuestLinks(clock)
    link = links.create("one")
    assert links.check(links.token(link)).stream == "one"
    assert links.expires_in_s(link) == LIFETIME_S == 3600
    clock.now += 3599
    assert links.check(links.token(link)) == link
    assert links.is_valid(link)
    clock.now += 1
    assert _refusal(links, links.token(link)) == ("guest-link-old", 410)
    assert not links.is_valid(link)
    assert links.of("one") == []


def test_a_revoked_link_opens_nothing() -> None:
    links = GuestLinks()
    link, other = links.create("one"), links.create("one")
    with pytest.raises(NotFoundError):
        links.revoke("two", link.id)
    links.revoke("one", link.id)
    assert _refusal(links, links.token(link)) == ("guest-link-revoked", 410)
    assert not links.is_valid(link)
    assert links.of("one") == [other]
    with pytest.raises(NotFoundError):
        links.revoke("one", link.id)
    links.revoke_all("one")
    assert _refusal(links, links.token(other)) == ("guest-link-revoked", 410)


def test_every_changed_character_makes_it_wrong() -> None:
    links = GuestLinks()
    token = links.token(links.create("one"))
    for at, letter in enumerate(token):
        changed = token[:at] + ("A" if letter != "A" else "B") + token[at + 1 :]
        assert _refusal(links, changed) == ("guest-link-wrong", 404)
    assert len(token) < MAX_TOKEN


@given(st.text(max_size=200))
def test_anything_else_is_wrong(token: str) -> None:
    links = GuestLinks()
    links.create("one")
    assert _refusal(links, token) == ("guest-link-wrong", 404)


def test_a_link_of_another_process_is_wrong() -> None:
    other = GuestLinks()
    assert _refusal(GuestLinks(), other.token(other.create("one"))) == ("guest-link-wrong", 404)


def test_a_later_end_cannot_be_written_into_a_link() -> None:
    links = GuestLinks()
    identity, expires, signature = links.token(links.create("one")).split(".")
    assert _refusal(links, f"{identity}.{int(expires) + 1000}.{signature}") == ("guest-link-wrong", 404)


def test_lifetimes_and_numbers_are_bounded() -> None:
    clock = Clock()
    links = GuestLinks(clock)
    for wrong in (0, 59, -1, MAX_LIFETIME_S + 1):
        with pytest.raises(RequestError):
            links.create("one", wrong)
    for _ in range(MAX_LINKS):
        links.create("one", 60)
    with pytest.raises(RequestError):
        links.create("one")
    links.create("two")
    clock.now += 60
    # those that have expired do not count
    links.create("one")
