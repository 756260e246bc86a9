"""What Linux says about its video devices: their names, what they can do, who has them open. Silent elsewhere.

The numbers are those of <linux/videodev2.h>, https://docs.kernel.org/userspace-api/media/v4l/.
"""

from __future__ import annotations

import os
import re
import struct
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK_DRIVER = "v4l2 loopback"

_QUERYCAP = 0x80685600
_REQBUFS = 0xC0145608
_STREAMON = 0x40045612
_CAP_VIDEO_CAPTURE = 0x1
_CAP_VIDEO_OUTPUT = 0x2
_CAP_CAPTURE_MPLANE = 0x1000
_CAP_DEVICE_CAPS = 0x80000000
_BUF_TYPE_CAPTURE = 1
_BUF_TYPE_OUTPUT = 2
_MEMORY_MMAP = 1
_SYSFS = Path("/sys/class/video4linux")


@dataclass(frozen=True, slots=True)
class Node:
    """One /dev/videoN as the kernel describes it."""

    path: str
    label: str
    driver: str = ""
    captures: bool = False
    outputs: bool = False
    refused: bool = False
    """It may not be opened by this user, so that only its name and whether it is virtual are known."""
    fed: bool | None = False
    """It is virtual, and a program sends pictures to it; None where the driver does not tell."""
    bus: str = ""
    """Where it is plugged in; stays when its number changes."""

    @property
    def index(self) -> int:
        """The N of /dev/videoN, or -1."""
        digits = self.path.removeprefix("/dev/video")
        return int(digits) if digits.isdigit() else -1

    @property
    def loopback(self) -> bool:
        """Whether it is a virtual camera, which programs feed."""
        return self.driver == LOOPBACK_DRIVER

    def __str__(self) -> str:
        return f"{self.path} ({self.label})"


def nodes() -> list[Node]:
    """Every video device, lowest number first."""
    if sys.platform != "linux":
        return []
    found = [inspect(str(path)) for path in Path("/dev").glob("video[0-9]*")]
    return sorted((node for node in found if node is not None), key=lambda node: node.index)


def inspect(path: str) -> Node | None:
    """Describe one device; None where there is no such device, or it is no video device."""
    if sys.platform != "linux":
        return None
    try:
        with opened(path) as handle:
            return _query(path, handle)
    except PermissionError:
        virtual = (_SYSFS / Path(path).name / "max_openers").exists()
        driver = LOOPBACK_DRIVER if virtual else ""
        return Node(path, _attribute(path, "name") or "name unknown", driver, refused=True)
    except OSError:
        return None


@contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor of the device that is open for as long as the block lasts."""
    handle = os.open(path, os.O_RDWR | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        yield handle
    finally:
        os.close(handle)


def busy(path: str) -> bool:
    """Whether another program has the capture side of a device, which only one can have."""
    if sys.platform != "linux":
        return False
    import errno
    import fcntl

    request = bytearray(struct.pack("<5I", 1, _BUF_TYPE_CAPTURE, _MEMORY_MMAP, 0, 0))
    try:
        with opened(path) as handle:
            fcntl.ioctl(handle, _REQBUFS, request)
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def free_output(path: str) -> None:
    """Make a v4l2loopback device take a new producer.

    v4l2loopback 0.12.7 with exclusive_caps=1 is left neither camera nor output by a producer that wrote
    frames and closed. Starting the output queue, even where that fails, marks its opener as the producer, and
    closing it then makes the device an output again. Newer versions take no harm from it.
    """
    if sys.platform != "linux":
        return
    import fcntl
    from contextlib import suppress

    with suppress(OSError), opened(path) as handle:
        fcntl.ioctl(handle, _STREAMON, struct.pack("<i", _BUF_TYPE_OUTPUT))


def size_of(path: str) -> tuple[int, int] | None:
    """The picture size that a v4l2loopback device is set to; None where it has none."""
    found = re.search(r":(\d+)x(\d+)", _attribute(path, "format"))
    return (int(found[1]), int(found[2])) if found else None


def users(path: str) -> list[str]:
    """The other programs that have a device open, as "name (process N)", as far as this user may know."""
    try:
        device = os.stat(path).st_rdev
    except OSError:
        return []
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name != str(os.getpid()) and _holds(process, device):
            try:
                name = (process / "comm").read_text().strip()
            except OSError:
                continue
            found.append(f"{name} (process {process.name})")
    return sorted(found)


def _holds(process: Path, device: int) -> bool:
    try:
        handles = list((process / "fd").iterdir())
    except OSError:
        return False
    return any(_is_device(handle, device) for handle in handles)


def _is_device(handle: Path, device: int) -> bool:
    try:
        return os.readlink(handle).startswith("/dev/") and os.stat(handle).st_rdev == device
    except OSError:
        return False


def _attribute(path: str, name: str) -> str:
    """What sysfs says; empty where it says nothing."""
    try:
        return (_SYSFS / Path(path).name / name).read_text().strip()
    except OSError:
        return ""


def _query(path: str, handle: int) -> Node | None:
    """VIDIOC_QUERYCAP; raises OSError where the device has gone or is of another kind."""
    if sys.platform != "linux":
        return None
    import fcntl

    answer = bytearray(104)
    fcntl.ioctl(handle, _QUERYCAP, answer)
    driver, card, bus, _version, all_caps, caps = struct.unpack_from("<16s32s32s3I", answer)
    can = caps if all_caps & _CAP_DEVICE_CAPS else all_caps
    captures = bool(can & (_CAP_VIDEO_CAPTURE | _CAP_CAPTURE_MPLANE))
    outputs = bool(can & _CAP_VIDEO_OUTPUT)
    fed = _fed(path, captures, outputs) if _text(driver) == LOOPBACK_DRIVER else False
    return Node(path, _text(card), _text(driver), captures, outputs, fed=fed, bus=_text(bus))


def _fed(path: str, captures: bool, outputs: bool) -> bool | None:
    """Whether a v4l2loopback device has a producer: with exclusive_caps=1 it is then no output any more."""
    if not (captures and outputs):
        return captures
    return {"capture": True, "output": False}.get(_attribute(path, "state"))


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode("utf-8", "replace").strip()
