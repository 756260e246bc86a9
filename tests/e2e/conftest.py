"""Fixtures of tests with real processes and real WebRTC."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from realtime.webrtc.link import MediaLink
from tests.support.media import EchoCallbacks, serve


@pytest.fixture
def link(callbacks: EchoCallbacks) -> Iterator[MediaLink]:
    """A media server with the callbacks of the test's module."""
    made = serve(callbacks)
    yield made
    made.close()


@pytest.fixture
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients send to this machine's loopback only."""
    import aioice.ice

    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])
