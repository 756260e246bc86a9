"""A program that reads a virtual camera: ``python -m tests.e2e.v4l2.reader DEVICE COUNT OUT.npy``.

It waits for the camera to appear, reads until it has COUNT different frames, and saves them as the driver's raw bytes.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import cv2
import numpy as np

WAIT_S = 20


def main(device: str, count: int, out: Path) -> int:
    os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] = "1"
    cv2.setLogLevel(0)
    until = time.monotonic() + WAIT_S
    camera = cv2.VideoCapture(device, cv2.CAP_V4L2)
    while not camera.isOpened():
        if time.monotonic() > until:
            return 1
        time.sleep(0.05)
        camera.open(device, cv2.CAP_V4L2)
    camera.set(cv2.CAP_PROP_CONVERT_RGB, 0)
    seen: dict[bytes, None] = {}
    while len(seen) < count and time.monotonic() < until:
        came, picture = camera.read()
        if came:
            seen[picture.tobytes()] = None
    camera.release()
    np.save(out, np.stack([np.frombuffer(picture, np.uint8) for picture in seen]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
