"""A virtual camera that other programs see as a webcam, through pyvirtualcam.

pyvirtualcam is GPL, so it is imported here only, and only when a virtual camera is asked for.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import SinkLost, SinkMissing
from engines.install_hint import install
from realtime.capture import v4l2_devices
from realtime.core.frames import PixelFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtime.core.frames import Frame

_NS = 1_000_000_000
_CHECK_NS = _NS
_LOST_WRITES = 10
"""So many refused frames in a row, and the device is taken for dead."""
_OBS = "install OBS Studio (https://obsproject.com), start its virtual camera once, then close OBS"
_MODPROBE = (
    "sudo apt install v4l2loopback-dkms && "
    "sudo modprobe v4l2loopback devices=1 video_nr=10 card_label=reenact exclusive_caps=1"
)
_VIDEO_GROUP = "sudo usermod -aG video $USER, then log out and in again"


class VirtualCamera:
    """A Sink that feeds a virtual camera: v4l2loopback on Linux, OBS's (or Unity Capture) on Windows and macOS.

    ``device`` is /dev/videoN or a label on Linux, the camera's name elsewhere; None chooses one: see ``choose``.
    ``backend`` is a name registered with pyvirtualcam, for one that it does not bring.

    A black frame is sent at once, because programs do not list a virtual camera that has not sent any.

    Raises SinkMissing when there is none, another program feeds it, or it may not be opened.
    """

    format = PixelFormat.I420

    def __init__(
        self, device: str | None = None, *, size: tuple[int, int], fps: float, backend: str | None = None
    ) -> None:
        self._node = (
            choose(_usable(v4l2_devices.list_nodes()), device) if sys.platform == "linux" and backend is None else None
        )
        self.notes = _resized(self._node, size) if self._node else ()
        self._camera = _open(self._node.path if self._node else device, size, fps, backend)
        self._device: str = self._camera.device
        self._rdev = os.stat(self._device).st_rdev if self._node else 0
        label = f" ({self._node.label})" if self._node else ""
        self.name = f"virtual camera {self._device}{label}, {size[0]}x{size[1]} I420"
        self._writes = WriteWatch() if self._node else None
        self._frame_bytes = size[0] * size[1] * 3 // 2
        self._checked_ns = time.monotonic_ns()
        self._camera.send(_black(size))

    def send(self, frame: Frame) -> None:
        """Show an I420 frame. Raises SinkLost when the device went away or takes no frames any more."""
        if self._camera is None:
            raise SinkLost(f"{self._device} is closed")
        now = time.monotonic_ns()
        if self._node is not None and now - self._checked_ns > _CHECK_NS:
            self._checked_ns = now
            self._check_present()
        self._camera.send(frame.pixels)
        if self._writes is not None and self._writes.refused(self._frame_bytes) >= _LOST_WRITES:
            raise SinkLost(f"{self._device} takes no frames any more", cure=_reload())

    def close(self) -> None:
        """Let go of the device; may be called twice."""
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
            raise SinkLost(f"the virtual camera {self._device} has gone", cure=_reload())


class WriteWatch:
    """Tells frames that the kernel refused: pyvirtualcam prints a failed write and returns as if it had not failed.

    The kernel counts what each thread has written successfully (proc(5), /proc/PID/io, wchar). Where it does not
    count, nothing is ever taken for refused. Belongs to the thread that writes, and starts anew in another one.
    """

    def __init__(self) -> None:
        self._thread = 0
        self._handle = -1
        self._written = 0
        self._refused = 0

    def refused(self, frame_bytes: int) -> int:
        """Called after each frame was written: how many in a row, up to this one, did not arrive."""
        if self._thread != threading.get_native_id():
            self._start()
            return 0
        try:
            written = self._count()
        except OSError:
            # The counter was that of a thread that has ended, whose number this one got.
            self._start()
            return 0
        arrived = self._handle < 0 or written - self._written >= frame_bytes
        self._written = written
        self._refused = 0 if arrived else self._refused + 1
        return self._refused

    def close(self) -> None:
        """Let go of the counter; may be called twice."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1
        self._thread = 0

    def _start(self) -> None:
        self.close()
        self._thread = threading.get_native_id()
        self._refused = 0
        try:
            self._handle = os.open("/proc/thread-self/io", os.O_RDONLY)
            self._written = self._count()
        except OSError:
            self.close()
            self._thread = threading.get_native_id()

    def _count(self) -> int:
        if self._handle < 0:
            return 0
        found = re.search(rb"wchar: (\d+)", os.pread(self._handle, 512, 0))
        return int(found[1]) if found else 0


