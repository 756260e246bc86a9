"""Network addresses that the user gives."""

from __future__ import annotations

import re

_HOST_PORT = re.compile(r"(?:(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]*):)?(?P<port>[0-9]{1,5})")


def parse_host_port(text: str, default_host: str | None = None, *, lowest_port: int = 1) -> tuple[str, int]:
    """Return host and port of ``[HOST:]PORT``. An IPv6 address stands in brackets, which are left out.

    Raises ValueError, also for a missing host if there is no default, and for a port beyond ``lowest_port`` to 65535.
    """
    match = _HOST_PORT.fullmatch(text)
    host = default_host if match is None else match["host"] or default_host
    if match is None or host is None or not lowest_port <= int(match["port"]) <= 65535:
        raise ValueError("not HOST:PORT")
    return host.strip("[]"), int(match["port"])
