"""The limit of requests in progress."""

from __future__ import annotations

import asyncio

import pytest

from engines.errors import BusyError
from realtime.webrtc.process.request_limit import RequestLimit


def test_requests_are_limited_in_total_and_per_client() -> None:
    async def check() -> None:
        limit = RequestLimit(3, 2, "requests")
        async with limit.acquire("a"), limit.acquire("a"):
            with pytest.raises(BusyError) as caught:
                await limit.acquire("a").__aenter__()
            assert caught.value.code == "too-many-requests"
            assert caught.value.retry_after_s
            async with limit.acquire("b"):
                with pytest.raises(BusyError):
                    await limit.acquire("c").__aenter__()
            async with limit.acquire("c"):
                pass
        async with limit.acquire("a"):
            pass

    asyncio.run(check())


def test_addresses_of_one_ipv6_network_are_one_client() -> None:
    async def check() -> None:
        limit = RequestLimit(3, 1, "requests")
        async with limit.acquire("2001:db8::1"):
            with pytest.raises(BusyError):
                await limit.acquire("2001:db8::2").__aenter__()
            async with limit.acquire("2001:db8:0:1::1"):
                pass

    asyncio.run(check())
