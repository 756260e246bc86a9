"""Access control: the token, the names the server is reached under, the origin of requests, and response headers."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from engines.errors import AccessDenied
from realtime.webrtc.process.client_address import client_of
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
    # links contain the secret of the watched stream, and for a moment the token
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=(), display-capture=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}
MAX_WRONG_TOKENS = 20
"""Different wrong tokens that a client may try in a minute, before its requests are denied."""
_WINDOW_S = 60.0
_MAX_TRACKED = 1000
"""Clients whose wrong tokens are kept before old ones are dropped."""
_MAX_SIGNED_IN = 1000
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Authenticator:
    """Checks requests before they are answered. ``clock`` returns seconds."""

    def __init__(
        self, settings: ServerSettings, clock: Callable[[], float] = time.monotonic, *, any_host: bool = False
    ) -> None:
        """With ``any_host`` requests may carry any name in ``Host``."""
        self._token = settings.token
        self._only_loopback = settings.loopback and not any_host
        self._names = {name.lower() for name in settings.server_names}
        self._host = settings.host.lower()
        self._clock = clock
        self._wrong: dict[str, dict[bytes, float]] = {}
        """Maps each client to the digests of the wrong tokens it tried, and when it tried them."""
        self._signed_in: dict[str, None] = {}
        """The cookies that were accepted, oldest first."""

    def new_cookie(self) -> str:
        """Return the value of a new cookie. It is not the token, so that it is of no use elsewhere."""
        return self._remember(self._sign(secrets.token_urlsafe(12)))

    def sign_in(self, token: str, address: str) -> None:
        """Check a token that is to be exchanged for a cookie. Raises AccessDenied."""
        if self._token is None:
            return
        self._check_rate(address)
        if not _same(token, self._token):
            self._count_wrong(token, address)
            raise AccessDenied(
                "token-wrong",
                "a wrong token",
                "the token the server was started with",
                "look at how the program was started",
            )

    def check_request_origin(self, method: str, headers: Mapping[str, str]) -> None:
        """Check where a request comes from, by its headers. Raises AccessDenied."""
        navigation = method == "GET" and headers.get("Sec-Fetch-Mode") == "navigate"
        site = headers.get("Sec-Fetch-Site")
        self.check_origin(headers.get("Host"), headers.get("Origin"), site, navigation=navigation)

    def check_origin(self, host: str | None, origin: str | None, site: str | None, *, navigation: bool) -> None:
        """Check the headers ``Host``, ``Origin`` and ``Sec-Fetch-Site``. Raises AccessDenied.

        ``navigation`` is true for a user who follows a link, which may be on any page.
        """
        if host is None or not self._serves(host):
            raise AccessDenied(
                "host-not-allowed",
                f"a request for the host {(host or '')[:80]!r}",
                "one of the names of this server",
                "open the address that the program prints, or allow the name of the proxy with --server-name",
                status=403,
            )
        if origin is not None and not _same_origin(origin, host) and not self._allows(origin):
            raise AccessDenied(
                "origin-not-allowed",
                f"a request from a page of {origin[:80]!r}",
                "the server's own page",
                "open the server's own page",
                status=403,
            )
        if site == "cross-site" and not navigation:
            raise AccessDenied(
                "cross-site-request",
                "a request from a page of another site",
                "the server's own page",
                "open the server's own page",
                status=403,
            )

    def check_token(self, authorization: str | None, cookie: str | None, address: str) -> None:
        """Check the headers ``Authorization`` and ``Cookie`` of a request from ``address``. Raises AccessDenied.

        A client that has tried too many wrong tokens is denied for a while even with the right one: otherwise it would
        learn when a guess is right. A cookie that was accepted before is no guess and stays valid, also where all
        requests come from the address of a proxy.
        """
        if self._token is None:
            return
        authorization, cookie = authorization or "", cookie or ""
        if not authorization and not cookie:
            raise _token_required()
        scheme, _, bearer = authorization.partition(" ")
        by_header = scheme.lower() == "bearer" and _same(bearer.strip(), self._token)
        by_cookie = _same(cookie, self._sign(cookie.partition(".")[0]))
        if by_cookie and cookie in self._signed_in:
            return
        self._check_rate(address)
        if by_cookie:
            self._remember(cookie)
        if by_header or by_cookie:
            return
        for guess in filter(None, (authorization, cookie)):
            self._count_wrong(guess, address)
        raise _token_required()

    def _check_rate(self, address: str) -> None:
        """Raise AccessDenied for a client that has tried too many wrong tokens."""
        wrong = self._recent_wrong(client_of(address))
        if len(wrong) < MAX_WRONG_TOKENS:
            return
        wait_s = math.ceil(min(wrong.values()) + _WINDOW_S - self._clock())
        raise AccessDenied(
            "token-too-many-wrong",
            "too many wrong tokens from this address",
            f"{MAX_WRONG_TOKENS} a minute at most",
            f"wait {wait_s} s",
            status=429,
            retry_after_s=wait_s,
        )

    def _recent_wrong(self, client: str) -> dict[bytes, float]:
        now = self._clock()
        return {guess: at for guess, at in self._wrong.get(client, {}).items() if now - at < _WINDOW_S}

    def _count_wrong(self, guess: str, address: str) -> None:
        """Count a wrong token, once: a program that repeats an old token does not guess."""
        now = self._clock()
        if len(self._wrong) > _MAX_TRACKED:
            self._wrong = {each: wrong for each, wrong in self._wrong.items() if now - max(wrong.values()) < _WINDOW_S}
        client = client_of(address)
        wrong = self._recent_wrong(client)
        wrong.setdefault(_digest(guess), now)
        self._wrong[client] = wrong

    def _sign(self, name: str) -> str:
        """Return the cookie of that name, which cannot be made without the token."""
        text = f"reenact sign-in 2 {name}".encode("utf-8", "surrogatepass")
        return f"{name}.{hmac.new((self._token or '').encode(), text, hashlib.sha256).hexdigest()}"

    def _remember(self, cookie: str) -> str:
        self._signed_in[cookie] = None
        if len(self._signed_in) > _MAX_SIGNED_IN:
            del self._signed_in[next(iter(self._signed_in))]
        return cookie

    def _allows(self, origin: str) -> bool:
        """Return whether a page's origin is an allowed name. A proxy may pass on another ``Host`` than the browser."""
        scheme, _, rest = origin.partition("://")
        name, port = _split(rest)
        default = _DEFAULT_PORTS.get(scheme)
        if default is None or name is None:
            return False
        return f"{name}:{port or default}" in self._names or (port in (None, default) and name in self._names)

    def _serves(self, host: str) -> bool:
        """Return whether a ``Host`` is a name of this server.

        On loopback names are checked, against pages whose name resolves to 127.0.0.1 later (DNS rebinding).
        """
        name, port = _split(host)
        if name is None:
            return False
        if not self._only_loopback and not self._names:
            return True
        return is_loopback(name) or name == self._host or name in self._names or f"{name}:{port}" in self._names


def _token_required() -> AccessDenied:
    return AccessDenied(
        "token-required",
        "no token, or a wrong one",
        "the token the server was started with",
        "send Authorization: Bearer TOKEN, or open /?token=TOKEN once",
    )


def _same(one: str, other: str) -> bool:
    # digests, so that the time does not reveal the length either
    return hmac.compare_digest(_digest(one), _digest(other))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _split(host: str) -> tuple[str | None, int | None]:
    """Return name and port of ``NAME[:PORT]``; None for the name of anything else."""
    try:
        parts = urlsplit(f"//{host}")
        if parts.path or parts.query or parts.fragment or "@" in host:
            return None, None
        return parts.hostname, parts.port
    except ValueError:
        return None, None


def _same_origin(origin: str, host: str) -> bool:
    """Return whether a page of ``origin`` is served under ``host``, whichever scheme a proxy in front may use."""
    scheme, separator, rest = origin.partition("://")
    default = _DEFAULT_PORTS.get(scheme)
    if not separator or default is None:
        return False
    (name, port), (own, own_port) = _split(rest), _split(host)
    return name is not None and name == own and (port or default) == (own_port or default)