def choose(nodes: Sequence[v4l2_devices.Node], wanted: str | None) -> v4l2_devices.Node:
    """Pick the v4l2loopback device to feed among all video devices.

    ``wanted`` is a path, a number or (part of) a label. Without it, a device labelled for reenact comes first, then
    one that no program has open, then the lowest number; one that another program feeds is never taken.

    Raises SinkMissing.
    """
    if wanted is not None:
        node = _named(nodes, wanted)
        if node.permission_denied or node.has_producer:
            raise _refusal(node)
        return node
    virtual = [node for node in nodes if node.loopback]
    if not virtual:
        raise SinkMissing("this machine has no virtual camera", cure=_MODPROBE)
    free = [node for node in virtual if not node.permission_denied and not _in_use(node)]
    if not free:
        raise _refusal(virtual[0])
    return min(
        free,
        key=lambda node: (
            "reenact" not in node.label.lower(),
            bool(v4l2_devices.programs_using(node.path)),
            node.index,
        ),
    )


def _in_use(node: v4l2_devices.Node) -> bool:
    """Whether another program feeds it, or has it open where the driver does not tell what for."""
    return bool(v4l2_devices.programs_using(node.path)) if node.has_producer is None else node.has_producer


def _named(nodes: Sequence[v4l2_devices.Node], wanted: str) -> v4l2_devices.Node:
    path = f"/dev/video{wanted}" if wanted.isdecimal() else wanted
    virtual = [node for node in nodes if node.loopback]
    exact = [node for node in nodes if path in (node.path, node.label)]
    alike = exact or [node for node in virtual if wanted.lower() in node.label.lower()]
    if not alike:
        there_is = f"this machine has {', '.join(map(str, virtual))}" if virtual else "this machine has none"
        raise SinkMissing(f"there is no virtual camera {wanted!r}; {there_is}", cure=_MODPROBE)
    if not alike[0].loopback:
        raise SinkMissing(f"{alike[0]} is a camera, expected a virtual one of v4l2loopback", cure=_MODPROBE)
    if len(alike) > 1:
        raise SinkMissing(f"{wanted!r} could be {' or '.join(map(str, alike))}", cure="give its /dev/videoN")
    return alike[0]


def _refusal(node: v4l2_devices.Node) -> SinkMissing:
    """Why a virtual camera cannot be fed."""
    if node.permission_denied:
        return SinkMissing(f"the virtual camera {node} may not be opened by this user", cure=_VIDEO_GROUP)
    anyway = "" if node.has_producer else f", or take it all the same: --sink virtualcam:{node.path}"
    return _busy(node.path, str(node), anyway)


def _busy(path: str, label: str, anyway: str = "") -> SinkMissing:
    holders = ", ".join(v4l2_devices.programs_using(path)) or "another program"
    return SinkMissing(
        f"the virtual camera {label} is in use by another program; it is open in {holders}",
        cure=f"close the program that feeds it, choose another --sink{anyway}",
    )


def _usable(nodes: Sequence[v4l2_devices.Node]) -> list[v4l2_devices.Node]:
    """The same devices, those freed that an earlier producer left neither camera nor output."""
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


def _resized(node: v4l2_devices.Node, size: tuple[int, int]) -> tuple[str, ...]:
    """A warning where a program already reads the device and expects another size."""
    before = v4l2_devices.producer_size(node.path)
    if before is None or before == size:
        return ()
    readers = v4l2_devices.programs_using(node.path)
    if not readers:
        return ()
    now = f"it was {before[0]}x{before[1]} and is {size[0]}x{size[1]} now"
    return (f"{', '.join(readers)} has {node.path} open: {now}, so choose the camera there anew",)


def _open(device: str | None, size: tuple[int, int], fps: float, backend: str | None) -> Any:
    try:
        import pyvirtualcam
    except ImportError as error:
        raise SinkMissing(f"pyvirtualcam cannot be loaded: {error}", cure=install()) from None
    try:
        return pyvirtualcam.Camera(*size, fps, fmt=pyvirtualcam.PixelFormat.I420, device=device, backend=backend)
    except (RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        if device is not None and "busy" in reason.lower():
            raise _busy(device, device) from None
        cure = _MODPROBE if sys.platform == "linux" else _OBS
        raise SinkMissing(f"no virtual camera can be used: {reason}", cure=cure) from None


def _black(size: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A black I420 picture: 16 is black and 128 grey in BT.601 limited range."""
    black = np.full((size[1] * 3 // 2, size[0]), 128, np.uint8)
    black[: size[1]] = 16
    return black


def _reload() -> str:
    return "load it again: " + _MODPROBE.split("&& ")[1] if sys.platform == "linux" else _OBS
