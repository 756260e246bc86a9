"""From a configuration to the parts of a run: what is opened, with which settings, and how it is opened again."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engines import registry as generators
from engines.errors import AddressInUse, CommandError, ConfigError, SinkMissing, TrackerError, one_of
from engines.generator import DIRECTED, Generator
from engines.install_hint import command
from realtime.capture.source import Source, open_source
from realtime.config import (
    AUTO_RECORDING,
    FACE_SINKS,
    Config,
    address,
    allowed,
    option_name,
    pace_needs_file,
    portrait_fit,
    tracks_itself,
)
from realtime.core import paths
from realtime.core.frames import WITH_ALPHA
from realtime.core.protocol import DEFAULT_FPS
from realtime.core.stop_signal import StopSignal
from realtime.marking import WITHOUT_LABEL, describe_label, new_marking
from realtime.motion.direction import Direction
from realtime.motion.motion_file import MotionRecorder, check_sidecar
from realtime.motion.motion_transfer import MotionTransfer
from realtime.motion.tracked import FaceListener, NoTracker
from realtime.pipeline.delivery_thread import OpenedSink
from realtime.pipeline.loader import PartFactories, PipelineLoader
from realtime.pipeline.pipeline import STOP_S, Pipeline
from realtime.pipeline.portrait_library import ListedPortrait
from realtime.pipeline.settings import Limits, RunHooks, RunSettings
from realtime.portraits.background import check_background, open_background
from realtime.portraits.bundled import BundledPortrait, bundled_portraits, with_bundled
from realtime.portraits.image_file import check_picture, read_image
from realtime.portraits.portrait import load_portrait
from realtime.sinks.sink import Sink, check_recording_name, open_sink
from realtime.streams.target import is_camera_address, is_target, target
from realtime.tracking import model_files
from realtime.tracking.camera_rotation import CameraRotation
from realtime.tracking.tracker import FaceMeshTracker, Tracker, open_tracker
from realtime.webrtc.settings import ServerSettings

if TYPE_CHECKING:
    from engines.marking.marks import Marking
    from realtime.pipeline.frame_publisher import FrameRelay
    from realtime.pipeline.portrait_library import PictureLoader
    from realtime.pipeline.run import Run
    from realtime.server.capacity import Capacity
    from realtime.server.server_application import ServerApplication
    from realtime.server.shared_sinks import SharedSinks
    from realtime.webrtc.certificate import Certificate

MIN_BITRATE, START_BITRATE = 250_000, 2_500_000
"""The lowest and the first bit rate of a viewer's video in bit/s; the highest is an option."""
PAGE_STOP_S = 0.75
"""The part of ``STOP_S`` that is kept for the page and its sessions if the run takes long to stop."""
_NETWORK_OPTIONS = ("backend", "device", "compile", "weights")
_TERMINAL_CURES = {"portrait-only-one": "give --portrait several times"}
"""What to advise in the terminal, where the error's own cure is for the page; by the error's code."""

Say = Callable[[str, str], None]
"""Prints a text with a label."""


def check_files(config: Config) -> None:
    """Check portraits, recordings and expression as far as possible before anything is opened. Raises UsageError."""
    for path in portrait_files(config):
        check_picture(path)
    open_direction(config)
    for spec in config.sink:
        if spec.startswith("file:"):
            check_recording_name(paths.expand(spec.removeprefix("file:")))
    if config.record_motion is not None:
        check_sidecar(config.record_motion)


def open_direction(config: Config) -> Direction:
    """Return what is added to the driver's motion from the start. Raises ConfigError."""
    try:
        direction = Direction(
            {name: float(value) for name, value in _pairs(config.expression)}, dict(_pairs(config.mix))
        )
    except ValueError:
        found = f"--expression {' '.join(config.expression)}"
        raise ConfigError("config-bad-value", found, allowed("expression"), "give numbers from -1 to 1") from None
    except CommandError as error:
        raise ConfigError(error.code, error.found, error.expected, error.cure) from None
    if direction.is_set and config.generator not in DIRECTED:
        option = "--expression" if direction.values else "--mix"
        found = f"{option} with --generator {config.generator}"
        raise ConfigError("config-expression-not-available", found, one_of(DIRECTED), f"leave {option} out")
    return direction


