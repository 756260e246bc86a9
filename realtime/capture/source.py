"""The source of driving frames: a webcam, a video file, the performer, a recorded motion or another tracker."""

from __future__ import annotations

import re
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from engines.errors import SourceMissing
from realtime.streams.target import shown_camera

if TYPE_CHECKING:
    from realtime.core.frames import Frame

Pace = Literal["live", "max"]

PERFORMER_SIZE = (640, 480)
PERFORMER_FPS = 30.0
"""What the performer gives where nothing else was requested."""

_LIKE_A_FILE = re.compile(r"[/\\]|\.\w{2,4}$")
"""A path, or a name with a suffix; ``USB2.0 HD Webcam`` is neither."""


class Source(Protocol):
    """A source of driving frames. One thread owns it and calls all its methods, ``close`` included."""

    @property
    def name(self) -> str:
        """A description for the user: device or file, size, format and rate."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of every frame in pixels."""

    @property
    def fps(self) -> float:
        """The nominal frame rate."""

    @property
    def live(self) -> bool:
        """Whether frames come in real time; if not, they come as fast as they are read."""

    @property
    def frames(self) -> int | None:
        """The approximate number of frames in all; None if unknown."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user about the choice or the source. There may be more while it is read."""

    @property
    def skipped(self) -> int:
        """The number of frames that the device delivered and ``read`` did not return; 0 where there is no device."""

    def read(self) -> Frame:
        """Wait for the next frame, for about a second at most, and return it. Its pixels are a new RGB array.

        Raises SourceLost if a live source went away (open it again), SourceEnded if a file has no more frames.
        """

    def close(self) -> None:
        """Release everything. close() is idempotent."""


def open_source(camera: str, *, size: tuple[int, int] | None, fps: float | None, pace: Pace) -> Source:
    """Open the source that ``--camera`` names.

    ``camera`` is ``auto``, an index, ``/dev/videoN``, part of a camera's name (Linux), a video file, ``performer``,
    ``motion:FILE``, or another tracker: ``vmc:PORT``, ``livelink:PORT``, ``ifacialmocap:HOST``.
    ``size`` and ``fps`` are requests: the performer complies, a camera uses what is nearest, a file keeps its own.
    ``pace`` applies to files and the performer. Fails quickly and leaves nothing open.

    Raises SourceMissing.
    """
    if camera == "performer":
        return _open_performer(size, fps, (), paced=pace == "live")
    if camera == "auto":
        return _open_auto(size, fps)
    if camera.startswith("motion:"):
        from realtime.capture.motion_source import MotionSource, parse_motion

        motion, start = parse_motion(camera)
        return MotionSource(motion, start, paced=pace == "live")
    if camera.startswith(("vmc:", "livelink:", "ifacialmocap:")):
        from realtime.capture.tracker_link import TrackerLink, parse_link

        return TrackerLink(*parse_link(camera))
    if camera.isdecimal():
        from realtime.capture.webcam import Webcam

        return Webcam(int(camera), size=size, fps=fps)
    if "://" in camera:
        raise SourceMissing(
            "source-is-address", f"the address {shown_camera(camera)}", "a camera or a file", "download the file first"
        )
    path = Path(camera)
    mode = _mode(path)
    if not stat.S_ISREG(mode) and (camera.startswith("/dev/") or stat.S_ISCHR(mode)):
        from realtime.capture.webcam import Webcam

        return Webcam(camera, size=size, fps=fps)
    if sys.platform == "linux" and not mode and not _LIKE_A_FILE.search(camera):
        from realtime.capture.webcam import Webcam

        return Webcam(camera, size=size, fps=fps)
    from realtime.capture.video_file import VideoFile

    return VideoFile(path, pace=pace)


def _mode(path: Path) -> int:
    """Return the ``st_mode`` of a path; 0 if nothing is there. Raises SourceMissing if that cannot be determined."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise SourceMissing(
            "source-unreadable",
            f"{path} cannot be opened ({error.strerror})",
            cure="check the path and its permissions",
        ) from None


def _open_auto(size: tuple[int, int] | None, fps: float | None) -> Source:
    from realtime.capture.webcam import open_first_webcam

    reason = "no webcam found"
    try:
        webcam = open_first_webcam(size=size, fps=fps)
        if webcam is not None:
            return webcam
    except SourceMissing as error:
        reason = f"no webcam can be used ({error}; to fix it: {error.cure})"
    note = f"{reason}, so the performer, a scripted face, is the source"
    return _open_performer(size, fps, (note,), paced=True)


def _open_performer(size: tuple[int, int] | None, fps: float | None, notes: tuple[str, ...], *, paced: bool) -> Source:
    from realtime.capture.performer import PerformerSource

    source = PerformerSource(size or PERFORMER_SIZE, fps or PERFORMER_FPS, paced=paced)
    source.notes = notes
    return source
