"""Expressions that are kept by name: a few that come with the program, and the user's own in a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from engines.atomic_write import atomic_write
from engines.errors import CommandError, NotFoundError, ReenactError
from realtime.core.file_lock import locked
from realtime.motion.controls import resolve

BUILT_IN: dict[str, dict[str, float]] = {
    "smile": {"smile": 0.7},
    "laugh": {"smile": 1.0, "jawOpen": 0.35, "eyeSquintLeft": 0.4, "eyeSquintRight": 0.4},
    "surprise": {"brows": 1.0, "eyesOpen": 0.8, "jawOpen": 0.4},
    "sad": {"smile": -0.6, "browInnerUp": 0.7, "eyesOpen": -0.15, "headPitch": -0.15},
    "stern": {
        "brows": -0.8, "mouthPressLeft": 0.4, "mouthPressRight": 0.4, "eyeSquintLeft": 0.3, "eyeSquintRight": 0.3,
    },
    "wink": {"eyeBlinkLeft": 1.0, "mouthSmileLeft": 0.5, "cheekSquintLeft": 0.5},
}  # fmt: skip
MOST = 32
"""How many of the user's own are kept."""
_NAME = re.compile(r"\w[\w .-]{0,39}")


def default_file() -> Path:
    """Return where the user's own are kept."""
    return platformdirs.user_config_path("reenact", appauthor=False) / "expressions.json"


class Presets:
    """Expressions by name. The file is read when another run has changed it, and written whole, under a lock."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or default_file()
        self._own: dict[str, dict[str, float]] = {}
        self._version: tuple[int, ...] | None = None
        """What tells the file that was read from a later one."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names, those that come with the program first. A file that cannot be read has none."""
        try:
            own = self._read()
        except CommandError:
            own = {}
        return (*BUILT_IN, *(name for name in own if name not in BUILT_IN))

    def get(self, name: str) -> dict[str, float]:
        """Return the controls of a preset. Raises NotFoundError, CommandError."""
        found = BUILT_IN.get(name) or self._read().get(name)
        if found is None:
            raise NotFoundError(
                "preset-not-found", f"the preset {name[:60]!r}", ", ".join(self.names), "choose one of them"
            )
        return dict(found)

    def save(self, name: str, values: Mapping[str, float]) -> None:
        """Keep an expression under a name, in place of the user's own of that name. Raises CommandError."""
        if not _NAME.fullmatch(name) or name in BUILT_IN:
            expected = "up to 40 letters, digits, blanks and ._-, and no name that comes with the program"
            raise CommandError("preset-bad-name", f"the name {name[:60]!r}", expected, "choose another name")
        with self._changing():
            own = self._read() | {name: dict(values)}
            if len(own) > MOST:
                raise CommandError("preset-too-many", f"{len(own)} presets", f"{MOST} at most", "delete one first")
            self._write(own)

    def delete(self, name: str) -> None:
        """Forget one of the user's own. Raises NotFoundError, CommandError."""
        with self._changing():
            own = dict(self._read())
            if name not in own:
                expected = "one that was saved"
                raise NotFoundError("preset-not-saved", f"the preset {name[:60]!r}", expected, "choose one of your own")
            del own[name]
            self._write(own)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Keep other runs, in this program and others, from changing the file. Raises CommandError."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # a file of its own, as the other one is replaced
            lock = open(self._path.with_suffix(".lock"), "ab")  # noqa: SIM115 - closed below
        except OSError as error:
            raise self._not_written(error) from None
        with lock, locked(lock.fileno()):
            yield

    def _read(self) -> dict[str, dict[str, float]]:
        try:
            status = self._path.stat()
            version = (status.st_mtime_ns, status.st_ino, status.st_size)
            if version != self._version:
                rows = json.loads(self._path.read_text(encoding="utf-8"))
                self._own = {str(name): resolve(values) for name, values in list(rows.items())[:MOST]}
                self._version = version
        except FileNotFoundError:
            self._own, self._version = {}, None
        except OSError as error:
            raise _unreadable(self._path, str(error.strerror)) from None
        except (ValueError, AttributeError, RecursionError, ReenactError):
            raise _unreadable(self._path, "it is not a list of expressions") from None
        return self._own

    def _write(self, own: dict[str, dict[str, float]]) -> None:
        try:
            with atomic_write(self._path) as partial:
                partial.write_text(json.dumps(own, indent=1, sort_keys=True), encoding="utf-8")
        except OSError as error:
            raise self._not_written(error) from None

    def _not_written(self, error: OSError) -> CommandError:
        found = f"{self._path} cannot be written: {error.strerror}"
        return CommandError("preset-not-written", found, cure="check the folder's permissions")


def _unreadable(path: Path, reason: str) -> CommandError:
    return CommandError("preset-unreadable", f"{path} cannot be read: {reason}", cure="mend or delete the file")
