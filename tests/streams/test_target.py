"""Where a stream is pushed to, and what is shown of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.errors import ConfigError
from realtime import report
from realtime.config import STREAM_KEY_VARIABLE, load
from realtime.streams.target import is_target, shown, target


@pytest.mark.parametrize(
    "spec",
    ["whip:http://127.0.0.1:8080/whip", "whip:https://a.example/x?k=1", "rtmp://a.example/live/k", "rtmps://a:443/app"],
)
def test_addresses_with_a_known_scheme_and_a_host_are_targets(spec: str) -> None:
    assert is_target(spec)
    assert load({"sink": [spec]}).sink == (spec,)


@pytest.mark.parametrize(
    "spec",
    ["whip:file:///etc/passwd", "whip:", "rtmp://", "rtmp:///live", "rtmp://h:99999/x", "rtmp://a/b c", "whip:x"],
)
def test_anything_else_is_refused(spec: str) -> None:
    assert not is_target(spec)
    with pytest.raises(ConfigError) as caught:
        load({"sink": [spec]})
    assert caught.value.code == "config-bad-value"


def test_secrets_are_never_shown() -> None:
    specs = ["rtmp://user:SECRET@a.example/live/SECRET?x=SECRET", "whip:https://user:SECRET@a.example/whip?key=SECRET"]
    assert [shown(spec) for spec in specs] == ["rtmp://a.example/live/...", "whip:https://a.example/whip"]
    for spec in specs:
        goal = target(spec, "SECRET")
        assert "SECRET" not in f"{goal} {goal.shown}"
    config = load({"sink": specs, "stream_key": "SECRET"})
    assert "SECRET" not in str(report.build(None, config))
    with pytest.raises(ConfigError) as caught:
        load({"sink": ["rtmp://a.example:0/live/SECRET"]})
    assert "SECRET" not in str(caught.value)


def test_a_key_completes_an_rtmp_address_and_is_the_token_of_whip() -> None:
    assert target("rtmp://a/live", "k").url == "rtmp://a/live/k"
    assert target("rtmp://a/live/", "k").url == "rtmp://a/live/k"
    assert target("rtmp://a/live/other", "k").url == "rtmp://a/live/other"
    assert target("whip:https://a/x", "k").token == "k"


def test_the_key_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STREAM_KEY_VARIABLE, "of the environment")
    file = tmp_path / "key"
    file.write_text("of the file\n")
    assert load({}).stream_key == "of the environment"
    assert load({"stream_key_file": str(file)}).stream_key == "of the file"
    with pytest.raises(ConfigError) as caught:
        load({"stream_key_file": str(file), "stream_key": "given"})
    assert caught.value.code == "config-token-twice"
