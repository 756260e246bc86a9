"""A virtual camera that other programs see as a webcam, through pyvirtualcam.

pyvirtualcam is licensed under the GPL, so it is imported here only, and only if a virtual camera is requested.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import SinkLost, SinkMissing, one_of
from engines.install_hint import install_command
from realtime.capture import v4l2_devices
from realtime.core.frames import PixelFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtime.core.frames import Frame

_NS = 1_000_000_000
_CHECK_NS = _NS
_MOST_FAILED_WRITES = 10
"""The number of failed writes in a row after which the device counts as lost."""
_OBS = "install OBS Studio (https://obsproject.com), start its virtual camera once, then close OBS"
_MODPROBE = (
    "sudo apt install v4l2loopback-dkms && "
    "sudo modprobe v4l2loopback devices=1 video_nr=10 card_label=reenact exclusive_caps=1"
)
_VIDEO_GROUP = "sudo usermod -aG video $USER, then log out and in again"


class VirtualCamera:
    """A Sink that feeds a virtual camera: v4l2loopback on Linux, OBS's (or Unity Capture) on Windows and macOS.

    ``device`` is /dev/videoN or a label on Linux, the camera's name elsewhere; None chooses one (see ``choose``).
    ``backend`` is the name of a backend that was registered with pyvirtualcam.

    A black frame is sent at once, because programs do not list a virtual camera that has sent no frame.

    Raises SinkMissing if there is none, another program feeds it, or this user may not open it.
    """

    format = PixelFormat.I420

    def __init__(
        self, device: str | None = None, *, size: tuple[int, int], fps: float, backend: str | None = None
    ) -> None:
        self._node = (
            choose(_reset_unusable(v4l2_devices.list_nodes()), device)
            if sys.platform == "linux" and backend is None
            else None
        )
        self.notes = _notes(self._node, size) if self._node else ()
        self._camera = _open(self._node.path if self._node else device, size, fps, backend)
        self._device: str = self._camera.device
        self._rdev = os.stat(self._device).st_rdev if self._node else 0
        label = f" ({self._node.label})" if self._node else ""
        self.name = f"virtual camera {self._device}{label}, {size[0]}x{size[1]} I420"
        self._writes = WriteCheck() if self._node else None
        self._frame_bytes = size[0] * size[1] * 3 // 2
        self._checked_ns = time.monotonic_ns()
        self._camera.send(_black(size))

    def send(self, frame: Frame) -> None:
        """Send an I420 frame. Raises SinkLost if the device has been removed or accepts no more frames."""
        if self._camera is None:
            raise SinkLost("virtualcam-closed", f"{self._device} is closed")
        now = time.monotonic_ns()
        if self._node is not None and now - self._checked_ns > _CHECK_NS:
            self._checked_ns = now
            self._check_present()
        self._camera.send(frame.pixels)
        if self._writes is not None and self._writes.failed(self._frame_bytes) >= _MOST_FAILED_WRITES:
            raise SinkLost("virtualcam-write-failed", f"{self._device} accepts no more frames", cure=_reload())

    def close(self) -> None:
        """Release the device. close() is idempotent."""
        if self._camera is None:
            return
        self._camera.close()
        self._camera = None
        if self._writes is not None:
            self._writes.close()
        if self._node is not None:
            node = v4l2_devices.inspect(self._node.path)
            if node is not None and not node.outputs:
                v4l2_devices.reset_output(self._node.path)

    def _check_present(self) -> None:
        try:
            present = os.stat(self._device).st_rdev == self._rdev
        except OSError:
            present = False
        if not present:
            raise SinkLost("virtualcam-removed", f"the virtual camera {self._device} has been removed", cure=_reload())


class WriteCheck:
    """Detects frames that the kernel did not accept: pyvirtualcam only prints that a write has failed.

    The kernel counts the bytes that each thread has written successfully (proc(5), /proc/PID/io, wchar). If it does
    not, no write counts as failed. Belongs to the thread that writes; on another thread the count restarts.
    """

    def __init__(self) -> None:
        self._thread = 0
        self._handle = -1
        self._written = 0
        self._failed = 0

    def failed(self, frame_bytes: int) -> int:
        """Return how many writes in a row, up to the last one, have failed. Call it after each write."""
        if self._thread != threading.get_native_id():
            self._start()
            return 0
        try:
            written = self._bytes_written()
        except OSError:
            # The counter belonged to a thread that has ended and whose identifier this one got.
            self._start()
            return 0
        succeeded = self._handle < 0 or written - self._written >= frame_bytes
        self._written = written
        self._failed = 0 if succeeded else self._failed + 1
        return self._failed

    def close(self) -> None:
        """Close the counter. close() is idempotent."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1
        self._thread = 0

    def _start(self) -> None:
        self.close()
        self._thread = threading.get_native_id()
        self._failed = 0
        try:
            self._handle = os.open("/proc/thread-self/io", os.O_RDONLY)
            self._written = self._bytes_written()
        except OSError:
            self.close()
            self._thread = threading.get_native_id()

    def _bytes_written(self) -> int:
        if self._handle < 0:
            return 0
        found = re.search(rb"wchar: (\d+)", os.pread(self._handle, 512, 0))
        return int(found[1]) if found else 0


