"""Streams to real servers: this program's own over WHIP, nginx over RTMP."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import pytest

from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.core.sound import SAMPLE_RATE, SoundPacket
from realtime.streams.push_sink import PushSink, StreamFormat
from realtime.streams.target import target
from realtime.webrtc.settings import ServerSettings
from tests.support.media import SIZE, EchoCallbacks, serve
from tests.support.sound import NS, claps_in, opus_claps
from tests.support.system import free_port
from tests.support.waiting import until
from tools.support.webrtc_client import numbered

WAIT_S = 60
KEY = "SECRET"
_MODULES = [Path(each) / "ngx_rtmp_module.so" for each in ("/usr/lib/nginx/modules", "/usr/share/nginx/modules")]


class Feed:
    """Sends numbered frames and claps to a sink until it is closed."""

    def __init__(self, spec: str, key: str | None = None) -> None:
        self.notices: list[str] = []
        form = StreamFormat(SIZE, 30.0, ServerSettings())
        self.sink = PushSink(target(spec, key), form, self.notices.append, follows_sound=True)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        start = time.monotonic_ns()
        packets = opus_claps(start, WAIT_S)
        number = 0
        while not self._over.wait(1 / 30):
            number += 1
            now = time.monotonic_ns()
            while packets and packets[0].time_ns + 20_000_000 < now:
                packet = packets.pop(0)
                self.sink.hear(SoundPacket(packet.data, packet.time_ns, packet.time_ns * SAMPLE_RATE // NS))
            pixels = numbered(SIZE, number & 0xFFFF)
            self.sink.send(Frame(pixels, PixelFormat.I420, number, Stamps(now), now))

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self.sink.close()
        assert KEY not in " ".join(self.notices)


@contextmanager
def feeding(spec: str, key: str | None = None) -> Iterator[Feed]:
    feed = Feed(spec, key)
    try:
        yield feed
    finally:
        feed.close()


def test_a_stream_over_whip_has_picture_and_sound_and_comes_back_after_the_server() -> None:
    port = free_port()
    callbacks = EchoCallbacks(echo=True)
    link = serve(callbacks, port=port, token=KEY)
    with feeding(f"whip:http://127.0.0.1:{port}/whip", KEY) as feed:
        try:
            assert feed.sink.connected.wait(WAIT_S), feed.notices
            until(lambda: len(callbacks.lags_ms) > 10, timeout_s=WAIT_S)
            until(
                lambda: any(each.get("sounds", 0) > 10 for each in link.stats().get("sessions", {}).values()),
                timeout_s=WAIT_S,
            )
            (first,) = callbacks.opened
        finally:
            link.close()
        until(lambda: feed.sink.problem is not None, timeout_s=WAIT_S)
        callbacks = EchoCallbacks()
        link = serve(callbacks, port=port, token=KEY)
        try:
            assert feed.sink.connected.wait(WAIT_S), feed.notices
            until(lambda: callbacks.lags_ms, timeout_s=WAIT_S)
            assert feed.sink.reconnects == 1
            feed.close()
            # told by DELETE, not by a time-out
            until(lambda: callbacks.closed_sessions, timeout_s=WAIT_S)
        finally:
            link.close()
    assert first not in callbacks.closed_sessions


def test_a_wrong_token_is_told_in_one_line() -> None:
    link = serve(EchoCallbacks(), token="another")
    try:
        with feeding(f"whip:{link.address}whip", KEY) as feed:
            # the problem is known before it is told
            until(lambda: feed.notices, timeout_s=WAIT_S)
            assert feed.sink.problem == "stream-unauthorized"
            assert len(feed.notices) == 1
    finally:
        link.close()


@contextmanager
def nginx(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    module = next((path for path in _MODULES if path.exists()), None)
    if program is None or module is None:
        pytest.skip("nginx with its RTMP module is missing: apt install nginx-light libnginx-mod-rtmp")
    config = folder / "nginx.conf"
    user = f"user {getpass.getuser()};" if os.getuid() == 0 else ""
    config.write_text(
        f"load_module {module}; {user} daemon off; master_process off; pid {folder}/pid; error_log stderr;"
        "events { worker_connections 64; }"
        f"rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on; record all;"
        f" record_path {folder}; record_unique on; }} }} }}"
    )
    process = subprocess.Popen([program, "-c", str(config), "-p", str(folder)], stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def recorded(folder: Path, enough: int = 100_000) -> Callable[[], Path | None]:
    """Return a function that returns the newest recording that is long enough."""

    def find() -> Path | None:
        found = sorted(folder.glob("*.flv"), key=lambda path: path.stat().st_mtime)
        return found[-1] if found and found[-1].stat().st_size > enough else None

    return find


def test_a_stream_over_rtmp_has_h264_and_aac_and_comes_back_after_the_server(tmp_path: Path) -> None:
    port = free_port()
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    with nginx(first, port), feeding(f"rtmp://127.0.0.1:{port}/live", KEY) as feed:
        assert feed.sink.connected.wait(WAIT_S), feed.notices
        path: Any = until(recorded(first), timeout_s=WAIT_S)
        assert KEY in path.name, "it was published under the key"
    with av.open(str(path)) as container:
        assert {stream.codec_context.name for stream in container.streams} == {"h264", "aac"}
    claps = claps_in(path)
    assert claps
    with feeding(f"rtmp://127.0.0.1:{port}/live/{KEY}") as feed:
        until(lambda: feed.notices, timeout_s=WAIT_S)
        assert feed.sink.problem == "stream-unreachable"
        assert len(feed.notices) == 1
        with nginx(second, port):
            assert feed.sink.connected.wait(WAIT_S), feed.notices
            until(recorded(second, 10_000), timeout_s=WAIT_S)
