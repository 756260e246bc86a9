"""A recording as a sequence of PNG pictures with alpha."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from engines.errors import SinkLost, SinkMissing
from realtime.core.frames import PixelFormat

if TYPE_CHECKING:
    from realtime.core.frames import Frame

_FAST = (cv2.IMWRITE_PNG_COMPRESSION, 1)


class PngSequence:
    """A Sink that writes a PNG picture for each frame, numbered from 0 on, as ``path`` says: ``shots/%05d.png``.

    Raises SinkMissing if the first picture exists, or its folder cannot be written to.
    """

    format = PixelFormat.RGBA
    notes: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0
        self.name = f"recording to {path} (PNG with alpha)"
        first = self._numbered(0)
        if not path.parent.is_dir():
            raise SinkMissing("recording-no-folder", f"no folder {path.parent}", cure=f"mkdir -p {path.parent}")
        if first.exists():
            raise SinkMissing("recording-sequence-exists", f"{first} exists", "no such picture", "give another folder")
        try:
            first.touch()
            first.unlink()
        except OSError as error:
            cure = "record to a folder that you may write to and that has room"
            raise SinkMissing(
                "recording-not-writable", f"{first} cannot be written: {error.strerror}", cure=cure
            ) from None

    def send(self, frame: Frame) -> None:
        """Write a picture. Raises SinkLost if that fails."""
        path = self._numbered(self._count)
        _, file = cv2.imencode(".png", cv2.cvtColor(frame.pixels, cv2.COLOR_RGBA2BGRA), _FAST)
        try:
            path.write_bytes(np.asarray(file, np.uint8).tobytes())
        except OSError as error:
            raise SinkLost(
                "recording-write-failed",
                f"{path} cannot be written: {error.strerror}; {self._count} pictures were written before",
                cure="check the disk, or record to another one",
            ) from None
        self._count += 1

    def close(self) -> None:
        """Do nothing: every picture is complete."""

    def _numbered(self, number: int) -> Path:
        """Return the path of a picture."""
        return self._path.with_name(self._path.name % number)
