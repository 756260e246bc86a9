"""The portraits of a run, and which are ready to be put on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import cv2
import numpy as np

from engines.generator import Generator
from engines.topology import INNER_LOWER_LIP
from engines.types import Image, Portrait
from realtime.commands import CommandError
from realtime.motion import MotionTransfer
from realtime.portraits import PortraitPicture

_NS = 1_000_000_000
MOST = 24
"""Portraits that a run holds at most: each takes some megabytes."""
SLOW_S = 1.0
"""A frame that takes longer on a second look is for files, and is not rehearsed further."""
SMALL = 320
"""Pixels of the longer side of the picture that a portrait is chosen by."""


class Wardrobe:
    """The portraits of a run, prepared one after the other on a helper thread so that switching costs nothing.

    Once the first is ready the generator belongs to the compute stage, and only its ``prepare`` is called here, for
    the other portraits.
    """

    def __init__(
        self,
        generator: Generator,
        loaders: Sequence[Callable[[], PortraitPicture]],
        *,
        failed: Callable[[BaseException], None],
        notice: Callable[[str], None],
    ) -> None:
        self.generator = generator
        self._loaders = loaders
        self._failed = failed
        self._notice = notice
        self._ready: list[Portrait] = []
        self._originals: list[PortraitPicture] = []
        self._pictures: list[Image] = []
        self._adding = threading.Lock()

    def __len__(self) -> int:
        return max(len(self._loaders), len(self._ready))

    @property
    def names(self) -> list[str]:
        """The names of the portraits that are ready, in order."""
        return [portrait.name for portrait in self._ready]

    def picture(self, index: int) -> Image | None:
        """A small picture of a portrait, for choosing: RGB, read-only; None while it is not ready."""
        pictures = self._pictures
        return pictures[index] if 0 <= index < len(pictures) else None

    def add(self, picture: PortraitPicture) -> int:
        """Prepare one more portrait and say its number. Any thread may call it.

        Raises CommandError when there is no room for more, or the first ones are still being prepared.
        """
        with self._adding:
            if len(self._ready) < len(self._loaders):
                raise CommandError("portraits that are being prepared", "all of them ready", "try again in a moment")
            if len(self._ready) >= MOST:
                raise CommandError(f"{MOST} portraits", "room for one more", "choose one of those there are")
            self._keep(picture)
            return len(self._ready) - 1

    def for_another(self, generator: Generator) -> Wardrobe:
        """The same portraits for another generator, none of them prepared yet."""
        originals = list(self._originals)
        loaders = [partial(_same, picture) for picture in originals] + list(self._loaders[len(originals) :])
        return Wardrobe(generator, loaders, failed=self._failed, notice=self._notice)

    def prepare_first(self, motion: MotionTransfer) -> None:
        """Prepare the first portrait and rehearse with it. Raises what goes wrong.

        What a generator does on first use (compiling for seconds, filling caches) is over then: it has been at
        rest, and has opened the mouth with a driving picture and without, the portrait being its own driver.
        ``motion`` is used up by this.
        """
        picture = self._prepare(self._loaders[0])
        understudy = replace(self._ready[0])  # nothing of the rehearsal sticks to the portrait itself
        open_mouthed = picture.face.landmarks.copy()
        open_mouthed[INNER_LOWER_LIP, 1] += 0.2 * np.ptp(open_mouthed[:, 1])
        speaking = replace(picture.face, landmarks=open_mouthed, time_ns=_NS)
        self.generator.drive(understudy, motion.update(None, 0), None)
        began = time.perf_counter()
        self.generator.drive(understudy, motion.update(replace(picture.face, time_ns=0), 0), picture.image)
        took = time.perf_counter() - began
        if took > SLOW_S:
            self._notice(
                f"a frame takes {took:.1f} s here, which is far from live: for a live picture use --generator mesh "
                "or a GPU; --pace max works through a file all the same"
            )
            return
        said = motion.update(speaking, _NS)
        self.generator.drive(understudy, said, picture.image)
        self.generator.drive(understudy, said, None)

    def prepare_others(self) -> None:
        """Prepare the rest, in order; one that fails is reported and ends the run."""
        try:
            for load in self._loaders[1:]:
                self._prepare(load)
        except BaseException as error:
            self._failed(error)

    def get(self, index: int) -> Portrait | None:
        """The portrait of that place, or None while it is not ready yet."""
        ready = self._ready
        return ready[index] if index < len(ready) else None

    def _prepare(self, load: Callable[[], PortraitPicture]) -> PortraitPicture:
        picture = load()
        for note in picture.notes:
            self._notice(f"{picture.name}: {note}")
        self._keep(picture)
        return picture

    def _keep(self, picture: PortraitPicture) -> None:
        portrait = self.generator.prepare(picture.name, picture.image, picture.face)
        self._originals.append(picture)
        self._pictures.append(small_picture(picture.image))
        self._ready.append(portrait)


def _same(picture: PortraitPicture) -> PortraitPicture:
    return replace(picture, notes=())  # they have been said


def small_picture(image: Image) -> Image:
    """A portrait as it is chosen by: RGB, read-only."""
    height, width = image.shape[:2]
    scale = SMALL / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    small.flags.writeable = False
    return small
