"""The portraits of a run, and which are ready to be put on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from engines.generator import Generator
from engines.topology import INNER_LOWER_LIP
from engines.types import Portrait
from realtime.motion import MotionTransfer
from realtime.portraits import PortraitPicture

_NS = 1_000_000_000


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

    def __len__(self) -> int:
        return len(self._loaders)

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
        self.generator.drive(understudy, motion.update(replace(picture.face, time_ns=0), 0), picture.image)
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
        self._ready.append(self.generator.prepare(picture.name, picture.image, picture.face))
        return picture
