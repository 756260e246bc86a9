"""Access control: token, host, origin."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import AccessDenied
from realtime.webrtc.process.auth import CONTENT_POLICY, HEADERS, MAX_WRONG_TOKENS, Authenticator
from realtime.webrtc.process.client_address import client_of
from realtime.webrtc.settings import ServerSettings

LOCAL = Authenticator(ServerSettings())
OPEN = Authenticator(ServerSettings(host="0.0.0.0", token="secret"))


def _status(check: Callable[[], None]) -> int:
    """Return the HTTP status that a check comes to."""
    try:
        check()
    except AccessDenied as error:
        return error.status
    return 200


def token_status(authenticator: Authenticator, authorization: str | None, cookie: str | None, address: str) -> int:
    return _status(lambda: authenticator.check_token(authorization, cookie, address))


def sign_in_status(authenticator: Authenticator, token: str, address: str) -> int:
    return _status(lambda: authenticator.sign_in(token, address))


def origin_status(
    authenticator: Authenticator, host: str | None, origin: str | None, site: str | None, *, navigation: bool
) -> int:
    return _status(lambda: authenticator.check_origin(host, origin, site, navigation=navigation))


def test_the_token_comes_by_header_or_cookie() -> None:
    authenticator = Authenticator(ServerSettings(token="secret"))
    assert token_status(authenticator, "Bearer secret", None, "a") == 200
    assert token_status(authenticator, "bearer  secret", None, "a") == 200
    assert token_status(authenticator, None, authenticator.new_cookie(), "a") == 200
    for header, cookie in (
        (None, None),
        ("Bearer wrong", None),
        ("Basic secret", None),
        ("secret", None),
        (None, "secret"),
        ("Bearer", authenticator.new_cookie()[:-1]),
        (None, authenticator.new_cookie().partition(".")[2]),
        (None, "\udcff.\udcff"),
    ):
        assert token_status(authenticator, header, cookie, "a") == 401


@given(st.text())
def test_only_the_token_signs_in(token: str) -> None:
    assert sign_in_status(Authenticator(ServerSettings(token="secret")), token, "a") == (
        200 if token == "secret" else 401
    )
    assert sign_in_status(LOCAL, token, "a") == 200


def test_the_cookie_is_not_the_token_and_is_of_no_use_elsewhere() -> None:
    other = Authenticator(ServerSettings(host="0.0.0.0", token="other"))
    assert "secret" not in OPEN.new_cookie()
    assert token_status(other, None, OPEN.new_cookie(), "a") == 401
    assert OPEN.new_cookie() != OPEN.new_cookie()


def test_a_cookie_is_valid_after_a_restart() -> None:
    before, after = (Authenticator(ServerSettings(token="secret")) for _ in range(2))
    assert token_status(after, None, before.new_cookie(), "a") == 200


class Guessing:
    """An authenticator that the address ``bad`` has sent as many wrong tokens as are allowed."""

    def __init__(self) -> None:
        self.now = 0.0
        self.authenticator = Authenticator(ServerSettings(token="secret"), clock=lambda: self.now)
        self.signed_in = self.authenticator.new_cookie()
        self.guess()

    def guess(self) -> None:
        for number in range(MAX_WRONG_TOKENS):
            assert token_status(self.authenticator, f"Bearer {number}", None, "bad") == 401
            self.now += 0.5


def test_after_too_many_wrong_tokens_even_the_right_one_is_denied_for_a_while() -> None:
    guessing = Guessing()
    unused = Authenticator(ServerSettings(token="secret")).new_cookie()
    for header, cookie in (("Bearer guess", None), ("Bearer secret", None), (None, "guess"), (None, unused)):
        with pytest.raises(AccessDenied) as caught:
            guessing.authenticator.check_token(header, cookie, "bad")
        assert (caught.value.code, caught.value.status) == ("token-too-many-wrong", 429)
        assert caught.value.retry_after_s == 50
    for token in ("guess", "secret"):
        assert sign_in_status(guessing.authenticator, token, "bad") == 429
    guessing.now = 60.0
    assert token_status(guessing.authenticator, "Bearer secret", None, "bad") == 200
    assert token_status(guessing.authenticator, None, unused, "bad") == 200
    assert sign_in_status(guessing.authenticator, "secret", "bad") == 200


def test_wrong_cookies_and_forms_count_as_wrong_tokens() -> None:
    authenticator = Authenticator(ServerSettings(token="secret"))
    for number in range(MAX_WRONG_TOKENS // 2):
        assert token_status(authenticator, None, f"cookie {number}", "bad") == 401
        assert sign_in_status(authenticator, f"token {number}", "bad") == 401
    assert sign_in_status(authenticator, "secret", "bad") == 429


def test_denied_attempts_do_not_prolong_the_denial() -> None:
    guessing = Guessing()
    for number in range(100):
        assert token_status(guessing.authenticator, f"Bearer more {number}", None, "bad") == 429
    guessing.now = 60.0
    assert token_status(guessing.authenticator, "Bearer secret", None, "bad") == 200


def test_a_client_that_is_signed_in_is_not_denied_with_its_address() -> None:
    guessing = Guessing()
    assert token_status(guessing.authenticator, None, guessing.signed_in, "bad") == 200
    # from before a restart, and used again in time
    older = Authenticator(ServerSettings(token="secret")).new_cookie()
    guessing.now = 120.0
    assert token_status(guessing.authenticator, None, older, "bad") == 200
    guessing.guess()
    assert token_status(guessing.authenticator, None, older, "bad") == 200


def test_other_addresses_are_not_denied() -> None:
    guessing = Guessing()
    assert token_status(guessing.authenticator, "Bearer guess", None, "another") == 401
    assert token_status(guessing.authenticator, "Bearer secret", None, "another") == 200
    assert sign_in_status(guessing.authenticator, "secret", "another") == 200


def test_a_repeated_wrong_token_counts_once() -> None:
    authenticator = Authenticator(ServerSettings(token="secret"))
    for _ in range(10 * MAX_WRONG_TOKENS):
        assert token_status(authenticator, "Bearer old", "old", "a") == 401
    assert token_status(authenticator, "Bearer secret", "old", "a") == 200


def test_many_addresses_and_cookies_do_not_fill_the_memory() -> None:
    now = 0.0
    authenticator = Authenticator(ServerSettings(token="secret"), clock=lambda: now)
    for peer in range(5000):
        now += 1
        sign_in_status(authenticator, "guess", str(peer))
        authenticator.new_cookie()
    assert len(authenticator._wrong) <= 1001
    assert len(authenticator._signed_in) <= 1001


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
def test_on_loopback_only_its_own_names_are_allowed(host: str | None, expected: int) -> None:
    assert origin_status(LOCAL, host, None, None, navigation=False) == expected


def test_names_of_a_proxy_can_be_allowed() -> None:
    authenticator = Authenticator(ServerSettings(server_names=("portrait.example", "other.example:8443"), token="t"))
    assert origin_status(authenticator, "portrait.example", "https://portrait.example", None, navigation=False) == 200
    assert origin_status(authenticator, "other.example:8443", None, None, navigation=False) == 200
    assert origin_status(authenticator, "other.example", None, None, navigation=False) == 403
    assert origin_status(authenticator, "127.0.0.1:80", None, None, navigation=False) == 200


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
def test_a_page_of_an_allowed_name_is_accepted_behind_a_proxy_that_changes_the_host(origin: str, expected: int) -> None:
    authenticator = Authenticator(ServerSettings(server_names=("portrait.example", "other.example:8443"), token="t"))
    assert origin_status(authenticator, "127.0.0.1:18088", origin, "same-origin", navigation=False) == expected


def test_on_other_addresses_any_name_is_allowed_unless_names_are_given() -> None:
    assert origin_status(OPEN, "whatever.example", None, None, navigation=False) == 200
    authenticator = Authenticator(ServerSettings(host="0.0.0.0", token="t", server_names=("a.example",)))
    assert origin_status(authenticator, "b.example", None, None, navigation=False) == 403


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
def test_only_its_own_page_is_allowed(host: str, origin: str, expected: int) -> None:
    assert origin_status(LOCAL, host, origin, None, navigation=False) == expected


def test_requests_from_other_sites_are_denied_except_links() -> None:
    assert origin_status(LOCAL, "localhost", None, "cross-site", navigation=False) == 403
    assert origin_status(LOCAL, "localhost", None, "cross-site", navigation=True) == 200
    for site in ("same-origin", "none", None):
        assert origin_status(LOCAL, "localhost", None, site, navigation=False) == 200


@given(st.text(max_size=30), st.one_of(st.none(), st.text(max_size=30)))
def test_no_header_breaks_it(host: str, origin: str | None) -> None:
    assert origin_status(LOCAL, host, origin, None, navigation=False) in (200, 403)
    assert token_status(OPEN, host, origin, host) in (401, 429)


def test_the_page_may_load_its_own_files_only() -> None:
    assert "'unsafe" not in CONTENT_POLICY
    assert "http" not in CONTENT_POLICY
    assert "*" not in CONTENT_POLICY
    assert HEADERS["X-Content-Type-Options"] == "nosniff"
    assert not any(name.startswith("Access-Control") for name in HEADERS)


def test_wrong_tokens_of_one_ipv6_network_are_counted_together() -> None:
    authenticator = Authenticator(ServerSettings(token="secret"))
    for number in range(MAX_WRONG_TOKENS):
        assert sign_in_status(authenticator, f"guess {number}", f"2001:db8::{number:x}") == 401
    assert sign_in_status(authenticator, "secret", "2001:db8::ffff:1") == 429
    assert sign_in_status(authenticator, "secret", "2001:db8:0:1::1") == 200


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_a_client_is_an_ipv4_address_or_an_ipv6_network(address: str, expected: str) -> None:
    assert client_of(address) == expected
