"""The portraits of a run, and which are ready to be put on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np

from engines.errors import BusyError, CommandError
from engines.face.topology import INNER_LOWER_LIP
from engines.generator import Generator
from engines.types import Image, Portrait
from realtime.motion.relative import MotionTransfer
from realtime.portraits.portrait import PortraitPicture

_NS = 1_000_000_000
MOST = 24
"""Portraits that a run holds at most: each takes some megabytes."""
SLOW_S = 1.0
"""A frame that takes longer on a second look is for files, and is not rehearsed further."""
SMALL = 320
"""Pixels of the longer side of the picture that a portrait is chosen by."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A portrait that is ready."""

    portrait: Portrait
    original: PortraitPicture
    small: Image


class PortraitLibrary:
    """The portraits of a run, prepared one after the other on a helper thread so that switching costs nothing.

    Each has its place, a number from 0 on. Once the first is ready the generator belongs to the compute stage, and only
    its ``prepare`` is called here, for the other portraits.
    """

    def __init__(
        self,
        generator: Generator,
        loaders: Sequence[Callable[[], PortraitPicture]],
        *,
        failed: Callable[[BaseException], None],
        notice: Callable[[str], None],
        first: int = 0,
    ) -> None:
        """``first`` is the place of the portrait that ``prepare_first`` prepares."""
        self.generator = generator
        self.first = first
        self._loaders = list(loaders)
        self._failed = failed
        self._notice = notice
        self._kept: dict[int, _Kept] = {}
        self._adding = threading.Lock()
        self._state = threading.Lock()
        self._preparing = 0
        self._closed = False

    def __len__(self) -> int:
        return len(self._loaders)

    @property
    def names(self) -> dict[int, str]:
        """The names of the portraits that are ready, by their places and in that order."""
        return {place: kept.portrait.name for place, kept in sorted(self._kept.copy().items())}

    def picture(self, index: int) -> Image | None:
        """A small picture of a portrait, for choosing: RGB, read-only; None while it is not ready."""
        kept = self._kept.get(index)
        return None if kept is None else kept.small

    def add(self, picture: PortraitPicture) -> int:
        """Prepare one more portrait and say its number. Any thread may call it.

        Raises CommandError when there is no room for more, or others are still being prepared.
        """
        with self._adding:
            if len(self._kept) < len(self._loaders):
                raise BusyError(
                    "portraits-preparing",
                    "portraits that are being prepared",
                    "all of them ready",
                    "try again in a moment",
                )
            if len(self._kept) >= MOST:
                raise CommandError(
                    "portraits-full", f"{MOST} portraits", "room for one more", "choose one of those there are"
                )
            place = len(self._loaders)
            self._prepare(place, picture)
            with self._state:
                if self._closed:
                    raise BusyError(
                        "generator-changed", "a generator that was changed meanwhile", "one that stays", "send it again"
                    )
                self._loaders.append(partial(_same, picture))
            return place

    def for_another(self, generator: Generator, first: int) -> PortraitLibrary:
        """The same portraits for another generator, none of them prepared yet; ``first`` is to be the first."""
        library = PortraitLibrary(generator, (), failed=self._failed, notice=self._notice, first=first)
        library.catch_up(self)
        return library

    def catch_up(self, old: PortraitLibrary) -> None:
        """Take over the portraits that ``old`` has been given since; they are yet to be prepared.

        Once ``old`` is closed it is given no more.
        """
        for place in range(len(self), len(old)):
            kept = old._kept.get(place)
            self._loaders.append(old._loaders[place] if kept is None else partial(_same, kept.original))

    def load(self) -> None:
        """Read and judge every portrait, in order, so that one that cannot be used is known before the first picture.

        Raises what goes wrong.
        """
        for place in range(len(self)):
            self._loaders[place] = partial(_same, self._load(place))

    def prepare_first(self, motion: MotionTransfer) -> None:
        """Prepare the first portrait and rehearse with it. Raises what goes wrong.

        What a generator does on first use (compiling for seconds, filling caches) is over then: it has been at
        rest, and has opened the mouth with a driving picture and without, the portrait being its own driver.
        ``motion`` is used up by this.
        """
        picture = self._load(self.first)
        self._prepare(self.first, picture)
        understudy = replace(self._kept[self.first].portrait)  # nothing of the rehearsal sticks to the portrait itself
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
        """Prepare the rest, in order; one that fails is reported and ends the run, unless this one is over with."""
        try:
            for place in range(len(self)):
                if place not in self._kept and not self._prepare(place, self._load(place)):
                    return
        except BaseException as error:
            if not self._closed:
                self._failed(error)

    def get(self, index: int) -> Portrait | None:
        """The portrait of that place, or None while it is not ready yet."""
        kept = self._kept.get(index)
        return None if kept is None else kept.portrait

    def close(self) -> None:
        """Prepare no more, and let go of the generator: now, or when a portrait that is being prepared with it is done.

        That is then on the thread that prepares it.
        """
        with self._state:
            self._closed = True
            busy = self._preparing > 0
        if not busy:
            self.generator.close()

    def _load(self, place: int) -> PortraitPicture:
        picture = self._loaders[place]()
        for note in picture.notes:
            self._notice(f"{picture.name}: {note}")
        return picture

    def _prepare(self, place: int, picture: PortraitPicture) -> bool:
        """Prepare and keep a portrait; False where the library is closed, before or meanwhile."""
        with self._state:
            if self._closed:
                return False
            self._preparing += 1
        try:
            portrait = self.generator.prepare(picture.name, picture.image, picture.face)
            self._kept[place] = _Kept(portrait, picture, small_picture(picture.image))
        finally:
            with self._state:
                self._preparing -= 1
                closed = self._closed
                last = closed and self._preparing == 0
            if last:
                self.generator.close()
        return not closed


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
