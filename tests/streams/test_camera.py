"""A camera at an address, against servers that send what they should, and what they should not."""

from __future__ import annotations

import io
import socket
import socketserver
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image as Pictures

from engines.errors import SourceLost, SourceMissing
from engines.types import Image
from realtime.streams import camera as camera_module
from realtime.streams.camera import StreamCamera
from realtime.streams.target import is_camera_address
from tests.support.system import cannot_start, open_descriptors

SIZE = (160, 120)
GREY = 90
"""The level of every pixel of the videos."""
PASSWORD = "SECRET"
Answer = Callable[[str, Any], None]


@contextmanager
def listening(handler: type[socketserver.StreamRequestHandler]) -> Iterator[str]:
    """Serve connections, each in a thread. Provide the address, with a user and a password."""

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"user:{PASSWORD}@127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


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

    with listening(Handler) as address:
        yield f"http://{address}"


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


def write_video(path: Path) -> None:
    """Write a playlist and its segments, or one file."""
    options = {"hls_time": "1", "hls_list_size": "0"} if path.suffix == ".m3u8" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=30, options={"g": "30"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for _ in range(90):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((120, 160, 3), GREY, np.uint8), "rgb24")))
        container.mux(stream.encode(None))


def playlist_answer(folder: Path, moved: Callable[[str], str | None] = lambda _: None) -> Answer:
    """Serve the files of a folder; ``moved`` returns where a path has moved to."""

    def answer(path: str, out: Any) -> None:
        to = moved(path)
        if to is not None:
            out.write(f"HTTP/1.0 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode())
            return
        body = (folder / Path(path).name).read_bytes()
        out.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\n\r\n" + body)

    return answer


def first_picture(url: str) -> Image:
    with closing(StreamCamera(url)) as camera:
        return camera.read().pixels


def is_what_was_sent(picture: Image) -> bool:
    """Return whether a picture is one of ``write_video``'s, or of ``rtp_packets``'."""
    return picture.shape == (SIZE[1], SIZE[0], 3) and bool(np.abs(picture.astype(int) - GREY).max() < 8)


def test_a_playlist_is_read(tmp_path: Path) -> None:
    write_video(tmp_path / "live.m3u8")
    with serving(playlist_answer(tmp_path)) as url:
        assert is_what_was_sent(first_picture(f"{url}/live.m3u8"))


def test_a_segment_may_have_moved_to_another_place_on_the_web(tmp_path: Path) -> None:
    write_video(tmp_path / "live.m3u8")

    asked: list[str] = []

    def moved(path: str) -> str | None:
        asked.append(path)
        return f"/moved/{Path(path).name}" if path.endswith(".ts") and "moved" not in path else None

    with serving(playlist_answer(tmp_path, moved)) as url:
        assert is_what_was_sent(first_picture(f"{url}/live.m3u8"))
    assert [path for path in asked if path.startswith("/moved/")]


@pytest.mark.parametrize("to", ["file:///etc/passwd", "http://127.0.0.2:1/x", "/other"])
def test_a_redirect_is_not_followed(to: str) -> None:
    asked: list[str] = []

    def answer(path: str, out: Any) -> None:
        asked.append(path)
        out.write(f"HTTP/1.0 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode())

    with serving(answer) as url:
        assert failure(f"{url}/camera").code.startswith("camera-stream-")
    assert set(asked) == {"/camera"}


@pytest.mark.parametrize("redirected", [False, True])
def test_a_playlist_that_leads_to_files_reads_none(redirected: bool, tmp_path: Path) -> None:
    secret = tmp_path / "secret.ts"
    write_video(secret)
    segment = "moved.ts" if redirected else f"file://{secret}"
    public = tmp_path / "public"
    public.mkdir()
    (public / "live.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{segment}\n#EXT-X-ENDLIST\n")

    def moved(path: str) -> str | None:
        return f"file://{secret}" if path.endswith(".ts") else None

    with serving(playlist_answer(public, moved)) as url:
        assert failure(f"{url}/live.m3u8").code.startswith("camera-stream-")
    # the same segment from the web is read
    (public / "live.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nsecret.ts\n#EXT-X-ENDLIST\n")
    secret.rename(public / "secret.ts")
    with serving(playlist_answer(public)) as url:
        assert is_what_was_sent(first_picture(f"{url}/live.m3u8"))


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


@contextmanager
def rtsp_serving(moved_to: str | None = None) -> Iterator[str]:
    """Serve H.264 over RTSP and TCP (RFC 7826 section 14, RFC 6184), or redirect."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(OSError, IndexError):
                while True:
                    method = self.rfile.readline().decode().split()[0]
                    headers = dict(
                        line.split(": ", 1) for line in iter(lambda: self.rfile.readline().decode().strip(), "")
                    )
                    self.wfile.write(rtsp_answer(method, headers["CSeq"], moved_to))
                    if method == "PLAY":
                        for packet in rtp_packets(150):
                            self.wfile.write(packet)

    with listening(Handler) as address:
        yield f"rtsp://{address}"


def rtsp_answer(method: str, cseq: str, moved_to: str | None) -> bytes:
    body = ""
    headers = [f"CSeq: {cseq}", "Session: 1"]
    if method == "DESCRIBE" and moved_to is not None:
        return "\r\n".join(["RTSP/1.0 302 Found", *headers, f"Location: {moved_to}", "", ""]).encode()
    if method == "DESCRIBE":
        body = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
        headers += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
    if method == "SETUP":
        headers.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
    return "\r\n".join(["RTSP/1.0 200 OK", *headers, "", body]).encode()


def rtp_packets(count: int) -> Iterator[bytes]:
    """Yield pictures as interleaved packets of RTP, one for each NAL unit."""
    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = *SIZE, "yuv420p", Fraction(1, 30)
    encoder.options = {"tune": "zerolatency", "g": "10", "slices": "1"}
    sequence = 0
    for number in range(count):
        picture = av.VideoFrame.from_ndarray(np.full((120, 160, 3), GREY, np.uint8), "rgb24")
        picture.pts = number
        for packet in encoder.encode(picture):
            units = bytes(packet).replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
            for at, unit in enumerate(units):
                last = 0x80 if at == len(units) - 1 else 0
                head = struct.pack("!BBHII", 0x80, last | 96, sequence & 0xFFFF, number * 3000, 1)
                yield struct.pack("!BBH", 0x24, 0, len(head) + len(unit)) + head + unit
                sequence += 1


def test_rtsp_is_read() -> None:
    with rtsp_serving() as url:
        assert is_what_was_sent(first_picture(f"{url}/stream"))


def test_a_redirect_of_rtsp_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.ts"
    write_video(secret)
    over = threading.Event()
    try:
        with serving(motion_jpeg(jpeg(), over)) as web, rtsp_serving() as other:
            for to in (f"file://{secret}", f"{web}/camera.mjpg", f"{other}/stream"):
                with rtsp_serving(to) as url:
                    assert failure(f"{url}/stream").code == "camera-stream-unusable"
    finally:
        over.set()