def _open_listeners(config: Config) -> list[FaceListener]:
    """Open what is given every face of the driver. Raises UsageError, SinkMissing."""
    with ExitStack() as stack:
        listeners: list[FaceListener] = []
        for spec in config.sink:
            if spec.startswith(FACE_SINKS):
                from realtime.sinks.tracker_sink import TrackerSink, parse_address

                listeners.append(TrackerSink(*parse_address(spec)))
                stack.callback(listeners[-1].close)
        if config.record_motion is not None:
            listeners.append(MotionRecorder(config.record_motion))
        stack.pop_all()
        return listeners


def _pairs(settings: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(name.strip(), value.strip()) for name, _, value in (each.partition("=") for each in settings)]


def make_loader(config: Config, stop_signal: StopSignal, say: Say) -> PipelineLoader:
    """Return the loader of tracker, generator and portraits, not started.

    Raises PortraitError at once for a file that is no picture; the face in it is found while loading.
    """
    portraits = _portrait_loaders(config)
    check_background(config.background)

    def open_and_name_tracker() -> Tracker:
        tracker = open_configured_tracker(config)
        say(tracker.name, "tracker")
        return tracker

    def create_and_name_generator() -> Generator:
        generator = create_generator(config)
        mouth = f", mouth {generator.mouth}" if generator.mouths else ""
        say(f"{generator.label}{mouth}, {config.size[0]}x{config.size[1]}", "generator")
        return generator

    factories = PartFactories(
        open_and_name_tracker,
        create_and_name_generator,
        lambda: MotionTransfer(config.neutral, config.region, config.gain, direction=open_direction(config)),
        portraits,
        checked=None if config.portrait else 1,  # those of the gallery are known to be good
        rotation=lambda notice: CameraRotation(config.rotate, threaded=config.pace == "live", notice=notice),
        generator_named=partial(create_generator, config),
        background=partial(open_background, config.background),
        listeners=lambda: _open_listeners(config),
    )
    return PipelineLoader(
        factories, mirror=config.mirror, failed=stop_signal.fail, notice=lambda text: say(text, "portrait")
    )


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """A run that is ready to start, and the page beside it."""

    run: Run
    application: ServerApplication | None

    def start(self) -> None:
        """Start the run, and tell the page of it."""
        self.run.start()
        if self.application is not None:
            self.application.run_started(self.run if isinstance(self.run, Pipeline) else None)

    def close(self) -> None:
        """End both within ``STOP_S`` seconds, whatever hangs."""
        if self.application is None:
            self.run.close(STOP_S)
            return
        deadline = time.monotonic() + STOP_S
        ended = self.run.close(STOP_S - PAGE_STOP_S)
        self.application.close(max(0.0, deadline - time.monotonic()))
        if not ended:
            # a thread that hangs goes on hanging, but a recording may be finished in the time that is left
            self.run.close(max(0.0, deadline - time.monotonic()))


def open_run(config: Config, loader: PipelineLoader | None, stop_signal: StopSignal, say: Say) -> OpenedRun:
    """Open the source and the sinks and connect them to a run. Leaves nothing open when it raises.

    ``loader`` is None where browsers drive: each session has its own.
    """
    with ExitStack() as stack:
        application = _open_application(config, say, stack)
        run: Run
        if loader is None:
            run = _open_shared_sinks(config, application, stop_signal, say, stack)
        else:
            run = _open_pipeline(config, loader, application, stop_signal, say, stack)
        stack.pop_all()
        return OpenedRun(run, application)


