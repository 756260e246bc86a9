"""The settings of the media server: mistakes are found at once, secrets stay secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from engines.errors import UsageError
from realtime.webrtc.settings import IceServer, ServerSettings, is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_an_address_that_others_can_reach_requires_a_token(host: str) -> None:
    with pytest.raises(UsageError) as caught:
        ServerSettings(host=host)
    assert caught.value.code == "webrtc-token-required"
    assert "--token" in caught.value.cure
    assert ServerSettings(host=host, token="secret").token == "secret"


def test_a_proxy_requires_a_token() -> None:
    with pytest.raises(UsageError) as caught:
        ServerSettings(server_names=("portrait.example",))
    assert caught.value.code == "webrtc-token-required"
    assert ServerSettings(server_names=("portrait.example",), token="secret").loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.5.5", "localhost", "::1", "[::1]"])
def test_loopback_requires_no_token(host: str) -> None:
    assert is_loopback(host)
    assert ServerSettings(host=host).token is None


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"token": ""}, "webrtc-empty-token"),
        ({"token": "  "}, "webrtc-empty-token"),
        ({"port": 70_000}, "webrtc-bad-port"),
        ({"min_bitrate": 0}, "webrtc-bad-bitrates"),
        ({"start_bitrate": 9_000_000}, "webrtc-bad-bitrates"),
        ({"codecs": ()}, "webrtc-unknown-codec"),
        ({"codecs": ("AV1",)}, "webrtc-unknown-codec"),
        ({"h264_encoder": "h264_magic"}, "webrtc-unknown-encoder"),
    ],
)
def test_settings_that_cannot_work_are_refused(values: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        ServerSettings(**values)
    assert caught.value.code == code
    assert caught.value.cure


def test_no_server_outside_is_contacted_by_default() -> None:
    assert ServerSettings().ice_servers == ()


def test_settings_cross_to_the_other_process() -> None:
    turn = IceServer("turn:turn.example.org", secret="s3cret", lifetime_s=60)
    settings = ServerSettings(
        token="t", server_names=("a.example",), ice_servers=(turn, IceServer("stun:stun.example.org"))
    )
    assert ServerSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_secrets_are_not_in_the_repr() -> None:
    settings = ServerSettings(
        token="TOKEN", ice_servers=(IceServer("turn:t", "u", "PASS"), IceServer("turn:t", secret="SEC"))
    )
    text = repr(settings)
    assert not any(secret in text for secret in ("TOKEN", "PASS", "SEC"))


def test_turn_credentials_are_derived_as_coturn_checks_them() -> None:
    server = IceServer("turn:turn.example.org", secret="north", lifetime_s=600)
    username, password = server.credentials(now_s=1_000_000.5) or ("", "")
    assert username == "1000600"
    expected = hmac.new(b"north", b"1000600", hashlib.sha1).digest()
    assert base64.b64decode(password) == expected
    named = IceServer("turn:turn.example.org", username="me", secret="north", lifetime_s=600).credentials(1.0)
    assert named is not None
    assert named[0] == "601:me"


def test_plain_credentials_and_none() -> None:
    assert IceServer("turn:t", "user", "password").credentials() == ("user", "password")
    assert IceServer("stun:s").credentials() is None


@pytest.mark.parametrize(
    "url",
    ["http://x", "stun:", "example.org", "", "stun:h:port", "turn:h?transport=x", "stuns:h", "stun:a b", "stun:h\n"],
)
def test_a_bad_ice_server_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        IceServer(url)
    assert caught.value.code == "webrtc-bad-ice-server"


def test_a_turn_server_requires_credentials() -> None:
    with pytest.raises(UsageError) as caught:
        IceServer("turn:turn.example.org", username="me")
    assert caught.value.code == "webrtc-turn-without-credentials"
