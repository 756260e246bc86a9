"""What the media server is told: mistakes are found at once, secrets stay secret."""

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
def test_in_reach_of_others_a_token_is_needed(host: str) -> None:
    with pytest.raises(UsageError, match="no token") as raised:
        ServerSettings(host=host)
    assert "--token" in raised.value.cure
    assert ServerSettings(host=host, token="secret").token == "secret"


def test_behind_a_proxy_a_token_is_needed_too() -> None:
    with pytest.raises(UsageError, match=r"portrait\.example .* no token"):
        ServerSettings(names=("portrait.example",))
    assert ServerSettings(names=("portrait.example",), token="secret").loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.5.5", "localhost", "::1", "[::1]"])
def test_loopback_needs_none(host: str) -> None:
    assert is_loopback(host)
    assert ServerSettings(host=host).token is None


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"token": ""}, "empty"),
        ({"token": "  "}, "empty"),
        ({"port": 70_000}, "70000"),
        ({"min_bitrate": 0}, "out of order"),
        ({"start_bitrate": 9_000_000}, "out of order"),
        ({"codecs": ()}, "no codec"),
        ({"codecs": ("AV1",)}, "AV1"),
        ({"h264_encoder": "h264_magic"}, "h264_magic"),
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, Any], found: str) -> None:
    with pytest.raises(UsageError, match=found) as raised:
        ServerSettings(**values)
    assert raised.value.cure


def test_no_server_outside_is_asked_by_default() -> None:
    assert ServerSettings().ice_servers == ()


def test_settings_cross_to_the_other_process() -> None:
    turn = IceServer("turn:turn.example.org", secret="s3cret", lifetime_s=60)
    settings = ServerSettings(token="t", names=("a.example",), ice_servers=(turn, IceServer("stun:stun.example.org")))
    assert ServerSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_secrets_are_not_in_what_is_printed() -> None:
    settings = ServerSettings(
        token="TOKEN", ice_servers=(IceServer("turn:t", "u", "PASS"), IceServer("turn:t", secret="SEC"))
    )
    shown = repr(settings)
    assert not any(secret in shown for secret in ("TOKEN", "PASS", "SEC"))


def test_turn_credentials_are_made_as_coturn_checks_them() -> None:
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
def test_what_is_no_ice_server_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="no ICE server"):
        IceServer(url)


def test_a_turn_server_needs_credentials() -> None:
    with pytest.raises(UsageError, match="no credentials"):
        IceServer("turn:turn.example.org", username="me")
