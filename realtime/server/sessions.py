"""Browsers that drive: each publisher gets a run of its own, with tracker, neutral and portraits that nobody shares."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from engines.errors import BusyError, ReenactError, ServerFull, SourceEnded
from realtime.capture.source import Source
from realtime.config import Config
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.commands import Commands, Setting
from realtime.pipeline.delivery_thread import OpenedSink
from realtime.pipeline.pipeline import Pipeline
from realtime.pipeline.settings import RunHooks, RunSettings
from realtime.server import control
from realtime.server.metrics import Tally
from realtime.server.state import describe
from realtime.sinks.sink import Sink

if TYPE_CHECKING:
    from realtime.pipeline.frame_publisher import FrameRelay
    from realtime.pipeline.loader import PipelineLoader

FPS = 30.0
"""What is announced for a browser; its pictures are taken as they come."""
PUSH_S = 0.5
"""How often a session's page is told the state."""
LINGER_S = 5.0
"""How long a session that failed stays, with its slate and its error."""
RETRY_S = 10.0
"""When somebody who found no room may try again."""

Notice = Callable[[str], None]


class Link(Protocol):
    """What a session needs of ``realtime.webrtc.link.MediaLink``."""

    def source(self, session: str, fps: float, timeout_s: float = ..., /) -> Source: ...
    def sink(self, stream: str, size: tuple[int, int], fps: float, /) -> Sink: ...
    def push(self, session: str, message: dict[str, Any], /) -> None: ...
    def end(self, session: str, /) -> None: ...
    def stats(self) -> dict[str, Any]: ...


