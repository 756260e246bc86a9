"""The portraits of a run, and which of them are prepared."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np

from engines import jit
from engines.errors import BusyError, CommandError, NotFoundError, ReenactError
from engines.face.topology import INNER_LOWER_LIP
from engines.generator import Generator
from engines.marking import mark_raster
from engines.types import FaceState, Image, Motion, Portrait
from realtime.core.background_task import BackgroundTask
from realtime.motion.motion_transfer import MotionTransfer
from realtime.pipeline.settings import Notice
from realtime.portraits.background import KEEP, Background, before, is_named, open_background
from realtime.portraits.mount import Mount
from realtime.portraits.portrait import PortraitPicture

MAX_PORTRAITS = 24
"""The most portraits that a run holds: each takes some megabytes."""
MAX_BACKGROUNDS = 12
"""The most images of backgrounds that a run holds."""
SLOW_S = 1.0
"""A warm frame that takes longer than this is far from live."""
THUMBNAIL_SIZE = 320
"""The longer side of a thumbnail in pixels."""
_NS = 1_000_000_000

PictureLoader = Callable[[], PortraitPicture]
"""Reads a portrait."""


@dataclass(frozen=True, slots=True)
class ListedPortrait:
    """A portrait that is known to be good: it can be chosen at once, and is prepared when it is.

    Preparing a gallery at the start would take the processor from the first half minute of a call, and memory for
    portraits that are never shown.
    """

    name: str
    load: PictureLoader
    read: Callable[[], Image]
    """Reads its picture, (h, w, 3) RGB, for a thumbnail."""

    def __call__(self) -> PortraitPicture:
        """Load it."""
        return self.load()


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A portrait that is ready to be driven."""

    portrait: Portrait
    original: PortraitPicture
    """As it was loaded."""
    mount: Mount | None
    background: Background
    thumbnail: Image