def _open_pipeline(
    config: Config,
    loader: PipelineLoader,
    application: ServerApplication | None,
    stop_signal: StopSignal,
    say: Say,
    stack: ExitStack,
) -> Pipeline:
    lossless = config.pace == "max"
    source = _open_source(config)
    stack.callback(source.close)
    if lossless and source.live:
        raise pace_needs_file(config)
    _introduce(source, "source", say)
    _report_unused_options(config, source, say)
    fps = config.fps if config.fps and not lossless else source.fps or DEFAULT_FPS
    sinks = _open_sinks(config, fps, application, say, stack)
    return Pipeline(
        loader,
        source,
        None if lossless or not source.live else partial(reopen_source, config, source),
        sinks,
        RunSettings(
            config.size,
            fps,
            lossless=lossless,
            limits=_limits(config),
            relay_code=config.relay_code,
            marking=_introduce_marking(config, say),
        ),
        # a full collection of what start-up has built, which stays for good, takes 70 ms
        RunHooks(lambda text: say(text, ""), ready=gc.freeze, cures=_TERMINAL_CURES),
        stop_signal,
    )


def _introduce_marking(config: Config, say: Say) -> Marking:
    """Return how the run's frames are marked, after saying so."""
    marking = new_marking(config.label)
    say(f"{describe_label(marking)}, watermark of {marking.payload}", "marks")
    if marking.language is None:
        say(WITHOUT_LABEL, "")
    return marking


def _report_unused_options(config: Config, source: Source, say: Say) -> None:
    """Say which options have no effect on what was chosen."""
    from realtime.capture.video_file import VideoFile

    if config.fps not in (None, source.fps) and isinstance(source, VideoFile):
        say(f"--fps has no effect on a file, which is read at its own {source.fps:g} fps", "")
    unused = [option_name(key) for key in _NETWORK_OPTIONS if getattr(config, key) != Config.model_fields[key].default]
    if unused and config.generator == "mesh":
        verb = "have" if len(unused) > 1 else "has"
        say(f"{' and '.join(unused)} {verb} no effect on the mesh, which runs no networks", "")


def _open_shared_sinks(
    config: Config, application: ServerApplication | None, stop_signal: StopSignal, say: Say, stack: ExitStack
) -> SharedSinks:
    from realtime.server.shared_sinks import SharedSinks

    assert application is not None
    portraits = _portrait_loaders(config)
    say(f"browsers that open {application.address}", "source")
    sinks = _open_sinks(config, config.fps or DEFAULT_FPS, None, say, stack)
    shared_sinks = SharedSinks(
        sinks,
        size=config.size,
        limits=_limits(config),
        stop_signal=stop_signal,
        notice=lambda text: say(text, ""),
    )
    application.attach_shared_sinks(shared_sinks)
    application.load_previews(portraits, stop_signal.fail)
    return shared_sinks


def portrait_files(config: Config) -> list[Path]:
    """Return the files of the portraits to choose from: those that were named, otherwise the gallery.

    Where a file is processed as fast as it goes, nothing is chosen meanwhile: the gallery's default portrait does.
    """
    if config.portrait:
        return [with_bundled(path) for path in config.portrait]
    return [portrait.path for portrait in bundled_portraits()[: 1 if config.pace == "max" else None]]


def _portrait_loaders(config: Config) -> list[PictureLoader]:
    """Return a function that loads each portrait. Raises PortraitError for a file that is no picture."""

    def loader(path: Path) -> PictureLoader:
        return partial(load_portrait, path, config.size, fit=portrait_fit(config))

    def listed(portrait: BundledPortrait) -> ListedPortrait:
        return ListedPortrait(portrait.name, loader(portrait.path), lambda: read_image(portrait.path).image)

    if not config.portrait and config.pace == "live":
        return [listed(portrait) for portrait in bundled_portraits()]
    files = portrait_files(config)
    for path in files:
        check_picture(path)
    return [loader(path) for path in files]


