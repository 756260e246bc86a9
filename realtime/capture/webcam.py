"""A webcam as the driving picture: V4L2 directly on Linux, OpenCV elsewhere."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from engines.errors import SourceLost, SourceMissing
from realtime.capture import v4l2_devices
from realtime.core.frames import Frame, PixelFormat, Stamps

if TYPE_CHECKING:
    from engines.types import Image

_NS = 1_000_000_000
_FIRST_FRAME_NS = 3 * _NS
"""Cameras need up to a second or two to set their exposure before they send anything."""
_OTHER_CLOCK_NS = 60 * _NS
"""A driver's timestamp older than this is not on our clock."""
_OLD_NS = _NS // 4
_AT_ONCE_NS = _NS // 500
"""A picture that is had sooner than this after it was asked for has waited in the driver."""
_DEFAULT_SIZE = (1280, 720)
_DEFAULT_FPS = 30.0
_BUFFERS = 2
_CHOOSE = "choose another --camera, plug one in, or take --camera performer"
_VIDEO_GROUP = "sudo usermod -aG video $USER, then log out and in again"


class Stream(Protocol):
    """A camera that streams, one thread's: see ``v4l2_stream`` and ``opencv_stream``."""

    size: tuple[int, int]
    fps: float
    fourcc: str

    @property
    def stamping(self) -> str:
        """Whose time a picture carries, and what moment it names."""

    @property
    def skipped(self) -> int:
        """Pictures that came and were not given: broken ones, and those for which a newer one was there."""

    def grab(self) -> tuple[Image, int, int] | None:
        """A new RGB picture, the driver's time (0 for none) and when it was had; None where none came in a second."""

    def close(self) -> None:
        """Let go of the camera; may be called twice."""