class Session:
    """One publisher.

    Its thread opens what it sends, runs the portrait until it leaves, and tells its page how it goes.
    """

    def __init__(
        self,
        key: str,
        watch: str,
        config: Config,
        link: Link,
        prepare: Callable[[Config, StopSignal, Notice], PipelineLoader],
        gone: Callable[[Session], None],
    ) -> None:
        self.key = key
        """The secret that controls it."""
        self.watch = watch
        self.stop_signal = StopSignal()
        self.pipeline: Pipeline | None = None
        self._commands = Commands()
        self._config = config
        self._link = link
        self._prepare = prepare
        self._feed: FrameRelay | None = None
        self._gone = gone
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._live, name="session", daemon=True)

    def start(self, feed: FrameRelay | None = None) -> None:
        """Begin; returns at once. ``feed`` gets the pictures as well, and is closed with the session."""
        self._feed = feed
        self._thread.start()

    def leave(self) -> None:
        """End it, because its publisher has gone or the program ends; returns at once."""
        self.stop_signal.stop("the publisher has left")
        self._left.set()

    def join(self, timeout: float) -> bool:
        """Wait for its end; whether it has come."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def ask(self, command: str, value: Setting) -> str:
        """Have a command carried out: at once, or before the first picture where none has come yet.

        What it came to, in a few words. Raises CommandError.
        """
        if self.pipeline is not None:
            return self._commands.ask(command, value)
        if not self._commands.post(command, value):
            raise BusyError(
                "session-starting", "a session that is starting", "its first picture", "try again in a moment"
            )
        return f"{command}: with the first picture"

    def state(self) -> dict[str, Any]:
        """What its page shows."""
        stats = self._link.stats()
        network = stats.get("sessions", {}).get(self.key, {})
        return describe(self.pipeline, self._config, watch=self.watch, network=network) | {"session": self.key}

    def _live(self) -> None:
        try:
            self._run()
        except SourceEnded:
            pass
        except Exception as error:
            self.stop_signal.fail(error)
        finally:
            if self.stop_signal.error is not None and not self._left.is_set():
                self._link.push(self.key, {"v": control.VERSION, "error": _told(self.stop_signal.error)})
                self._left.wait(LINGER_S)
            if self.pipeline is not None:
                self.pipeline.close()
            self._link.end(self.key)
            self._gone(self)

    def _run(self) -> None:
        source = self._link.source(self.key, FPS)
        config, tell = self._config, self._tell
        try:
            parts = self._prepare(config, self.stop_signal, tell)
            outgoing = [OpenedSink("webrtc", self._link.sink(self.key, config.size, FPS))]
        except BaseException:
            source.close()
            raise
        if self._feed is not None:
            outgoing.append(OpenedSink("local", self._feed))
        parts.start()
        self.pipeline = Pipeline(
            parts,
            source,
            partial(self._link.source, self.key, FPS, 5.0),
            outgoing,
            RunSettings(config.size, FPS, relay_code=config.relay_code),
            RunHooks(tell),
            self.stop_signal,
            self._commands,
        )
        self.pipeline.start()
        due = time.monotonic()
        while not self.stop_signal.over.wait(max(0.0, due - time.monotonic())):
            due = max(due + PUSH_S, time.monotonic())
            state = self.state()
            # kept with the run: the link forgets the session as soon as its publisher has left
            self.pipeline.missed = max(self.pipeline.missed or 0, state["dropped"]["network"])
            self._link.push(self.key, {"v": control.VERSION, "state": state})

    def _tell(self, text: str) -> None:
        self._link.push(self.key, {"v": control.VERSION, "notice": text})


def _told(error: BaseException) -> dict[str, str]:
    if isinstance(error, ReenactError):
        return control.problem(error)
    return {"found": "a failure of the program", "expected": "", "cure": "see what it has printed"}


class Sessions:
    """Grants, keeps and ends sessions. Any thread may call anything."""

    def __init__(
        self,
        config: Config,
        prepare: Callable[[Config, StopSignal, Notice], PipelineLoader],
        *,
        enter: Callable[[Session], FrameRelay | None] = lambda _: None,
        leave: Callable[[Session], None] = lambda _: None,
        notice: Notice = lambda _: None,
    ) -> None:
        """``enter`` says where a new session's pictures go besides, if the program has a use for them itself."""
        self.link: Link | None = None
        """Set before the first ``open``."""
        self.limit = config.sessions or 1
        """How many there may be."""
        self.opened = 0
        self.refused = 0
        self.failed = 0
        self._config = config
        self._prepare = prepare
        self._enter = enter
        self._leave = leave
        self._notice = notice
        self._because = (
            ", as --sessions says" if config.sessions else " until it is measured what this machine sustains"
        )
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._past = Tally()
        self._closed = False

    def __len__(self) -> int:
        return len(self._sessions)

    def all(self) -> list[Session]:
        """Those that are open, oldest first."""
        with self._lock:
            return list(self._sessions.values())

    def get(self, key: str) -> Session | None:
        """The session of that secret."""
        with self._lock:
            return self._sessions.get(key)

    def sustain(self, sessions: int) -> None:
        """Let in as many as this machine was measured to sustain."""
        with self._lock:
            self.limit, self._because = sessions, ", which is what this machine sustains"

    def tally(self) -> Tally:
        """The figures of all sessions added up, those that have ended among them."""
        with self._lock:
            tally = self._past.copy()
            for session in self._sessions.values():
                if session.pipeline is not None:
                    tally.add(session.pipeline)
        return tally

    def open(self, key: str, watch: str) -> None:
        """Start a session. Raises ServerFull where there is no room for it."""
        assert self.link is not None
        with self._lock:
            why = self._why_not()
            if why is not None:
                self.refused += 1
                raise ServerFull(
                    "server-full", why, "room for one more", "try again a little later", retry_after_s=RETRY_S
                )
            session = Session(key, watch, self._config, self.link, self._prepare, self._forget)
            # started in here: who finds it among the others may wait for its end
            session.start(self._enter(session))
            self._sessions[key] = session
            self.opened += 1
        self._notice(f"a browser drives ({len(self)} of {self.limit})")

    def close_session(self, key: str) -> None:
        """End a session whose publisher has left."""
        session = self.get(key)
        if session is not None:
            session.leave()

    def close(self, timeout: float) -> bool:
        """End all and grant no more; whether all have ended within so many seconds."""
        with self._lock:
            self._closed = True
        sessions = self.all()
        for session in sessions:
            session.leave()
        deadline = time.monotonic() + timeout
        ended = [session.join(max(0.0, deadline - time.monotonic())) for session in sessions]
        return all(ended)

    def _why_not(self) -> str | None:
        """Why nobody more is let in; None if somebody is."""
        if self._closed:
            return "the program is ending"
        if len(self._sessions) < self.limit:
            return None
        browsers = "one browser" if self.limit == 1 else f"{self.limit} browsers"
        return f"{browsers} at a time{self._because}: no place is free"

    def _forget(self, session: Session) -> None:
        self._leave(session)
        error = session.stop_signal.error
        with self._lock:
            # at once, so that no figure counts twice or goes down
            self._sessions.pop(session.key, None)
            if session.pipeline is not None:
                self._past.add(session.pipeline)
            elif error is not None:
                self._past.errors += 1  # it failed before there was a run
            self.failed += error is not None
        if error is not None:
            self._notice(f"a browser's session failed: {error}")
        else:
            self._notice(f"a browser has left ({len(self)} of {self.limit})")
