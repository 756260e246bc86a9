"""A webcam as the source: through V4L2 on Linux, through OpenCV elsewhere."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from engines.errors import SourceLost, SourceMissing, one_of
from realtime.capture import v4l2_devices
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.core.protocol import DEFAULT_FPS

if TYPE_CHECKING:
    from engines.types import Image

_NS = 1_000_000_000
_FIRST_FRAME_NS = 3 * _NS
"""Cameras need up to a second or two to set their exposure before they send anything."""
_OTHER_CLOCK_NS = 60 * _NS
"""A driver's timestamp older than this is not of the monotonic clock."""
_OLD_NS = _NS // 4
_AT_ONCE_NS = _NS // 500
"""A frame that is received sooner than this after it was requested has waited in the driver."""
_DEFAULT_SIZE = (1280, 720)
_BUFFERS = 2
_CHOOSE_ANOTHER = "choose another --camera, plug one in, or use --camera performer"
_VIDEO_GROUP = "sudo usermod -aG video $USER, then log out and in again"


class CameraStream(Protocol):
    """A streaming camera, owned by one thread: see ``v4l2_stream`` and ``opencv_stream``."""

    size: tuple[int, int]
    fps: float
    fourcc: str

    @property
    def timestamp_source(self) -> str:
        """What sets the timestamps of frames, and at which moment."""

    @property
    def skipped(self) -> int:
        """The number of frames that were delivered and not returned: broken or replaced ones."""

    def grab(self) -> tuple[Image, int, int] | None:
        """Return a new RGB frame, the driver's timestamp (0 for none) and when it was received.

        Waits up to a second. Returns None if no frame came.
        """

    def close(self) -> None:
        """Release the camera. close() is idempotent."""


class Webcam:
    """A Source that reads a camera. ``device`` is its index, or on Linux its path or (part of) its name.

    Raises SourceMissing if there is no such camera, another program uses it, or this user may not open it.
    """

    live = True
    frames: int | None = None

    def __init__(self, device: int | str, *, size: tuple[int, int] | None = None, fps: float | None = None) -> None:
        self._device = _path(device)
        self._requested = (size, fps)
        self.node = _check(self._device) if sys.platform == "linux" else None
        self._label = str(self.node) if self.node else f"camera {device}"
        self._closed = False
        self._seq = 0
        self._last_ns = 0
        self._received_ns = 0
        self._skipped = 0
        try:
            self.stream = _open(self._device, size or _DEFAULT_SIZE, fps or DEFAULT_FPS)
        except OSError as error:
            raise _no_frames(self._device, self._label, error) from None
        try:
            self._first = self._wait_for_first()
            if self._first is None:
                self.close()
                raise _no_frames(self._device, self._label)
        except BaseException:
            self.close()
            raise
        height, width = self._first[0].shape[:2]
        self.size = (width, height)
        self.fps = self.stream.fps
        self.name = f"{self._label}, {width}x{height} {self.stream.fourcc} at {self.fps:g} fps"
        self.notes = _notes(self.size, self.fps, size, fps)

    @property
    def skipped(self) -> int:
        """The number of frames that the camera delivered and ``read`` did not return: broken or replaced ones."""
        return self._skipped + self.stream.skipped

    def read(self) -> Frame:
        """Return the newest frame, its pixels a new array. Blocks for about a second at most.

        Raises SourceLost if the camera was unplugged or stopped sending.
        """
        grabbed = self._grab_newest()
        if grabbed is None:
            raise self._lost()
        image, captured, _ = grabbed
        # strictly increasing, whatever the driver's timestamps
        self._last_ns = captured = max(captured, self._last_ns + 1)
        frame = Frame(image, PixelFormat.RGB, self._seq, Stamps(captured), captured)
        self._seq += 1
        return frame

    def reopen(self) -> Webcam:
        """Open the same camera again, which may have another number: that of the same bus position, or the same name.

        Raises SourceMissing while it is absent. Another camera that got its number is not opened.
        """
        size, fps = self._requested
        if self.node is None:
            return Webcam(self._device, size=size, fps=fps)
        found = find_same(v4l2_devices.list_nodes(), self.node)
        if found is None:
            raise SourceMissing("camera-missing", f"no {self._label}", _cameras_here(), "plug it in again")
        return Webcam(found.path, size=size, fps=fps)

    def close(self) -> None:
        """Release the camera. close() is idempotent."""
        self._closed = True
        self.stream.close()

    def _grab_newest(self) -> tuple[Image, int, int] | None:
        """Return what ``_grab`` does; after a pause a new frame instead of those that have waited in the driver.

        Age alone does not distinguish them: some cameras deliver every frame late.
        """
        requested = time.monotonic_ns()
        paused = requested - self._received_ns > _OLD_NS
        grabbed, self._first = self._first or self._grab(), None
        for _ in range(_BUFFERS if paused else 0):
            if grabbed is None or grabbed[2] - requested > _AT_ONCE_NS or time.monotonic_ns() - grabbed[1] <= _OLD_NS:
                break
            self._skipped += 1
            requested = time.monotonic_ns()
            grabbed = self._grab()
        return grabbed

    def _wait_for_first(self) -> tuple[Image, int, int] | None:
        until = time.monotonic_ns() + _FIRST_FRAME_NS
        while True:
            began = time.monotonic_ns()
            grabbed = self._grab()
            # An error comes at once; with a camera that is still starting, the whole time-out passes.
            if grabbed is not None or time.monotonic_ns() > until or time.monotonic_ns() - began < _NS // 10:
                return grabbed

    def _grab(self) -> tuple[Image, int, int] | None:
        """Return the next frame, when it was captured, and when it was received.

        The time of capture is the driver's timestamp if that is of the monotonic clock, else the time of receipt.
        """
        grabbed = None if self._closed else self.stream.grab()
        if grabbed is None:
            return None
        image, stamped, now = grabbed
        self._received_ns = now
        return image, stamped if max(0, now - _OTHER_CLOCK_NS) < stamped <= now else now, now

    def _lost(self) -> SourceLost:
        if isinstance(self._device, str) and v4l2_devices.inspect(self._device) is None:
            return SourceLost("camera-unplugged", f"{self._label} was unplugged", cure="plug it in again")
        return SourceLost(
            "camera-stopped", f"{self._label} stopped sending frames", cure="unplug it and plug it in again"
        )


