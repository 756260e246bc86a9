"""The server behind the page: owns the media process and the sessions, and answers what the media process asks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from engines import install_hint
from engines.errors import ReenactError, SinkLost
from realtime.config import Config
from realtime.core.background_task import BackgroundTask
from realtime.core.protocol import MAIN_STREAM
from realtime.pipeline.pipeline import Pipeline
from realtime.pipeline.portrait_library import ListedPortrait, PictureLoader, thumbnail
from realtime.pipeline.settings import Notice
from realtime.server import control
from realtime.server.http_api import HttpApi, Preview
from realtime.server.main_sink import MainSink
from realtime.server.metrics import Metrics, RunFigures
from realtime.server.runs import Runs
from realtime.server.sessions import Link, LoaderFactory, Session, Sessions, session_viewers
from realtime.webrtc.callbacks import ApiReply, ApiRequest

if TYPE_CHECKING:
    from realtime.pipeline.frame_publisher import FrameRelay
    from realtime.pipeline.run import Run
    from realtime.server.capacity import Capacity
    from realtime.server.shared_sinks import SharedSinks

FIRST_FRAME_POLL_S = 0.2
"""How often to look for the main run's first frame before the capacity is measured."""

logger = logging.getLogger(__name__)


class ServerLink(Link, Protocol):
    """The methods of ``realtime.webrtc.link.MediaLink`` that the application uses."""

    address: str

    def start(self) -> str: ...
    def close(self, timeout: float = ..., /) -> None: ...


