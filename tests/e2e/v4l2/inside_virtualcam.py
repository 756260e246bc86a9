"""Runs in the guest: /dev/video10 "ReenactCam" and /dev/video11 "FaceCam" are v4l2loopback, /dev/video0 is vivid."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.errors import SinkLost, SinkMissing, SourceMissing
from realtime.capture import v4l2_devices
from realtime.capture.source import open_source
from realtime.capture.webcam import Webcam
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.sinks.sink import Sink, open_sink
from tests.e2e.v4l2.parts import in_another_process, unplugged

SIZE = (640, 360)
OPEN: list[Sink] = []
"""The sinks that a test opened, which are closed after it: otherwise the driver cannot be reloaded."""
SINK = (
    "from realtime.sinks.sink import open_sink\n"
    "def open_and_close(spec):\n"
    "    try: sink = open_sink(spec, size=(640, 360), fps=30)\n"
    "    except ReenactError as error: return f'{error.code} | {error.found} | {error.cure}'\n"
    "    sink.close(); return sink.name\n"
)


@pytest.fixture(autouse=True, params=[1, 0], ids=["exclusive_caps=1", "exclusive_caps=0"])
def _loopback(request: pytest.FixtureRequest) -> Iterator[None]:
    """Reload the driver, so that no test is affected by another."""
    load(request.param)
    yield
    for sink in OPEN:
        sink.close()
    OPEN.clear()
    subprocess.run(["rmmod", "v4l2loopback"], check=False, capture_output=True)


def load(exclusive: int) -> None:
    subprocess.run(["rmmod", "v4l2loopback"], check=False, capture_output=True)
    options = ["devices=2", "video_nr=10,11", f"exclusive_caps={exclusive},{exclusive}"]
    module = os.environ["REENACT_LOOPBACK_KO"]
    subprocess.run(["insmod", module, *options, "card_label=ReenactCam,FaceCam", "max_buffers=4"], check=True)


def feed(spec: str = "virtualcam", size: tuple[int, int] = SIZE) -> Sink:
    OPEN.append(open_sink(spec, size=size, fps=30))
    return OPEN[-1]


def picture(index: int, size: tuple[int, int] = SIZE) -> Frame:
    """Return a frame with detail everywhere, different for each index."""
    rng = np.random.default_rng(index)
    small = rng.integers(0, 255, (9, 16, 3), dtype=np.uint8)
    pixels = cv2.cvtColor(cv2.resize(small, size), cv2.COLOR_RGB2YUV_I420).astype(np.uint8, copy=False)
    return Frame(pixels, PixelFormat.I420, index, Stamps(0), 0)


def send_for(sink: Sink, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sink.send(picture(0))


class Watcher:
    """Another process that reads a camera."""

    def __init__(self, device: str, count: int, out: Path) -> None:
        self.out = out
        command = [sys.executable, "-m", "tests.e2e.v4l2.reader", device, str(count), str(out)]
        self.process = subprocess.Popen(command)

    def reads(self) -> bool:
        """Wait for a fortieth of a second. Return True if it still reads."""
        try:
            self.process.wait(0.025)
        except subprocess.TimeoutExpired:
            return True
        return False

    def seen(self) -> list[bytes]:
        assert self.process.wait() == 0, "it found no camera"
        return [row.tobytes() for row in np.load(self.out)]


def send_while_watched(sink: Sink, watcher: Watcher, first: int) -> dict[bytes, int]:
    """Send frames until the watcher ends. Return their pixels and indices."""
    sent: dict[bytes, int] = {}
    index = first
    while watcher.reads():
        frame = picture(index)
        sent[frame.pixels.tobytes()] = index
        sink.send(frame)
        index += 1
    return sent


def test_another_program_receives_the_same_pixels(tmp_path: Path) -> None:
    sink = feed()
    assert sink.name == "virtual camera /dev/video10 (ReenactCam), 640x360 I420"
    sent: dict[bytes, int] = {}
    for visit in range(2):
        watcher = Watcher("/dev/video10", 10, tmp_path / f"{visit}.npy")
        sent |= send_while_watched(sink, watcher, 1000 * visit)
        seen = watcher.seen()
        # A reader that is delayed while the driver's four buffers are overwritten gets parts of two pictures.
        order = [sent[each] for each in seen if each in sent]
        assert len(order) >= 8
        assert order == sorted(order)
    sink.close()


def test_a_reader_that_stays_receives_the_next_run(tmp_path: Path) -> None:
    first = feed("virtualcam:10")
    watcher = Watcher("/dev/video10", 30, tmp_path / "seen.npy")
    sent: dict[bytes, int] = {}
    while watcher.reads() and "python" not in "".join(v4l2_devices.programs_using("/dev/video10")):
        first.send(picture(0))
    for index in range(20):
        first.send(picture(index))
        sent[picture(index).pixels.tobytes()] = index
        watcher.reads()
    first.close()
    second = feed("virtualcam:10")
    assert second.notes == ()
    later = send_while_watched(second, watcher, 100)
    second.close()
    seen = watcher.seen()
    assert any(each in later for each in seen)


def test_a_change_of_size_is_noted_where_a_reader_has_the_device_open(tmp_path: Path) -> None:
    sink = feed("virtualcam:10")
    watcher = Watcher("/dev/video10", 1000, tmp_path / "seen.npy")
    while watcher.reads() and not v4l2_devices.programs_using("/dev/video10"):
        sink.send(picture(0))
    sink.close()
    other = feed("virtualcam:10", (320, 240))
    watcher.process.kill()
    watcher.process.wait()
    other.close()
    assert "from 640x360 to 320x240" in other.notes[0]


def test_it_can_be_opened_again_and_again() -> None:
    for index in range(5):
        sink = feed("virtualcam:10")
        sink.send(picture(index))
        assert v4l2_devices.inspect("/dev/video10").has_producer  # type: ignore[union-attr]
        sink.close()
        sink.close()
        assert not v4l2_devices.inspect("/dev/video10").has_producer  # type: ignore[union-attr]


def test_a_killed_producer_leaves_the_device_usable() -> None:
    program = "import os, signal; sink = open_sink('virtualcam:10', size=(640, 360), fps=30)\nos.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", f"{SINK}\n{program}"], check=False)
    assert killed.returncode == -9
    feed("virtualcam:10").close()


def test_a_device_that_another_program_feeds_is_not_taken() -> None:
    mine = feed()
    said = in_another_process(
        f"{SINK}for spec in ('virtualcam:10', 'virtualcam:ReenactCam', 'virtualcam'): print(open_and_close(spec))"
    )
    by_path, by_label, auto = said.splitlines()
    assert by_path.startswith("virtualcam-busy |")
    assert by_path == by_label
    assert f"(process {os.getpid()})" in by_path
    assert auto == "virtual camera /dev/video11 (FaceCam), 640x360 I420"
    mine.close()


def test_auto_capture_does_not_take_its_own_output() -> None:
    with_picture = feed()
    with_picture.send(picture(0))
    source = open_source("auto", size=SIZE, fps=30, pace="live")
    assert source.name.startswith("/dev/video0 (vivid)")
    source.close()
    with_picture.close()


def test_a_device_that_is_not_a_virtual_camera_is_an_error() -> None:
    for spec, code in (("/dev/video0", "virtualcam-not-virtual"), ("Zoom", "virtualcam-missing")):
        with pytest.raises(SinkMissing) as caught:
            feed(f"virtualcam:{spec}")
        assert caught.value.code == code


def test_permission() -> None:
    for device in ("/dev/video10", "/dev/video11"):
        os.chmod(device, 0o600)
    said = in_another_process(
        f"{SINK}print(open_and_close('virtualcam')); print(open_and_close('virtualcam:11'))", user=1000
    )
    assert said.count("virtualcam-permission-denied |") == said.count("sudo usermod -aG video $USER") == 2


def test_a_device_that_is_removed_is_lost() -> None:
    sink = feed("virtualcam:10")
    sink.send(picture(0))
    os.unlink("/dev/video10")
    with pytest.raises(SinkLost) as caught:
        send_for(sink, 5)
    assert caught.value.code == "virtualcam-removed"
    sink.close()


def test_without_the_driver_the_cure_loads_it() -> None:
    subprocess.run(["rmmod", "v4l2loopback"], check=True)
    with pytest.raises(SinkMissing) as caught:
        feed()
    assert caught.value.code == "virtualcam-missing"
    assert "modprobe v4l2loopback" in caught.value.cure


def test_a_camera_that_returns_under_another_number_is_found_again() -> None:
    source = open_source("vivid", size=SIZE, fps=30, pace="live")
    assert isinstance(source, Webcam)
    source.read()
    module = os.environ["REENACT_LOOPBACK_KO"]
    again = None
    try:
        with unplugged():
            source.close()
            subprocess.run(["rmmod", "v4l2loopback"], check=True)
            # another device gets its number meanwhile
            options = ["devices=1", "video_nr=0", "exclusive_caps=0", "card_label=Another"]
            subprocess.run(["insmod", module, *options], check=True)
            with pytest.raises(SourceMissing) as caught:
                source.reopen()
            assert caught.value.code == "camera-missing"
        again = source.reopen()
        assert again.name.startswith("/dev/video1 (vivid), 640x360 ")
        assert again.read().pixels.shape == (360, 640, 3)
    finally:
        if again is not None:
            again.close()
        subprocess.run(["rmmod", "v4l2loopback"], check=True)
        with unplugged():
            pass
    back = open_source("0", size=SIZE, fps=30, pace="live")
    back.close()
    assert back.name.startswith("/dev/video0 (vivid)")