class Webcam:
    """A Source that reads a camera. ``device`` is its index, or on Linux its path or (part of) its name.

    Raises SourceMissing when there is no such camera, another program has it, or it may not be opened.
    """

    live = True
    frames: int | None = None

    def __init__(self, device: int | str, *, size: tuple[int, int] | None = None, fps: float | None = None) -> None:
        self._device = _path(device)
        self._wishes = (size, fps)
        self.node = _checked(self._device) if sys.platform == "linux" else None
        self._label = str(self.node) if self.node else f"camera {device}"
        self._closed = False
        self._seq = 0
        self._last_ns = 0
        self._had_ns = 0
        self._skipped = 0
        try:
            self.stream = _open(self._device, size or _DEFAULT_SIZE, fps or _DEFAULT_FPS)
        except OSError as error:
            raise _why_not(self._device, self._label, error) from None
        try:
            self._first = self._wait_for_first()
            if self._first is None:
                self.close()
                raise _why_not(self._device, self._label)
        except BaseException:
            self.close()
            raise
        height, width = self._first[0].shape[:2]
        self.size = (width, height)
        self.fps = self.stream.fps
        self.name = f"{self._label}, {width}x{height} {self.stream.fourcc} at {self.fps:g} fps"
        self.notes = _other_than_wished(self.size, self.fps, size, fps)

    @property
    def skipped(self) -> int:
        """Pictures that the camera gave and ``read`` did not: they were broken, or a newer one was there."""
        return self._skipped + self.stream.skipped

    def read(self) -> Frame:
        """Return the newest frame, its pixels a new array; blocks about a second at most.

        Raises SourceLost when the camera was unplugged or stopped sending.
        """
        got = self._newest()
        if got is None:
            raise self._lost()
        image, captured, _ = got
        # strictly increasing, whatever the driver says
        self._last_ns = captured = max(captured, self._last_ns + 1)
        frame = Frame(image, PixelFormat.RGB, self._seq, Stamps(captured), captured)
        self._seq += 1
        return frame

    def again(self) -> Webcam:
        """The same camera opened anew, under another number too: at the same place of the bus, or of the same name.

        Raises SourceMissing while it is not there. Another camera that took its number is left alone.
        """
        size, fps = self._wishes
        if self.node is None:
            return Webcam(self._device, size=size, fps=fps)
        found = same_camera(v4l2_devices.nodes(), self.node)
        if found is None:
            raise SourceMissing(f"{self._label} is not there; {_what_there_is()}", cure="plug it in again")
        return Webcam(found.path, size=size, fps=fps)

    def close(self) -> None:
        """Let go of the camera; may be called twice."""
        self._closed = True
        self.stream.close()

    def _newest(self) -> tuple[Image, int, int] | None:
        """What ``_grab`` gives: after a pause a new picture, not those that have waited in the driver.

        Age alone does not tell them apart: with some cameras every picture is old when it comes.
        """
        asked = time.monotonic_ns()
        paused = asked - self._had_ns > _OLD_NS
        got, self._first = self._first or self._grab(), None
        for _ in range(_BUFFERS if paused else 0):
            if got is None or got[2] - asked > _AT_ONCE_NS or time.monotonic_ns() - got[1] <= _OLD_NS:
                break
            self._skipped += 1
            asked = time.monotonic_ns()
            got = self._grab()
        return got

    def _wait_for_first(self) -> tuple[Image, int, int] | None:
        until = time.monotonic_ns() + _FIRST_FRAME_NS
        while True:
            began = time.monotonic_ns()
            got = self._grab()
            # A refusal comes at once, a camera that is still starting lets the time-out pass.
            if got is not None or time.monotonic_ns() > until or time.monotonic_ns() - began < _NS // 10:
                return got

    def _grab(self) -> tuple[Image, int, int] | None:
        """The next picture, when it was captured (the driver's own time where it is on our clock), when it was had."""
        got = None if self._closed else self.stream.grab()
        if got is None:
            return None
        image, stamped, now = got
        self._had_ns = now
        return image, stamped if max(0, now - _OTHER_CLOCK_NS) < stamped <= now else now, now

    def _lost(self) -> SourceLost:
        if isinstance(self._device, str) and v4l2_devices.inspect(self._device) is None:
            return SourceLost(f"{self._label} was unplugged", cure="plug it in again")
        return SourceLost(f"{self._label} stopped sending frames", cure="unplug it and plug it in again")


def first_webcam(*, size: tuple[int, int] | None = None, fps: float | None = None) -> Webcam | None:
    """Open the first camera that really captures; None where there is none.

    On Linux virtual cameras are passed over: one of them may be what this program feeds. Raises SourceMissing
    where there are cameras and none can be used.
    """
    if sys.platform != "linux":
        try:
            return Webcam(0, size=size, fps=fps)
        except SourceMissing:
            return None
    reason: SourceMissing | None = None
    for node in v4l2_devices.nodes():
        if (node.refused or node.captures) and not node.loopback:
            try:
                return Webcam(node.path, size=size, fps=fps)
            except SourceMissing as error:
                reason = reason or error
    if reason is not None:
        raise reason
    return None


def named(nodes: Sequence[v4l2_devices.Node], wanted: str) -> v4l2_devices.Node:
    """The camera whose name is or contains ``wanted``, in any case. Raises SourceMissing, saying what there is."""
    cameras = [node for node in nodes if node.captures or (node.refused and not node.loopback)]
    exact = [node for node in cameras if node.label == wanted]
    alike = exact or [node for node in cameras if wanted.lower() in node.label.lower()]
    if len(alike) > 1:
        cure = f"give more of the name, or its number: --camera {alike[0].index}"
        raise SourceMissing(f"{wanted!r} could be {' or '.join(map(str, alike))}", cure=cure)
    if not alike:
        raise SourceMissing(f"there is no camera and no file {wanted!r}; {_what_there_is(nodes)}", cure=_CHOOSE)
    return alike[0]