class PortraitLibrary:
    """The portraits of a run, prepared one after the other in the background so that switching costs nothing.

    Those that are only listed are prepared when they are chosen. Each has an index, from 0 on. Once the first is
    prepared the generator belongs to the compute thread; from here only its ``prepare`` is called then, for the other
    portraits.
    """

    def __init__(
        self,
        generator: Generator,
        loaders: Sequence[PictureLoader],
        *,
        failed: Callable[[BaseException], None],
        notice: Notice,
        first: int = 0,
        background: Background = KEEP,
    ) -> None:
        """``first`` is the index of the portrait that ``prepare_first`` prepares."""
        self.generator = generator
        self.first = first
        self._loaders = list(loaders)
        self._failed = failed
        self._notice = notice
        self._prepared: dict[int, _Prepared] = {}
        self._chosen: set[int] = set()  # those listed that are being prepared
        self._thumbnails: dict[int, Image] = {}  # of those listed
        self._adding = threading.Lock()
        self._one_at_a_time = threading.Lock()
        self._state = threading.Lock()
        self._background = background
        self._images = {background.name: background} if background.kind == "image" else {}
        self._preparing = 0
        self._closed = False

    def __len__(self) -> int:
        return len(self._loaders)

    @property
    def names(self) -> dict[int, str]:
        """The names of the portraits that can be chosen, listed or prepared, by index, in order."""
        names = {index: loader.name for index, loader in self._listed().items()}
        names |= {index: prepared.portrait.name for index, prepared in self._prepared.copy().items()}
        return dict(sorted(names.items()))

    def thumbnail(self, index: int) -> Image | None:
        """Return a small copy of a portrait, RGB and read-only; None while it can not be chosen yet."""
        prepared, listed = self._prepared.get(index), self._listed().get(index)
        if prepared is not None:
            return prepared.thumbnail
        if listed is None:
            return None
        if index not in self._thumbnails:
            self._thumbnails[index] = thumbnail(listed.read())
        return self._thumbnails[index]

    def _listed(self) -> dict[int, ListedPortrait]:
        """Return the portraits that are only listed, by index."""
        return {index: loader for index, loader in enumerate(self._loaders) if isinstance(loader, ListedPortrait)}

    def add(self, picture: PortraitPicture) -> int:
        """Prepare one more portrait and return its index. Any thread may call it.

        Raises CommandError if there is no room for more, BusyError while others are being prepared.
        """
        with self._adding:
            if len(self.names) < len(self._loaders):
                found = "portraits that are still being prepared"
                raise BusyError("portraits-preparing", found, cure="try again in a moment")
            if len(self._loaders) >= MAX_PORTRAITS:
                expected = f"at most {MAX_PORTRAITS}"
                cure = "choose one of those portraits"
                raise CommandError("portraits-full", f"{MAX_PORTRAITS + 1} portraits", expected, cure)
            index = len(self._loaders)
            self._prepare(index, picture)
            with self._state:
                if self._closed:
                    found = "the generator was changed meanwhile"
                    raise BusyError("generator-changed", found, cure="send the portrait again")
                self._loaders.append(partial(_without_notes, picture))
            return index

    def for_generator(self, generator: Generator, first: int) -> PortraitLibrary:
        """Return the same portraits for another generator, none of them prepared yet."""
        library = PortraitLibrary(generator, (), failed=self._failed, notice=self._notice, first=first)
        library._background, library._images = self._background, self._images
        library.catch_up(self)
        return library

    def catch_up(self, old: PortraitLibrary) -> None:
        """Take over the portraits that were added to ``old`` since, not prepared. A closed library gets no more."""
        for index in range(len(self), len(old)):
            prepared = old._prepared.get(index)
            loader = old._loaders[index] if prepared is None else partial(_without_notes, prepared.original)
            self._loaders.append(loader)

    def load(self, count: int | None = None) -> None:
        """Read and check the first ``count`` portraits, in order, so that a bad one is reported before the first frame.

        Without a ``count`` it is all of them. Raises what a loader raises.
        """
        for index in range(len(self))[:count]:
            self._loaders[index] = partial(_without_notes, self._load(index))

    def prepare_first(self, motion: MotionTransfer, progress: jit.Progress = lambda *_: None) -> None:
        """Prepare the first portrait and warm the generator up with it.

        What a generator does on first use (compiling for seconds, filling caches) is over then: it has been at rest,
        and has opened the mouth with a driving frame and without, the portrait being its own driver. ``motion`` is
        used up by this. ``progress`` is called as functions are compiled. Raises what the generator raises.
        """
        picture = self._load(self.first)
        motion.set_portrait(picture.face)
        with jit.watch(progress) as compilation:
            mark_raster.compile_all()
            self._prepare(self.first, picture)
            copy = replace(self._prepared[self.first].portrait)  # nothing of the warm-up stays with the portrait
            open_mouth = picture.face.landmarks.copy()
            open_mouth[INNER_LOWER_LIP, 1] += 0.2 * np.ptp(open_mouth[:, 1])
            speaking = replace(picture.face, landmarks=open_mouth, time_ns=_NS)
            self.generator.drive(copy, motion.update(None, 0), None)
            motion.update(replace(picture.face, time_ns=0), 0)
            # the second of two frames in a row is the first that is smoothed
            calm = motion.update(replace(picture.face, time_ns=_NS // 30), _NS // 30)
            compiled_before = compilation.count
            took_s = self._timed_drive(copy, calm, picture.image)
            if took_s > SLOW_S and compilation.count > compiled_before:
                took_s = self._timed_drive(copy, calm, picture.image)
            if took_s > SLOW_S:
                self._notice_slow(took_s)
                return
            said = motion.update(speaking, _NS)
            self.generator.drive(copy, said, picture.image)
            self.generator.drive(copy, said, None)

    def prepare_others(self) -> None:
        """Prepare the rest but for those listed, in order.

        A failure is reported and ends the run, unless this library is closed.
        """
        listed = self._listed()
        self._prepare_all([index for index in range(len(self)) if index not in listed])

    def _prepare_all(self, indices: Iterable[int]) -> None:
        try:
            for index in indices:
                if index not in self._prepared and not self._prepare(index, self._load(index)):
                    return
        except BaseException as error:
            if not self._closed:
                self._failed(error)
            elif not isinstance(error, ReenactError):
                _log.exception("preparing a portrait for a generator that is no longer used")

    def get(self, index: int) -> Portrait | None:
        """Return the portrait at an index, or None while it is not prepared.

        One that is only listed is prepared from the first call on, on a thread of its own.
        """
        prepared = self._prepared.get(index)
        if prepared is not None:
            return prepared.portrait
        if index not in self._chosen and index in self._listed():
            self._chosen.add(index)
            BackgroundTask("prepare chosen portrait", lambda: self._prepare_all([index])).start()
        return None

    def face(self, index: int) -> FaceState | None:
        """Return the face of the portrait at an index, or None while it is not prepared."""
        prepared = self._prepared.get(index)
        return None if prepared is None else prepared.original.face

    def mount(self, index: int) -> Mount | None:
        """Return the frame that the portrait at an index is shown in; None if it fills the output, or is missing."""
        prepared = self._prepared.get(index)
        return None if prepared is None else prepared.mount

    @property
    def background(self) -> Background:
        """The background that was chosen last."""
        return self._background

    def background_of(self, index: int) -> Background:
        """Return the background that the portrait at an index is prepared with."""
        prepared = self._prepared.get(index)
        return self._background if prepared is None else prepared.background

    def add_background(self, image: Image) -> str:
        """Keep an image, (h, w, 3) RGB, to be chosen as a background, and return its name.

        Raises CommandError if there is no room for more.
        """
        if len(self._images) >= MAX_BACKGROUNDS:
            cure = "choose one of those backgrounds"
            found = f"{MAX_BACKGROUNDS + 1} images of backgrounds"
            raise CommandError("backgrounds-full", found, f"at most {MAX_BACKGROUNDS}", cure)
        name = f"image:{len(self._images) + 1}"
        self._images[name] = Background("image", name, image=image)
        return name

    def background_named(self, name: str) -> Background:
        """Return a background: one that needs no image, or one whose image was added. Raises UsageError."""
        if name in self._images:
            return self._images[name]
        if not is_named(name):
            expected = "keep, blur, transparent, a colour such as green or #00ff00, or an image that was added"
            raise NotFoundError("background-not-found", f"the background {name[:60]!r}", expected, "choose one of them")
        return open_background(name)

    def set_background(self, background: Background, first: int) -> None:
        """Prepare the portraits again with a background, that at the index ``first`` first. Returns at once."""
        self._background = background
        BackgroundTask("change background", lambda: self._prepare_again(background, first)).start()

    def _prepare_again(self, background: Background, first: int) -> None:
        try:
            for index in sorted(self._prepared, key=lambda index: (index != first, index)):
                if self._background is not background or not self._prepare(index, self._prepared[index].original):
                    return
        except ReenactError as error:
            self._notice(f"{error}; the background stays as it is")

    def close(self) -> None:
        """Prepare no more, and close the generator; idempotent.

        The generator is closed at once, or by the thread that is preparing a portrait with it, when that is done.
        """
        with self._state:
            self._closed = True
            busy = self._preparing > 0
        if not busy:
            self.generator.close()

    def _timed_drive(self, portrait: Portrait, motion: Motion, driving: Image) -> float:
        """Return how many seconds one frame takes."""
        began = time.perf_counter()
        self.generator.drive(portrait, motion, driving)
        return time.perf_counter() - began

    def _notice_slow(self, took_s: float) -> None:
        cure = "use a GPU" if self.generator.name == "mesh" else "use --generator mesh or a GPU"
        self._notice(
            f"a frame takes {took_s:.1f} s on this machine, which is far from live; for a live picture {cure}; "
            "--pace max processes a file all the same"
        )

    def _load(self, index: int) -> PortraitPicture:
        picture = self._loaders[index]()
        for note in picture.notes:
            self._notice(f"{picture.name}: {note}")
        return picture

    def _prepare(self, index: int, picture: PortraitPicture) -> bool:
        """Prepare and keep a portrait. Return False if the library is closed, before or meanwhile."""
        with self._state:
            if self._closed:
                return False
            self._preparing += 1
        try:
            self._prepared[index] = self._with_background(picture)
        finally:
            with self._state:
                self._preparing -= 1
                closed = self._closed
                last = closed and self._preparing == 0
            if last:
                self.generator.close()
        return not closed

    def _with_background(self, picture: PortraitPicture) -> _Prepared:
        """Prepare a portrait before the background that is chosen when it is ready."""
        while True:
            background = self._background
            shown, behind = before(picture, background)
            if background.kind != "keep" and behind is None:
                self._notice(f"{picture.name} keeps its own background: its outline was not found")
            with self._one_at_a_time:
                portrait = self.generator.prepare(shown.name, shown.image, shown.face, shown.matte, behind)
            if background is self._background:
                return _Prepared(portrait, picture, shown.mount, background, thumbnail(_whole(shown)))


def _without_notes(picture: PortraitPicture) -> PortraitPicture:
    """Return the picture without its notes, which the user has been given."""
    return replace(picture, notes=())


def _whole(picture: PortraitPicture) -> Image:
    """Return the picture as it is shown, (H, W, 3)."""
    return picture.image if picture.mount is None else picture.mount.show(picture.image)


def thumbnail(image: Image) -> Image:
    """Return a small copy of a portrait, RGB and read-only."""
    height, width = image.shape[:2]
    scale = THUMBNAIL_SIZE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    small.flags.writeable = False
    return small
