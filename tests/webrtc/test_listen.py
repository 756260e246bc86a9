"""The address that the media server listens on."""

from __future__ import annotations

from contextlib import closing

import pytest

from engines.errors import AddressInUse, SinkMissing
from realtime.webrtc.listen import listen, url_host


def test_a_port_in_use_is_an_error_of_its_own() -> None:
    with closing(listen("127.0.0.1", 0)) as listener, pytest.raises(AddressInUse) as caught:
        listen("127.0.0.1", listener.getsockname()[1])
    assert caught.value.code == "listen-address-in-use"
    assert caught.value.cure


@pytest.mark.parametrize(
    ("host", "code"), [("no such host.invalid", "listen-unknown-host"), ("192.0.2.1", "listen-failed")]
)
def test_an_address_of_another_machine_is_an_error(host: str, code: str) -> None:
    with pytest.raises(SinkMissing) as caught:
        listen(host, 0)
    assert caught.value.code == code
    assert caught.value.cure


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("[::1]", "[::1]"), ("name", "name")]
)
def test_a_host_is_written_as_in_a_url(host: str, expected: str) -> None:
    assert url_host(host) == expected
