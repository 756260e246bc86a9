"""Turns uploaded images into portraits, with one set of face models that stays loaded."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from engines.errors import BusyError, ReenactError
from engines.types import Image
from realtime.core.protocol import MAX_PICTURES_READ
from realtime.portraits.decoder_process import DecoderProcesses, closed_error
from realtime.portraits.image_file import DecodedImage
from realtime.portraits.portrait import PortraitPicture, make_portrait
from realtime.portraits.settings import Fit
from realtime.tracking.still_faces import FaceFinder

_log = logging.getLogger(__name__)

MAX_PIXELS = 40_000_000
"""Pixels of an uploaded image."""
TIMEOUT_S = 5.0
"""How long decoding an image and finding its face may take together."""


class UploadReader:
    """Reads uploaded images as portraits of ``size`` (width, height). Any thread may call anything.

    Up to ``MAX_PICTURES_READ`` are read at the same time; a further one is refused. Each image is decoded in a process
    of its own. Faces are found on one thread, which loads the models for the first image and keeps them until
    ``close``.
    """

    def __init__(
        self,
        size: tuple[int, int],
        *,
        max_pixels: int = MAX_PIXELS,
        timeout_s: float = TIMEOUT_S,
        open_finder: Callable[[], FaceFinder] = FaceFinder,
    ) -> None:
        self._size = size
        self._max_pixels = max_pixels
        self._timeout_s = timeout_s
        self._open_finder = open_finder
        self._finder: FaceFinder | None = None  # used by the face thread only
        self._decoders = DecoderProcesses()
        self._face_thread = ThreadPoolExecutor(1, "portrait upload")
        self._reads = threading.BoundedSemaphore(MAX_PICTURES_READ)
        self._lock = threading.Lock()
        self._closed = False

    def read(self, data: bytes, name: str, fit: Fit = "auto") -> PortraitPicture:
        """Return the portrait in an uploaded file called ``name``. Nothing is written to disk.

        Raises PortraitError if the image cannot be used, TrackerError if there are no face models, and BusyError if
        too many images are being read, if reading takes too long, or after ``close``.
        """
        if not self._reads.acquire(blocking=False):
            raise _busy()
        deadline = time.monotonic() + self._timeout_s
        try:
            portrait = self._decode(data, name, fit)
        except BaseException:
            self._reads.release()
            raise
        portrait.add_done_callback(lambda _: self._reads.release())
        try:
            return portrait.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            portrait.add_done_callback(_log_bug)  # no caller is left to raise it in
            raise self._timeout_error() from None

    def read_image(self, data: bytes, name: str) -> Image:
        """Return the pixels of an uploaded file called ``name``, (H, W, 3) RGB. Nothing is written to disk.

        Raises PortraitError if it is no image, and BusyError as ``read`` does.
        """
        if not self._reads.acquire(blocking=False):
            raise _busy()
        try:
            image = self._decoders.decode(data, name, self._max_pixels, self._timeout_s).image
        except TimeoutError:
            raise self._timeout_error() from None
        finally:
            self._reads.release()
        # a background needs no more pixels than the output
        factor = max(size / side for size, side in zip(self._size, image.shape[1::-1], strict=True))
        if factor < 0.5:
            height, width = (round(side * 2 * factor) for side in image.shape[:2])
            return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        return image

    def close(self) -> None:
        """End the decoders and release the face models, without waiting for them. Idempotent."""
        self._decoders.close()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._face_thread.submit(self._close_finder)
            self._face_thread.shutdown(wait=False)

    def _decode(self, data: bytes, name: str, fit: Fit) -> Future[PortraitPicture]:
        """Decode an image, and have the face thread make a portrait of it."""
        try:
            decoded = self._decoders.decode(data, name, self._max_pixels, self._timeout_s)
        except TimeoutError:
            raise self._timeout_error() from None
        with self._lock:
            if self._closed:
                raise closed_error()
            return self._face_thread.submit(self._make_portrait, decoded, name, fit)

    def _make_portrait(self, decoded: DecodedImage, name: str, fit: Fit) -> PortraitPicture:
        if self._closed:
            raise closed_error()
        if self._finder is None:
            self._finder = self._open_finder()
        return make_portrait(decoded, Path(name), self._size, self._finder, fit)

    def _close_finder(self) -> None:
        if self._finder is not None:
            self._finder.close()
            self._finder = None

    def _timeout_error(self) -> BusyError:
        return BusyError(
            "upload-timeout",
            f"reading the picture took longer than {self._timeout_s:g} s",
            "one that is read sooner",
            "try again, or send a smaller picture",
        )


def _busy() -> BusyError:
    found = f"{MAX_PICTURES_READ} pictures are being read"
    return BusyError("upload-busy", found, "fewer at a time", "try again")


def _log_bug(future: Future[PortraitPicture]) -> None:
    """Log an error that is not the user's."""
    error = future.exception()
    if error is not None and not isinstance(error, ReenactError):
        _log.error("reading an uploaded picture failed", exc_info=error)
