"""From a configuration to the parts of a run: what is opened, with which settings, and how again."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engines import generator as generators
from engines.errors import SinkMissing, TrackerError
from realtime.capture.source import Source, open_source
from realtime.config import Config, address, no_file
from realtime.core.protocol import DEFAULT_FPS
from realtime.core.stop_signal import StopSignal
from realtime.motion.relative import MotionTransfer
from realtime.pipeline.delivery_thread import OpenedSink
from realtime.pipeline.loader import PartFactories, PipelineLoader
from realtime.pipeline.pipeline import STOP_S, Pipeline
from realtime.pipeline.settings import Limits, RunHooks, RunSettings
from realtime.portraits.portrait import load_portrait
from realtime.sinks.sink import AUTO_RECORDING, Sink, open_sink
from realtime.tracking import model_files
from realtime.tracking.tracker import FaceMeshTracker, Tracker, open_tracker
from realtime.webrtc.settings import ServerSettings

if TYPE_CHECKING:
    from realtime.pipeline.frame_publisher import FrameRelay
    from realtime.pipeline.run import Run
    from realtime.server.capacity import Capacity
    from realtime.server.service import MediaService
    from realtime.server.shared_sinks import SharedSinks

MIN_BITRATE, START_BITRATE = 250_000, 2_500_000
"""Of a viewer's video, in bits a second; the most is the person's choice."""
_NETWORKS = ("backend", "device", "compile", "weights")
"""Options about networks."""
_TERMINAL_CURES = {"portrait-only-one": "give --portrait several times"}
"""What a terminal can do in place of the cure that a page is told, by the error's code."""
PAGE_STOP_S = 0.75
"""Of ``STOP_S``, what is kept for the page and its sessions where the run takes long to end."""

Say = Callable[[str, str], None]
"""Prints a text with a label."""


def loader(config: Config, stop_signal: StopSignal, say: Say) -> PipelineLoader:
    """What is made ready next to the opening of source and sinks."""

    def tracker() -> Tracker:
        opened = _open_tracker(config)
        say(opened.name, "tracker")
        return opened

    def generator() -> generators.Generator:
        made = _create_generator(config)
        mouth = f", mouth {config.mouth}" if config.generator == "mesh" else ""
        say(f"{made.name}{mouth}, {config.size[0]}x{config.size[1]}", "generator")
        return made

    factories = PartFactories(
        tracker,
        generator,
        lambda: MotionTransfer(config.neutral, config.region, config.gain),
        [partial(load_portrait, path, config.size) for path in config.portrait or (None,)],
        partial(_create_generator, config),
    )
    return PipelineLoader(
        factories, mirror=config.mirror, failed=stop_signal.fail, notice=lambda text: say(text, "portrait")
    )


@dataclass(frozen=True, slots=True)
class Opened:
    """A run, ready to be started, and the page beside it."""

    run: Run
    media: MediaService | None

    def start(self) -> None:
        """Start it."""
        self.run.start()
        if self.media is not None:
            self.media.run_started(self.run if isinstance(self.run, Pipeline) else None)

    def close(self) -> None:
        """End it, in ``STOP_S`` seconds, whatever hangs."""
        if self.media is None:
            self.run.close(STOP_S)
            return
        deadline = time.monotonic() + STOP_S
        ended = self.run.close(STOP_S - PAGE_STOP_S)
        self.media.close(max(0.0, deadline - time.monotonic()))
        if not ended:
            # what hangs goes on hanging, but a recording may be finished in what is left
            self.run.close(max(0.0, deadline - time.monotonic()))


def open_run(config: Config, parts: PipelineLoader | None, stop_signal: StopSignal, say: Say) -> Opened:
    """Open the source and the sinks and put the run together. Leaves nothing open when it raises.

    ``parts`` are None where browsers drive: each brings its own.
    """
    with ExitStack() as stack:
        media = _open_media(config, say, stack)
        run: Run
        if parts is None:
            run = _open_lobby(config, media, stop_signal, say, stack)
        else:
            run = _open_daemon(config, parts, media, stop_signal, say, stack)
        stack.pop_all()
        return Opened(run, media)


