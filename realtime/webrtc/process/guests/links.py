"""Links for guests: signed, for one stream, valid for a while, and revocable."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from engines.errors import AccessDenied, NotFoundError, RequestError

LIFETIME_S = 3600
"""How long a link is valid unless its maker says otherwise."""
MIN_LIFETIME_S, MAX_LIFETIME_S = 60, 24 * 3600
MAX_LINKS = 32
"""The most valid links of one stream."""
MAX_TOKEN = 96
"""A longer token is wrong without being looked at, in characters."""
_ID_BYTES, _SIGNATURE_BYTES, _KEY_BYTES = 9, 16, 32
_NEW_LINK = "ask for a new link"


@dataclass(frozen=True, slots=True)
class GuestLink:
    """What a link allows: to watch one stream until a moment."""

    id: str
    """Names the link to its owner. It does not open it."""
    stream: str
    expires_s: int
    """In seconds of the clock that was given to ``GuestLinks``."""


class GuestLinks:
    """All links of this process. They are signed with a key that is made at its start and never leaves it.

    The token of a link is ``ID.EXPIRES.SIGNATURE``, with HMAC-SHA256 cut to 128 bits. ``clock`` returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._key = secrets.token_bytes(_KEY_BYTES)
        self._clock = clock
        self._links: dict[str, GuestLink] = {}
        """By id, without those that are revoked."""

    def create(self, stream: str, lifetime_s: int = LIFETIME_S) -> GuestLink:
        """Return a new link to a stream. Raises RequestError for another lifetime, and where there are too many."""
        if not MIN_LIFETIME_S <= lifetime_s <= MAX_LIFETIME_S:
            raise RequestError(
                "guest-link-bad-lifetime",
                f"a link for {lifetime_s} s",
                f"{MIN_LIFETIME_S} to {MAX_LIFETIME_S} s",
                "choose another time",
            )
        if len(self.of(stream)) >= MAX_LINKS:
            raise RequestError(
                "guest-links-too-many", f"{MAX_LINKS} valid links", "fewer", "revoke one that is not needed", status=409
            )
        identity = secrets.token_urlsafe(_ID_BYTES)
        link = GuestLink(identity, stream, int(self._clock()) + lifetime_s)
        self._links[identity] = link
        return link

    def of(self, stream: str) -> list[GuestLink]:
        """Return the valid links to a stream, oldest first."""
        self._links = {each.id: each for each in self._links.values() if not self._is_old(each.expires_s)}
        return [each for each in self._links.values() if each.stream == stream]

    def token(self, link: GuestLink) -> str:
        """Return what opens a link, as its address carries it."""
        return f"{link.id}.{link.expires_s}.{self._sign(link.id, str(link.expires_s))}"

    def expires_in_s(self, link: GuestLink) -> int:
        """Return how many seconds a link is still valid."""
        return max(0, link.expires_s - int(self._clock()))

    def check(self, token: str) -> GuestLink:
        """Return the link that a token opens. Raises AccessDenied for one that is wrong, old or revoked."""
        identity, expires, signature = [*token[: MAX_TOKEN + 1].split("."), "", ""][:3]
        # signed first: what has been guessed learns nothing about the links that there are
        right = hmac.compare_digest(self._sign(identity, expires).encode(), signature.encode("utf-8", "surrogatepass"))
        if len(token) > MAX_TOKEN or token.count(".") != 2 or not right:
            raise AccessDenied(
                "guest-link-wrong", "a link that is not valid", "the whole link", "copy all of it", status=404
            )
        if self._is_old(int(expires)):
            raise AccessDenied("guest-link-old", "a link that has expired", cure=_NEW_LINK, status=410)
        if identity not in self._links:
            raise AccessDenied(
                "guest-link-revoked", "a link that was revoked, or whose stream has ended", cure=_NEW_LINK, status=410
            )
        return self._links[identity]

    def is_valid(self, link: GuestLink) -> bool:
        """Return whether what a link has opened may go on."""
        return self._links.get(link.id) == link and not self._is_old(link.expires_s)

    def revoke(self, stream: str, identity: str) -> None:
        """Revoke one of a stream's links. Raises NotFoundError."""
        link = self._links.get(identity)
        if link is None or link.stream != stream:
            raise NotFoundError("guest-link-not-found", "no link of that id", "one that is listed", "see /api/links")
        del self._links[identity]

    def revoke_all(self, stream: str) -> None:
        """Revoke all of a stream's links."""
        self._links = {each.id: each for each in self._links.values() if each.stream != stream}

    def _is_old(self, expires_s: int) -> bool:
        return self._clock() >= expires_s

    def _sign(self, identity: str, expires: str) -> str:
        text = f"reenact guest 1 {identity} {expires}".encode("utf-8", "surrogatepass")
        digest = hmac.new(self._key, text, hashlib.sha256).digest()[:_SIGNATURE_BYTES]
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
