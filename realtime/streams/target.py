"""Where a stream is pushed to, and its secret, which no message shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

SCHEMES = ("whip:http", "whip:https", "rtmp", "rtmps")
"""How the name of a sink begins that pushes a stream."""
CAMERA_SCHEMES = ("rtsp", "rtsps", "http", "https")
"""How the address of a camera begins."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server that takes a stream."""

    kind: Literal["whip", "rtmp"]
    url: str = field(repr=False)
    """Without ``whip:``; for RTMP with the key."""
    token: str | None = field(default=None, repr=False)
    """The bearer token of WHIP."""

    @property
    def shown(self) -> str:
        """What messages name it: without user name, key, query and fragment."""
        return shown(self.url if self.kind == "rtmp" else f"whip:{self.url}")


def is_target(spec: str) -> bool:
    """Return whether the name of a sink is that of a server that takes a stream, with a host."""
    if not spec.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        return False
    try:
        parts = urlsplit(spec.removeprefix("whip:"))
        # reading it checks it
        return (
            bool(parts.hostname) and (parts.port is None or parts.port > 0) and spec.isprintable() and " " not in spec
        )
    except ValueError:
        return False


def target(spec: str, key: str | None) -> Target:
    """Return the target of a checked sink. ``key`` is the bearer token of WHIP, or the last part of an RTMP address."""
    if spec.startswith("whip:"):
        return Target("whip", spec.removeprefix("whip:"), key)
    parts = urlsplit(spec)
    if key is not None and parts.path.strip("/").count("/") == 0:
        return Target("rtmp", f"{spec.rstrip('/')}/{key}")
    return Target("rtmp", spec)


def shown(spec: str) -> str:
    """Return the name of a sink as messages and reports show it: a stream's without its secrets."""
    if not spec.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        return spec
    if spec.startswith("whip:"):
        return "whip:" + without_secrets(spec.removeprefix("whip:"))
    parts = urlsplit(without_secrets(spec))
    # application/key: everything behind the application is the key
    application = parts.path.strip("/").partition("/")[0]
    return urlunsplit((parts.scheme, parts.netloc, f"/{application}/...", "", ""))


def without_secrets(url: str) -> str:
    """Return an address as messages show it: without user name, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def shown_camera(camera: str) -> str:
    """Return the name of a camera as messages and reports show it: an address without its secrets."""
    if "://" not in camera:
        return camera
    try:
        return without_secrets(camera)
    except ValueError:
        return f"{camera.partition('://')[0]}://..."


def is_camera_address(camera: str) -> bool:
    """Return whether the name of a camera is an address."""
    return camera.startswith(tuple(f"{scheme}://" for scheme in CAMERA_SCHEMES))