def _open_daemon(
    config: Config,
    parts: PipelineLoader,
    media: MediaService | None,
    stop_signal: StopSignal,
    say: Say,
    stack: ExitStack,
) -> Pipeline:
    lossless = config.pace == "max"
    source = open_source(config.camera, size=None, fps=config.fps, pace=config.pace)
    stack.callback(source.close)
    if lossless and source.live:
        raise no_file(config)
    _introduce(source, "source", say)
    _tell_what_is_idle(config, source, say)
    fps = config.fps if config.fps and not lossless else source.fps or DEFAULT_FPS
    outgoing = _open_sinks(config, fps, media, say, stack)
    return Pipeline(
        parts,
        source,
        None if lossless or not source.live else partial(_reopen_source, config, source),
        outgoing,
        RunSettings(config.size, fps, lossless=lossless, limits=_limits(config), relay_code=config.relay_code),
        # a full collection of what start-up has built, which stays for good, takes 70 ms
        RunHooks(lambda text: say(text, ""), ready=gc.freeze, cures=_TERMINAL_CURES),
        stop_signal,
    )


def _tell_what_is_idle(config: Config, source: Source, say: Say) -> None:
    """Say which options mean nothing to what was chosen."""
    from realtime.capture.video_file import VideoFile

    if config.fps not in (None, source.fps) and isinstance(source, VideoFile):
        say(f"a file is read at its own {source.fps:g} fps, whatever --fps says", "")
    idle = [f"--{key}" for key in _NETWORKS if getattr(config, key) != Config.model_fields[key].default]
    if idle and config.generator == "mesh":
        say(f"{' and '.join(idle)}: for other generators only, as the mesh runs no networks", "")


def _open_lobby(
    config: Config, media: MediaService | None, stop_signal: StopSignal, say: Say, stack: ExitStack
) -> SharedSinks:
    from realtime.server.shared_sinks import SharedSinks

    assert media is not None
    say(f"whoever opens {media.address}", "source")
    outgoing = _open_sinks(config, config.fps or DEFAULT_FPS, None, say, stack)
    shared_sinks = SharedSinks(
        outgoing,
        size=config.size,
        limits=_limits(config),
        stop_signal=stop_signal,
        notice=lambda text: say(text, ""),
    )
    media.attach_shared_sinks(shared_sinks)
    media.load_previews(
        [partial(load_portrait, path, config.size) for path in config.portrait or (None,)], stop_signal.fail
    )
    return shared_sinks


def _open_media(config: Config, say: Say, stack: ExitStack) -> MediaService | None:
    """The page, where one is to be served: it was asked for, or is offered beside a plain run's sinks."""
    asked = next((spec for spec in config.sink if spec.startswith("webrtc")), None)
    offered = "auto" in config.sink and config.pace == "live"
    if asked is None and not offered and config.camera != "webrtc":
        return None
    from realtime.server.service import MediaService
    from realtime.webrtc.link import MediaLink

    host, port = address(asked or "webrtc")
    settings = ServerSettings(
        host=host,
        port=port,
        token=config.token,
        names=config.server_name,
        ice_servers=config.ice_server,
        max_bitrate=1000 * config.bitrate,
        start_bitrate=min(START_BITRATE, 1000 * config.bitrate),
        min_bitrate=min(MIN_BITRATE, 1000 * config.bitrate),
        jitter_mend=config.jitter_mend,
    )

    def notice(text: str) -> None:
        say(text, "")

    def open_at(chosen: ServerSettings) -> MediaService:
        return MediaService(
            config,
            lambda media: MediaLink(chosen, media, notice, media.media_process_lost),
            lambda its, stop_signal, tell: loader(its, stop_signal, lambda text, _: tell(text)),
            partial(_measure, config),
            notice=notice,
        )

    media = open_at(settings)
    try:
        media.start()
    except SinkMissing as error:
        media.close()
        if asked is not None or not str(error).startswith(f"port {port} "):
            raise
        notice(f"{error}: another one is taken for the page")
        media = open_at(replace(settings, port=0))
        media.start()
    stack.callback(media.close)
    say(media.address, "page")
    return media