def same_camera(nodes: Sequence[v4l2_devices.Node], before: v4l2_devices.Node) -> v4l2_devices.Node | None:
    """The camera that ``before`` was: of its name and at its place of the bus, or else the only one of its name."""
    alike = [node for node in nodes if node.label == before.label and node.captures]
    placed = [node for node in alike if node.bus == before.bus]
    # one that is on a bus more than once, as virtual ones are, is told apart by its number
    exact = [node for node in placed if node.path == before.path]
    chosen = exact or placed or (alike if len(alike) == 1 else [])
    return chosen[0] if chosen else None


def _path(device: int | str) -> int | str:
    """A path on Linux, where index N is /dev/videoN; else the index as it is."""
    if sys.platform != "linux":
        return device
    if isinstance(device, int):
        return f"/dev/video{device}"
    return device if device.startswith("/") else named(v4l2_devices.nodes(), device).path


def _checked(path: int | str) -> v4l2_devices.Node:
    """Describe a camera before it is opened, which tells why it cannot be."""
    assert isinstance(path, str)
    if not os.path.exists(path):
        raise SourceMissing(f"there is no camera {path}; {_what_there_is()}", cure=_CHOOSE)
    node = v4l2_devices.inspect(path)
    if node is None:
        raise SourceMissing(f"{path} is not a camera; {_what_there_is()}", cure=_CHOOSE)
    if node.refused:
        raise SourceMissing(f"{node} may not be opened by this user", cure=_VIDEO_GROUP)
    if not node.captures:
        idle = "a virtual camera that no program feeds" if node.loopback else "not a device that captures"
        raise SourceMissing(f"{node} is {idle}; {_what_there_is()}", cure=_CHOOSE)
    return node


def _what_there_is(nodes: Sequence[v4l2_devices.Node] | None = None) -> str:
    there = v4l2_devices.nodes() if nodes is None else nodes
    cameras = [str(node) for node in there if node.captures or (node.refused and not node.loopback)]
    return f"this machine has {', '.join(cameras)}" if cameras else "this machine has no camera"


def _open(device: int | str, size: tuple[int, int], fps: float) -> Stream:
    if sys.platform == "linux":
        from realtime.capture import v4l2_stream

        return v4l2_stream.Stream(str(device), size, fps)
    from realtime.capture import opencv_stream

    return opencv_stream.open_stream(int(device), size, fps)


def _other_than_wished(
    size: tuple[int, int], fps: float, wished_size: tuple[int, int] | None, wished_fps: float | None
) -> tuple[str, ...]:
    """What the person should know of a camera that gives something else than was asked for."""
    wishes = []
    if wished_size is not None and wished_size != size:
        wishes.append("{}x{}".format(*wished_size))
    if wished_fps is not None and abs(wished_fps - fps) > 0.02 * wished_fps:
        wishes.append(f"{wished_fps:g} fps")
    return (f"the camera has no {' at '.join(wishes)}; that is the nearest",) if wishes else ()


def _why_not(device: int | str, label: str, error: OSError | None = None) -> SourceMissing:
    if error is not None and error.errno == errno.EINVAL and (error.strerror or "").startswith("only"):
        return SourceMissing(f"{label} sends {error.strerror}, none of which can be read here", cure=_CHOOSE)
    if isinstance(device, str) and ((error is not None and error.errno == errno.EBUSY) or v4l2_devices.busy(device)):
        holders = v4l2_devices.users(device)
        by = ", ".join(holders) if holders else "another program"
        return SourceMissing(f"{label} is in use by {by}", cure=f"close that program, or {_CHOOSE}")
    if sys.platform == "darwin":
        cure = f"allow this terminal the camera in System Settings > Privacy & Security, or {_CHOOSE}"
    elif sys.platform == "win32":
        cure = f"allow desktop apps the camera in Settings > Privacy, close other programs, or {_CHOOSE}"
    else:
        cure = f"unplug it and plug it in again, or {_CHOOSE}"
    why = f" ({error.strerror})" if error is not None and error.strerror else ""
    return SourceMissing(f"{label} gives no picture{why}", cure=cure)
