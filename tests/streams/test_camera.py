"""A camera at an address, against servers that send what they should, and what they should not."""

from __future__ import annotations

import io
import socket
import socketserver
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image as Pictures

from engines.errors import SourceLost, SourceMissing
from realtime.streams import camera as camera_module
from realtime.streams.camera import StreamCamera
from realtime.streams.target import is_camera_address
from tests.support.system import cannot_start, open_descriptors

SIZE = (160, 120)
PASSWORD = "SECRET"
Answer = Callable[[str, Any], None]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """Serve over HTTP: ``answer`` gets the path and a file to write to."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            try:
                path = self.rfile.readline().decode().split(" ")[1]
                while self.rfile.readline().strip():
                    pass
                answer(path, self.wfile)
            except (OSError, ValueError, IndexError):
                pass

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://user:{PASSWORD}@127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def jpeg(size: tuple[int, int] = SIZE) -> bytes:
    out = io.BytesIO()
    Pictures.fromarray(np.full((size[1], size[0], 3), 200, np.uint8)).save(out, "jpeg")
    return out.getvalue()


def motion_jpeg(picture: bytes, over: threading.Event) -> Answer:
    def answer(_: str, out: Any) -> None:
        out.write(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=next\r\n\r\n")
        while not over.wait(0.03):
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            out.write(head.encode() + picture + b"\r\n")

    return answer


def failure(url: str) -> SourceMissing:
    with pytest.raises(SourceMissing) as caught:
        StreamCamera(url)
    assert PASSWORD not in str(caught.value)
    return caught.value


def test_motion_jpeg_is_read_until_it_ends() -> None:
    over = threading.Event()
    with serving(motion_jpeg(jpeg(), over)) as url:
        camera = StreamCamera(f"{url}/camera.mjpg")
        try:
            assert camera.size == SIZE
            assert PASSWORD not in camera.name
            frames = [camera.read() for _ in range(5)]
            assert [frame.seq for frame in frames] == [1, 2, 3, 4, 5]
            assert abs(int(frames[-1].pixels.mean()) - 200) < 5
            over.set()
            with pytest.raises(SourceLost):
                deque((camera.read() for _ in range(100)), maxlen=0)
        finally:
            over.set()
            camera.close()


def test_a_playlist_is_read(tmp_path: Path) -> None:
    playlist = tmp_path / "live.m3u8"
    with av.open(str(playlist), "w", format="hls", options={"hls_time": "1", "hls_list_size": "0"}) as container:
        stream = container.add_stream("libx264", rate=30, options={"g": "30"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for _ in range(90):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((120, 160, 3), 90, np.uint8), "rgb24")))
        container.mux(stream.encode(None))

    def answer(path: str, out: Any) -> None:
        body = (tmp_path / Path(path).name).read_bytes()
        out.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\n\r\n" + body)

    with serving(answer) as url:
        camera = StreamCamera(f"{url}/live.m3u8")
        try:
            assert camera.size == SIZE
            assert camera.read().pixels.shape == (120, 160, 3)
        finally:
            camera.close()


@pytest.mark.parametrize("to", ["file:///etc/passwd", "http://127.0.0.2:1/x", "/other"])
def test_a_redirect_is_not_followed(to: str) -> None:
    asked: list[str] = []

    def answer(path: str, out: Any) -> None:
        asked.append(path)
        out.write(f"HTTP/1.0 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode())

    with serving(answer) as url:
        assert failure(f"{url}/camera").code.startswith("camera-stream-")
    assert set(asked) == {"/camera"}


def test_a_playlist_that_names_files_reads_none(tmp_path: Path) -> None:
    secret = tmp_path / "secret.ts"
    secret.write_bytes(b"G" * 188 * 10)

    def answer(_: str, out: Any) -> None:
        out.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\n\r\n")
        out.write(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n".encode())

    with serving(answer) as url:
        assert failure(f"{url}/live.m3u8").code.startswith("camera-stream-")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.0 401 Unauthorized\r\n\r\n", "camera-stream-unauthorized"),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", "camera-stream-not-found"),
        (b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html>" + b" " * 4000, "camera-stream-unusable"),
    ],
    ids=["401", "404", "HTML"],
)
def test_each_bad_answer_has_its_code(answer: bytes, code: str) -> None:
    with serving(lambda _, out: out.write(answer)) as url:
        assert failure(f"{url}/camera").code == code


def test_8k_is_refused() -> None:
    over = threading.Event()
    try:
        with serving(motion_jpeg(jpeg((7680, 4320)), over)) as url:
            assert failure(f"{url}/camera.mjpg").code == "camera-stream-too-large"
    finally:
        over.set()


def test_headers_that_never_end_time_out() -> None:
    over = threading.Event()

    def answer(_: str, out: Any) -> None:
        out.write(b"HTTP/1.0 200 OK\r\n")
        while not over.wait(0.1):
            out.write(b"X-More: and more\r\n")

    try:
        with serving(answer) as url:
            assert failure(f"{url}/camera").code == "camera-stream-no-answer"
    finally:
        over.set()


def test_no_server() -> None:
    with serving(lambda *_: None) as url:
        pass
    assert failure(f"{url}/camera").code == "camera-stream-unreachable"


def test_a_process_that_cannot_be_started_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_module, "start_process", cannot_start)
    before = open_descriptors()
    assert failure("http://127.0.0.1/camera").code == "camera-stream-no-process"
    assert open_descriptors() <= before


def test_a_system_that_cannot_pass_descriptors_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "send_fds")
    assert failure("http://127.0.0.1/camera").code == "camera-stream-unsupported-system"


def test_the_process_ends_with_the_main_process() -> None:
    over, gone = threading.Event(), threading.Event()
    send = motion_jpeg(jpeg(), over)

    def answer(path: str, out: Any) -> None:
        try:
            send(path, out)
        finally:
            gone.set()

    start = "import os, sys; from realtime.streams.camera import StreamCamera; StreamCamera(sys.argv[1]); os._exit(0)"
    with serving(answer) as url:
        try:
            subprocess.run([sys.executable, "-c", start, f"{url}/camera.mjpg"], check=True, timeout=60)
            assert gone.wait(60)
        finally:
            over.set()


def test_only_these_schemes_are_addresses_of_cameras() -> None:
    assert all(map(is_camera_address, ("rtsp://a/b", "http://a", "https://a/x.m3u8")))
    assert not any(map(is_camera_address, ("file:///etc/passwd", "ftp://a/b", "concat:a", "tcp://a:1", "camera.mp4")))
