"""The portraits of a run, and which are ready to be put on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engines.generator import Generator
from engines.types import Motion, Portrait
from realtime.portraits import PortraitPicture


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

    def prepare_first(self, rest: Motion) -> None:
        """Prepare the first portrait, and drive it once with a motion at rest. Raises what goes wrong.

        What a generator does on first use (compiling, filling caches) is over then.
        """
        self._prepare(self._loaders[0])
        self.generator.drive(self._ready[0], rest, None)

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

    def _prepare(self, load: Callable[[], PortraitPicture]) -> None:
        picture = load()
        for note in picture.notes:
            self._notice(f"{picture.name}: {note}")
        self._ready.append(self.generator.prepare(picture.name, picture.image, picture.face))
