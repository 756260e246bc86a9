"""The addresses that ICE offers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiortc import rtcicetransport

from realtime.webrtc.process import ice
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


def test_a_connection_closed_while_it_succeeds_is_not_checked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    names = vars(rtcicetransport)
    monkeypatch.setattr(rtcicetransport, "Connection", names["Connection"])  # restored afterwards
    ice.install(ServerSettings())
    make: Any = names["Connection"]

    async def check() -> None:
        one, other = make(ice_controlling=True), make(ice_controlling=False)
        for each in (one, other):
            await each.gather_candidates()
        for each, peer in ((one, other), (other, one)):
            each.remote_username, each.remote_password = peer.local_username, peer.local_password
            for candidate in peer.local_candidates:
                await each.add_remote_candidate(candidate)
            await each.add_remote_candidate(None)
        connecting = [asyncio.ensure_future(each.connect()) for each in (one, other)]
        async with asyncio.timeout(10):
            while not one._check_list_done:
                await asyncio.sleep(0)
        await one.close()
        await asyncio.wait(connecting, timeout=10)
        await other.close()
        await asyncio.sleep(0)
        running = [getattr(task.get_coro(), "__name__", "") for task in asyncio.all_tasks()]
        assert "query_consent" not in running

    asyncio.run(check())
