"""The socket that the media server listens on, and the address to print for it."""

from __future__ import annotations

import errno
import socket

from engines.errors import AddressInUse, SinkMissing

_CURE = "choose another address: --sink webrtc:HOST:PORT"
_BACKLOG = 128


def listen(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket.

    Raises AddressInUse if another program listens there, SinkMissing if the address does not belong to this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        reason = error.strerror or str(error)
        raise SinkMissing(
            "listen-unknown-host", f"the host {host} ({reason})", "a name or an address of this machine", _CURE
        ) from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(
                "listen-address-in-use", f"port {port} of {host} is in use by another program", cure=_CURE
            ) from None
        raise SinkMissing("listen-failed", f"cannot listen on {host}:{port}: {error.strerror}", cure=_CURE) from None
    return listener


def url_host(host: str) -> str:
    """Return the host as it is written in a URL: the machine's name where it listens on all addresses."""
    if host in ("", "0.0.0.0", "::"):
        return socket.gethostname()
    bare = host.strip("[]")
    return f"[{bare}]" if ":" in bare else bare
