"""Where the driving picture comes from: a webcam, a video file, or the performer."""

from __future__ import annotations

import re
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from engines.errors import SourceMissing

if TYPE_CHECKING:
    from realtime.core.frames import Frame

Pace = Literal["live", "max"]

PERFORMER_SIZE = (640, 480)
PERFORMER_FPS = 30.0
"""What the performer is asked for where nothing was wished."""

_LIKE_A_FILE = re.compile(r"[/\\]|\.\w{2,4}$")
"""A path, or a name with an ending; ``USB2.0 HD Webcam`` is neither."""


class Source(Protocol):
    """A source of driving frames. One thread owns it and calls all its methods, ``close`` included."""

    @property
    def name(self) -> str:
        """What it is, for the person: device or file, size, format and rate."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of every frame in pixels."""

    @property
    def fps(self) -> float:
        """Frames a second, as announced."""

    @property
    def live(self) -> bool:
        """Whether frames come at their own time; if not, they come as fast as they are read."""

    @property
    def frames(self) -> int | None:
        """How many frames it will give, about; None where nobody knows."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the person should know about the choice or the source; may grow while it is read."""

    @property
    def skipped(self) -> int:
        """The number of frames that the device delivered and ``read`` did not return; 0 where there is no device."""

    def read(self) -> Frame:
        """Wait for the next frame, RGB, its pixels nobody else's; blocks about a second at most.

        Raises SourceLost when a live source went away (open it again), SourceEnded when a file has no more.
        """

    def close(self) -> None:
        """Let go of everything; may be called twice."""


def open_source(camera: str, *, size: tuple[int, int] | None, fps: float | None, pace: Pace) -> Source:
    """Open what ``--camera`` names: ``auto``, an index, ``/dev/videoN``, part of a camera's name (Linux), a video
    file or ``performer``.

    ``size`` and ``fps`` are wishes: the performer complies, a camera takes what is nearest, a file keeps its
    own. ``pace`` matters to files and the performer. Fails quickly and leaves nothing open.

    Raises SourceMissing.
    """
    if camera == "performer":
        return _performer(size, fps, (), paced=pace == "live")
    if camera == "auto":
        return _auto(size, fps)
    if camera.isdecimal():
        from realtime.capture.webcam import Webcam

        return Webcam(int(camera), size=size, fps=fps)
    if "://" in camera:
        raise SourceMissing(f"{camera} is an address, expected a camera or a file", cure="download the file first")
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
    """What there is at a path, as ``st_mode``; 0 for nothing. Raises SourceMissing where that cannot be said."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise SourceMissing(
            f"{path} cannot be opened: {error.strerror}", cure="check the path and its permissions"
        ) from None


def _auto(size: tuple[int, int] | None, fps: float | None) -> Source:
    from realtime.capture.webcam import first_webcam

    why = "no webcam found"
    try:
        webcam = first_webcam(size=size, fps=fps)
        if webcam is not None:
            return webcam
    except SourceMissing as error:
        why = f"no webcam can be used ({error}; to mend it: {error.cure})"
    return _performer(size, fps, (f"{why}, so the performer, a scripted face, plays the driver",), paced=True)


def _performer(size: tuple[int, int] | None, fps: float | None, notes: tuple[str, ...], *, paced: bool) -> Source:
    from realtime.capture.performer import PerformerSource

    source = PerformerSource(size or PERFORMER_SIZE, fps or PERFORMER_FPS, paced=paced)
    source.notes = notes
    return source
