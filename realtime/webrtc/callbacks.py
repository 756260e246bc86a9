"""Callbacks of the media server: what the main process does on its behalf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

MONITORING_PATHS = ("/healthz", "/readyz", "/metrics")
"""Paths that monitoring asks for. They are answered beside the other requests, so that these cannot hold them up."""


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """An HTTP request that the media process does not answer itself. Its token, Origin and Host have been checked."""

    method: str
    path: str
    """Decoded, without the query: ``/api/portraits/0.jpg``."""
    query: dict[str, str]
    """Without ``session``."""
    body: bytes
    """At most 16 MB for an upload and 64 kB otherwise."""
    content_type: str
    session: str | None
    """The session that the query names, which may not exist. None stands for the main run."""


@dataclass(frozen=True, slots=True)
class ApiReply:
    """The answer to an ApiRequest."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further headers."""


class ServerCallbacks(Protocol):
    """The main process as the media server sees it.

    The link calls these methods on several threads at once; a slow one delays only its own request. A ReenactError is
    answered as problem+json with the error's status. Any other exception is a bug: the link logs its traceback and the
    request is answered with status 500 and the code ``internal-error``.
    """

    def open(self, session: str, watch: str) -> None:
        """Open a session for a publisher, within 10 s.

        ``session`` is the secret that controls it, ``watch`` the one that lets others watch. ``closed`` is called
        exactly once for every session that was opened.

        Raises ServerFull to refuse it.
        """

    def closed(self, session: str) -> None:
        """Handle the end of a session: its publisher left, vanished or never connected. Its source ends by itself."""

    def control(self, session: str | None, message: bytes) -> bytes:
        """Carry out one message of the control channel and return the reply; both are JSON.

        ``session`` is None for the main run. A message that cannot be carried out is answered by the reply; it raises
        nothing.
        """

    def request(self, request: ApiRequest) -> ApiReply:
        """Answer a request to ``/api/...`` or to one of ``MONITORING_PATHS``. Raises ReenactError."""
