"""What each command does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engines.errors import CommandError
from realtime.pipeline.animator import Animator
from realtime.pipeline.commands import Setting
from realtime.pipeline.expression_commands import ExpressionCommands
from realtime.pipeline.face_observer import FaceObserver
from realtime.tracking.settings import DRIVERS, Driver, parse_place

GAIN_STEP = 0.1


class CommandHandler:
    """Carries out the commands of ``realtime.pipeline.commands``, on the thread that calls the animator."""

    def __init__(self, observer: FaceObserver, animator: Animator, quit_run: Callable[[], None]) -> None:
        self._observer = observer
        self._quit_run = quit_run
        motion = animator.motion
        self.expression = stage = ExpressionCommands(animator)
        self.actions: dict[str, Callable[[Any], str]] = {
            "calibrate": lambda _: animator.calibrate(),
            "next_portrait": lambda _: animator.step_portrait(1),
            "previous_portrait": lambda _: animator.step_portrait(-1),
            "set_portrait": animator.set_portrait,
            "set_frozen": animator.set_frozen,
            "set_slate": animator.set_slate,
            "set_mirror": self._set_mirror,
            "increase_gain": lambda _: animator.set_gain(motion.gain + GAIN_STEP),
            "decrease_gain": lambda _: animator.set_gain(motion.gain - GAIN_STEP),
            "set_gain": animator.set_gain,
            "set_region": animator.set_region,
            "set_mouth": animator.set_mouth,
            "set_refined": animator.set_refined,
            "set_background": animator.set_background,
            "set_driver": self._set_driver,
            "set_generator": animator.set_generator,
            "set_expression": stage.set_expression,
            "set_mix": stage.set_mix,
            "reset_expression": lambda _: stage.reset(),
            "toggle_look": lambda _: stage.toggle_look(),
            "use_preset": stage.use_preset,
            "next_preset": lambda _: stage.next_preset(),
            "save_preset": stage.save_preset,
            "delete_preset": stage.delete_preset,
            "set_muted": _refuse_muting,
            "quit": self._quit,
        }

    def carry_out(self, name: str, value: Setting = None) -> str:
        """Carry out a checked command and return a short description of the result. Raises ReenactError."""
        return self.actions[name](value)

    def _quit(self, _: Setting) -> str:
        self._quit_run()
        return "ending"

    def _set_driver(self, driver: Driver | None) -> str:
        """Choose the face that drives, also by the text of a place; None chooses the next of ``DRIVERS``."""
        if (place := parse_place(driver)) is not None:
            self._observer.driver = place
            return "the face there drives"
        if driver is None:
            current = self._observer.driver
            driver = DRIVERS[(DRIVERS.index(current) + 1) % len(DRIVERS)] if isinstance(current, str) else "auto"
        self._observer.driver = driver
        return f"driver {driver}"

    def _set_mirror(self, on: Setting) -> str:
        self._observer.mirror = not self._observer.mirror if on is None else bool(on)
        return "mirrored" if self._observer.mirror else "not mirrored"


def _refuse_muting(_: Setting) -> str:
    """Raise CommandError: the sound of a browser goes past the pipeline, and other runs have none."""
    raise CommandError(
        "sound-none", "a run without sound", "the session of a browser that drives", "open the page and go live"
    )
