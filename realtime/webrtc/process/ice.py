"""ICE for aiortc: gathering that ends in time, selected addresses, and when a peer was last heard."""

from __future__ import annotations

import ipaddress
import time
from typing import Any

from realtime.webrtc.settings import ServerSettings


def install(settings: ServerSettings) -> None:
    """Make aiortc's ICE transports gather as the settings say and note when they receive something.

    aioice waits 5 s for a STUN or TURN server that is dead; here it is ``gather_timeout_s``. A server on loopback is
    reached over loopback first; the other addresses stay, because browsers may not send to 127.0.0.1 from a socket
    bound to another one. A server on one certain address uses no other.
    """
    from aioice import Connection
    from aiortc import rtcicetransport

    class ObservedConnection(Connection):
        """An ICE connection that notes when it last received something."""

        heard_s = 0.0

        async def get_component_candidates(self, component: int, addresses: list[str], timeout: int = 5) -> list[Any]:
            selected = select_addresses(settings, addresses)
            bounded: Any = min(timeout, settings.gather_timeout_s)
            return await super().get_component_candidates(component, selected, bounded)

        async def query_consent(self) -> None:
            # aioice begins this also where close() came while connect() succeeded, and then for ever
            if not self._closing:
                await super().query_consent()

        def data_received(self, data: bytes, component: int) -> None:
            self.heard_s = time.monotonic()
            super().data_received(data, component)

        def request_received(self, message: Any, addr: tuple[str, int], protocol: Any) -> None:
            self.heard_s = time.monotonic()
            super().request_received(message, addr, protocol)

    vars(rtcicetransport)["Connection"] = ObservedConnection


def select_addresses(settings: ServerSettings, found: list[str]) -> list[str]:
    """Return which of this machine's addresses to offer, the preferred one first."""
    if settings.loopback or not found:
        own = "::1" if settings.host.strip("[]") == "::1" else "127.0.0.1"
        return [own, *(address for address in found if address != own)]
    try:
        certain = ipaddress.ip_address(settings.host.strip("[]"))
    except ValueError:
        return found
    return [address for address in found if certain.is_unspecified or ipaddress.ip_address(address) == certain] or found


def heard_s(connection: object) -> float:
    """Return when a connection last received something, in seconds of ``time.monotonic``; 0.0 for never."""
    return float(getattr(connection, "heard_s", 0.0))
