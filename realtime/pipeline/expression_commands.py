"""The commands that set the portrait's expression by hand."""

from __future__ import annotations

from typing import Any

from realtime.motion.presets import Presets
from realtime.pipeline.animator import Animator, check_directed


class ExpressionCommands:
    """Carries them out, on the thread that calls the animator. Each returns a short description of the result."""

    def __init__(self, animator: Animator, presets: Presets | None = None) -> None:
        self._animator = animator
        self._direction = animator.motion.direction
        self._presets = presets or Presets()
        self._preset: str | None = None

    @property
    def presets(self) -> tuple[str, ...]:
        """The names of the presets."""
        return self._presets.names

    def set_expression(self, values: Any) -> str:
        """Set controls by name. Raises CommandError."""
        check_directed(self._animator.generator.name)
        self._direction.set(values)
        return self._said()

    def set_mix(self, mix: Any) -> str:
        """Choose what moves each group. Raises CommandError."""
        check_directed(self._animator.generator.name)
        self._direction.set_mix(mix)
        return ", ".join(f"{group} {how}" for group, how in mix.items())

    def reset(self) -> str:
        """Set nothing any more."""
        self._direction.reset()
        self._preset = None
        return "expression reset"

    def toggle_look(self) -> str:
        """Have the portrait look at the camera, or no longer. Raises CommandError."""
        on = not self._direction.values.get("lookAtCamera")
        self.set_expression({"lookAtCamera": float(on)})
        return "looking at the camera" if on else "looking where the driver does"

    def use_preset(self, name: Any) -> str:
        """Set a preset and nothing else. Raises NotFoundError, CommandError."""
        check_directed(self._animator.generator.name)
        values = self._presets.get(name)
        self._direction.reset()
        self._direction.set(values)
        self._preset = name
        return f"expression {name}"

    def next_preset(self) -> str:
        """Set the next preset; after the last one nothing."""
        names = self._presets.names
        at = names.index(self._preset) + 1 if self._preset in names else 0
        return self.use_preset(names[at]) if at < len(names) else self.reset()

    def save_preset(self, name: Any) -> str:
        """Keep what is set under a name. Raises CommandError."""
        self._presets.save(name, self._direction.values)
        return f"saved as {name}"

    def delete_preset(self, name: Any) -> str:
        """Forget a preset of the user's own. Raises NotFoundError, CommandError."""
        self._presets.delete(name)
        return f"{name} deleted"

    def _said(self) -> str:
        count = len(self._direction.values)
        return f"{count} control{'' if count == 1 else 's'} set" if count else "expression reset"
