"""Test the virtual camera: the choice of a device, the frames that it gets, and its errors."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engines.errors import SinkLost, SinkMissing
from realtime.capture import v4l2_devices
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.sinks import virtual_camera
from realtime.sinks.virtual_camera import VirtualCamera, WriteCheck, choose

SIZE = (64, 48)


class Memory:
    """A pyvirtualcam backend that keeps the frames that it is sent."""

    opened: list[Memory] = []  # noqa: RUF012 - the library creates the instances

    def __init__(self, *, width: int, height: int, fps: float, device: str | None, **_: Any) -> None:
        if device == "busy":
            raise RuntimeError("Virtual camera device busy could not be configured: Device or resource busy")
        if device == "none":
            raise RuntimeError("no such camera")
        self.size, self.fps, self.name = (width, height), fps, device or "In memory"
        self.frames: list[np.ndarray[Any, np.dtype[np.uint8]]] = []
        self.closed = 0
        Memory.opened.append(self)

    def close(self) -> None:
        self.closed += 1

    def send(self, frame: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        self.frames.append(frame.copy())

    def device(self) -> str:
        return self.name

    def native_fourcc(self) -> int | None:
        return None


@pytest.fixture
def memory() -> list[Memory]:
    """Return the list of cameras that the test opens, newest last."""
    pyvirtualcam = pytest.importorskip("pyvirtualcam")
    pyvirtualcam.register_backend("memory", Memory)
    Memory.opened.clear()
    return Memory.opened


def frame(level: int) -> Frame:
    pixels = np.full((SIZE[1] * 3 // 2, SIZE[0]), level, np.uint8)
    return Frame(pixels, PixelFormat.I420, level, Stamps(0), 0)


def node(number: int, label: str = "Cam", *, fed: bool = False, refused: bool = False) -> v4l2_devices.Node:
    """Return a v4l2loopback device with exclusive_caps=1, whose number no real device has."""
    path, driver = f"/dev/video{number}", v4l2_devices.LOOPBACK_DRIVER
    return v4l2_devices.Node(
        path, label, driver, captures=fed, outputs=not fed and not refused, permission_denied=refused, has_producer=fed
    )


WEBCAM = v4l2_devices.Node("/dev/video900", "Integrated Camera", "uvcvideo", captures=True)


# Frames


def test_a_black_frame_comes_before_the_frames_that_are_sent(memory: list[Memory]) -> None:
    sink = VirtualCamera(size=SIZE, fps=30, backend="memory")
    assert sink.format is PixelFormat.I420
    assert sink.name == "virtual camera In memory, 64x48 I420"
    camera = memory[-1]
    assert (camera.size, camera.fps) == (SIZE, 30)
    luma = SIZE[0] * SIZE[1]
    assert set(camera.frames[0][:luma]) == {16}
    assert set(camera.frames[0][luma:]) == {128}
    for level in (20, 30):
        sink.send(frame(level))
    assert [int(sent[0]) for sent in camera.frames[1:]] == [20, 30]
    assert camera.frames[1].size == luma * 3 // 2
    sink.close()


def test_close_is_idempotent_and_sending_afterwards_raises(memory: list[Memory]) -> None:
    sink = VirtualCamera(size=SIZE, fps=30, backend="memory")
    sink.close()
    sink.close()
    assert memory[-1].closed == 1
    with pytest.raises(SinkLost) as caught:
        sink.send(frame(20))
    assert caught.value.code == "virtualcam-closed"


def test_a_camera_can_be_named(memory: list[Memory]) -> None:
    sink = VirtualCamera("OBS Virtual Camera", size=SIZE, fps=30, backend="memory")
    assert memory[-1].name == "OBS Virtual Camera"
    sink.close()


def test_an_error_of_the_library_becomes_one_line(memory: list[Memory]) -> None:
    assert memory == []
    with pytest.raises(SinkMissing) as caught:
        VirtualCamera("busy", size=SIZE, fps=30, backend="memory")
    assert caught.value.code == "virtualcam-busy"
    assert caught.value.cure
    with pytest.raises(SinkMissing) as caught:
        VirtualCamera("none", size=SIZE, fps=30, backend="memory")
    assert caught.value.code == "virtualcam-unavailable"
    assert caught.value.cure
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="devices are files on Linux only")
def test_a_device_that_is_removed_is_lost(
    memory: list[Memory], tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = os.path.join(tmp_path, "video10")
    os.mknod(device)
    fake = v4l2_devices.Node(device, "reenact", v4l2_devices.LOOPBACK_DRIVER, outputs=True)
    now = [0]
    monkeypatch.setattr(virtual_camera, "choose", lambda *_: fake)
    monkeypatch.setattr("time.monotonic_ns", lambda: now[0])
    monkeypatch.setattr(WriteCheck, "failed", lambda *_: 0)
    library = pytest.importorskip("pyvirtualcam").camera
    monkeypatch.setattr(library, "BACKENDS", {"memory": Memory})
    sink = VirtualCamera(size=SIZE, fps=30)
    sink.send(frame(20))
    os.unlink(device)
    sink.send(frame(20))
    now[0] += 1_100_000_000
    with pytest.raises(SinkLost) as caught:
        sink.send(frame(20))
    assert caught.value.code == "virtualcam-removed"
    assert "modprobe" in caught.value.cure
    sink.close()
    assert memory[-1].closed == 1


# Failed writes


def has_write_counter() -> bool:
    return os.path.exists("/proc/thread-self/io")


@pytest.mark.skipif(not has_write_counter(), reason="this kernel does not count what a thread writes")
def test_failed_writes_are_counted(tmp_path: os.PathLike[str]) -> None:
    check = WriteCheck()
    taken = os.open(os.path.join(tmp_path, "device"), os.O_WRONLY | os.O_CREAT)
    full = os.open("/dev/full", os.O_WRONLY)

    def write(handle: int) -> int:
        with suppress(OSError):
            os.write(handle, bytes(10_000))
        return check.failed(10_000)

    assert [write(taken) for _ in range(3)] == [0, 0, 0]
    assert [write(full) for _ in range(3)] == [1, 2, 3]
    assert write(taken) == 0
    assert write(full) == 1
    check.close()
    check.close()
    os.close(taken)
    os.close(full)


@pytest.mark.skipif(not has_write_counter(), reason="this kernel does not count what a thread writes")
def test_a_change_of_thread_does_not_count_as_a_failure() -> None:
    check = WriteCheck()
    found: list[int] = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: found.append(check.failed(10_000)))
        thread.start()
        thread.join()
    check.close()
    assert found == [0, 0]


def test_without_a_counter_no_write_counts_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> int:
        raise FileNotFoundError

    check = WriteCheck()
    monkeypatch.setattr(os, "open", absent)
    assert [check.failed(10_000) for _ in range(3)] == [0, 0, 0]
    check.close()


# The choice of a device


def test_without_a_device_the_cure_installs_one() -> None:
    with pytest.raises(SinkMissing) as caught:
        choose([WEBCAM], None)
    assert caught.value.code == "virtualcam-missing"
    assert "modprobe v4l2loopback devices=1 video_nr=10 card_label=reenact exclusive_caps=1" in caught.value.cure


def test_the_label_reenact_comes_first_then_the_lowest_number() -> None:
    assert choose([WEBCAM, node(901), node(902, "reenact")], None).path == "/dev/video902"
    assert choose([WEBCAM, node(903), node(901), node(902)], None).path == "/dev/video901"


def test_a_device_that_another_program_feeds_is_never_chosen() -> None:
    assert choose([node(901, "reenact", fed=True), node(902)], None).path == "/dev/video902"
    for wanted in (None, "OBS"):
        with pytest.raises(SinkMissing) as caught:
            choose([node(901, "OBS", fed=True)], wanted)
        assert caught.value.code == "virtualcam-busy"
        assert "/dev/video901 (OBS)" in caught.value.found


def test_a_device_that_is_open_elsewhere_counts_as_in_use_where_the_driver_does_not_report_its_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = [replace(node(number), captures=True, outputs=True, has_producer=None) for number in (901, 902)]
    monkeypatch.setattr(
        v4l2_devices, "programs_using", lambda path: ["obs (process 7)"] if path == "/dev/video901" else []
    )
    assert choose(old, None).path == "/dev/video902"
    with pytest.raises(SinkMissing) as caught:
        choose(old[:1], None)
    assert caught.value.code == "virtualcam-busy"
    assert "obs (process 7)" in caught.value.found
    assert "--sink virtualcam:/dev/video901" in caught.value.cure
    assert choose(old, "901").path == "/dev/video901"


def test_a_device_that_may_not_be_opened_is_not_chosen() -> None:
    assert choose([node(901, refused=True), node(902)], None).path == "/dev/video902"
    for wanted in (None, "901"):
        with pytest.raises(SinkMissing) as caught:
            choose([node(901, refused=True)], wanted)
        assert caught.value.code == "virtualcam-permission-denied"
        assert "usermod -aG video" in caught.value.cure


@pytest.mark.parametrize("wanted", ["/dev/video902", "902", "Zoom in", "zoom"])
def test_a_device_is_found_by_path_number_or_label(wanted: str) -> None:
    assert choose([WEBCAM, node(901, "OBS"), node(902, "Zoom in")], wanted).path == "/dev/video902"


def test_an_exact_label_comes_before_a_part_of_one() -> None:
    assert choose([node(901, "Cam two"), node(902, "Cam")], "Cam").path == "/dev/video902"


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ("/dev/video999", "virtualcam-missing"),
        ("nothing", "virtualcam-missing"),
        ("/dev/video900", "virtualcam-not-virtual"),
        ("cam", "virtualcam-ambiguous"),
    ],
)
def test_a_device_that_is_not_there_is_an_error(wanted: str, code: str) -> None:
    with pytest.raises(SinkMissing) as caught:
        choose([WEBCAM, node(901, "Cam one"), node(902, "Cam two")], wanted)
    assert caught.value.code == code
    assert caught.value.cure
