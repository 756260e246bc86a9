"""A source around another one, for measuring what it returns."""

from __future__ import annotations

from realtime.capture.source import Source
from realtime.core.frames import Frame


class WrappedSource:
    """Passes on what a source returns and says of itself. A subclass overrides ``read``."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.name, self.size, self.fps, self.live = source.name, source.size, source.fps, source.live
        self.frames, self.notes = source.frames, source.notes

    @property
    def skipped(self) -> int:
        """See ``Source``."""
        return self._source.skipped

    def read(self) -> Frame:
        """See ``Source``."""
        return self._source.read()

    def close(self) -> None:
        """See ``Source``."""
        self._source.close()
