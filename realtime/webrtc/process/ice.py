"""ICE as it is wanted here: gathering that ends in time, chosen addresses, and when a peer was last heard."""

from __future__ import annotations

import ipaddress
import time
from typing import Any

from realtime.webrtc.settings import ServerSettings


def install(settings: ServerSettings) -> None:
    """Have every transport that aiortc makes from now on gather as the settings say, and note when it hears.

    aioice waits 5 s for a STUN or TURN server that is dead; here it is ``gather_timeout_s``. A server on loopback is
    reached over loopback first; the other addresses stay, because browsers may not send to 127.0.0.1 from a socket
    bound to another one. A server on one certain address uses no other.
    """
    from aioice import Connection
    from aiortc import rtcicetransport

    class Listening(Connection):
        """An ICE connection that knows when anything came last."""

        heard_s = 0.0

        async def get_component_candidates(self, component: int, addresses: list[str], timeout: int = 5) -> list[Any]:
            chosen = addresses_for(settings, addresses)
            bounded: Any = min(timeout, settings.gather_timeout_s)
            return await super().get_component_candidates(component, chosen, bounded)

        def data_received(self, data: bytes, component: int) -> None:
            self.heard_s = time.monotonic()
            super().data_received(data, component)

        def request_received(self, message: Any, addr: tuple[str, int], protocol: Any) -> None:
            self.heard_s = time.monotonic()
            super().request_received(message, addr, protocol)

    vars(rtcicetransport)["Connection"] = Listening


def addresses_for(settings: ServerSettings, found: list[str]) -> list[str]:
    """Which of this machine's addresses to offer, the preferred one first."""
    if settings.loopback or not found:
        own = "::1" if settings.host.strip("[]") == "::1" else "127.0.0.1"
        return [own, *(address for address in found if address != own)]
    try:
        certain = ipaddress.ip_address(settings.host.strip("[]"))
    except ValueError:
        return found
    return [address for address in found if certain.is_unspecified or ipaddress.ip_address(address) == certain] or found


def heard_s(connection: object) -> float:
    """When a peer was last heard over one of our connections, on the clock of ``time.monotonic``; 0.0 never."""
    return float(getattr(connection, "heard_s", 0.0))
