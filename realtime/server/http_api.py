"""The HTTP API: health, metrics, state, control and portraits. docs/api.md describes it."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from PIL import Image as Pillow
from pydantic import BaseModel

from engines.errors import BusyError, CommandError, ConsentError, NotFoundError, one_of
from engines.types import Image
from realtime.config import Config, portrait_fit
from realtime.core import problem
from realtime.core.protocol import MAIN_STREAM
from realtime.portraits.consent import right_from_environment, right_named
from realtime.portraits.settings import FITS, Fit
from realtime.portraits.upload_reader import UploadReader
from realtime.server import control
from realtime.server.metrics import CONTENT_TYPE
from realtime.server.models import (
    AddedBackground,
    AddedPortrait,
    Health,
    Portrait,
    PortraitList,
    ProgramState,
    SessionCount,
    State,
)
from realtime.server.runs import Runs, session_not_found
from realtime.server.state import run_state
from realtime.webrtc.callbacks import ApiReply, ApiRequest

if TYPE_CHECKING:
    from realtime.pipeline.run import Run

JSON = "application/json"
MAX_NAME_LENGTH = 80
"""Of an uploaded portrait."""
SELECT_TIMEOUT_S = 1.0
"""How long an upload waits until its portrait is selected. A network on a CPU takes seconds a frame."""


@dataclass(frozen=True, slots=True)
class Preview:
    """A portrait that sessions will have, to choose from before one is open."""

    name: str
    image: Image
    """A small picture of it, RGB."""


class HttpApi:
    """Answers the API's requests. Any thread may call ``answer``."""

    def __init__(
        self,
        config: Config,
        version: str,
        runs: Runs,
        *,
        local_run: Callable[[], Run | None],
        ready: Callable[[], bool],
        stats: Callable[[], Mapping[str, Any]],
        metrics: Callable[[], bytes],
    ) -> None:
        """``local_run`` returns the run that feeds the program's own sinks, and ``ready`` whether there is something to
        watch. ``stats`` returns the figures of the media process, and ``metrics`` the Prometheus text.
        """
        self.previews: list[Preview] = []
        self._config = config
        self._version = version
        self._runs = runs
        self._local_run = local_run
        self._ready = ready
        self._stats = stats
        self._metrics = metrics
        self._started = time.monotonic()
        self._uploads = UploadReader(config.size)

    def close(self) -> None:
        """Cancel uploads and accept no more. close() is idempotent."""
        self._uploads.close()

    def answer(self, request: ApiRequest) -> ApiReply:
        """Return the answer to a request. Raises ReenactError."""
        session = request.session
        match request.method, request.path.strip("/").split("/"):
            case "GET", ["healthz"]:
                return self._health()
            case "GET", ["readyz"]:
                return self._readiness()
            case "GET", ["metrics"]:
                return ApiReply(200, CONTENT_TYPE, self._metrics())
            case "GET", ["api", "state"]:
                return _json(self._program_state() if session is None else self._runs.session(session).state())
            case "GET", ["api", "control"]:
                return ApiReply(200, JSON, json.dumps(control.request_schema()).encode())
            case "POST", ["api", "control"]:
                return self._control(session, request.body)
            case "GET", ["api", "portraits"]:
                return _json(self._portraits(session))
            case "GET", ["api", "portraits", name] if name.endswith(".jpg") and name[:-4].isdecimal():
                return self._thumbnail(session, int(name[:-4][:9]))
            case "POST", ["api", "portraits"]:
                return self._add_portrait(request)
            case "POST", ["api", "background"]:
                return self._add_background(request)
        raise NotFoundError(
            "path-not-found", f"nothing at {request.method} {request.path[:80]}", "a path of the API", "see docs/api.md"
        )

    def _health(self) -> ApiReply:
        run = self._local_run()
        error = None if run is None else run.stop_signal.error
        if error is not None:
            raise BusyError("run-failed", f"the run has failed: {error}", "", "see the log", retry_after_s=None)
        return _json(Health(ok=True))

    def _readiness(self) -> ApiReply:
        if not self._ready():
            raise BusyError(
                "stream-not-started", "the run has not started", "a stream that is live", "try again in a moment"
            )
        return self._health()

    def _program_state(self) -> ProgramState:
        return ProgramState(
            version=self._version,
            main=self._main_state(),
            sessions=SessionCount(open=len(self._runs.sessions), limit=self._runs.sessions.limit),
            uptime_s=round(time.monotonic() - self._started, 1),
        )

    def _main_state(self) -> State | None:
        if self._runs.main is None:
            return None
        viewers = self._stats().get("streams", {}).get(MAIN_STREAM, {}).get("viewers", [])
        encoders = sorted({each["encoder"] for each in viewers if each.get("encoder")})
        return run_state(
            self._runs.main,
            self._config,
            session=None,
            watch=MAIN_STREAM,
            viewers=len(viewers),
            network={"viewers": len(viewers), "encoders": encoders},
        )

    def _control(self, session: str | None, body: bytes) -> ApiReply:
        outcome = control.execute(body, partial(self._runs.run_command, session))
        error = outcome.error
        if error is None:
            return ApiReply(200, JSON, outcome.message())
        extensions = {} if outcome.id is None else {"id": outcome.id}
        return ApiReply(error.status, problem.CONTENT_TYPE, problem.body(error, **extensions), problem.headers(error))

    def _has_previews(self, session: str | None) -> bool:
        """Return True if the request is about the portraits that sessions will have."""
        return session is None and self._runs.main is None

    def _portraits(self, session: str | None) -> PortraitList:
        query = "" if session is None else f"?session={session}"
        if self._has_previews(session):
            names = {index: preview.name for index, preview in enumerate(self.previews)}
        else:
            names = self._runs.library(session).names
        return PortraitList(
            portraits=[
                Portrait(index=index, name=name, picture=f"/api/portraits/{index}.jpg{query}")
                for index, name in names.items()
            ]
        )

    def _thumbnail(self, session: str | None, index: int) -> ApiReply:
        picture: Image | None
        if self._has_previews(session):
            picture = self.previews[index].image if index < len(self.previews) else None
        else:
            picture = self._runs.library(session).thumbnail(index)
        if picture is None:
            raise NotFoundError(
                "portrait-not-found", f"no portrait {index}", "the index of one that is ready", "see /api/portraits"
            )
        file = io.BytesIO()
        Pillow.fromarray(picture).save(file, "JPEG", quality=85)
        return ApiReply(200, "image/jpeg", file.getvalue())

    def _add_portrait(self, request: ApiRequest) -> ApiReply:
        """Read an uploaded picture, add it to the run's portraits and select it."""
        library, commands = self._runs.library(request.session), self._runs.commands(request.session)
        self._check_right(request)
        name = "".join(each for each in request.query.get("name", "") if each.isprintable())[:MAX_NAME_LENGTH]
        portrait = self._uploads.read(request.body, name or "uploaded picture", self._fit(request))
        try:
            index = library.add(portrait)
        except (BusyError, CommandError):
            # the library is closed together with its session
            if request.session is not None and self._runs.session(request.session).stop_signal.over.is_set():
                raise session_not_found() from None
            raise
        try:
            # not posted: the answer tells the result, and there is no notice of it
            commands.ask("set_portrait", index, timeout_s=SELECT_TIMEOUT_S)
        except BusyError:
            commands.post("set_portrait", index)
        return _json(AddedPortrait(index=index, name=portrait.name, notes=list(portrait.notes)), 201)

    def _add_background(self, request: ApiRequest) -> ApiReply:
        """Read an uploaded image, and choose it as the background."""
        library, commands = self._runs.library(request.session), self._runs.commands(request.session)
        name = library.add_background(self._uploads.read_image(request.body, "uploaded background"))
        commands.ask("set_background", name, timeout_s=SELECT_TIMEOUT_S)
        return _json(AddedBackground(name=name), 201)

    def _check_right(self, request: ApiRequest) -> None:
        """Raise ConsentError unless the request or the program's start says what right the user has to a picture."""
        wanted = request.query.get("consent")
        if wanted is not None:
            right_named(wanted, f"consent={wanted[:20]!r}")
        elif (self._config.consent or right_from_environment()) is None:
            raise ConsentError(
                "consent-missing",
                "an uploaded picture, and nothing says what right you have to it",
                "consent=self, agreed or fictional in the query",
                "give consent=self if it shows you, agreed if who it shows has agreed, fictional if it is no one",
            )

    def _fit(self, request: ApiRequest) -> Fit:
        """Return how an uploaded picture is to be fitted. Raises CommandError."""
        wanted = request.query.get("fit", portrait_fit(self._config))
        for fit in FITS:
            if fit == wanted:
                return fit
        raise CommandError(
            "portrait-bad-fit", f"fit={wanted[:20]!r}", one_of(FITS), "leave it out, or give one of these"
        )


def _json(document: BaseModel, status: int = 200) -> ApiReply:
    return ApiReply(status, JSON, control.to_json(document))
