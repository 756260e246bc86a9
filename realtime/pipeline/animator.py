"""From a driving frame to a published picture: the observer tracks, the animator drives the portrait.

Neither has a thread of its own. Live, one thread calls both in turn; at the highest pace each has one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from engines.errors import BusyError, CommandError, NotFoundError, ReenactError
from engines.generator import REGIONS_OF, Generator
from engines.types import FaceState, Image
from realtime.config import MAX_GAIN
from realtime.core.background_task import BackgroundTask
from realtime.core.frames import Frame, Stamps
from realtime.core.latency import Ledger
from realtime.motion.relative import MotionTransfer, Region
from realtime.pipeline.commands import Setting
from realtime.pipeline.portrait_library import PortraitLibrary
from realtime.pipeline.publisher import FramePublisher
from realtime.tracking.tracker import Tracker

GAIN_STEP = 0.1

Clock = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Seen:
    """A driving frame and the face in it."""

    frame: Frame
    face: FaceState | None
    mirrored: bool
    tracking_ns: int
    """How long tracking took."""


class FaceObserver:
    """Flips and tracks. ``mirror`` may be set from any thread; the next frame follows it."""

    def __init__(self, tracker: Tracker, *, mirror: bool, clock: Clock = time.monotonic_ns) -> None:
        self.tracker = tracker
        self.mirror = mirror
        self._was_mirrored = mirror
        self._clock = clock

    def observe(self, frame: Frame) -> Seen:
        """Find the face in a driving frame."""
        mirror = self.mirror
        if mirror != self._was_mirrored:
            self.tracker.reset()
            self._was_mirrored = mirror
        if mirror:
            frame = replace(frame, pixels=cv2.flip(frame.pixels, 1).astype(np.uint8, copy=False))
        started = self._clock()
        face = self.tracker.track(frame)
        tracked = self._clock()
        return Seen(frame.stamped(tracked=tracked), face, mirror, tracked - started)


class Animator:
    """Drives the portrait and publishes what comes of it; holds what the person has chosen for it."""

    def __init__(
        self,
        motion: MotionTransfer,
        library: PortraitLibrary,
        publisher: FramePublisher,
        ledger: Ledger,
        *,
        mirror: bool,
        dress: Callable[[str, PortraitLibrary, int], PortraitLibrary] | None = None,
        notice: Callable[[str], None] = lambda _: None,
        clock: Clock = time.monotonic_ns,
    ) -> None:
        """``dress`` makes a generator by its name, with the portraits of a library and the one of that number ready.

        That takes time.
        """
        self.motion = motion
        self.face_found = False
        self.frozen = False
        self.slated = False
        self.generator: Generator = library.generator
        self._library = library
        self._publisher = publisher
        self._ledger = ledger
        self._mirrored = mirror
        self._clock = clock
        self._wanted = library.first
        portrait = library.get(library.first)
        if portrait is None:
            raise RuntimeError("the first portrait has to be prepared before the animator starts")
        self._portrait = portrait
        self._mouth: str | None = None
        self._dress = dress
        self._dressing: BackgroundTask[PortraitLibrary] | None = None
        self._coming: str | None = None
        self._notice = notice
        self._last: tuple[int, int, int] | None = None

    @property
    def portrait(self) -> str:
        """The name of the portrait on show."""
        return self._portrait.name

    @property
    def wanted(self) -> int:
        """The number of the portrait that is on show, or will be once it is ready."""
        return self._wanted

    def show(self, seen: Seen) -> None:
        """Publish the answer to one driving frame: the portrait moved, or what is held in its place."""
        if seen.mirrored != self._mirrored:
            self.motion.mirror()
            self._mirrored = seen.mirrored
        frame, face = seen.frame, seen.face
        self.face_found = face is not None
        self._last = (frame.seq, frame.time_ns, self._clock())
        if face is not None:
            self._ledger.faces += 1
            self._ledger.track.record(seen.tracking_ns, frame.stamps.tracked)
        self._publish(frame.seq, frame.time_ns, frame.stamps, face, frame.pixels if face is not None else None)

    def idle(self) -> None:
        """Publish a picture without a driving frame: the portrait eases to rest and stays there."""
        self.face_found = False
        now = self._clock()
        if self._last is None:
            self._publisher.slate("reenact: waiting for the camera", now, notice=True)
            return
        seq, time_ns, seen_ns = self._last
        self._publish(seq, time_ns + now - seen_ns, Stamps(now, now), None, None)

    def _publish(self, seq: int, time_ns: int, stamps: Stamps, face: FaceState | None, driving: Image | None) -> None:
        motion = self.motion.update(face, time_ns)
        self._change_generator()
        self._change_portrait()
        if self.slated:
            self._publisher.slate("reenact: back in a moment", time_ns)
        elif self.frozen:
            self._publisher.hold(time_ns)
        else:
            started = self._clock()
            image = self.generator.drive(self._portrait, motion, driving)
            stamps = self._publisher.show(
                image, driving, seq=seq, time_ns=time_ns, stamps=stamps, face=face is not None
            )
            if face is not None:
                self._ledger.generate.record(stamps.generated - started, stamps.generated)
        self._ledger.record(self._clock())

    def _change_portrait(self) -> None:
        """Put on the portrait that was asked for, as soon as it is ready."""
        portrait = self._library.get(self._wanted)
        if portrait is not None:
            self._portrait = portrait

    def _change_generator(self) -> None:
        """Go on with the generator that was asked for, once it is ready; with the old one if it cannot be had."""
        if self._dressing is None or not self._dressing.wait(0):
            return
        dressing, self._dressing, self._coming = self._dressing, None, None
        try:
            library = dressing.result()
        except ReenactError as error:
            self._notice(f"{error}; {self.generator.label} goes on. {error.cure}".rstrip())
            return
        self._library.close()
        library.catch_up(self._library)
        self.generator, self._library = library.generator, library
        if self._mouth is not None and self._mouth in self.generator.mouths:
            self.generator.set_mouth(self._mouth)
        portrait = library.get(library.first)
        assert portrait is not None
        self._portrait = portrait
        BackgroundTask("prepare other portraits", library.prepare_others).start()
        self._notice(f"the generator is {self.generator.label}")

    def set_generator(self, name: str) -> str:
        """Change the generator. It is made ready on a helper thread; the one there is goes on meanwhile.

        Raises CommandError where that cannot be, or is being done already.
        """
        if self._dress is None:
            raise CommandError(
                "generator-fixed", "a run with one generator", "several", "start it anew with --generator"
            )
        if self._dressing is not None:
            raise BusyError(
                "generator-preparing", "a generator that is being made ready", "none", "try again in a moment"
            )
        _allow(self.motion.region, name, REGIONS_OF[name])
        dress, library, wanted = self._dress, self._library, self._wanted
        self._dressing, self._coming = BackgroundTask("change generator", lambda: dress(name, library, wanted)), name
        self._dressing.start()
        return f"{name} is made ready; {self.generator.name} goes on meanwhile"

    def close(self) -> None:
        """Let go of the generator, and of one that is being made ready."""
        if self._dressing is not None:
            self._dressing.then(lambda library: library.close())
        self._library.close()

    @property
    def library(self) -> PortraitLibrary:
        """The portraits there are."""
        return self._library

    def calibrate(self) -> str:
        """Take a new neutral."""
        self.motion.calibrate()
        return "calibrating: look straight ahead, mouth shut"

    def step_portrait(self, step: int) -> str:
        """Go ``step`` portraits on, round and round."""
        if len(self._library) == 1:
            return "there is one portrait only: give --portrait several times"
        self._wanted = (self._wanted + step) % len(self._library)
        return f"portrait {self._wanted + 1} of {len(self._library)}"

    def set_portrait(self, which: Setting) -> str:
        """Put on the portrait of that number, from 0 on, or of that name. Raises CommandError."""
        names = self._library.names
        if isinstance(which, str):
            which = next((place for place, name in names.items() if name == which), which)
        if not isinstance(which, int) or not 0 <= which < len(self._library):
            expected = f"a number from 0 to {len(self._library) - 1} or a name"
            raise NotFoundError(
                "portrait-not-found", f"the portrait {str(which)[:60]!r}", expected, "choose one of those there are"
            )
        self._wanted = which
        return f"portrait {which + 1} of {len(self._library)}"

    def set_frozen(self, on: Setting = None) -> str:
        """Hold the picture, or go on."""
        self.frozen = not self.frozen if on is None else bool(on)
        return "frozen" if self.frozen else "moving again"

    def set_slate(self, on: Setting = None) -> str:
        """Show the slate, or go on."""
        self.slated = not self.slated if on is None else bool(on)
        return "slate" if self.slated else "back on"

    def set_gain(self, gain: float) -> str:
        """Set the gain, within what the configuration allows."""
        self.motion.gain = round(min(MAX_GAIN, max(0.0, gain)), 2)
        return f"gain {self.motion.gain:g}"

    def set_region(self, region: Region) -> str:
        """Choose what moves. Raises CommandError for what the generator, or the one to come, cannot move by itself."""
        _allow(region, self.generator.name, self.generator.regions)
        if self._coming is not None:
            _allow(region, self._coming, REGIONS_OF[self._coming])
        self.motion.region = region
        return f"region {region}"

    def set_mouth(self, mouth: str) -> str:
        """Choose the inside of the mouth. Raises CommandError for a generator that has no such choice."""
        if mouth not in self.generator.mouths:
            raise CommandError(
                "mouth-not-available", f"the generator {self.generator.name}", "mesh", "leave the mouth as it is"
            )
        self.generator.set_mouth(mouth)
        self._mouth = mouth
        return f"mouth {mouth}"


class CommandHandler:
    """What each command of ``realtime.pipeline.commands`` does. Called by the thread that owns the animator."""

    def __init__(self, observer: FaceObserver, animator: Animator, quit_: Callable[[], None]) -> None:
        self._observer = observer
        self._end = quit_
        gain = animator.motion
        self.actions: dict[str, Callable[[Any], str]] = {
            "calibrate": lambda _: animator.calibrate(),
            "next_portrait": lambda _: animator.step_portrait(1),
            "previous_portrait": lambda _: animator.step_portrait(-1),
            "set_portrait": animator.set_portrait,
            "set_frozen": animator.set_frozen,
            "set_slate": animator.set_slate,
            "set_mirror": self._mirror,
            "increase_gain": lambda _: animator.set_gain(gain.gain + GAIN_STEP),
            "decrease_gain": lambda _: animator.set_gain(gain.gain - GAIN_STEP),
            "set_gain": animator.set_gain,
            "set_region": animator.set_region,
            "set_mouth": animator.set_mouth,
            "set_generator": animator.set_generator,
            "quit": self._quit,
        }

    def obey(self, name: str, value: Setting = None) -> str:
        """Carry out a command; a few words on what came of it. Raises CommandError."""
        return self.actions[name](value)

    def _quit(self, _: Setting) -> str:
        self._end()
        return "ending"

    def _mirror(self, on: Setting) -> str:
        self._observer.mirror = not self._observer.mirror if on is None else bool(on)
        return "mirrored" if self._observer.mirror else "not mirrored"


@dataclass(frozen=True, slots=True)
class PipelineParts:
    """What the compute stage works with once everything is ready. It closes the tracker and the generator."""

    observer: FaceObserver
    animator: Animator
    command_handler: CommandHandler

    @property
    def library(self) -> PortraitLibrary:
        """The portraits there are."""
        return self.animator.library

    def close(self) -> None:
        """Let go of everything."""
        self.observer.tracker.close()
        self.animator.close()


def _allow(region: str, generator: str, regions: tuple[str, ...]) -> None:
    """Raise CommandError for a region that is none of a generator's."""
    if region not in regions:
        found = f"the region {region} with the generator {generator}"
        raise CommandError(
            "region-not-available", found, " or ".join(regions), "choose such a region first, or another generator"
        )
