"""The thread that reads the source."""

from __future__ import annotations

import threading
from collections.abc import Callable

from engines.errors import SourceEnded, SourceError, SourceLost
from realtime.capture.source import Source
from realtime.core.frames import Frame
from realtime.core.mailbox import Mailbox
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.reopen import reopen
from realtime.pipeline.settings import Notice


class CaptureThread(threading.Thread):
    """Reads the source into a mailbox, and opens the source again when it was lost.

    ``open_again`` is None for a source that cannot be reopened, such as a file. With ``lossless`` each frame waits
    until the mailbox is empty; otherwise it replaces an older one. The thread owns the source, and closes it and the
    mailbox when it ends.
    """

    def __init__(
        self,
        source: Source,
        open_again: Callable[[], Source] | None,
        stop_signal: StopSignal,
        notice: Notice,
        *,
        lossless: bool,
    ) -> None:
        super().__init__(name="capture", daemon=True)
        self.inbox: Mailbox[Frame] = Mailbox()
        self.start_reading = threading.Event()
        """Set when the rest of the run is ready: until then a file must not play."""
        self.lost = False
        """Whether the source is lost at the moment."""
        self.source = source
        self._open_again = open_again
        self._stop_signal = stop_signal
        self._notice = notice
        self._lossless = lossless
        self._reading = False
        self._skipped = 0

    @property
    def dropped(self) -> int:
        """The number of frames that a newer one replaced in the mailbox, or that the source skipped."""
        return self.inbox.dropped + self._skipped

    def run(self) -> None:
        """Read until the source ends, fails for good, or the run is over."""
        try:
            self.start_reading.wait()
            while not self._stop_signal.over.is_set():
                try:
                    frame = self._read()
                except SourceLost as error:
                    self._reopen(error)
                    continue
                if self._lossless:
                    self.inbox.put_when_free(frame)
                else:
                    self.inbox.put(frame)
        except SourceEnded:
            pass
        except BaseException as error:
            self._stop_signal.fail(error)
        finally:
            self.inbox.close()
            self.source.close()

    def _read(self) -> Frame:
        """Return the next frame. Count what the source skips, except what piled up before the run began."""
        source = self.source
        before = source.skipped
        try:
            return source.read()
        finally:
            if self._reading:
                self._skipped += source.skipped - before
            self._reading = True

    def _reopen(self, error: SourceLost) -> None:
        if self._open_again is None:
            raise error
        self.lost = True
        source = reopen(self._open_again, self.source, error, SourceError, self._stop_signal, self._notice)
        if source is not None:
            self.source = source
            self.lost = False
