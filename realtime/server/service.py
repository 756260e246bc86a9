"""The page and everything behind it: the media process, the browsers' sessions, control, state, metrics, portraits."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image as Pillow

from engines.errors import BusyError, CommandError, NotFoundError, ReenactError, SinkLost, SinkMissing
from engines.install_hint import version
from engines.types import Image
from realtime.config import Config
from realtime.core.background_task import BackgroundTask
from realtime.core.frames import Frame, PixelFormat
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.commands import Commands, Setting
from realtime.pipeline.pipeline import Pipeline
from realtime.pipeline.portrait_library import thumbnail
from realtime.portraits.portrait import PortraitPicture
from realtime.portraits.upload_reader import UploadReader
from realtime.server import control
from realtime.server.metrics import CONTENT_TYPE, Metrics, Tally
from realtime.server.sessions import Link, Notice, Session, Sessions
from realtime.server.state import describe
from realtime.sinks.sink import Sink
from realtime.webrtc.callbacks import ApiReply, ApiRequest

if TYPE_CHECKING:
    from realtime.pipeline.frame_publisher import FrameRelay
    from realtime.pipeline.loader import PipelineLoader
    from realtime.pipeline.portrait_library import PortraitLibrary
    from realtime.pipeline.run import Run
    from realtime.server.capacity import Capacity
    from realtime.server.shared_sinks import SharedSinks

MAIN = "main"


class Server(Link, Protocol):
    """What is needed of ``realtime.webrtc.link.MediaLink``."""

    address: str

    def start(self) -> str: ...
    def close(self, timeout: float = ..., /) -> None: ...


class MainSink:
    """A Sink for the viewers of the main run. While the media process is starting its pictures go nowhere."""

    format = PixelFormat.I420
    notes: tuple[str, ...] = ()

    def __init__(self, media: MediaService, size: tuple[int, int], fps: float) -> None:
        self.name = f"page at {media.address}"
        self._media = media
        self._size = size
        self._fps = fps
        self._sink: Sink | None = None
        self._over = False
        media.started.then(lambda _: self._attach())

    def send(self, frame: Frame) -> None:
        """Deliver it. Raises SinkLost or SinkMissing when there is no media process, or none any more."""
        if self._sink is not None:
            self._sink.send(frame)
        elif self._media.started.wait(0):
            self._media.started.result()

    def close(self) -> None:
        """Tell the viewers that it is over; may be called twice."""
        self._over = True
        if self._sink is not None:
            self._sink.close()

    def _attach(self) -> None:
        """On the thread that started the media process, as soon as there is one: viewers may come before pictures."""
        with contextlib.suppress(SinkMissing):
            if not self._over:
                self._sink = self._media.link.sink(MAIN, self._size, self._fps)


class MediaService:
    """The ServerCallbacks of the media process, and its owner. The main thread starts and closes it."""

    def __init__(
        self,
        config: Config,
        serve: Callable[[MediaService], Server],
        prepare: Callable[[Config, StopSignal, Notice], PipelineLoader],
        measure: Callable[[int], Capacity] | None,
        *,
        notice: Notice,
    ) -> None:
        """``serve`` makes the media link with this as its desk; ``measure`` says what the machine sustains."""
        self.config = config
        self.sessions = Sessions(config, prepare, enter=self._enter, leave=self._leave, notice=notice)
        self.main: Pipeline | None = None
        self.version = version()
        self._shared_sinks: SharedSinks | None = None
        self._gone: SinkLost | None = None
        self._previews: list[tuple[str, Image]] = []
        self._measure = measure
        self._notice = notice
        self._began = time.monotonic()
        self._closing = threading.Event()
        self._metrics = Metrics(self, self.version)
        self._uploads = UploadReader(config.size)
        self.link = serve(self)
        self.sessions.link = self.link
        self.started: BackgroundTask[str] = BackgroundTask("media server", self.link.start)

    @property
    def address(self) -> str:
        """Where the page is."""
        return self.link.address

    def start(self) -> None:
        """Begin to serve; returns once the address is known. Raises SinkMissing where it is taken or cannot be had."""
        self.started.start()
        while not self.address and not self.started.wait(0.005):
            pass
        if self.started.wait(0):
            self.started.result()

    def attach_shared_sinks(self, shared_sinks: SharedSinks) -> None:
        """Let the pictures of sessions go to the program's own sinks as well. Before the run begins."""
        self._shared_sinks = shared_sinks
        if self._gone is not None:
            shared_sinks.stop_signal.fail(self._gone)

    def lost(self, error: SinkLost) -> None:
        """There is no media process any more: where browsers drive, nobody can. On any thread."""
        self._gone = error
        if self._shared_sinks is not None:
            self._shared_sinks.stop_signal.fail(error)

    def preview(
        self, loaders: Sequence[Callable[[], PortraitPicture]], failed: Callable[[BaseException], None]
    ) -> None:
        """Read the portraits that sessions will have, so that they can be chosen from before one is open.

        On a helper thread; ``failed`` gets the error of one that cannot be used.
        """

        def read() -> None:
            try:
                for load in loaders:
                    picture = load()
                    self._previews.append((picture.name, thumbnail(picture.image)))
            except Exception as error:
                failed(error)

        BackgroundTask("preview portraits", read).start()

    def main_sink(self, fps: float) -> MainSink:
        """Where the main run's pictures go for its viewers."""
        return MainSink(self, self.config.size, fps)

    def begin(self, main: Pipeline | None) -> None:
        """The main run, if there is one, has begun: measure what room it leaves."""
        self.main = main
        if self._measure is not None and self.config.sessions is None:
            BackgroundTask("measure capacity", self._find_limit).start()

    def aside(self) -> str:
        """Sessions and viewers for the status line; empty where there are none."""
        viewers = int(self.link.stats().get("viewers", 0))
        parts = [(len(self.sessions), "browser"), (viewers, "viewer")]
        return ", ".join(f"{count} {word}{'s' * (count != 1)}" for count, word in parts if count)

    def close(self, timeout: float = 1.5) -> None:
        """End every session and the media process, within ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        self._closing.set()
        self._uploads.close()
        self.sessions.close(timeout / 2)
        self.link.close(max(0.0, deadline - time.monotonic()))

    # what the media process asks

    def open(self, session: str, watch: str) -> None:
        """See ServerCallbacks."""
        self.sessions.open(session, watch)

    def closed(self, session: str) -> None:
        """See ServerCallbacks."""
        self.sessions.close_session(session)

    def control(self, session: str | None, message: bytes) -> bytes:
        """See ServerCallbacks."""
        return control.reply(message, partial(self._obey, session))

    def request(self, request: ApiRequest) -> ApiReply:
        """See ServerCallbacks."""
        try:
            return self._answer(request)
        except ReenactError as error:
            return _json({"v": control.VERSION, "error": control.problem(error)}, control.status(error))

    # what the metrics ask

    @property
    def limit(self) -> int:
        """How many sessions there may be."""
        return self.sessions.limit

    def tallies(self) -> Mapping[str, Tally]:
        """Figures by kind of run."""
        tallies = {"session": self.sessions.tally()}
        if self._own is not None:
            tallies[MAIN] = Tally()
            tallies[MAIN].add(self._own)
        return tallies

    def open_sessions(self) -> int:
        """How many there are."""
        return len(self.sessions)

    def counts(self) -> Mapping[str, int]:
        """Sessions since the start."""
        sessions = self.sessions
        return {"opened": sessions.opened, "refused": sessions.refused, "failed": sessions.failed}

    def network(self) -> Mapping[str, Any]:
        """What the media process says of itself."""
        return self.link.stats()

    # the rest is ours

    @property
    def _own(self) -> Run | None:
        """What feeds the program's own sinks."""
        return self._shared_sinks if self.main is None else self.main

    def _enter(self, session: Session) -> FrameRelay | None:
        return None if self._shared_sinks is None else self._shared_sinks.enter(session)

    def _leave(self, session: Session) -> None:
        if self._shared_sinks is not None:
            self._shared_sinks.leave(session)

    def _find_limit(self) -> None:
        assert self._measure is not None
        main = self.main
        while main is not None and not main.ledger.frames:
            if self._closing.wait(0.2) or main.stop_signal.over.is_set():
                return
        with contextlib.suppress(ReenactError):
            capacity = self._measure(0 if main is None else 1)
            self.sessions.sustain(capacity.sessions)
            self._notice(f"browsers may drive, {capacity}")

    def _session(self, key: str) -> Session:
        session = self.sessions.get(key)
        if session is None:
            raise _unknown()
        return session

    def _pipeline(self, key: str | None) -> Pipeline | None:
        return self.main if key is None else self._session(key).pipeline

    def _obey(self, key: str | None, command: str, value: Setting) -> str:
        if key is None:
            return self._commands(key).ask(command, value)
        return self._session(key).ask(command, value)

    def _commands(self, key: str | None) -> Commands:
        pipeline = self._pipeline(key)
        if pipeline is None and key is None:
            raise NotFoundError(
                "run-not-found", "no run to control", "one that has begun", "name a session, or try again in a moment"
            )
        if pipeline is None:
            raise _starting()
        return pipeline.commands

    def _library(self, key: str | None) -> PortraitLibrary:
        pipeline = self._pipeline(key)
        parts = pipeline.compute.parts if pipeline is not None else None
        if parts is None:
            raise _starting()
        return parts.library

    def _answer(self, request: ApiRequest) -> ApiReply:
        match request.method, request.path.strip("/").split("/"):
            case "GET", ["healthz"]:
                return self._health()
            case "GET", ["metrics"]:
                return ApiReply(200, CONTENT_TYPE, self._metrics.text())
            case "GET", ["api", "state"]:
                return _json(self._state(request.session))
            case "GET", ["api", "control"]:
                return _json(control.schema())
            case "POST", ["api", "control"]:
                status, reply = control.respond(request.body, partial(self._obey, request.session))
                return ApiReply(status, "application/json", reply)
            case "GET", ["api", "portraits"]:
                return _json(self._portraits(request.session))
            case "GET", ["api", "portraits", name] if name.endswith(".jpg") and name[:-4].isdecimal():
                return self._thumbnail(request.session, int(name[:-4][:9]))
            case "POST", ["api", "portraits"]:
                return self._receive(request)
        raise NotFoundError(
            "path-not-found",
            f"nothing at {request.method} {request.path[:80]}",
            "an address of the API",
            "see the README",
        )

    def _health(self) -> ApiReply:
        failed = self._own is not None and self._own.stop_signal.error is not None
        return _json({"v": control.VERSION, "ok": not failed}, 503 if failed else 200)

    def _state(self, key: str | None) -> dict[str, Any]:
        if key is not None:
            return self._session(key).state()
        main = None
        if self.main is not None:
            viewers = self.link.stats().get("streams", {}).get(MAIN, {}).get("viewers", [])
            encoders = sorted({each["encoder"] for each in viewers if each.get("encoder")})
            network = {"viewers": len(viewers), "encoders": encoders}
            main = describe(self.main, self.config, watch=MAIN, network=network)
        return {
            "v": control.VERSION,
            "program": "reenact",
            "version": self.version,
            "main": main,
            "sessions": {"open": len(self.sessions), "limit": self.sessions.limit},
            "uptime_s": round(time.monotonic() - self._began, 1),
        }

    def _portraits(self, key: str | None) -> dict[str, Any]:
        suffix = "" if key is None else f"?session={key}"
        previews = key is None and self.main is None
        names = dict(enumerate(name for name, _ in self._previews)) if previews else self._library(key).names
        portraits = [
            {"index": index, "name": name, "picture": f"/api/portraits/{index}.jpg{suffix}"}
            for index, name in names.items()
        ]
        return {"v": control.VERSION, "portraits": portraits}

    def _thumbnail(self, key: str | None, index: int) -> ApiReply:
        picture = None
        if key is not None or self.main is not None:
            picture = self._library(key).thumbnail(index)
        elif index < len(self._previews):
            picture = self._previews[index][1]
        if picture is None:
            raise NotFoundError(
                "portrait-not-found", f"no portrait {index}", "the number of one that is there", "see /api/portraits"
            )
        file = io.BytesIO()
        Pillow.fromarray(picture).save(file, "JPEG", quality=85)
        return ApiReply(200, "image/jpeg", file.getvalue())

    def _receive(self, request: ApiRequest) -> ApiReply:
        """A portrait that was sent: read under limits, prepared, and put on."""
        library, commands = self._library(request.session), self._commands(request.session)
        name = "".join(c for c in request.query.get("name", "") if c.isprintable())[:80] or "sent picture"
        picture = self._uploads.read(request.body, name)
        try:
            index = library.add(picture)
        except (BusyError, CommandError):
            # with its session the library is closed as well
            if request.session is not None and self._session(request.session).stop_signal.over.is_set():
                raise _unknown() from None
            raise
        try:
            commands.ask("set_portrait", index, timeout_s=1.0)  # this answer tells of it: no notice beside it
        except BusyError:
            commands.post("set_portrait", index)  # a network on a CPU takes seconds a frame
        return _json({"v": control.VERSION, "index": index, "name": picture.name, "notes": list(picture.notes)}, 201)


def _unknown() -> NotFoundError:
    return NotFoundError("session-not-found", "no session of that name", "one that is open", "open a new one")


def _starting() -> BusyError:
    return BusyError("run-starting", "a run that is starting", "one that has begun", "try again in a moment")


def _json(values: dict[str, Any], status: int = 200) -> ApiReply:
    return ApiReply(status, "application/json", control.encode(values))
