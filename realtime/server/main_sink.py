"""The sink for the viewers of the main run."""

from __future__ import annotations

import threading
from collections.abc import Callable

from engines.errors import SinkMissing
from realtime.core.background_task import BackgroundTask
from realtime.core.frames import Frame, PixelFormat
from realtime.sinks.sink import Sink


class MainSink:
    """A Sink that sends to the media process once that has started, and drops frames until then."""

    format = PixelFormat.I420
    notes: tuple[str, ...] = ()

    def __init__(self, name: str, started: BackgroundTask[str], open_sink: Callable[[], Sink]) -> None:
        """``open_sink`` is called once ``started``, the start of the media process, has succeeded."""
        self.name = name
        self.live = False
        """Whether viewers have been sent a frame."""
        self._started = started
        self._open_sink = open_sink
        self._lock = threading.Lock()
        self._sink: Sink | None = None
        self._error: SinkMissing | None = None
        self._closed = False
        started.then(lambda _: self._attach())

    def send(self, frame: Frame) -> None:
        """Send a frame. Raises SinkLost or SinkMissing if there is no media process, or none any more."""
        if self._sink is not None:
            self._sink.send(frame)
            self.live = True
        elif self._error is not None:
            raise self._error
        elif self._started.wait(0):
            self._started.result()

    def close(self) -> None:
        """End the stream for its viewers. close() is idempotent."""
        with self._lock:
            self._closed = True
            sink = self._sink
        if sink is not None:
            sink.close()

    def _attach(self) -> None:
        """Open the sink, on the thread that started the media process: viewers may come before the first frame."""
        try:
            sink = self._open_sink()
        except SinkMissing as error:
            self._error = error
            return
        with self._lock:
            if not self._closed:
                self._sink = sink
                return
        sink.close()
