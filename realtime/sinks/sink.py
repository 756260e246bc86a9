"""Where the result goes: a virtual camera, a recording, or nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engines.errors import UsageError
from realtime.core import paths
from realtime.core.frames import PixelFormat

if TYPE_CHECKING:
    from realtime.core.frames import Frame

AUTO_RECORDING = Path("reenact.mp4")
"""What ``auto`` writes where a file is worked through."""
_SPECS = "auto, virtualcam, virtualcam:DEVICE, webrtc, file:OUT.mp4 or null"


class Sink(Protocol):
    """Takes finished frames. One thread owns it and calls everything on it, ``close`` included."""

    @property
    def name(self) -> str:
        """What it is, for the person: device or file, and format."""

    @property
    def format(self) -> PixelFormat:
        """What ``send`` takes."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the person should know about the choice or the sink; may grow while it is used."""

    def send(self, frame: Frame) -> None:
        """Deliver a frame of the sink's format and size; its pixels are not kept. Raises SinkLost."""

    def close(self) -> None:
        """Finish and let go of everything; may be called twice.

        Raises SinkLost where what was sent could not be kept to its end.
        """


class NullSink:
    """Takes frames and forgets them: for measuring. In I420, so that what is measured has been converted."""

    name = "null (frames are made and forgotten)"
    format = PixelFormat.I420
    notes: tuple[str, ...] = ()

    def send(self, frame: Frame) -> None:
        """Forget it."""

    def close(self) -> None:
        """Nothing to let go of."""


def open_sink(spec: str, *, size: tuple[int, int], fps: float, sound_from: Path | None = None) -> Sink:
    """Open what ``--sink`` names: ``virtualcam[:DEVICE]``, ``file:OUT.mp4`` or ``null``.

    What ``auto`` stands for, and the page, are a matter of ``realtime.assemble``.

    ``size`` is the width and height of every frame, both even. ``sound_from`` is a driving video whose sound a
    recording takes over.

    Raises UsageError for anything else, SinkMissing where it cannot be had.
    """
    kind, _, detail = spec.partition(":")
    if spec == "null":
        return NullSink()
    if kind == "virtualcam" and (detail or spec == kind):
        from realtime.sinks.virtual_camera import VirtualCamera

        return VirtualCamera(detail or None, size=size, fps=fps)
    if kind == "file" and detail:
        from realtime.sinks.recording import Recording

        return Recording(paths.expand(detail), size=size, fps=fps, sound_from=sound_from)
    raise UsageError(f"there is no sink {spec!r}", cure=f"--sink takes {_SPECS}")
