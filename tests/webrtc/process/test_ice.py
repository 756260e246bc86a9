"""The addresses that ICE offers."""

from __future__ import annotations

import pytest

from realtime.webrtc.process.ice import select_addresses
from realtime.webrtc.settings import ServerSettings


@pytest.mark.parametrize(
    ("host", "offered"),
    [
        ("127.0.0.1", ["127.0.0.1", "192.0.2.1", "fd00::1"]),
        ("localhost", ["127.0.0.1", "192.0.2.1", "fd00::1"]),
        ("::1", ["::1", "192.0.2.1", "fd00::1"]),
        ("0.0.0.0", ["192.0.2.1", "fd00::1"]),
        ("192.0.2.1", ["192.0.2.1"]),
        ("198.51.100.9", ["192.0.2.1", "fd00::1"]),
        ("example.org", ["192.0.2.1", "fd00::1"]),
    ],
)
def test_addresses_are_selected_by_the_host_of_the_server(host: str, offered: list[str]) -> None:
    settings = ServerSettings(host=host, token="t")
    assert select_addresses(settings, ["192.0.2.1", "fd00::1"]) == offered
    assert select_addresses(settings, []) in (["127.0.0.1"], ["::1"])
