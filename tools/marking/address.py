"""The address of a page as the user has it: from the program's output, or a browser's address bar."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit


def page_of(address: str) -> tuple[str, str]:
    """Return an address without its query, fragment and last slash, and the token in them; empty without one.

    Raises ValueError for a host in brackets that is none.
    """
    parts = urlsplit(address)
    named = parse_qs(parts.query).get("token") or parse_qs(parts.fragment).get("token") or [""]
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", named[0]


def without_token(address: str) -> str:
    """Return an address for a message: without query and fragment."""
    return address.partition("?")[0].partition("#")[0]