class ServerApplication:
    """Owns the media process, and is its ServerCallbacks and the MetricsSource. The main thread starts and closes it.

    Where browsers drive there is no main run, and the program's own sinks are ``SharedSinks``.
    """

    def __init__(
        self,
        config: Config,
        make_link: Callable[[ServerApplication], ServerLink],
        make_loader: LoaderFactory,
        measure: Callable[[int], Capacity] | None,
        *,
        notice: Notice,
    ) -> None:
        """``make_link`` makes the MediaLink with this application as its callbacks.

        ``measure`` measures how many sessions the machine sustains beside that many runs; None leaves the limit as the
        configuration has it.
        """
        self.config = config
        self.sessions = Sessions(
            config, make_loader, attach=self._attach_session, detach=self._detach_session, notice=notice
        )
        self._runs = Runs(self.sessions, has_main=config.camera != "webrtc")
        self._main_sink: MainSink | None = None
        self._shared_sinks: SharedSinks | None = None
        self._link_error: SinkLost | None = None
        self._measure = measure
        self._notice = notice
        self._closing = threading.Event()
        version = install_hint.version()
        self._api = HttpApi(
            config,
            version,
            self._runs,
            local_run=self._local_run,
            ready=self._is_ready,
            stats=self.network,
            metrics=Metrics(self, version).text,
        )
        self.link = make_link(self)
        self.sessions.link = self.link
        self.started: BackgroundTask[str] = BackgroundTask("media server", self.link.start)
        """The start of the media process."""

    @property
    def address(self) -> str:
        """The URL of the page."""
        return self.link.address

    def start(self) -> None:
        """Start the media process and return once the address is known.

        Raises SinkMissing if the address is in use, or the process fails before.
        """
        self.started.start()
        while not self.address and not self.started.wait(0.005):
            pass
        if self.started.wait(0):
            self.started.result()

    def attach_shared_sinks(self, shared_sinks: SharedSinks) -> None:
        """Let the program's own sinks show the sessions' frames. Called before the run starts."""
        self._shared_sinks = shared_sinks
        if self._link_error is not None:
            shared_sinks.stop_signal.fail(self._link_error)

    def load_previews(self, loaders: Sequence[PictureLoader], failed: Callable[[BaseException], None]) -> None:
        """Load the portraits that sessions will have, so that users can choose one before a session is open.

        Returns at once. ``failed`` is called with the error of a portrait that cannot be used.
        """

        def load_all() -> None:
            try:
                for load in loaders:
                    if isinstance(load, ListedPortrait):
                        name, image = load.name, load.read()
                    else:
                        picture = load()
                        name, image = picture.name, picture.image
                    self._api.previews.append(Preview(name, thumbnail(image)))
            except Exception as error:
                failed(error)

        BackgroundTask("load previews", load_all).start()

    def main_sink(self) -> MainSink:
        """Return the sink for the viewers of the main run."""
        self._main_sink = MainSink(
            f"page at {self.address}",
            self.started,
            lambda: self.link.sink(MAIN_STREAM, self.config.size),
        )
        return self._main_sink

    def run_started(self, main: Pipeline | None) -> None:
        """Make the main run known, if there is one, and measure how many sessions fit beside it."""
        self._runs.main = main
        if self._measure is not None and self.config.sessions is None:
            BackgroundTask("measure capacity", partial(self._set_limit, self._measure)).start()

    def summary(self) -> str:
        """Return the numbers of sessions and viewers for the status line; empty if there are none.

        The own views of browsers that drive are not counted.
        """
        stats = self.link.stats()
        sessions = stats.get("sessions", {}).values()
        own_views = sum(int(each.get("viewers", 0)) - session_viewers(each) for each in sessions)
        viewers = int(stats.get("viewers", 0)) - own_views
        parts = [(len(self.sessions), "browser"), (viewers, "viewer")]
        return ", ".join(f"{count} {word}{'s' * (count != 1)}" for count, word in parts if count)

    def close(self, timeout: float = 1.5) -> None:
        """End every session and the media process, within ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        self._closing.set()
        self._api.close()
        self.sessions.close(timeout / 2)
        self.link.close(max(0.0, deadline - time.monotonic()))

    # --- callbacks of the media process, see ServerCallbacks

    def open(self, session: str, watch: str) -> None:
        """Open a session. Raises ServerFull."""
        self.sessions.open(session, watch)

    def closed(self, session: str) -> None:
        """End the session of a publisher that has left."""
        self.sessions.close_session(session)

    def control(self, session: str | None, message: bytes) -> bytes:
        """Carry out a message of the control channel and return the reply."""
        return control.execute(message, partial(self._runs.run_command, session)).message()

    def request(self, request: ApiRequest) -> ApiReply:
        """Answer an HTTP request. Raises ReenactError."""
        return self._api.answer(request)

    def media_process_lost(self, error: SinkLost) -> None:
        """End the shared sinks, as browsers cannot drive without a media process. Any thread may call it."""
        self._link_error = error
        if self._shared_sinks is not None:
            self._shared_sinks.stop_signal.fail(error)

    # --- what the metrics are made of, see MetricsSource

    @property
    def limit(self) -> int:
        """How many sessions may be open at the same time."""
        return self.sessions.limit

    def run_figures(self) -> Mapping[str, RunFigures]:
        """Return the figures by kind of run, ``main`` and ``session``."""
        run_figures = {"session": self.sessions.figures()}
        run = self._local_run()
        if run is not None:
            run_figures["main"] = RunFigures()
            run_figures["main"].add(run)
        return run_figures

    def open_sessions(self) -> int:
        """Return the number of open sessions."""
        return len(self.sessions)

    def counts(self) -> Mapping[str, int]:
        """Return the numbers of sessions opened, refused and failed since the start."""
        sessions = self.sessions
        return {"opened": sessions.opened, "refused": sessions.refused, "failed": sessions.failed}

    def network(self) -> Mapping[str, Any]:
        """Return the figures of the media process, see ``MediaLink.stats``."""
        return self.link.stats()

    # --- private

    def _local_run(self) -> Run | None:
        """Return the run that feeds the program's own sinks."""
        return self._shared_sinks if self._runs.main is None else self._runs.main

    def _is_ready(self) -> bool:
        """Return True if there is something to watch, or browsers can drive."""
        if not self._runs.has_main:
            return self.started.wait(0)
        return self._main_sink is not None and self._main_sink.live

    def _attach_session(self, session: Session) -> FrameRelay | None:
        return None if self._shared_sinks is None else self._shared_sinks.attach(session)

    def _detach_session(self, session: Session) -> None:
        if self._shared_sinks is not None:
            self._shared_sinks.detach(session)

    def _set_limit(self, measure: Callable[[int], Capacity]) -> None:
        """Measure how many sessions the machine sustains and set the limit. If that fails, one browser may drive."""
        main = self._runs.main
        while main is not None and not main.counts.frames:
            if self._closing.wait(FIRST_FRAME_POLL_S) or main.stop_signal.over.is_set():
                return
        try:
            capacity = measure(0 if main is None else 1)
        except ReenactError as error:
            self._capacity_unknown(str(error))
        except Exception as error:
            logger.exception("cannot measure how many sessions this machine sustains")
            self._capacity_unknown(f"{type(error).__name__}; the traceback is in the log")
        else:
            self.sessions.set_limit(capacity.sessions, "which this machine sustains")
            self._notice(f"browsers may drive, {capacity}")

    def _capacity_unknown(self, found: str) -> None:
        self.sessions.set_limit(1, "as this machine's capacity could not be measured")
        self._notice(
            "one browser at a time may drive, as it could not be measured how many this machine sustains: "
            f"{found} (--sessions N sets another limit)"
        )
