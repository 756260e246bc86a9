"""Runs in the guest: a browser opens the virtual camera as a webcam, as a video call does."""

from __future__ import annotations

import base64
import http.server
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.tracking.tracker import open_tracker
from tests.e2e.v4l2 import parts

LIMIT_S = 240.0
PAGE = """<!doctype html><body><video id=v autoplay muted playsinline></video><script>
const post = (path, o) => fetch(path, {method: 'POST', body: JSON.stringify(o)});
const devices = async () => (await navigator.mediaDevices.enumerateDevices()).filter(d => d.kind === 'videoinput');
(async () => { try {
  (await navigator.mediaDevices.getUserMedia({video: true})).getTracks().forEach(t => t.stop());
  const labels = (await devices()).map(d => d.label);
  const wanted = (await devices()).find(d => d.label.includes('FaceCam'));
  const stream = await navigator.mediaDevices.getUserMedia({video: {deviceId: {exact: wanted.deviceId}}});
  v.srcObject = stream; await v.play();
  const canvas = document.createElement('canvas'); const pictures = [];
  while (pictures.length < 6) {
    await new Promise(done => v.requestVideoFrameCallback(done));
    [canvas.width, canvas.height] = [v.videoWidth, v.videoHeight];
    canvas.getContext('2d').drawImage(v, 0, 0);
    pictures.push(canvas.toDataURL('image/png'));
    await new Promise(done => setTimeout(done, 300));
  }
  await post('/result', {labels, pictures});
} catch (e) { await post('/result', {error: String(e), labels: (await devices()).map(d => d.label)}); } })();
</script>"""
CHROMIUM = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --use-fake-ui-for-media-stream "
    "--disable-extensions --disable-background-networking --disable-component-update --mute-audio "
    "--disable-features=Translate,OptimizationHints,MediaRouter"
)


class PageHandler(http.server.BaseHTTPRequestHandler):
    """Serves the page and receives its result."""

    found: ClassVar[dict[str, Any]] = {}
    done = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE.encode())

    def do_POST(self) -> None:
        PageHandler.found.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()
        PageHandler.done.set()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def test_a_browser_lists_the_camera_and_shows_its_picture(tmp_path: Path) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), PageHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    camera = parts.feeder("/dev/video10")
    first = parts.Watcher("/dev/video10", tmp_path / "in.jsonl")
    first.sees(parts.fresh)
    first.process.end(signal.SIGKILL)
    program = parts.program("ReenactCam", "virtualcam:FaceCam")
    watcher = parts.Watcher("/dev/video11", tmp_path / "out.jsonl")
    watcher.sees(parts.fresh, count=5)
    watcher.process.end(signal.SIGKILL)
    address = f"http://localhost:{server.server_address[1]}/"
    began = time.monotonic()
    browser = parts.Process("chromium", *CHROMIUM.split(), f"--user-data-dir={tmp_path / 'profile'}", address)
    try:
        assert PageHandler.done.wait(LIMIT_S), browser.text()[-3000:]
    finally:
        for process in (browser, program, camera):
            process.end(signal.SIGKILL)
        server.shutdown()
    assert "error" not in PageHandler.found, PageHandler.found
    assert any("FaceCam" in label for label in PageHandler.found["labels"]), "the browser lists the camera by its name"
    pictures = [_decoded(text) for text in PageHandler.found["pictures"]]
    labels, took_s = PageHandler.found["labels"], time.monotonic() - began
    print(f"the browser lists {labels}; pictures {pictures[0].shape} after {took_s:.0f} s")
    assert {picture.shape for picture in pictures} == {(480, 640, 3)}
    assert max(map(parts.magenta, pictures)) < 0.01, "the camera's picture is never shown"
    assert any((pictures[0] != other).mean() > 0.01 for other in pictures[1:]), "it moves"
    tracker = open_tracker(None)
    step = 300_000_000
    faces = [
        tracker.track(Frame(picture, PixelFormat.RGB, i, Stamps((i + 1) * step), (i + 1) * step))
        for i, picture in enumerate(pictures)
    ]
    tracker.close()
    assert sum(face is not None for face in faces) >= 4, "the portrait's face is in it"
    assert os.path.exists("/dev/video11")


def _decoded(text: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    raw = np.frombuffer(base64.b64decode(text.partition(",")[2]), np.uint8)
    return np.ascontiguousarray(cv2.imdecode(raw, cv2.IMREAD_COLOR_RGB), np.uint8)
