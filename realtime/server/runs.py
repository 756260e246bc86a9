"""The runs that a request can name: the main run, and the session of each browser that drives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engines.errors import BusyError, NotFoundError
from realtime.pipeline.commands import Commands, Setting
from realtime.server.sessions import Session, Sessions

if TYPE_CHECKING:
    from realtime.pipeline.pipeline import Pipeline
    from realtime.pipeline.portrait_library import PortraitLibrary


class Runs:
    """Finds a run by the session that a request names; None stands for the main run."""

    def __init__(self, sessions: Sessions, *, has_main: bool) -> None:
        self.sessions = sessions
        self.has_main = has_main
        """Whether there is a main run, or will be; there is none where browsers drive."""
        self.main: Pipeline | None = None
        """The main run, once it has started."""

    def session(self, key: str) -> Session:
        """Return a session. Raises NotFoundError."""
        session = self.sessions.get(key)
        if session is None:
            raise session_not_found()
        return session

    def pipeline(self, key: str | None) -> Pipeline:
        """Return the pipeline of a run. Raises NotFoundError, or BusyError if the run is starting."""
        if key is None and not self.has_main:
            raise NotFoundError("run-not-found", "no main run, as browsers drive", "a session", "add ?session=SESSION")
        pipeline = self.main if key is None else self.session(key).pipeline
        if pipeline is None:
            raise _run_starting()
        return pipeline

    def commands(self, key: str | None) -> Commands:
        """Return the command queue of a run. Raises as ``pipeline``."""
        return self.pipeline(key).commands

    def library(self, key: str | None) -> PortraitLibrary:
        """Return the portraits of a run. Raises as ``pipeline``, and BusyError until they are loaded."""
        parts = self.pipeline(key).compute.parts
        if parts is None:
            raise _run_starting()
        return parts.library

    def run_command(self, key: str | None, name: str, value: Setting) -> str:
        """Carry out a command in a run and return its result in a few words. Raises ReenactError."""
        if key is None:
            return self.commands(None).ask(name, value)
        return self.session(key).run_command(name, value)


def session_not_found() -> NotFoundError:
    """Return the error for a session that does not exist, or not any more."""
    return NotFoundError("session-not-found", "no session of that name", "one that is open", "open a new one")


def _run_starting() -> BusyError:
    return BusyError("run-starting", "a run that is starting", "one that has started", "try again in a moment")
