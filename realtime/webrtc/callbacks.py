"""What the daemon offers to the media process: it grants sessions, obeys commands and answers requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

WATCHES = ("/healthz", "/metrics")
"""What is asked to see how the program is: answered whatever else there is to answer."""


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """An HTTP request that the media process does not answer itself. It has passed token, Origin and Host."""

    method: str
    path: str
    """Decoded, without the query: ``/api/portraits/0.jpg``."""
    query: dict[str, str]
    """Without ``session``."""
    body: bytes
    """Bounded: 16 MB for an upload, 64 kB elsewhere."""
    content_type: str
    session: str | None
    """What the query names; the desk says whether there is one. None is the main run."""


@dataclass(frozen=True, slots=True)
class ApiReply:
    """What to answer."""

    status: int
    content_type: str
    body: bytes


class ServerCallbacks(Protocol):
    """The daemon's side of the media server.

    Called on threads of the link, several at once; a slow answer delays only its own request. What it raises is
    a bug: the request gets a 500 and the error is told once.
    """

    def open(self, session: str, watch: str) -> None:
        """Open a session for a publisher, within 10 s.

        ``session`` is the secret that controls it, ``watch`` the one that lets others watch. ``closed`` is called
        exactly once for every session that was opened.

        Raises ServerFull to refuse it.
        """

    def closed(self, session: str) -> None:
        """The publisher of a granted session has left, vanished or never came; its source ends by itself."""

    def control(self, session: str | None, message: bytes) -> bytes:
        """Obey one message of the control channel, and reply; both are JSON.

        None is the main run. Never raises for what the message says: the reply tells.
        """

    def request(self, request: ApiRequest) -> ApiReply:
        """Answer one request to ``/api/...``, ``/healthz`` or ``/metrics``."""
