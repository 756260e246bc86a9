"""The video devices of a Linux machine: their names, what they can do, which programs use them.

On other systems there are none.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from realtime.capture import v4l2_abi

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK_DRIVER = "v4l2 loopback"

_SYSFS = Path("/sys/class/video4linux")


@dataclass(frozen=True, slots=True)
class Node:
    """A device node, /dev/videoN, as the kernel describes it."""

    path: str
    label: str
    driver: str = ""
    captures: bool = False
    outputs: bool = False
    permission_denied: bool = False
    """This user may not open the device; then only its name is known, and whether it is virtual."""
    has_producer: bool | None = False
    """The device is virtual and a program sends frames to it; None if the driver does not report it."""
    bus: str = ""
    """Where the device is plugged in; stays when its number changes."""

    @property
    def index(self) -> int:
        """The N of /dev/videoN, or -1."""
        digits = self.path.removeprefix("/dev/video")
        return int(digits) if digits.isdigit() else -1

    @property
    def loopback(self) -> bool:
        """Whether the device is a virtual camera of v4l2loopback."""
        return self.driver == LOOPBACK_DRIVER

    def __str__(self) -> str:
        return f"{self.path} ({self.label})"


def list_nodes() -> list[Node]:
    """Return every video device, lowest number first."""
    if sys.platform != "linux":
        return []
    found = [inspect(str(path)) for path in Path("/dev").glob("video[0-9]*")]
    return sorted((node for node in found if node is not None), key=lambda node: node.index)


def inspect(path: str) -> Node | None:
    """Describe a device; None if there is no such device, or it is not a video device."""
    if sys.platform != "linux":
        return None
    try:
        with open_device(path) as handle:
            return _describe(path, handle)
    except PermissionError:
        virtual = (_SYSFS / Path(path).name / "max_openers").exists()
        driver = LOOPBACK_DRIVER if virtual else ""
        return Node(path, _attribute(path, "name") or "name unknown", driver, permission_denied=True)
    except OSError:
        return None


@contextmanager
def open_device(path: str) -> Iterator[int]:
    """Open a device for the duration of the block and provide its descriptor. Raises OSError."""
    handle = os.open(path, os.O_RDWR | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        yield handle
    finally:
        os.close(handle)


def is_busy(path: str) -> bool:
    """Return True if another program captures from a device; only one can."""
    if sys.platform != "linux":
        return False
    import errno

    try:
        with open_device(path) as handle:
            v4l2_abi.request_buffers(handle, 1)
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def reset_output(path: str) -> None:
    """Make a v4l2loopback device accept a new producer. Errors are ignored.

    With exclusive_caps=1, v4l2loopback 0.12.7 leaves a device with neither camera nor output after its producer has
    written frames and closed it. Starting the output queue, even where that fails, marks its opener as the producer,
    and closing it then makes the device an output again. Newer versions are not affected.
    """
    with suppress(OSError), open_device(path) as handle:
        v4l2_abi.stream_on(handle, v4l2_abi.BUF_TYPE_VIDEO_OUTPUT)


def producer_size(path: str) -> tuple[int, int] | None:
    """Return the frame size that a v4l2loopback device is set to; None if it has none."""
    found = re.search(r":(\d+)x(\d+)", _attribute(path, "format"))
    return (int(found[1]), int(found[2])) if found else None


def programs_using(path: str) -> list[str]:
    """Return the other programs that have a device open, as "name (process N)", as far as this user may see them."""
    try:
        device = os.stat(path).st_rdev
    except OSError:
        return []
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name != str(os.getpid()) and _has_open(process, device):
            try:
                name = (process / "comm").read_text().strip()
            except OSError:
                continue
            found.append(f"{name} (process {process.name})")
    return sorted(found)


def _has_open(process: Path, device: int) -> bool:
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
    """Return an attribute of a device in sysfs; empty if there is none."""
    try:
        return (_SYSFS / Path(path).name / name).read_text().strip()
    except OSError:
        return ""


def _describe(path: str, handle: int) -> Node:
    """Describe an open device. Raises OSError if it has gone or is not a video device."""
    found = v4l2_abi.query_capability(handle)
    captures = bool(found.flags & (v4l2_abi.CAP_VIDEO_CAPTURE | v4l2_abi.CAP_VIDEO_CAPTURE_MPLANE))
    outputs = bool(found.flags & v4l2_abi.CAP_VIDEO_OUTPUT)
    producer = _has_producer(path, captures, outputs) if found.driver == LOOPBACK_DRIVER else False
    return Node(path, found.card, found.driver, captures, outputs, has_producer=producer, bus=found.bus)


def _has_producer(path: str, captures: bool, outputs: bool) -> bool | None:
    """Return whether a v4l2loopback device has a producer: with exclusive_caps=1 it then is no output any more."""
    if not (captures and outputs):
        return captures
    return {"capture": True, "output": False}.get(_attribute(path, "state"))
