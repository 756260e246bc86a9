"""From an observed face to a published frame."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from engines.errors import BusyError, CommandError, NotFoundError, ReenactError, one_of
from engines.generator import DIRECTED, REGIONS_OF, TRANSPARENT, Generator, Region
from engines.types import FaceState, Image
from realtime.core.background_task import BackgroundTask
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.core.latency import FrameCounts
from realtime.motion.motion_transfer import MotionTransfer
from realtime.motion.settings import MAX_GAIN
from realtime.pipeline.commands import Setting
from realtime.pipeline.face_observer import Observation
from realtime.pipeline.frame_publisher import FramePublisher
from realtime.pipeline.portrait_library import PortraitLibrary
from realtime.pipeline.settings import Clock, Notice
from realtime.pipeline.transparency import Transparency

_NO_PIXELS = np.empty((0, 0, 3), np.uint8)

LibraryFactory = Callable[[str, PortraitLibrary, int], PortraitLibrary]
"""Makes a generator by its name, with the portraits of a library, of which the one at that index is prepared first."""


class Animator:
    """Drives the portrait, publishes the result, and holds the user's settings for it.

    It has no thread of its own: one thread calls everything. It owns the library, and closes it.
    """

    def __init__(
        self,
        motion: MotionTransfer,
        library: PortraitLibrary,
        publisher: FramePublisher,
        counts: FrameCounts,
        *,
        mirror: bool,
        library_for: LibraryFactory | None = None,
        notice: Notice = lambda _: None,
        clock: Clock = time.monotonic_ns,
    ) -> None:
        """``library_for`` may take seconds, and runs on a thread of its own; None: the generator stays as it is."""
        self.motion = motion
        self.face_found = False
        self.frozen = False
        self.slated = False
        self.generator: Generator = library.generator
        self._library = library
        self._publisher = publisher
        self._counts = counts
        self._mirrored = mirror
        self._rotation: int | None = None
        self._clock = clock
        self._wanted = library.first
        if library.get(library.first) is None:
            raise RuntimeError("the first portrait has to be prepared before the animator starts")
        self._face: FaceState | None = None
        self._select(library.first)
        motion.set_portrait(self._face)
        self._mouth: str | None = None
        self._refined: bool | None = None
        self._library_for = library_for
        self._next_library: BackgroundTask[PortraitLibrary] | None = None
        self._next_generator: str | None = None
        self._notice = notice
        self._last: tuple[int, int, int] | None = None
        """Sequence number and time of the last frame, and when it was shown."""

    @property
    def portrait(self) -> str:
        """The name of the current portrait."""
        return self._portrait.name

    @property
    def wanted(self) -> int:
        """The index of the current portrait, or of the one that replaces it once it is prepared."""
        return self._wanted

    @property
    def library(self) -> PortraitLibrary:
        """The portraits to choose from."""
        return self._library

    def show(self, observation: Observation) -> None:
        """Publish a frame for a driving frame: the portrait moved, or what the user wants shown in its place."""
        if observation.mirrored != self._mirrored:
            self.motion.mirror()
            self._mirrored = observation.mirrored
        if self._rotation not in (None, observation.rotation):
            self.motion.begin_again()
        self._rotation = observation.rotation
        frame, face = observation.frame, observation.face
        self.face_found = face is not None
        self._last = (frame.seq, frame.time_ns, self._clock())
        if face is not None:
            self._counts.faces += 1
            self._counts.track.record(observation.tracking_ns, frame.stamps.tracked)
        self._publish(frame, face)

    def idle(self) -> None:
        """Publish a frame without a driving frame: the portrait eases to rest and stays there."""
        self.face_found = False
        now = self._clock()
        if self._last is None:
            self._publisher.slate("waiting for the camera", now, notice=True)
            return
        seq, time_ns, shown_ns = self._last
        time_ns += now - shown_ns
        self._publish(Frame(_NO_PIXELS, PixelFormat.RGB, seq, Stamps(now, now), time_ns), None)

    def close(self) -> None:
        """Release the generator, and one that is being prepared. Idempotent."""
        if self._next_library is not None:
            self._next_library.then(lambda library: library.close())
        self._library.close()

    # commands: each returns a short description of the result

    def calibrate(self) -> str:
        """Take the next half second as the neutral."""
        self.motion.calibrate()
        return "calibrating: look as the portrait does"

    def step_portrait(self, step: int) -> str:
        """Go ``step`` portraits forward, and from the last one to the first. Raises CommandError if there is one."""
        if len(self._library) == 1:
            raise CommandError("portrait-only-one", "only one portrait", "several", "add a picture")
        self._wanted = (self._wanted + step) % len(self._library)
        return f"portrait {self._wanted + 1} of {len(self._library)}"

    def set_portrait(self, which: Setting) -> str:
        """Choose a portrait by its index or its name. Raises NotFoundError."""
        names = self._library.names
        if isinstance(which, str):
            which = next((index for index, name in names.items() if name == which), which)
        if not isinstance(which, int) or not 0 <= which < len(self._library):
            expected = f"a number from 0 to {len(self._library) - 1} or a name"
            found = f"the portrait {str(which)[:60]!r}"
            raise NotFoundError("portrait-not-found", found, expected, "choose one of the portraits in the state")
        self._wanted = which
        return f"portrait {which + 1} of {len(self._library)}"

    def set_frozen(self, on: Setting = None) -> str:
        """Freeze the frame or go on; None toggles."""
        self.frozen = not self.frozen if on is None else bool(on)
        return "frozen" if self.frozen else "moving again"

    def set_slate(self, on: Setting = None) -> str:
        """Show the slate or go on; None toggles."""
        self.slated = not self.slated if on is None else bool(on)
        return "slate" if self.slated else "slate removed"

    def set_gain(self, gain: float) -> str:
        """Set the gain, clipped to the range that the configuration allows."""
        self.motion.gain = round(min(MAX_GAIN, max(0.0, gain)), 2)
        return f"gain {self.motion.gain:g}"

    def set_region(self, region: Region) -> str:
        """Choose what moves. Raises CommandError if the current generator, or the next one, cannot move only that."""
        _check_region(region, self.generator.name, self.generator.regions)
        if self._next_generator is not None:
            _check_region(region, self._next_generator, REGIONS_OF[self._next_generator])
        self.motion.region = region
        return f"region {region}"

    def set_mouth(self, mouth: str) -> str:
        """Choose how an open mouth is filled. Raises CommandError for a generator without that choice."""
        if not self.generator.mouths:
            found = f"the generator {self.generator.name}, which has no choice of mouth"
            raise CommandError("mouth-not-available", found, "mesh", "choose the generator mesh first")
        self.generator.set_mouth(mouth)
        self._mouth = mouth
        return f"mouth {mouth}"

    def set_refined(self, on: Setting = None) -> str:
        """Have networks repair the picture, or not; None toggles. Raises CommandError where there are none."""
        self.generator.set_refined(not self.generator.refined if on is None else bool(on))
        self._refined = self.generator.refined
        return "refined" if self._refined else "not refined"

    def set_background(self, name: str) -> str:
        """Choose what is behind the portrait, which is prepared with it in the background.

        Raises UsageError for a background that is not known, CommandError if the generator cannot be transparent.
        """
        background = self._library.background_named(name)
        if background.kind == "transparent":
            _check_transparent(self._next_generator or self.generator.name)
        self._library.set_background(background, self._wanted)
        if self._next_library is not None:
            self._next_library.then(lambda library: library.set_background(background, library.first))
        if background.kind == "transparent":
            return f"background {name}; where there is no alpha it is {_code(background.colour)}"
        return f"background {name}"

    def set_generator(self, name: str) -> str:
        """Change the generator. The new one is prepared in the background, and the current one continues meanwhile.

        Raises CommandError if this run cannot change it, or it cannot move the chosen region; BusyError while one is
        being prepared.
        """
        if self._library_for is None:
            found = "this run's generator cannot be changed"
            raise CommandError("generator-fixed", found, cure="restart with --generator NAME")
        if self._next_library is not None:
            raise BusyError("generator-preparing", "a generator is still being prepared", cure="try again in a moment")
        _check_region(self.motion.region, name, REGIONS_OF[name])
        if self.motion.direction.is_set:
            check_directed(name)
        if self._library.background.kind == "transparent":
            _check_transparent(name)
        library_for, library, wanted = self._library_for, self._library, self._wanted
        self._next_library = BackgroundTask("change generator", lambda: library_for(name, library, wanted))
        self._next_generator = name
        self._next_library.start()
        return f"preparing the generator {name}; {self.generator.name} continues meanwhile"

    def _publish(self, frame: Frame, face: FaceState | None) -> None:
        motion = self.motion.update(face, frame.time_ns)
        self._change_generator()
        self._change_portrait()
        if self.slated:
            self._publisher.slate("back in a moment", frame.time_ns)
        elif self.frozen:
            self._publisher.hold(frame.time_ns)
        else:
            started = self._clock()
            driving: Image | None = frame.pixels if face is not None and not frame.tracked else None
            image = self.generator.drive(self._portrait, motion, driving)
            transparency = self._transparency()
            if self._mount is not None:
                image = self._mount.show(image)
            stamps = self._publisher.show(image, frame, face=face is not None, transparency=transparency)
            if face is not None:
                self._counts.generate.record(stamps.generated - started, stamps.generated)
        self._counts.record(self._clock())

    def _transparency(self) -> Transparency | None:
        """Return what is transparent in the image that was generated last; None if nothing is, or no sink needs it."""
        background = self._shown_background
        if background.kind != "transparent" or not self._publisher.takes_alpha:
            return None
        alpha = self.generator.alpha()
        if alpha is None:
            return None
        return Transparency(alpha if self._mount is None else self._mount.alpha(alpha), background.colour)

    def _change_portrait(self) -> None:
        """Change to the wanted portrait as soon as it is prepared."""
        portrait = self._library.get(self._wanted)
        if portrait is not None and portrait is not self._portrait:
            before = self._face
            self._select(self._wanted)
            if self._face is not before:  # not another background only
                self.motion.set_portrait(self._face)

    def _select(self, index: int) -> None:
        """Show a portrait of the library that is prepared."""
        portrait = self._library.get(index)
        assert portrait is not None
        self._portrait = portrait
        self._mount = self._library.mount(index)
        self._shown_background = self._library.background_of(index)
        self._face = self._library.face(index)

    def _change_generator(self) -> None:
        """Change to the wanted generator once it is prepared; keep the current one if that failed."""
        if self._next_library is None or not self._next_library.wait(0):
            return
        task, self._next_library, self._next_generator = self._next_library, None, None
        try:
            library = task.result()
        except ReenactError as error:
            self._notice(f"{error}; {self.generator.label} continues. {error.cure}".rstrip())
            return
        self._library.close()
        library.catch_up(self._library)
        self.generator, self._library = library.generator, library
        if self._mouth is not None and self._mouth in self.generator.mouths:
            self.generator.set_mouth(self._mouth)
        if self._refined is not None and self.generator.refined is not None:
            self.generator.set_refined(self._refined)
        self._select(library.first)
        self.motion.set_portrait(self._face)
        BackgroundTask("prepare other portraits", library.prepare_others).start()
        self._notice(f"the generator is now {self.generator.label}")


def _check_region(region: str, generator: str, regions: tuple[str, ...]) -> None:
    """Raise CommandError for a region that is not among a generator's."""
    if region not in regions:
        found = f"the region {region} with the generator {generator}"
        cure = "choose one of these regions first, or another generator"
        raise CommandError("region-not-available", found, one_of(regions), cure)


def check_directed(generator: str) -> None:
    """Raise CommandError for a generator that shows the driver's expression only."""
    if generator not in DIRECTED:
        found = f"an expression or a mix that is set, with the generator {generator}"
        cure = "reset it, all parts to added, or choose that generator"
        raise CommandError("expression-not-available", found, one_of(DIRECTED), cure)


def _check_transparent(generator: str) -> None:
    """Raise CommandError for a generator that cannot tell what is transparent."""
    if generator not in TRANSPARENT:
        found = f"a transparent background with the generator {generator}"
        raise CommandError("background-not-available", found, one_of(TRANSPARENT), "choose a colour, or that generator")


def _code(colour: tuple[int, int, int]) -> str:
    """Return the code of an RGB colour, such as #00ff00."""
    return "#" + "".join(f"{channel:02x}" for channel in colour)
