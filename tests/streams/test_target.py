"""Where a stream is pushed to, and what is shown of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.errors import ConfigError, SourceMissing
from realtime import report
from realtime.capture.source import open_source
from realtime.config import STREAM_KEY_VARIABLE, load
from realtime.streams.target import is_target, shown, shown_camera, target


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


@pytest.mark.parametrize(
    "sink",
    [
        "whip:https://user:SECRET@a.example:99999/x?token=SECRET",
        "WHIP:https://user:SECRET@a.example/x",
        "https://user:SECRET@a.example/x",
        "rtmp:a.example/live/SECRET",
    ],
)
def test_a_refused_sink_that_may_be_an_address_is_not_shown(sink: str, tmp_path: Path) -> None:
    path = tmp_path / "reenact.toml"
    path.write_text(f'sink = "{sink}"\n')
    for options, file in (({"sink": [sink]}, None), ({"sink": {sink: 1}}, None), ({}, path)):
        with pytest.raises(ConfigError) as caught:
            load(options, file)
        assert caught.value.code == "config-bad-value"
        assert "SECRET" not in f"{caught.value} {caught.value.cure}"


@pytest.mark.parametrize(
    ("camera", "without"),
    [
        ("rtsp://user:SECRET@a.example/s?k=SECRET", "rtsp://a.example/s"),
        ("http://user:SECRET@[bad/s", "http://..."),
        ("2", "2"),
        ("clip@home.mp4", "clip@home.mp4"),
    ],
)
def test_the_address_of_a_camera_is_shown_without_its_secrets(camera: str, without: str) -> None:
    assert shown_camera(camera) == without
    assert report.build(None, load({"camera": camera}))["config"]["camera"] == without


def test_messages_do_not_show_the_secrets_of_a_camera() -> None:
    with pytest.raises(ConfigError) as caught:
        load({"camera": "rtsp://user:SECRET@a.example/s", "pace": "max"})
    assert caught.value.code == "config-pace-needs-file"
    assert "rtsp://a.example/s" in str(caught.value)
    assert "SECRET" not in str(caught.value)
    with pytest.raises(SourceMissing) as missing:
        open_source("ftp://user:SECRET@a.example/s.mp4", size=None, fps=None, pace="live")
    assert "SECRET" not in str(missing.value)
    with pytest.raises(ConfigError) as caught:
        load({"camera": "rtsp://user:SECRET@a.example/\0"})
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