def _open_application(config: Config, say: Say, stack: ExitStack) -> ServerApplication | None:
    """Start the page if it was asked for, or where it is offered beside a live run's sinks; otherwise return None.

    A page that is only offered takes any free port if its own is in use.
    """
    spec = next((spec for spec in config.sink if spec.startswith("webrtc")), None)
    offered = "auto" in config.sink and config.pace == "live"
    if spec is None and not offered and config.camera != "webrtc":
        return None
    host, port = address(spec or "webrtc")
    certificate = _certificate(config, host)
    settings = _server_settings(config, host, port, certificate)
    application = _make_application(config, settings, say)
    try:
        application.start()
    except AddressInUse as error:
        application.close()
        if spec is not None:
            raise
        say(f"{error}: the page uses another port", "")
        application = _make_application(config, replace(settings, port=0), say)
        application.start()
    except SinkMissing:
        application.close()
        raise
    stack.callback(application.close)
    say(application.address, "page")
    if certificate is not None and certificate.own:
        say(f"browsers warn of its certificate; go on if its SHA-256 is {certificate.fingerprint}", "")
    return application


def _certificate(config: Config, host: str) -> Certificate | None:
    """Return the certificate to serve with, or None for HTTP. Raises UsageError."""
    if config.https == "off":
        return None
    from realtime.webrtc.certificate import given_certificate, machine_names, own_certificate

    if config.https != "auto":
        return given_certificate(paths.expand(config.https))
    return own_certificate([*machine_names(host), *(name.partition(":")[0] for name in config.server_name)])


def _server_settings(config: Config, host: str, port: int, certificate: Certificate | None) -> ServerSettings:
    max_bitrate = 1000 * config.bitrate
    return ServerSettings(
        host=host,
        port=port,
        token=config.token,
        certificate=None if certificate is None else str(certificate.path),
        server_names=config.server_name,
        main_run=config.camera != "webrtc",
        ice_servers=config.ice_server,
        max_bitrate=max_bitrate,
        start_bitrate=min(START_BITRATE, max_bitrate),
        min_bitrate=min(MIN_BITRATE, max_bitrate),
        marker_jitter_buffer=config.jitter_mend,
    )


def _make_application(config: Config, settings: ServerSettings, say: Say) -> ServerApplication:
    from realtime.server.server_application import ServerApplication
    from realtime.webrtc.link import MediaLink

    def notice(text: str) -> None:
        say(text, "")

    return ServerApplication(
        config,
        lambda application: MediaLink(settings, application, notice, application.media_process_lost),
        lambda config, stop_signal, notice: make_loader(config, stop_signal, lambda text, _: notice(text)),
        partial(_measure_capacity, config),
        notice=notice,
    )


def _measure_capacity(config: Config, busy: int) -> Capacity:
    from realtime.server import capacity

    tracker = open_configured_tracker(config)
    generator = create_generator(config)
    try:
        return capacity.measure(tracker, generator, config.size, busy=busy)
    finally:
        tracker.close()
        generator.close()


def _open_sinks(
    config: Config, fps: float, application: ServerApplication | None, say: Say, stack: ExitStack
) -> list[OpenedSink]:
    sinks: list[OpenedSink] = []
    for spec in config.sink:
        opened: OpenedSink | None = None
        if spec == "auto" and config.pace == "live":
            opened = _open_virtual_camera(config, fps, say)
        elif is_target(spec):
            opened = _open_stream(spec, config, fps, say)
        elif spec.startswith(FACE_SINKS):
            say(f"what your face does, to {spec.partition(':')[2]} ({spec.partition(':')[0]})", "sink")
        elif not spec.startswith("webrtc"):
            opened = _open_sink(spec, config, fps, lossless=config.pace == "max")
        if opened is not None:
            sinks.append(opened)
            stack.callback(opened.sink.close)
            _introduce(opened.sink, "sink", say)
            if config.background.startswith("transparent") and opened.sink.format not in WITH_ALPHA:
                say(f"{opened.label} has no alpha: what is transparent has the key colour", "")
    if application is not None:
        sinks.append(OpenedSink("webrtc", application.main_sink()))
    return sinks


