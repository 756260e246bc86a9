"""Runs in the guest, where /dev/video0 is vivid, a webcam driver without hardware; video10 and 11 are v4l2loopback."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.errors import SourceLost, SourceMissing
from realtime.capture import v4l2_devices
from realtime.capture.source import Source, open_source
from tests.e2e.v4l2.parts import in_another_process, unplugged

SIZE = (640, 360)


def open_camera(name: str, size: tuple[int, int] = SIZE) -> Source:
    return open_source(name, size=size, fps=30, pace="live")


def test_cameras_and_virtual_cameras_are_distinguished() -> None:
    camera, *virtual = v4l2_devices.list_nodes()
    assert (camera.path, camera.label, camera.captures, camera.loopback) == ("/dev/video0", "vivid", True, False)
    assert [node.path for node in virtual] == ["/dev/video10", "/dev/video11"]
    assert all(node.loopback and node.outputs and not node.captures and not node.has_producer for node in virtual)


@pytest.mark.parametrize("name", ["auto", "0", "/dev/video0"])
def test_a_camera_is_captured(name: str) -> None:
    source = open_camera(name)
    assert source.name.startswith("/dev/video0 (vivid), 640x360 ")
    assert source.name.endswith(" at 30 fps")
    assert (source.size, source.live, source.frames) == (SIZE, True, None)
    frames = [source.read() for _ in range(20)]
    age_ms = (time.monotonic_ns() - frames[-1].stamps.captured) / 1e6
    source.close()
    assert {frame.pixels.shape for frame in frames} == {(360, 640, 3)}
    assert 0 < age_ms < 10_000, "the driver's timestamp is of this clock"
    times = [frame.time_ns for frame in frames]
    assert times == sorted(set(times))
    assert (times[-1] - times[0]) / 19 > 0.8e9 / 30
    assert any((frames[0].pixels != frame.pixels).any() for frame in frames), "vivid's picture changes"


def test_colours_are_rgb() -> None:
    source = open_camera("0")
    top = source.read().pixels[10]
    source.close()
    # vivid's bars: white, yellow, cyan, green, magenta, red, blue, black.
    red, blue = top[640 * 11 // 16].astype(int), top[640 * 13 // 16].astype(int)
    assert red[0] > 150 > red[2] + 50
    assert blue[2] > 150 > blue[0] + 50


def test_a_size_that_the_camera_does_not_have_becomes_the_nearest() -> None:
    source = open_camera("0", (10_000, 10_000))
    assert source.size == (3840, 2160)
    assert "3840x2160" in source.name
    source.close()


def test_a_camera_that_is_unplugged_and_plugged_in_again() -> None:
    source = open_camera("0")
    source.read()
    with unplugged():
        began = time.monotonic()
        # Frames that came before may still be read.
        with pytest.raises(SourceLost) as lost:
            any(source.read().seq > 10 for _ in range(10))
        assert lost.value.code == "camera-unplugged"
        assert time.monotonic() - began < 8, "OpenCV alone waits ten seconds"
        source.close()
        began = time.monotonic()
        with pytest.raises(SourceMissing) as missing:
            open_camera("0")
        assert missing.value.code == "camera-missing"
        assert time.monotonic() - began < 8, "opening fails quickly, because it is repeated"
    again = open_camera("0")
    assert again.read().pixels.shape == (360, 640, 3)
    again.close()


def test_a_camera_that_stops_sending_is_lost() -> None:
    source = open_camera("0")
    source.read()
    drop = ["v4l2-ctl", "-d", "0", "-c"]
    subprocess.run([*drop, "percentage_of_dropped_buffers=100"], check=True)
    try:
        with pytest.raises(SourceLost) as lost:
            any(source.read().seq > 10 for _ in range(10))
        assert lost.value.code == "camera-stopped"
        began = time.monotonic()
        with pytest.raises(SourceLost):
            source.read()
        assert time.monotonic() - began < 8, "a read blocks for about a second"
        source.close()
        with pytest.raises(SourceMissing) as missing:
            open_camera("0")
        assert missing.value.code == "camera-no-frames"
    finally:
        subprocess.run([*drop, "percentage_of_dropped_buffers=0"], check=True)


def send_jpegs(stop: threading.Event, broken: Sequence[int]) -> None:
    """Feed /dev/video11 with Motion JPEG of 1280x720; frames whose number modulo 5 is in ``broken`` are broken."""
    device = os.open("/dev/video11", os.O_WRONLY)
    form = bytearray(208)
    struct.pack_into("<I4xII4sIII", form, 0, 2, 1280, 720, b"MJPG", 1, 0, 1280 * 720)
    fcntl.ioctl(device, 0xC0D05605, form)
    picture = np.full((720, 1280, 3), (0, 0, 200), np.uint8)
    whole = cv2.imencode(".jpg", picture)[1].tobytes()
    index = 0
    while not stop.wait(0.03):
        os.write(device, b"no jpeg" * 300 if index % 5 in broken else whole)
        index += 1
    os.close(device)


@pytest.mark.parametrize("broken", [(), (1, 3)])
def test_motion_jpeg_with_and_without_broken_frames(broken: Sequence[int]) -> None:
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


def test_no_descriptor_stays_open() -> None:
    open_camera("0").close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        open_camera("0").close()
        with pytest.raises(SourceMissing):
            open_camera("10")
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_program_that_uses_a_camera_is_named() -> None:
    source = open_camera("0")
    source.read()
    said = in_another_process("print(opened('0'))")
    assert said.startswith("camera-busy |")
    assert f"{Path('/proc/self/comm').read_text().strip()} (process {os.getpid()})" in said
    source.close()
    assert "640x" in in_another_process("print(opened('0'))") or "1280x720" in in_another_process("print(opened('0'))")


def test_a_camera_that_may_not_be_opened() -> None:
    os.chmod("/dev/video0", 0o600)
    said = in_another_process("print(opened('0'))", user=1000)
    assert said.startswith("camera-permission-denied |")
    assert "sudo usermod -aG video $USER" in said


def test_a_device_that_is_not_a_camera_is_an_error() -> None:
    names = {"10": "camera-not-fed", "5": "camera-missing", "/dev/null": "camera-not-a-camera"}
    for name, code in names.items():
        with pytest.raises(SourceMissing) as caught:
            open_camera(name)
        assert caught.value.code == code
        assert caught.value.expected == "/dev/video0 (vivid)"


@pytest.mark.parametrize("size", [(640, 360), (1280, 720)])
def test_the_delay_of_capture_is_measured(size: tuple[int, int]) -> None:
    from realtime.capture.v4l2_stream import V4l2Stream

    stream = V4l2Stream("/dev/video0", size, 30)
    for _ in range(60):
        assert stream.grab() is not None
    stream.close()
    waited, converted = stream.driver_delay.summary(), stream.conversion.summary()
    print(f"vivid {size} {stream.fourcc} {stream.fps:g} fps, timestamps from {stream.timestamp_source}")
    print(f"stamp to read ms {waited}; conversion ms {converted}; stale {stream.stale}")
    assert stream.driver_delay.count == 60
