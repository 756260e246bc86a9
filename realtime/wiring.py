"""From a configuration to the parts of a run: what is opened, with which settings, and how again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from engines import generator as generators
from engines.errors import SourceMissing, TrackerError
from realtime import modelfiles, tracking
from realtime.backstage import Backstage
from realtime.capture import Source, open_source
from realtime.config import Config
from realtime.daemon import Daemon, Outgoing
from realtime.ending import Ending
from realtime.motion import MotionTransfer
from realtime.portraits import load_portrait
from realtime.sinks import AUTO_RECORDING, Sink, open_sink
from realtime.stages import Limits

FPS = 30.0
"""Where neither the person nor the source says."""

Say = Callable[[str, str], None]
"""Prints a text with a label."""


def backstage(config: Config, ending: Ending, say: Say) -> Backstage:
    """What is made ready next to the opening of source and sinks."""

    def tracker() -> tracking.Tracker:
        opened = _open_tracker(config)
        say(opened.name, "tracker")
        return opened

    def generator() -> generators.Generator:
        made = generators.create(config.generator, mouth=config.mouth)
        say(f"{made.name}, mouth {config.mouth}, {config.size[0]}x{config.size[1]}", "generator")
        return made

    return Backstage(
        tracker,
        generator,
        lambda: MotionTransfer(config.neutral, config.region, config.gain),
        [partial(load_portrait, path, config.size) for path in config.portrait or (None,)],
        mirror=config.mirror,
        failed=ending.fail,
        notice=lambda text: say(text, "portrait"),
    )


def open_daemon(config: Config, parts: Backstage, ending: Ending, say: Say) -> Daemon:
    """Open the source and the sinks and put the run together. Leaves nothing open when it raises."""
    lossless = config.pace == "max"
    source = open_source(config.camera, size=None, fps=config.fps, pace=config.pace)
    fps = config.fps if config.fps and not lossless else source.fps or FPS
    outgoing: list[Outgoing] = []
    try:
        _introduce(source, "source", say)
        for spec in config.sink:
            outgoing.append(_open_sink(spec, config, fps, lossless=lossless))
            _introduce(outgoing[-1].sink, "sink", say)
    except BaseException:
        for each in outgoing:
            each.sink.close()
        source.close()
        raise
    return Daemon(
        parts,
        source,
        None if lossless or not source.live else partial(_reopen_source, config),
        outgoing,
        size=config.size,
        fps=fps,
        lossless=lossless,
        limits=_limits(config, outgoing),
        ending=ending,
        notice=lambda text: say(text, ""),
    )


def _introduce(part: Source | Sink, label: str, say: Say) -> None:
    say(part.name, label)
    for note in part.notes:
        say(note, "")


def _open_tracker(config: Config) -> tracking.Tracker:
    if config.tracker == "facemesh":
        return tracking.FaceMeshTracker()
    if config.tracker == "landmarker" and not (config.model or modelfiles.find("face_landmarker")):
        raise TrackerError(
            f"the landmarker's file is not at {modelfiles.target('face_landmarker')}",
            cure="python -m tools.models fetch face_landmarker, or give --model FILE",
        )
    return tracking.open_tracker(config.model)


def _open_sink(label: str, config: Config, fps: float, *, lossless: bool) -> Outgoing:
    spec = f"file:{AUTO_RECORDING}" if label == "auto" and lossless else label
    camera = Path(config.camera)
    sound_from = camera if lossless and camera.is_file() else None
    sink = open_sink(spec, size=config.size, fps=fps, sound_from=sound_from)
    recording = spec.startswith("file:") or sink.limit_s is not None
    again = "virtualcam" if spec == "auto" else spec
    reopen = None if recording or lossless else partial(open_sink, again, size=config.size, fps=fps)
    return Outgoing(label, sink, reopen, recording)


def _reopen_source(config: Config) -> Source:
    """The same camera again, where it was found by itself too: the performer does not step in for it."""
    if config.camera != "auto":
        return open_source(config.camera, size=None, fps=config.fps, pace="live")
    from realtime.webcam import first_webcam

    webcam = first_webcam(size=None, fps=config.fps)
    if webcam is None:
        raise SourceMissing("no webcam found")
    return webcam


def _limits(config: Config, outgoing: list[Outgoing]) -> Limits:
    seconds = [each.sink.limit_s for each in outgoing if each.sink.limit_s is not None]
    if config.duration is not None:
        seconds.append(config.duration)
    return Limits(config.frames, round(min(seconds) * 1e9) if seconds else None)
