"""A sink that pushes a stream, where its process fails."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from contextlib import closing

import pytest

from engines.errors import SinkMissing
from realtime.core.child_process import start_process
from realtime.streams import push_sink
from realtime.streams.process import without_secrets
from realtime.streams.push_sink import PushSink, StreamFormat
from realtime.streams.target import target
from realtime.webrtc.settings import ServerSettings
from tests.support.system import cannot_start, open_descriptors
from tests.support.waiting import until

TARGET = target("rtmp://127.0.0.1/live/SECRET", None)
FORM = StreamFormat((64, 48), 30.0, ServerSettings())
FAILS = [sys.executable, "-c", "raise SystemExit(3)"]
BABBLES = [sys.executable, "-c", "import socket, sys; socket.socket(fileno=int(sys.argv[1])).send(bytes([255] * 12))"]


@pytest.mark.parametrize(
    ("command", "code"),
    [(FAILS, "stream-process-ended"), (BABBLES, "stream-process-bad-message")],
    ids=["ends", "babbles"],
)
def test_a_process_that_fails_is_told_once(command: Sequence[str], code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_sink, "_COMMAND", command)
    notices: list[str] = []
    started: list[object] = []

    def note(*arguments: object) -> object:
        started.append(arguments)
        return start_process(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(push_sink, "start_process", note)
    with closing(PushSink(TARGET, FORM, notices.append)) as sink:
        until(lambda: sink.problem, timeout_s=60)
        until(lambda: len(started) > 2, "it is started again", timeout_s=60)
        assert sink.problem == code
    assert len(notices) == 1


def test_a_process_that_cannot_be_started_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_sink, "start_process", cannot_start)
    before = open_descriptors()
    with pytest.raises(SinkMissing) as caught:
        PushSink(TARGET, FORM, lambda _: None)
    assert caught.value.code == "stream-no-process"
    assert open_descriptors() <= before


def test_a_system_that_cannot_pass_descriptors_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "send_fds")
    with pytest.raises(SinkMissing) as caught:
        PushSink(TARGET, FORM, lambda _: None)
    assert caught.value.code == "stream-unsupported-system"


def test_a_traceback_shows_no_secrets() -> None:
    whip = target("whip:https://a.example/whip?k=SECRET", "SECRET")
    for goal, text in ((TARGET, f"FFmpegError: {TARGET.url}; key SECRET"), (whip, f"{whip.url}: Bearer {whip.token}")):
        assert "SECRET" not in without_secrets(text, goal)