def open_first_webcam(*, size: tuple[int, int] | None = None, fps: float | None = None) -> Webcam | None:
    """Open the first camera that captures; return None if there is no camera.

    On Linux virtual cameras are left out: one of them may be the one that this program feeds. Raises SourceMissing
    if there are cameras and none can be used.
    """
    if sys.platform != "linux":
        try:
            return Webcam(0, size=size, fps=fps)
        except SourceMissing:
            return None
    reason: SourceMissing | None = None
    for node in v4l2_devices.list_nodes():
        if _is_camera(node) and not node.loopback:
            try:
                return Webcam(node.path, size=size, fps=fps)
            except SourceMissing as error:
                reason = reason or error
    if reason is not None:
        raise reason
    return None


def find_by_name(nodes: Sequence[v4l2_devices.Node], name: str) -> v4l2_devices.Node:
    """Return the camera whose label is or contains ``name``, ignoring case. Raises SourceMissing."""
    cameras = [node for node in nodes if _is_camera(node)]
    exact = [node for node in cameras if node.label == name]
    matches = exact or [node for node in cameras if name.lower() in node.label.lower()]
    if len(matches) > 1:
        raise SourceMissing(
            "camera-ambiguous",
            f"{len(matches)} cameras named like {name!r}: {', '.join(map(str, matches))}",
            "one",
            f"give more of the name, or the number: --camera {matches[0].index}",
        )
    if not matches:
        raise SourceMissing("camera-missing", f"no camera and no file {name!r}", _cameras_here(nodes), _CHOOSE_ANOTHER)
    return matches[0]


def find_same(nodes: Sequence[v4l2_devices.Node], before: v4l2_devices.Node) -> v4l2_devices.Node | None:
    """Return the camera that ``before`` was: of its label at its bus position, or else the only one of its label."""
    same_label = [node for node in nodes if node.label == before.label and node.captures]
    same_bus = [node for node in same_label if node.bus == before.bus]
    # devices that share a bus position, as virtual ones do, are distinguished by their number
    same_path = [node for node in same_bus if node.path == before.path]
    chosen = same_path or same_bus or (same_label if len(same_label) == 1 else [])
    return chosen[0] if chosen else None


