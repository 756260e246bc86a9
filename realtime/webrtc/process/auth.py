"""Who may ask: the token, the names the server is asked under, the page that asks; and what every answer carries."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from realtime.webrtc.settings import ServerSettings, is_loopback

COOKIE = "reenact"
CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob: mediastream:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # links hold the id of what is watched, and for a moment the token
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), display-capture=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}
WRONG_TOKENS = 20
"""Different wrong ones that an address may try in a minute; then it is not listened to."""
_WINDOW_S = 60.0
_MOST_SIGNED_IN = 1000
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class AccessDenied:
    """Why a request is not answered, as it is told."""

    status: int
    found: str
    expected: str
    cure: str
    retry_after_s: int | None = None


class Gate:
    """Lets a request in or says why not. One for a server; its own time is taken from ``clock`` (s)."""

    def __init__(self, settings: ServerSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._token = settings.token
        self._only_loopback = settings.loopback
        self._names = {name.lower() for name in settings.names}
        self._host = settings.host.lower()
        self._clock = clock
        self._wrong: dict[str, dict[bytes, float]] = {}
        """When each address tried which wrong ones, by their digests."""
        self._signed_in: dict[str, None] = {}
        """Cookies that were let in, the oldest first."""

    def cookie(self) -> str:
        """A new cookie's value: not the token, so that it is good for nothing elsewhere."""
        return self._remember(self._sealed(secrets.token_urlsafe(12)))

    def sign_in(self, token: str, peer: str) -> AccessDenied | None:
        """Check the token that a person at ``peer`` (address) gives to have a cookie."""
        if self._token is None:
            return None
        waits = self._waits(peer)
        if waits is not None or _same(token, self._token):
            return waits
        self._note(token, peer)
        return WRONG

    def place(self, host: str | None, origin: str | None, site: str | None, *, visit: bool) -> AccessDenied | None:
        """Check the headers ``Host``, ``Origin`` and ``Sec-Fetch-Site``.

        ``visit`` is a person following a link, which may come from any page.
        """
        if host is None or not self._serves(host):
            return AccessDenied(
                403,
                f"a request for {(host or 'no host')[:80]!r}",
                "one of the names of this server",
                "open the address that the program prints, or allow the name of the proxy before it",
            )
        if origin is not None and not _same_place(origin, host) and not self._named(origin):
            return AccessDenied(
                403, f"a request from a page of {origin[:80]!r}", "the server's own page", "open its own page"
            )
        if site == "cross-site" and not visit:
            return AccessDenied(
                403, "a request from a page of another site", "the server's own page", "open its own page"
            )
        return None

    def token(self, authorization: str | None, cookie: str | None, peer: str) -> AccessDenied | None:
        """Check the headers ``Authorization`` and ``Cookie`` of a request of ``peer`` (address).

        An address that has guessed too often is not listened to for a while, or it would hear when a guess is right.
        A cookie that was let in before is no guess: it goes on, also where all come from the address of a proxy.
        """
        if self._token is None:
            return None
        authorization, cookie = authorization or "", cookie or ""
        if not authorization and not cookie:
            return UNKNOWN
        kind, _, bearer = authorization.partition(" ")
        by_header = kind.lower() == "bearer" and _same(bearer.strip(), self._token)
        by_cookie = _same(cookie, self._sealed(cookie.partition(".")[0]))
        if by_cookie and cookie in self._signed_in:
            return None
        waits = self._waits(peer)
        if waits is not None:
            return waits
        if by_cookie:
            self._remember(cookie)
        if by_header or by_cookie:
            return None
        for guess in filter(None, (authorization, cookie)):
            self._note(guess, peer)
        return UNKNOWN

    def _waits(self, peer: str) -> AccessDenied | None:
        """Whether an address has to wait because of what it has tried."""
        tried = self._tried(peer)
        if len(tried) < WRONG_TOKENS:
            return None
        wait_s = math.ceil(min(tried.values()) + _WINDOW_S - self._clock())
        return AccessDenied(429, "too many wrong tokens from this address", "a pause", f"wait {wait_s} s", wait_s)

    def _tried(self, peer: str) -> dict[bytes, float]:
        now = self._clock()
        return {guess: at for guess, at in self._wrong.get(peer, {}).items() if now - at < _WINDOW_S}

    def _note(self, guess: str, peer: str) -> None:
        """Remember what was wrong, once: a program that repeats an old token does not guess."""
        now = self._clock()
        if len(self._wrong) > 1000:
            self._wrong = {each: tried for each, tried in self._wrong.items() if now - max(tried.values()) < _WINDOW_S}
        tried = self._tried(peer)
        tried.setdefault(_digest(guess), now)
        self._wrong[peer] = tried

    def _sealed(self, name: str) -> str:
        """The cookie of that name; only who has the token can make one."""
        text = f"reenact sign-in 2 {name}".encode("utf-8", "surrogatepass")
        return f"{name}.{hmac.new((self._token or '').encode(), text, hashlib.sha256).hexdigest()}"

    def _remember(self, cookie: str) -> str:
        self._signed_in[cookie] = None
        if len(self._signed_in) > _MOST_SIGNED_IN:
            del self._signed_in[next(iter(self._signed_in))]
        return cookie

    def _named(self, origin: str) -> bool:
        """Whether a page is of an allowed name: proxies may pass on another ``Host`` than they are asked for."""
        scheme, _, rest = origin.partition("://")
        name, port = _split(rest)
        default = _DEFAULT_PORTS.get(scheme)
        if default is None or name is None:
            return False
        return f"{name}:{port or default}" in self._names or (port in (None, default) and name in self._names)

    def _serves(self, host: str) -> bool:
        """Names are checked on loopback, against pages whose name comes to mean 127.0.0.1 (DNS rebinding)."""
        name, port = _split(host)
        if name is None:
            return False
        if not self._only_loopback and not self._names:
            return True
        return is_loopback(name) or name == self._host or name in self._names or f"{name}:{port}" in self._names


UNKNOWN = AccessDenied(
    401,
    "no token, or a wrong one",
    "the token the server was started with",
    "send Authorization: Bearer TOKEN, or open /?token=TOKEN once",
)
WRONG = AccessDenied(
    401, "a wrong token", "the token the server was started with", "look at how the program was started"
)
"""What ``Gate.sign_in`` says of one."""


def _same(one: str, other: str) -> bool:
    # digests, so that the time does not tell the length either
    return hmac.compare_digest(_digest(one), _digest(other))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _split(host: str) -> tuple[str | None, int | None]:
    try:
        parts = urlsplit(f"//{host}")
        if parts.path or parts.query or parts.fragment or "@" in host:
            return None, None
        return parts.hostname, parts.port
    except ValueError:
        return None, None


def _same_place(origin: str, host: str) -> bool:
    """Whether a page of ``origin`` is one of ours, whichever scheme a proxy before us may serve."""
    scheme, separator, rest = origin.partition("://")
    default = _DEFAULT_PORTS.get(scheme)
    if not separator or default is None:
        return False
    (name, port), (own, own_port) = _split(rest), _split(host)
    return name is not None and name == own and (port or default) == (own_port or default)