def choose(nodes: Sequence[v4l2_devices.Node], wanted: str | None) -> v4l2_devices.Node:
    """Return the v4l2loopback device to feed, out of all video devices.

    ``wanted`` is a path, a number or (part of) a label. Without it, a device labelled reenact comes first, then one
    that no program has open, then the lowest number; one that another program feeds is never chosen.

    Raises SinkMissing.
    """
    if wanted is not None:
        node = _find(nodes, wanted)
        if node.permission_denied or node.has_producer:
            raise _unavailable(node)
        return node
    virtual = [node for node in nodes if node.loopback]
    if not virtual:
        raise SinkMissing("virtualcam-missing", "no virtual camera on this machine", cure=_MODPROBE)
    free = [node for node in virtual if not node.permission_denied and not _in_use(node)]
    if not free:
        raise _unavailable(virtual[0])

    def preference(node: v4l2_devices.Node) -> tuple[bool, bool, int]:
        return "reenact" not in node.label.lower(), bool(v4l2_devices.programs_using(node.path)), node.index

    return min(free, key=preference)


def _in_use(node: v4l2_devices.Node) -> bool:
    """Return True if another program feeds a device, or has it open and the driver does not report why."""
    return bool(v4l2_devices.programs_using(node.path)) if node.has_producer is None else node.has_producer


def _find(nodes: Sequence[v4l2_devices.Node], wanted: str) -> v4l2_devices.Node:
    path = f"/dev/video{wanted}" if wanted.isdecimal() else wanted
    virtual = [node for node in nodes if node.loopback]
    exact = [node for node in nodes if path in (node.path, node.label)]
    matches = exact or [node for node in virtual if wanted.lower() in node.label.lower()]
    if not matches:
        expected = one_of(map(str, virtual)) if virtual else "one of v4l2loopback (this machine has none)"
        raise SinkMissing("virtualcam-missing", f"no virtual camera {wanted!r}", expected, _MODPROBE)
    if not matches[0].loopback:
        raise SinkMissing("virtualcam-not-virtual", f"the camera {matches[0]}", "one of v4l2loopback", _MODPROBE)
    if len(matches) > 1:
        found = f"{len(matches)} virtual cameras named like {wanted!r}: {', '.join(map(str, matches))}"
        raise SinkMissing("virtualcam-ambiguous", found, "one", "give its /dev/videoN")
    return matches[0]


def _unavailable(node: v4l2_devices.Node) -> SinkMissing:
    """Return the reason why a virtual camera cannot be fed."""
    if node.permission_denied:
        found = f"the virtual camera {node} may not be opened by this user"
        return SinkMissing("virtualcam-permission-denied", found, cure=_VIDEO_GROUP)
    anyway = "" if node.has_producer else f", or use it anyway: --sink virtualcam:{node.path}"
    return _busy(node.path, str(node), anyway)


def _busy(path: str, label: str, anyway: str = "") -> SinkMissing:
    users = ", ".join(v4l2_devices.programs_using(path)) or "another program"
    return SinkMissing(
        "virtualcam-busy",
        f"the virtual camera {label} is in use by {users}",
        cure=f"close the program that feeds it, choose another --sink{anyway}",
    )


def _reset_unusable(nodes: Sequence[v4l2_devices.Node]) -> list[v4l2_devices.Node]:
    """Return the same devices, after resetting those that an earlier producer left as neither camera nor output."""
    usable = []
    for node in nodes:
        now: v4l2_devices.Node | None = node
        if node.loopback and not node.permission_denied:
            now = v4l2_devices.inspect(node.path)
            if now is not None and not now.captures and not now.outputs:
                v4l2_devices.reset_output(node.path)
                now = v4l2_devices.inspect(node.path)
        usable.append(now or node)
    return usable


def _notes(node: v4l2_devices.Node, size: tuple[int, int]) -> tuple[str, ...]:
    """Return a note if a program has the device open and expects another size."""
    before = v4l2_devices.producer_size(node.path)
    if before is None or before == size:
        return ()
    readers = v4l2_devices.programs_using(node.path)
    if not readers:
        return ()
    now = f"its size has changed from {before[0]}x{before[1]} to {size[0]}x{size[1]}"
    return (f"{', '.join(readers)} has {node.path} open: {now}, so select the camera there again",)


def _open(device: str | None, size: tuple[int, int], fps: float, backend: str | None) -> Any:
    try:
        import pyvirtualcam
    except ImportError as error:
        raise SinkMissing(
            "virtualcam-library-missing", f"pyvirtualcam cannot be loaded: {error}", cure=install_command()
        ) from None
    try:
        return pyvirtualcam.Camera(*size, fps, fmt=pyvirtualcam.PixelFormat.I420, device=device, backend=backend)
    except (RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        # pyvirtualcam raises a RuntimeError with the system's message and nothing else to decide by
        if device is not None and "busy" in reason.lower():
            raise _busy(device, device) from None
        cure = _MODPROBE if sys.platform == "linux" else _OBS
        raise SinkMissing("virtualcam-unavailable", f"no virtual camera can be used: {reason}", cure=cure) from None


def _black(size: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a black I420 picture: Y is 16, U and V are 128 in BT.601 limited range."""
    black = np.full((size[1] * 3 // 2, size[0]), 128, np.uint8)
    black[: size[1]] = 16
    return black


def _reload() -> str:
    return "load it again: " + _MODPROBE.split("&& ")[1] if sys.platform == "linux" else _OBS
