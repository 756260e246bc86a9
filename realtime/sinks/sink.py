"""The sinks of finished frames: a virtual camera, a recording, or none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from engines.errors import UsageError
from realtime.core import paths
from realtime.core.frames import PixelFormat

if TYPE_CHECKING:
    from realtime.core.frames import Frame
    from realtime.core.sound import SoundPacket

_SINKS = "auto, virtualcam, virtualcam:DEVICE, webrtc, file:OUT.mp4, file:OUT.webm, file:%05d.png or null"

_NUMBER = re.compile(r"%0?\d?d")
"""What stands for the number of a picture."""


class Sink(Protocol):
    """A consumer of finished frames. One thread owns it and calls all its methods, ``close`` included."""

    @property
    def name(self) -> str:
        """A description for the user: device or file, and format."""

    @property
    def format(self) -> PixelFormat:
        """The format of the frames that ``send`` accepts."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user about the choice or the sink. There may be more while it is used."""

    def send(self, frame: Frame) -> None:
        """Deliver a frame of the sink's format and size. Its pixels are not kept. Raises SinkLost."""

    def close(self) -> None:
        """Finish and release everything. close() is idempotent.

        Raises SinkLost if the last frames could not be stored.
        """


@runtime_checkable
class HearingSink(Sink, Protocol):
    """A Sink that takes the sound that belongs to the frames, too."""

    def hear(self, packet: SoundPacket) -> None:
        """Take sound. It comes in order, on the clock of the frames, mostly before the frame of its moment."""


class NullSink:
    """A sink that discards frames, for measurements. It accepts I420, so that they include the conversion."""

    name = "null (frames are generated and discarded)"
    format = PixelFormat.I420
    notes: tuple[str, ...] = ()

    def send(self, frame: Frame) -> None:
        """Discard a frame."""

    def close(self) -> None:
        """Do nothing."""


def is_sequence(path: Path) -> bool:
    """Return True if a recording is a sequence of pictures, such as ``%05d.png``."""
    return path.suffix.lower() == ".png" and _NUMBER.search(path.name) is not None


def check_recording_name(path: Path) -> None:
    """Raise UsageError unless the name of a recording ends in .mp4 or .webm, or is a sequence's."""
    if path.suffix.lower() not in (".mp4", ".webm") and not is_sequence(path):
        suffix_only = path.name.lower() == ".mp4"  # pathlib takes this for a name without a suffix
        better = path.with_name("out.mp4") if suffix_only else path.with_suffix(".mp4")
        raise UsageError(
            "recording-not-mp4",
            f"a recording to {path}",
            "a file name that ends in .mp4 or .webm, or one such as %05d.png",
            f"--sink file:{better}",
        )


def open_sink(
    spec: str, *, size: tuple[int, int], fps: float, sound_from: Path | None = None, hears: bool = False
) -> Sink:
    """Open the sink that ``--sink`` names: ``virtualcam[:DEVICE]``, ``file:NAME`` or ``null``.

    ``auto`` and ``webrtc`` are resolved by ``realtime.assemble``. ``size`` is the width and height of every frame,
    both even. ``sound_from`` is a driving video whose sound a recording copies; with ``hears`` it takes sound that
    comes with the frames.

    Raises UsageError for anything else, SinkMissing if the sink cannot be opened.
    """
    kind, _, detail = spec.partition(":")
    if spec == "null":
        return NullSink()
    if kind == "virtualcam" and (detail or spec == kind):
        from realtime.sinks.virtual_camera import VirtualCamera

        return VirtualCamera(detail or None, size=size, fps=fps)
    if kind == "file" and is_sequence(paths.expand(detail)):
        from realtime.sinks.png_sequence import PngSequence

        return PngSequence(paths.expand(detail))
    if kind == "file" and detail:
        from realtime.sinks.recording import Recording

        return Recording(paths.expand(detail), size=size, fps=fps, sound_from=sound_from, hears=hears)
    raise UsageError("sink-unknown", f"the sink {spec!r}", _SINKS, "choose one of them")
