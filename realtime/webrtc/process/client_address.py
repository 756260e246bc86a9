"""The part of an address that identifies a client."""

from __future__ import annotations

import ipaddress

_PREFIX = 64
"""The bits of an IPv6 address that belong to a network: a client can use any address within it."""


def client_of(address: str) -> str:
    """Return what limits count an address by: an IPv4 address as it is, an IPv6 address by its /64 network."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    if ip.is_loopback:
        return str(ip)
    return str(ipaddress.IPv6Network((int(ip), _PREFIX), strict=False))