def _open_stream(spec: str, config: Config, fps: float, say: Say) -> OpenedSink:
    from realtime.streams.push_sink import PushSink, StreamFormat

    goal = target(spec, config.stream_key)
    bitrate = 1000 * config.bitrate
    media = ServerSettings(
        ice_servers=config.ice_server,
        max_bitrate=bitrate,
        start_bitrate=min(START_BITRATE, bitrate),
        min_bitrate=min(MIN_BITRATE, bitrate),
    )
    form = StreamFormat(config.size, fps, media)
    sink = PushSink(goal, form, lambda text: say(text, ""), follows_sound=config.camera == "webrtc")
    return OpenedSink(goal.shown, sink)


def _open_virtual_camera(config: Config, fps: float, say: Say) -> OpenedSink | None:
    """Return the virtual camera; if there is none, say how to install one and return None."""
    try:
        sink = open_sink("virtualcam", size=config.size, fps=fps)
    except SinkMissing as error:
        say(f"{error}: the page shows the result; for a virtual camera: {error.cure}", "sink")
        return None
    return OpenedSink("auto", sink, partial(open_sink, "virtualcam", size=config.size, fps=fps))


def _introduce(part: Source | Sink | FrameRelay, label: str, say: Say) -> None:
    say(part.name, label)
    for note in part.notes:
        say(note, "")


def create_generator(config: Config, name: str | None = None) -> Generator:
    """Create the generator of the configuration, or the one called ``name`` with the same options."""
    return generators.create(
        name or config.generator,
        mouth=config.mouth,
        refine=config.refine,
        backend=config.backend,
        device=config.device,
        compiled=config.compile,
        weights=config.weights,
        retarget=config.retarget,
    )


def open_configured_tracker(config: Config) -> Tracker:
    """Open the tracker of the configuration. Raises TrackerError."""
    if tracks_itself(config.camera):
        return NoTracker()
    threaded = config.pace == "live"
    if config.tracker == "facemesh":
        return FaceMeshTracker(config.driver, threaded=threaded)
    if config.tracker == "landmarker" and not (config.model or model_files.model_path("face_landmarker")):
        raise TrackerError(
            "tracker-model-missing",
            f"no model file at {model_files.target_path('face_landmarker')}",
            "the face landmarker's",
            f"{command('models')} fetch face_landmarker, or give --model FILE",
        )
    return open_tracker(config.model, config.driver, threaded=threaded)


def _open_sink(label: str, config: Config, fps: float, *, lossless: bool) -> OpenedSink:
    spec = f"file:{AUTO_RECORDING}" if label == "auto" and lossless else label
    camera = Path(config.camera)
    sound_from = camera if lossless and camera.is_file() else None
    hears = config.camera == "webrtc"
    sink = open_sink(spec, size=config.size, fps=fps, sound_from=sound_from, hears=hears)
    recording = spec.startswith("file:")
    open_again = None if recording or lossless else partial(open_sink, spec, size=config.size, fps=fps)
    return OpenedSink(label, sink, open_again, recording)


def _open_source(config: Config) -> Source:
    """Open the source of the configuration. Raises SourceMissing."""
    if is_camera_address(config.camera):
        from realtime.streams.camera import StreamCamera

        return StreamCamera(config.camera, config.fps)
    return open_source(config.camera, size=None, fps=config.fps, pace=config.pace)


def reopen_source(config: Config, lost: Source) -> Source:
    """Open the camera that was lost again: no other camera, and not the performer, even where it was chosen by auto."""
    from realtime.capture.webcam import Webcam

    if isinstance(lost, Webcam):
        return lost.reopen()
    return _open_source(config)


def _limits(config: Config) -> Limits:
    return Limits(config.frames, None if config.duration is None else round(config.duration * 1e9))