def _path(device: int | str) -> int | str:
    """Return a path on Linux, where index N is /dev/videoN; elsewhere the index."""
    if sys.platform != "linux":
        return device
    if isinstance(device, int):
        return f"/dev/video{device}"
    return device if device.startswith("/") else find_by_name(v4l2_devices.list_nodes(), device).path


def _check(path: int | str) -> v4l2_devices.Node:
    """Describe a camera before it is opened. Raises SourceMissing with the reason if it cannot be used."""
    assert isinstance(path, str)
    if not os.path.exists(path):
        raise SourceMissing("camera-missing", f"no camera {path}", _cameras_here(), _CHOOSE_ANOTHER)
    node = v4l2_devices.inspect(path)
    if node is None:
        raise SourceMissing("camera-not-a-camera", f"{path} is not a camera", _cameras_here(), _CHOOSE_ANOTHER)
    if node.permission_denied:
        raise SourceMissing("camera-permission-denied", f"{node} may not be opened by this user", cure=_VIDEO_GROUP)
    if not node.captures and node.loopback:
        found = f"{node} is a virtual camera without a program that feeds it"
        raise SourceMissing("camera-not-fed", found, _cameras_here(), _CHOOSE_ANOTHER)
    if not node.captures:
        raise SourceMissing("camera-not-a-camera", f"{node} does not capture", _cameras_here(), _CHOOSE_ANOTHER)
    return node


def _is_camera(node: v4l2_devices.Node) -> bool:
    """Return True for a device that captures, or that is not known to be anything else because it cannot be opened."""
    return node.captures or (node.permission_denied and not node.loopback)


def _cameras_here(nodes: Sequence[v4l2_devices.Node] | None = None) -> str:
    """Return what was expected instead of a missing camera: those that there are."""
    there = v4l2_devices.list_nodes() if nodes is None else nodes
    cameras = [str(node) for node in there if _is_camera(node)]
    if not cameras:
        return "a camera (this machine has none)"
    return one_of(cameras)


def _open(device: int | str, size: tuple[int, int], fps: float) -> CameraStream:
    if sys.platform == "linux":
        from realtime.capture import v4l2_stream

        return v4l2_stream.V4l2Stream(str(device), size, fps)
    from realtime.capture import opencv_stream

    return opencv_stream.open_stream(int(device), size, fps)


def _notes(
    size: tuple[int, int], fps: float, requested_size: tuple[int, int] | None, requested_fps: float | None
) -> tuple[str, ...]:
    """Return a note if the camera does not give the size or the rate that was requested."""
    missing = []
    if requested_size is not None and requested_size != size:
        missing.append("{}x{}".format(*requested_size))
    if requested_fps is not None and abs(requested_fps - fps) > 0.02 * requested_fps:
        missing.append(f"{requested_fps:g} fps")
    return (f"the camera has no {' at '.join(missing)}; this is the nearest",) if missing else ()


def _no_frames(device: int | str, label: str, error: OSError | None = None) -> SourceMissing:
    """Return the reason why a camera gives no frames."""
    if isinstance(device, str) and ((error is not None and error.errno == errno.EBUSY) or v4l2_devices.is_busy(device)):
        users = ", ".join(v4l2_devices.programs_using(device)) or "another program"
        return SourceMissing(
            "camera-busy", f"{label} is in use by {users}", cure=f"close that program, or {_CHOOSE_ANOTHER}"
        )
    if sys.platform == "darwin":
        cure = f"allow this terminal the camera in System Settings > Privacy & Security, or {_CHOOSE_ANOTHER}"
    elif sys.platform == "win32":
        cure = f"allow desktop apps the camera in Settings > Privacy, close other programs, or {_CHOOSE_ANOTHER}"
    else:
        cure = f"unplug it and plug it in again, or {_CHOOSE_ANOTHER}"
    reason = f" ({error.strerror})" if error is not None and error.strerror else ""
    return SourceMissing("camera-no-frames", f"{label} sends no frames{reason}", cure=cure)
