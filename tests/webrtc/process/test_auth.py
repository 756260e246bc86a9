"""Who may ask: token, host, origin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.webrtc.process.auth import CONTENT_POLICY, HEADERS, WRONG_TOKENS, AccessDenied, Gate
from realtime.webrtc.settings import ServerSettings

LOCAL = Gate(ServerSettings())
OPEN = Gate(ServerSettings(host="0.0.0.0", token="secret"))


def status(denied: AccessDenied | None) -> int:
    return 200 if denied is None else denied.status


def test_the_token_comes_by_header_or_cookie() -> None:
    gate = Gate(ServerSettings(token="secret"))
    assert status(gate.token("Bearer secret", None, "a")) == 200
    assert status(gate.token("bearer  secret", None, "a")) == 200
    assert status(gate.token(None, gate.cookie(), "a")) == 200
    for header, cookie in (
        (None, None),
        ("Bearer wrong", None),
        ("Basic secret", None),
        ("secret", None),
        (None, "secret"),
        ("Bearer", gate.cookie()[:-1]),
        (None, gate.cookie().partition(".")[2]),
        (None, "\udcff.\udcff"),
    ):
        assert status(gate.token(header, cookie, "a")) == 401


@given(st.text())
def test_only_the_token_signs_in(token: str) -> None:
    assert status(Gate(ServerSettings(token="secret")).sign_in(token, "a")) == (200 if token == "secret" else 401)
    assert LOCAL.sign_in(token, "a") is None


def test_the_cookie_is_not_the_token_and_another_servers_is_none_here() -> None:
    other = Gate(ServerSettings(host="0.0.0.0", token="other"))
    assert "secret" not in OPEN.cookie()
    assert status(other.token(None, OPEN.cookie(), "a")) == 401
    assert OPEN.cookie() != OPEN.cookie()


def test_a_cookie_is_good_after_the_program_was_started_again() -> None:
    before, after = (Gate(ServerSettings(token="secret")) for _ in range(2))
    assert status(after.token(None, before.cookie(), "a")) == 200


class Guessed:
    """A gate, at whose door somebody at the address ``bad`` has tried as often as one may."""

    def __init__(self) -> None:
        self.now = 0.0
        self.gate = Gate(ServerSettings(token="secret"), clock=lambda: self.now)
        self.signed_in = self.gate.cookie()
        self.guess()

    def guess(self) -> None:
        for number in range(WRONG_TOKENS):
            assert status(self.gate.token(f"Bearer {number}", None, "bad")) == 401
            self.now += 0.5


def test_whoever_guesses_has_to_wait_and_does_not_hear_when_a_guess_is_right() -> None:
    guessed = Guessed()
    stranger = Gate(ServerSettings(token="secret")).cookie()
    for header, cookie in (("Bearer guess", None), ("Bearer secret", None), (None, "guess"), (None, stranger)):
        denied = guessed.gate.token(header, cookie, "bad")
        assert denied is not None
        assert (denied.status, denied.retry_after_s) == (429, 50)
    for token in ("guess", "secret"):
        assert status(guessed.gate.sign_in(token, "bad")) == 429
    guessed.now = 60.0
    assert status(guessed.gate.token("Bearer secret", None, "bad")) == 200
    assert status(guessed.gate.token(None, stranger, "bad")) == 200
    assert status(guessed.gate.sign_in("secret", "bad")) == 200


def test_whoever_forms_cookies_or_fills_the_form_guesses_too() -> None:
    gate = Gate(ServerSettings(token="secret"))
    for number in range(WRONG_TOKENS // 2):
        assert status(gate.token(None, f"cookie {number}", "bad")) == 401
        assert status(gate.sign_in(f"token {number}", "bad")) == 401
    assert status(gate.sign_in("secret", "bad")) == 429


def test_what_is_tried_while_one_has_to_wait_does_not_make_it_longer() -> None:
    guessed = Guessed()
    for number in range(100):
        assert status(guessed.gate.token(f"Bearer more {number}", None, "bad")) == 429
    guessed.now = 60.0
    assert status(guessed.gate.token("Bearer secret", None, "bad")) == 200


def test_whoever_is_signed_in_goes_on_though_somebody_guesses_from_that_address() -> None:
    guessed = Guessed()
    assert status(guessed.gate.token(None, guessed.signed_in, "bad")) == 200
    # one that was made before the program was started again, and came back in time
    older = Gate(ServerSettings(token="secret")).cookie()
    guessed.now = 120.0
    assert status(guessed.gate.token(None, older, "bad")) == 200
    guessed.guess()
    assert status(guessed.gate.token(None, older, "bad")) == 200


def test_other_addresses_do_not_wait() -> None:
    guessed = Guessed()
    assert status(guessed.gate.token("Bearer guess", None, "another")) == 401
    assert status(guessed.gate.token("Bearer secret", None, "another")) == 200
    assert status(guessed.gate.sign_in("secret", "another")) == 200


def test_a_program_that_repeats_an_old_token_does_not_guess() -> None:
    gate = Gate(ServerSettings(token="secret"))
    for _ in range(10 * WRONG_TOKENS):
        assert status(gate.token("Bearer old", "old", "a")) == 401
    assert status(gate.token("Bearer secret", "old", "a")) == 200


def test_many_guessing_addresses_and_cookies_do_not_fill_the_memory() -> None:
    now = 0.0
    gate = Gate(ServerSettings(token="secret"), clock=lambda: now)
    for peer in range(5000):
        now += 1
        gate.sign_in("guess", str(peer))
        gate.cookie()
    assert len(gate._wrong) <= 1001
    assert len(gate._signed_in) <= 1001


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost:8080", 200),
        ("LOCALHOST", 200),
        ("[::1]:8080", 200),
        ("127.8.9.1", 200),
        ("evil.example:8080", 403),
        ("127.0.0.1.evil.example", 403),
        ("evil@127.0.0.1", 403),
        ("127.0.0.1/x", 403),
        ("[::1", 403),
        ("127.0.0.1:port", 403),
        ("", 403),
        (None, 403),
    ],
)
def test_on_loopback_only_its_own_names_serve(host: str | None, expected: int) -> None:
    assert status(LOCAL.place(host, None, None, visit=False)) == expected


def test_names_of_a_proxy_can_be_allowed() -> None:
    gate = Gate(ServerSettings(names=("portrait.example", "other.example:8443"), token="t"))
    assert status(gate.place("portrait.example", "https://portrait.example", None, visit=False)) == 200
    assert status(gate.place("other.example:8443", None, None, visit=False)) == 200
    assert status(gate.place("other.example", None, None, visit=False)) == 403
    assert status(gate.place("127.0.0.1:80", None, None, visit=False)) == 200


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://portrait.example", 200),
        ("https://Portrait.example:443", 200),
        ("http://portrait.example", 200),
        ("https://other.example:8443", 200),
        ("https://portrait.example:8443", 403),
        ("https://other.example", 403),
        ("https://evil.example", 403),
        ("https://portrait.example.evil.example", 403),
        ("ftp://portrait.example", 403),
        ("https://evil@portrait.example", 403),
        ("null", 403),
    ],
)
def test_a_page_of_an_allowed_name_asks_through_a_proxy_with_a_host_of_its_own(origin: str, expected: int) -> None:
    gate = Gate(ServerSettings(names=("portrait.example", "other.example:8443"), token="t"))
    assert status(gate.place("127.0.0.1:18088", origin, "same-origin", visit=False)) == expected


def test_elsewhere_any_name_serves_unless_some_are_given() -> None:
    assert status(OPEN.place("whatever.example", None, None, visit=False)) == 200
    gate = Gate(ServerSettings(host="0.0.0.0", token="t", names=("a.example",)))
    assert status(gate.place("b.example", None, None, visit=False)) == 403


@pytest.mark.parametrize(
    ("host", "origin", "expected"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080", 200),
        ("localhost:8080", "http://LOCALHOST:8080", 200),
        ("localhost", "http://localhost", 200),
        ("localhost:80", "http://localhost", 200),
        ("127.0.0.1:8080", "http://127.0.0.1:8081", 403),
        ("127.0.0.1:8080", "http://localhost:8080", 403),
        ("127.0.0.1:8080", "https://evil.example", 403),
        ("127.0.0.1:8080", "null", 403),
        ("127.0.0.1:8080", "", 403),
        ("127.0.0.1:8080", "file://", 403),
        ("127.0.0.1:8080", "http://127.0.0.1:8080@evil.example", 403),
        ("127.0.0.1:8080", "chrome-extension://127.0.0.1:8080", 403),
    ],
)
def test_only_its_own_page_asks(host: str, origin: str, expected: int) -> None:
    assert status(LOCAL.place(host, origin, None, visit=False)) == expected


def test_requests_from_other_sites_are_refused_but_for_links() -> None:
    assert status(LOCAL.place("localhost", None, "cross-site", visit=False)) == 403
    assert status(LOCAL.place("localhost", None, "cross-site", visit=True)) == 200
    for site in ("same-origin", "none", None):
        assert status(LOCAL.place("localhost", None, site, visit=False)) == 200


@given(st.text(max_size=30), st.one_of(st.none(), st.text(max_size=30)))
def test_no_header_breaks_it(host: str, origin: str | None) -> None:
    assert status(LOCAL.place(host, origin, None, visit=False)) in (200, 403)
    assert status(OPEN.token(host, origin, host)) in (401, 429)


def test_the_page_may_load_its_own_files_only() -> None:
    assert "'unsafe" not in CONTENT_POLICY
    assert "http" not in CONTENT_POLICY
    assert "*" not in CONTENT_POLICY
    assert HEADERS["X-Content-Type-Options"] == "nosniff"
    assert not any(name.startswith("Access-Control") for name in HEADERS)
