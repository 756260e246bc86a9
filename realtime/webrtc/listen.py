"""Where the media server listens, and how its address is written."""

from __future__ import annotations

import errno
import socket

from engines.errors import AddressInUse, SinkMissing


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises SinkMissing where the address is taken or none of ours."""
    cure = "choose another address: --sink webrtc:HOST:PORT"
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise SinkMissing(f"{host} is no address: {error.strerror or error}", cure=cure) from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(f"port {port} of {host} is taken by another program", cure=cure) from None
        raise SinkMissing(f"cannot serve on {host}:{port}: {error.strerror}", cure=cure) from None
    return listener


def shown(host: str) -> str:
    """The host as it is written in an address; a machine that listens everywhere is named."""
    if host in ("", "0.0.0.0", "::"):
        return socket.gethostname()
    bare = host.strip("[]")
    return f"[{bare}]" if ":" in bare else bare
