"""Sessions of browsers that drive: each publisher gets a run with its own tracker, neutral face and portraits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

from engines.errors import BusyError, ReenactError, ServerFull, SourceEnded
from realtime.capture.source import Source
from realtime.config import Config
from realtime.core import problem
from realtime.core.protocol import DEFAULT_FPS
from realtime.core.sound import SoundPacket
from realtime.core.stop_signal import StopSignal
from realtime.marking import new_marking
from realtime.pipeline.commands import Commands, Setting
from realtime.pipeline.delivery_thread import OpenedSink
from realtime.pipeline.pipeline import Pipeline
from realtime.pipeline.settings import Notice, RunHooks, RunSettings
from realtime.server.metrics import RunFigures
from realtime.server.models import ErrorFields, ErrorMessage, NoticeMessage, State, StateMessage
from realtime.server.state import run_state
from realtime.sinks.sink import Sink

if TYPE_CHECKING:
    from realtime.pipeline.frame_publisher import FrameRelay
    from realtime.pipeline.loader import PipelineLoader

STATE_INTERVAL_S = 0.5
"""Time between two states that a session sends to its page."""
REOPEN_TIMEOUT_S = 5.0
"""How long to wait for video when a lost source is opened again."""
LINGER_S = 5.0
"""How long a failed session stays open, so that its page gets the error and shows the slate."""
RETRY_S = 10.0
"""When a publisher that found the server full may try again."""

LoaderFactory = Callable[[Config, StopSignal, Notice], "PipelineLoader"]
"""Makes what loads a session's tracker, generator and portraits."""

logger = logging.getLogger(__name__)


class Link(Protocol):
    """The methods of ``realtime.webrtc.link.MediaLink`` that a session uses."""

    def source(self, session: str, fps: float, timeout_s: float = ..., /) -> Source: ...
    def sink(self, stream: str, size: tuple[int, int], /) -> Sink: ...
    def push(self, session: str, message: dict[str, Any], /) -> None: ...
    def mute(self, session: str, muted: bool, /) -> None: ...
    def hear(self, session: str, heard: Callable[[SoundPacket], None], /) -> None: ...
    def end(self, session: str, /) -> None: ...
    def stats(self) -> dict[str, Any]: ...


