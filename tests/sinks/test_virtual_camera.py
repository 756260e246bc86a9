"""The virtual camera: which device, what reaches it, and what is said when it cannot."""

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
from realtime.sinks.virtual_camera import VirtualCamera, WriteWatch, choose

SIZE = (64, 48)


class Memory:
    """A pyvirtualcam backend that keeps what it is sent."""

    opened: list[Memory] = []  # noqa: RUF012 - the library makes the instances, so the tests look here

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
    """The cameras opened by a test, newest last."""
    pyvirtualcam = pytest.importorskip("pyvirtualcam")
    pyvirtualcam.register_backend("memory", Memory)
    Memory.opened.clear()
    return Memory.opened


def frame(level: int) -> Frame:
    pixels = np.full((SIZE[1] * 3 // 2, SIZE[0]), level, np.uint8)
    return Frame(pixels, PixelFormat.I420, level, Stamps(0), 0)


def node(number: int, label: str = "Cam", *, fed: bool = False, refused: bool = False) -> v4l2_devices.Node:
    """A v4l2loopback device with exclusive_caps=1. The numbers in use here belong to no real one."""
    path, driver = f"/dev/video{number}", v4l2_devices.LOOPBACK_DRIVER
    return v4l2_devices.Node(
        path, label, driver, captures=fed, outputs=not fed and not refused, permission_denied=refused, has_producer=fed
    )


WEBCAM = v4l2_devices.Node("/dev/video900", "Integrated Camera", "uvcvideo", captures=True)


# What reaches the device


def test_a_black_frame_first_and_then_what_is_sent(memory: list[Memory]) -> None:
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


def test_closing_twice_and_sending_after(memory: list[Memory]) -> None:
    sink = VirtualCamera(size=SIZE, fps=30, backend="memory")
    sink.close()
    sink.close()
    assert memory[-1].closed == 1
    with pytest.raises(SinkLost, match="is closed"):
        sink.send(frame(20))


def test_a_named_camera(memory: list[Memory]) -> None:
    sink = VirtualCamera("OBS Virtual Camera", size=SIZE, fps=30, backend="memory")
    assert memory[-1].name == "OBS Virtual Camera"
    sink.close()


def test_what_the_library_refuses_becomes_one_line(memory: list[Memory]) -> None:
    assert memory == []
    with pytest.raises(SinkMissing, match="in use by another program") as caught:
        VirtualCamera("busy", size=SIZE, fps=30, backend="memory")
    assert caught.value.cure
    with pytest.raises(SinkMissing, match="no such camera") as caught:
        VirtualCamera("none", size=SIZE, fps=30, backend="memory")
    assert caught.value.cure
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="devices are files on Linux only")
def test_a_device_that_goes_away_is_lost(
    memory: list[Memory], tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = os.path.join(tmp_path, "video10")
    os.mknod(device)
    fake = v4l2_devices.Node(device, "reenact", v4l2_devices.LOOPBACK_DRIVER, outputs=True)
    now = [0]
    monkeypatch.setattr(virtual_camera, "choose", lambda *_: fake)
    monkeypatch.setattr("time.monotonic_ns", lambda: now[0])
    monkeypatch.setattr(WriteWatch, "refused", lambda *_: 0)
    library = pytest.importorskip("pyvirtualcam").camera
    monkeypatch.setattr(library, "BACKENDS", {"memory": Memory})
    sink = VirtualCamera(size=SIZE, fps=30)
    sink.send(frame(20))
    os.unlink(device)
    sink.send(frame(20))
    now[0] += 1_100_000_000
    with pytest.raises(SinkLost, match="has gone") as caught:
        sink.send(frame(20))
    assert "modprobe" in caught.value.cure
    sink.close()
    assert memory[-1].closed == 1


# Frames that the kernel refused


def counted() -> bool:
    return os.path.exists("/proc/thread-self/io")


@pytest.mark.skipif(not counted(), reason="this kernel does not count what a thread writes")
def test_refused_writes_are_counted(tmp_path: os.PathLike[str]) -> None:
    watch = WriteWatch()
    taken = os.open(os.path.join(tmp_path, "device"), os.O_WRONLY | os.O_CREAT)
    full = os.open("/dev/full", os.O_WRONLY)

    def write(handle: int) -> int:
        with suppress(OSError):
            os.write(handle, bytes(10_000))
        return watch.refused(10_000)

    assert [write(taken) for _ in range(3)] == [0, 0, 0]
    assert [write(full) for _ in range(3)] == [1, 2, 3]
    assert write(taken) == 0
    assert write(full) == 1
    watch.close()
    watch.close()
    os.close(taken)
    os.close(full)


@pytest.mark.skipif(not counted(), reason="this kernel does not count what a thread writes")
def test_another_thread_is_not_taken_for_a_refusal() -> None:
    watch = WriteWatch()
    found: list[int] = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: found.append(watch.refused(10_000)))
        thread.start()
        thread.join()
    watch.close()
    assert found == [0, 0]


def test_where_nothing_is_counted_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> int:
        raise FileNotFoundError

    watch = WriteWatch()
    monkeypatch.setattr(os, "open", absent)
    assert [watch.refused(10_000) for _ in range(3)] == [0, 0, 0]
    watch.close()


# Which device


def test_none_at_all_names_the_line_that_installs_one() -> None:
    with pytest.raises(SinkMissing, match="no virtual camera") as caught:
        choose([WEBCAM], None)
    assert "modprobe v4l2loopback devices=1 video_nr=10 card_label=reenact exclusive_caps=1" in caught.value.cure


def test_its_own_label_comes_first_then_the_lowest_number() -> None:
    assert choose([WEBCAM, node(901), node(902, "reenact")], None).path == "/dev/video902"
    assert choose([WEBCAM, node(903), node(901), node(902)], None).path == "/dev/video901"


def test_one_that_another_program_feeds_is_never_taken() -> None:
    assert choose([node(901, "reenact", fed=True), node(902)], None).path == "/dev/video902"
    with pytest.raises(SinkMissing, match=r"/dev/video901 \(OBS\) is in use by another program"):
        choose([node(901, "OBS", fed=True)], None)
    with pytest.raises(SinkMissing, match="is in use by another program"):
        choose([node(901, "OBS", fed=True)], "OBS")


def test_one_that_somebody_has_open_where_the_driver_does_not_tell_what_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = [replace(node(number), captures=True, outputs=True, has_producer=None) for number in (901, 902)]
    monkeypatch.setattr(
        v4l2_devices, "programs_using", lambda path: ["obs (process 7)"] if path == "/dev/video901" else []
    )
    assert choose(old, None).path == "/dev/video902"
    with pytest.raises(SinkMissing, match=r"open in obs \(process 7\)") as caught:
        choose(old[:1], None)
    assert "--sink virtualcam:/dev/video901" in caught.value.cure
    assert choose(old, "901").path == "/dev/video901"


def test_one_that_may_not_be_opened() -> None:
    assert choose([node(901, refused=True), node(902)], None).path == "/dev/video902"
    for wanted in (None, "901"):
        with pytest.raises(SinkMissing, match="may not be opened") as caught:
            choose([node(901, refused=True)], wanted)
        assert "usermod -aG video" in caught.value.cure


@pytest.mark.parametrize("wanted", ["/dev/video902", "902", "Zoom in", "zoom"])
def test_wanted_by_path_number_or_label(wanted: str) -> None:
    assert choose([WEBCAM, node(901, "OBS"), node(902, "Zoom in")], wanted).path == "/dev/video902"


def test_an_exact_label_beats_a_part_of_one() -> None:
    assert choose([node(901, "Cam two"), node(902, "Cam")], "Cam").path == "/dev/video902"


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("/dev/video999", "this machine has /dev/video901"),
        ("nothing", "there is no virtual camera 'nothing'"),
        ("/dev/video900", r"/dev/video900 \(Integrated Camera\) is a camera"),
        ("cam", "could be /dev/video901 .* or /dev/video902"),
    ],
)
def test_wanted_and_not_there(wanted: str, says: str) -> None:
    with pytest.raises(SinkMissing, match=says) as caught:
        choose([WEBCAM, node(901, "Cam one"), node(902, "Cam two")], wanted)
    assert caught.value.cure