def _measure(config: Config, busy: int) -> Capacity:
    from realtime.server import capacity

    tracker = _open_tracker(config)
    generator = _create_generator(config)
    try:
        return capacity.measure(tracker, generator, config.size, busy=busy)
    finally:
        tracker.close()
        generator.close()


def _open_sinks(config: Config, fps: float, media: MediaService | None, say: Say, stack: ExitStack) -> list[OpenedSink]:
    outgoing: list[OpenedSink] = []
    for spec in config.sink:
        if spec == "auto" and config.pace == "live":
            camera = _open_virtual_camera(config, fps, say)
            if camera is not None:
                outgoing.append(camera)
        elif not spec.startswith("webrtc"):
            outgoing.append(_open_sink(spec, config, fps, lossless=config.pace == "max"))
        else:
            continue
        if outgoing:
            stack.callback(outgoing[-1].sink.close)
            _introduce(outgoing[-1].sink, "sink", say)
    if media is not None:
        outgoing.append(OpenedSink("webrtc", media.main_sink(fps)))
    return outgoing


def _open_virtual_camera(config: Config, fps: float, say: Say) -> OpenedSink | None:
    """The virtual camera if there is one; otherwise how to have one is said, and the page shows the result."""
    try:
        sink = open_sink("virtualcam", size=config.size, fps=fps)
    except SinkMissing as error:
        say(f"{error}: the page shows the result; to have a virtual camera: {error.cure}", "sink")
        return None
    return OpenedSink("auto", sink, partial(open_sink, "virtualcam", size=config.size, fps=fps))


def _introduce(part: Source | Sink | FrameRelay, label: str, say: Say) -> None:
    say(part.name, label)
    for note in part.notes:
        say(note, "")


def _create_generator(config: Config, name: str | None = None) -> generators.Generator:
    return generators.create(
        name or config.generator,
        mouth=config.mouth,
        backend=config.backend,
        device=config.device,
        compiled=config.compile,
        weights=config.weights,
        retarget=config.retarget,
    )


def _open_tracker(config: Config) -> Tracker:
    if config.tracker == "facemesh":
        return FaceMeshTracker()
    if config.tracker == "landmarker" and not (config.model or model_files.model_path("face_landmarker")):
        raise TrackerError(
            f"the landmarker's file is not at {model_files.target_path('face_landmarker')}",
            cure="python -m tools.models fetch face_landmarker, or give --model FILE",
        )
    return open_tracker(config.model)


def _open_sink(label: str, config: Config, fps: float, *, lossless: bool) -> OpenedSink:
    spec = f"file:{AUTO_RECORDING}" if label == "auto" and lossless else label
    camera = Path(config.camera)
    sound_from = camera if lossless and camera.is_file() else None
    sink = open_sink(spec, size=config.size, fps=fps, sound_from=sound_from)
    recording = spec.startswith("file:")
    reopen = None if recording or lossless else partial(open_sink, spec, size=config.size, fps=fps)
    return OpenedSink(label, sink, reopen, recording)


def _reopen_source(config: Config, before: Source) -> Source:
    """The same camera again, where it was found by itself too: no other one and no performer step in for it."""
    from realtime.capture.webcam import Webcam

    if isinstance(before, Webcam):
        return before.reopen()
    return open_source(config.camera, size=None, fps=config.fps, pace="live")


def _limits(config: Config) -> Limits:
    return Limits(config.frames, None if config.duration is None else round(config.duration * 1e9))
