"""The QR codes of the page, read by OpenCV."""

from __future__ import annotations

import json
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from realtime.webrtc.process.http_server import PAGE

SCRIPT = """
import { encode } from %s;
console.log(JSON.stringify(process.argv.slice(1).map((text) => encode(text).map((row) => row.map(Number)))));
"""


def test_every_version_can_be_read() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not on the path: sudo apt install nodejs")
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789-_."
    texts = [
        "http://192.168.1.7:8080/guest/"[:length]
        + "".join(alphabet[(7 * at + length) % 39] for at in range(length - 30))
        for length in (9, 20, 30, 42, 60, 80, 100, 119, 150, 179, 213)
    ]
    script = SCRIPT % json.dumps((PAGE / "share/qr.js").as_uri())
    done = subprocess.run(
        [node, "--input-type=module", "-e", script, *texts], capture_output=True, text=True, timeout=60, check=True
    )
    sizes = set()
    for text, matrix in zip(texts, json.loads(done.stdout), strict=True):
        dark = np.pad(np.array(matrix, np.uint8), 4)
        picture = np.repeat(np.repeat(255 * (1 - dark), 8, axis=0), 8, axis=1)
        assert cv2.QRCodeDetector().detectAndDecode(picture)[0] == text
        sizes.add(len(matrix))
    assert sizes == set(range(21, 58, 4))
