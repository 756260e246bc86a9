"""Where the result goes: a virtual camera, a recording, or nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engines.errors import SinkMissing, UsageError
from realtime.frames import PixelFormat

if TYPE_CHECKING:
    from realtime.frames import Frame

AUTO_RECORDING = Path("reenact.mp4")
AUTO_LIMIT_S = 10.0
_SPECS = "auto, virtualcam, virtualcam:DEVICE, file:OUT.mp4 or null"


class Sink(Protocol):
    """Takes finished frames. One thread owns it and calls everything on it, ``close`` included."""

    @property
    def name(self) -> str:
        """What it is, for the person: device or file, and format."""

    @property
    def format(self) -> PixelFormat:
        """What ``send`` takes."""

    @property
    def limit_s(self) -> float | None:
        """So many seconds and it has enough; None where it takes frames for as long as there are any."""

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
    limit_s: float | None = None
    notes: tuple[str, ...] = ()

    def send(self, frame: Frame) -> None:
        """Forget it."""

    def close(self) -> None:
        """Nothing to let go of."""


def open_sink(spec: str, *, size: tuple[int, int], fps: float, sound_from: Path | None = None) -> Sink:
    """Open what ``--sink`` names: ``auto``, ``virtualcam[:DEVICE]``, ``file:OUT.mp4`` or ``null``.

    ``size`` is the width and height of every frame, both even. ``sound_from`` is a driving video whose sound a
    recording takes over.

    Raises UsageError for anything else, SinkMissing where it cannot be had.
    """
    kind, _, detail = spec.partition(":")
    if spec == "null":
        return NullSink()
    if spec == "auto":
        return _auto(size, fps, sound_from)
    if kind == "virtualcam" and (detail or spec == kind):
        from realtime.virtualcam import VirtualCamera

        return VirtualCamera(detail or None, size=size, fps=fps)
    if kind == "file" and detail:
        from realtime.recording import Recording

        return Recording(Path(detail).expanduser(), size=size, fps=fps, sound_from=sound_from)
    raise UsageError(f"there is no sink {spec!r}", cure=f"--sink takes {_SPECS}")


def _auto(size: tuple[int, int], fps: float, sound_from: Path | None) -> Sink:
    from realtime.recording import Recording
    from realtime.virtualcam import VirtualCamera

    try:
        return VirtualCamera(None, size=size, fps=fps)
    except SinkMissing as error:
        instead = f"so {AUTO_LIMIT_S:g} seconds are recorded to {AUTO_RECORDING}"
        note = f"{error}, {instead}; to have a virtual camera: {error.cure}"
    return Recording(AUTO_RECORDING, size=size, fps=fps, sound_from=sound_from, limit_s=AUTO_LIMIT_S, notes=(note,))
