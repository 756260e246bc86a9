"""Runs in the guest: vivid, a webcam driver without hardware, is /dev/video0; video10 and 11 are v4l2loopback."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.errors import SourceLost, SourceMissing
from realtime.capture import v4l2_devices
from realtime.capture.source import Source, open_source

DRIVER = Path("/sys/bus/platform/drivers/vivid")
SIZE = (640, 360)


def open_camera(name: str, size: tuple[int, int] = SIZE) -> Source:
    return open_source(name, size=size, fps=30, pace="live")


@contextmanager
def unplugged() -> Iterator[None]:
    """Take the camera away, and bring it back."""
    (DRIVER / "unbind").write_text("vivid.0")
    try:
        yield
    finally:
        (DRIVER / "bind").write_text("vivid.0")


def elsewhere(statements: str, *, user: int | None = None) -> str:
    """What another process, perhaps another user's, prints after the imports that it needs."""
    program = (
        "from engines.errors import *; from realtime.capture.source import open_source\n"
        "def opened(name):\n"
        "    try: source = open_source(name, size=None, fps=None, pace='live')\n"
        "    except ReenactError as error: return f'{error} | {error.cure}'\n"
        "    source.close(); return source.name\n" + statements
    )
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
    return subprocess.run([*become, sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_the_nodes_are_told_apart() -> None:
    camera, *virtual = v4l2_devices.list_nodes()
    assert (camera.path, camera.label, camera.captures, camera.loopback) == ("/dev/video0", "vivid", True, False)
    assert [node.path for node in virtual] == ["/dev/video10", "/dev/video11"]
    assert all(node.loopback and node.outputs and not node.captures and not node.has_producer for node in virtual)


@pytest.mark.parametrize("name", ["auto", "0", "/dev/video0"])
def test_capture(name: str) -> None:
    source = open_camera(name)
    assert source.name.startswith("/dev/video0 (vivid), 640x360 ")
    assert source.name.endswith(" at 30 fps")
    assert (source.size, source.live, source.frames) == (SIZE, True, None)
    frames = [source.read() for _ in range(20)]
    age_ms = (time.monotonic_ns() - frames[-1].stamps.captured) / 1e6
    source.close()
    assert {frame.pixels.shape for frame in frames} == {(360, 640, 3)}
    assert 0 < age_ms < 10_000, "the driver's own time, of this clock"
    times = [frame.time_ns for frame in frames]
    assert times == sorted(set(times))
    assert (times[-1] - times[0]) / 19 > 0.8e9 / 30
    assert any((frames[0].pixels != frame.pixels).any() for frame in frames), "vivid's picture moves"


def test_colours_are_rgb() -> None:
    source = open_camera("0")
    top = source.read().pixels[10]
    source.close()
    # vivid's bars: white, yellow, cyan, green, magenta, red, blue, black.
    red, blue = top[640 * 11 // 16].astype(int), top[640 * 13 // 16].astype(int)
    assert red[0] > 150 > red[2] + 50
    assert blue[2] > 150 > blue[0] + 50


def test_a_size_it_does_not_have_becomes_the_nearest() -> None:
    source = open_camera("0", (10_000, 10_000))
    assert source.size == (3840, 2160)
    assert "3840x2160" in source.name
    source.close()


def test_unplugged_and_plugged_in_again() -> None:
    source = open_camera("0")
    source.read()
    with unplugged():
        began = time.monotonic()
        # Pictures that had come before may still be read.
        with pytest.raises(SourceLost, match="unplugged"):
            any(source.read().seq > 10 for _ in range(10))
        assert time.monotonic() - began < 8, "OpenCV alone waits ten seconds"
        source.close()
        began = time.monotonic()
        with pytest.raises(SourceMissing, match="this machine has no camera"):
            open_camera("0")
        assert time.monotonic() - began < 8, "opening fails quickly, for it is tried again and again"
    again = open_camera("0")
    assert again.read().pixels.shape == (360, 640, 3)
    again.close()


def test_a_camera_that_falls_silent_is_lost() -> None:
    source = open_camera("0")
    source.read()
    drop = ["v4l2-ctl", "-d", "0", "-c"]
    subprocess.run([*drop, "percentage_of_dropped_buffers=100"], check=True)
    try:
        with pytest.raises(SourceLost, match="stopped sending frames"):
            any(source.read().seq > 10 for _ in range(10))
        began = time.monotonic()
        with pytest.raises(SourceLost):
            source.read()
        assert time.monotonic() - began < 8, "a read blocks for about a second"
        source.close()
        with pytest.raises(SourceMissing, match="gives no picture"):
            open_camera("0")
    finally:
        subprocess.run([*drop, "percentage_of_dropped_buffers=0"], check=True)


def send_jpegs(stop: threading.Event, broken: Sequence[int]) -> None:
    """Make /dev/video11 a camera of 1280x720 in Motion JPEG that breaks every picture whose number % 5 is in it."""
    device = os.open("/dev/video11", os.O_WRONLY)
    form = bytearray(208)
    struct.pack_into("<I4xII4sIII", form, 0, 2, 1280, 720, b"MJPG", 1, 0, 1280 * 720)
    fcntl.ioctl(device, 0xC0D05605, form)
    picture = np.full((720, 1280, 3), (0, 0, 200), np.uint8)
    whole = cv2.imencode(".jpg", picture)[1].tobytes()
    index = 0
    while not stop.wait(0.03):
        os.write(device, b"rubbish" * 300 if index % 5 in broken else whole)
        index += 1
    os.close(device)


@pytest.mark.parametrize("broken", [(), (1, 3)])
def test_motion_jpeg_with_and_without_broken_pictures(broken: Sequence[int]) -> None:
    stop = threading.Event()
    camera = threading.Thread(target=send_jpegs, args=(stop, broken))
    camera.start()
    try:
        while not (node := v4l2_devices.inspect("/dev/video11")) or not node.has_producer:
            assert camera.is_alive()
        source = open_camera("/dev/video11", (1280, 720))
        assert source.name.startswith("/dev/video11 (FaceCam), 1280x720 MJPG")
        for _ in range(15):
            assert source.read().pixels[360, 640].tolist() == pytest.approx([200, 0, 0], abs=3)
        source.close()
    finally:
        stop.set()
        camera.join()


def test_nothing_stays_open() -> None:
    open_camera("0").close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        open_camera("0").close()
        with pytest.raises(SourceMissing):
            open_camera("10")
    assert len(os.listdir("/proc/self/fd")) == before


def test_busy_names_the_program() -> None:
    source = open_camera("0")
    source.read()
    said = elsewhere("print(opened('0'))")
    assert f"is in use by {Path('/proc/self/comm').read_text().strip()} (process {os.getpid()})" in said
    source.close()
    assert "640x" in elsewhere("print(opened('0'))") or "1280x720" in elsewhere("print(opened('0'))")


def test_permission() -> None:
    os.chmod("/dev/video0", 0o600)
    said = elsewhere("print(opened('0'))", user=1000)
    assert "may not be opened by this user" in said
    assert "sudo usermod -aG video $USER" in said


def test_what_is_no_camera() -> None:
    with pytest.raises(SourceMissing, match=r"virtual camera that no program feeds; this machine has /dev/video0"):
        open_camera("10")
    with pytest.raises(SourceMissing, match=r"no camera /dev/video5; this machine has /dev/video0 \(vivid\)"):
        open_camera("5")
    with pytest.raises(SourceMissing, match="not a camera"):
        open_camera("/dev/null")


@pytest.mark.parametrize("size", [(640, 360), (1280, 720)])
def test_what_capture_adds(size: tuple[int, int]) -> None:
    from realtime.capture.v4l2_stream import V4l2Stream

    stream = V4l2Stream("/dev/video0", size, 30)
    for _ in range(60):
        assert stream.grab() is not None
    stream.close()
    waited, converted = stream.driver_delay.summary(), stream.conversion.summary()
    print(f"vivid {size} {stream.fourcc} {stream.fps:g} fps, time of a picture is {stream.timestamp_source}")
    print(f"stamp to read ms {waited}; conversion ms {converted}; stale {stream.stale}")
    assert stream.driver_delay.count == 60