class Session:
    """The run of one publisher.

    Its thread opens the publisher's video, runs a pipeline until the publisher leaves, and sends the state to its page.
    """

    def __init__(
        self,
        key: str,
        watch: str,
        config: Config,
        link: Link,
        make_loader: LoaderFactory,
        on_end: Callable[[Session], None],
    ) -> None:
        self.key = key
        """The secret that controls the session."""
        self.watch = watch
        """The secret that lets others watch it."""
        self.stop_signal = StopSignal()
        self.pipeline: Pipeline | None = None
        self._commands = Commands()
        self._config = config
        self._link = link
        self._make_loader = make_loader
        self._relay: FrameRelay | None = None
        self._muted = False
        self._on_end = on_end
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="session", daemon=True)

    def start(self, relay: FrameRelay | None = None) -> None:
        """Start the session's thread. ``relay`` receives the generated frames as well; the session closes it."""
        self._relay = relay
        self._thread.start()

    def stop(self) -> None:
        """End the session, because its publisher has left or the program ends. Does not wait."""
        self.stop_signal.stop("the publisher has left")
        self._stopped.set()

    def join(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the session's thread. Return True if it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def run_command(self, name: str, value: Setting) -> str:
        """Carry out a command and return its result in a few words.

        Before the pipeline has started the command is queued, and carried out before the first frame. Raises
        ReenactError.
        """
        if name == "set_muted":
            # at once: sound goes to viewers before the first frame, and past the pipeline
            return self._set_muted(value)
        if self.pipeline is not None:
            return self._commands.ask(name, value)
        if not self._commands.post(name, value):
            raise BusyError(
                "session-starting", "the session is still starting", "its first frame", "try again in a moment"
            )
        return f"{name}: with the first frame"

    def state(self) -> State:
        """Return the state that the session's page shows."""
        network: Mapping[str, Any] = self._link.stats().get("sessions", {}).get(self.key, {})
        return run_state(
            self.pipeline,
            self._config,
            session=self.key,
            watch=self.watch,
            viewers=session_viewers(network),
            network=network,
            muted=self._muted,
        )

    def _set_muted(self, on: Setting) -> str:
        self._muted = not self._muted if on is None else bool(on)
        self._link.mute(self.key, self._muted)
        return "muted" if self._muted else "not muted"

    def _run(self) -> None:
        try:
            self._run_pipeline()
        except SourceEnded:
            pass
        except Exception as error:
            self.stop_signal.fail(error)
        finally:
            if self.stop_signal.error is not None:
                self._report(self.stop_signal.error)
            if self.pipeline is not None:
                self.pipeline.close()
            self._link.end(self.key)
            self._on_end(self)

    def _report(self, error: BaseException) -> None:
        """Log a bug; send the error to the page and give it time to show it."""
        if not isinstance(error, ReenactError):
            logger.error("a browser's session failed", exc_info=error)
            error = problem.internal_error()
        if not self._stopped.is_set():
            self._push(ErrorMessage(error=ErrorFields(**problem.fields(error))))
            self._stopped.wait(LINGER_S)

    def _run_pipeline(self) -> None:
        source = self._link.source(self.key, DEFAULT_FPS)
        config = self._config
        try:
            loader = self._make_loader(config, self.stop_signal, self._notify)
            sinks = [OpenedSink("webrtc", self._link.sink(self.key, config.size))]
        except BaseException:
            source.close()
            raise
        if self._relay is not None:
            sinks.append(OpenedSink("local", self._relay))
            if self._relay.hear is not None:
                self._link.hear(self.key, self._relay.hear)
        loader.start()
        self.pipeline = Pipeline(
            loader,
            source,
            partial(self._link.source, self.key, DEFAULT_FPS, REOPEN_TIMEOUT_S),
            sinks,
            RunSettings(config.size, DEFAULT_FPS, relay_code=config.relay_code, marking=new_marking(config.label)),
            RunHooks(self._notify),
            self.stop_signal,
            self._commands,
        )
        self.pipeline.start()
        self._push_states(self.pipeline)

    def _push_states(self, pipeline: Pipeline) -> None:
        """Send the state to the page until the run is over."""
        due = time.monotonic()
        while not self.stop_signal.over.wait(max(0.0, due - time.monotonic())):
            due = max(due + STATE_INTERVAL_S, time.monotonic())
            state = self.state()
            # kept with the run, as the link forgets the session's figures once its publisher has left
            pipeline.missed = max(pipeline.missed or 0, state.dropped["network"])
            self._push(StateMessage(state=state))

    def _notify(self, text: str) -> None:
        self._push(NoticeMessage(notice=text))

    def _push(self, message: BaseModel) -> None:
        self._link.push(self.key, message.model_dump(mode="json"))


class Sessions:
    """The open sessions, within a limit. Any thread may call anything."""

    def __init__(
        self,
        config: Config,
        make_loader: LoaderFactory,
        *,
        attach: Callable[[Session], FrameRelay | None] = lambda _: None,
        detach: Callable[[Session], None] = lambda _: None,
        notice: Notice = lambda _: None,
    ) -> None:
        """``attach`` returns what else receives a new session's frames, and ``detach`` is called when it ends."""
        self.link: Link | None = None
        """Set before the first ``open``."""
        self.limit = config.sessions or 1
        """How many sessions may be open at the same time."""
        self.opened = 0
        self.refused = 0
        self.failed = 0
        self._limit_reason = "as set by --sessions" if config.sessions else "until this machine's capacity is measured"
        self._config = config
        self._make_loader = make_loader
        self._attach = attach
        self._detach = detach
        self._notice = notice
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._ended = RunFigures()
        """The figures of sessions that have ended."""
        self._closed = False

    def __len__(self) -> int:
        return len(self._sessions)

    def all(self) -> list[Session]:
        """Return the open sessions, oldest first."""
        with self._lock:
            return list(self._sessions.values())

    def get(self, key: str) -> Session | None:
        """Return the session with that secret, or None."""
        with self._lock:
            return self._sessions.get(key)

    def set_limit(self, limit: int, reason: str) -> None:
        """Set how many sessions may be open. ``reason`` is part of the error that a further one gets."""
        with self._lock:
            self.limit, self._limit_reason = limit, reason

    def figures(self) -> RunFigures:
        """Return the figures of all sessions added up, those that have ended included."""
        with self._lock:
            figures = self._ended.copy()
            for session in self._sessions.values():
                if session.pipeline is not None:
                    figures.add(session.pipeline)
        return figures

    def open(self, key: str, watch: str) -> None:
        """Start a session. Raises ServerFull if there is no room for it."""
        assert self.link is not None
        with self._lock:
            refusal = self._refusal()
            if refusal is not None:
                self.refused += 1
                raise refusal
            session = Session(key, watch, self._config, self.link, self._make_loader, self._remove)
            # started within the lock: close() may find it in the table and wait for its end
            session.start(self._attach(session))
            self._sessions[key] = session
            self.opened += 1
        self._notice(f"a browser drives ({len(self)} of {self.limit})")

    def close_session(self, key: str) -> None:
        """End the session of a publisher that has left."""
        session = self.get(key)
        if session is not None:
            session.stop()

    def close(self, timeout: float) -> bool:
        """End all sessions and open no more. Return True if all have ended within ``timeout`` seconds."""
        with self._lock:
            self._closed = True
        sessions = self.all()
        for session in sessions:
            session.stop()
        deadline = time.monotonic() + timeout
        ended = [session.join(max(0.0, deadline - time.monotonic())) for session in sessions]
        return all(ended)

    def _refusal(self) -> ServerFull | None:
        """Return the error for a further session, or None if there is room for it."""
        if self._closed:
            return ServerFull("server-closing", "the program is ending", retry_after_s=RETRY_S)
        if len(self._sessions) < self.limit:
            return None
        return ServerFull(
            "server-full",
            "one browser drives already" if self.limit == 1 else f"{self.limit} browsers drive already",
            f"at most {self.limit}, {self._limit_reason}",
            "try again when one has left",
            retry_after_s=RETRY_S,
        )

    def _remove(self, session: Session) -> None:
        self._detach(session)
        error = session.stop_signal.error
        with self._lock:
            # in one step, so that no figure is counted twice or falls
            self._sessions.pop(session.key, None)
            if session.pipeline is not None:
                self._ended.add(session.pipeline)
            elif error is not None:
                self._ended.errors += 1  # it failed before it had a pipeline
            self.failed += error is not None
        if error is None:
            self._notice(f"a browser has left ({len(self)} of {self.limit})")
        elif isinstance(error, ReenactError):
            self._notice(f"a browser's session failed: {error}")
        else:
            self._notice(f"a browser's session failed: {type(error).__name__}; the traceback is in the log")


def session_viewers(network: Mapping[str, Any]) -> int:
    """Return how many watch a session, given its figures from ``MediaLink.stats``, without the own view of its page.

    A publisher with a control channel is the page, and the first viewer of its session is the page itself.
    """
    viewers = int(network.get("viewers", 0))
    return max(0, viewers - 1) if network.get("control") else viewers
