"""The portraits that come with the program: a gallery of rendered people."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import engines

FOLDER = Path(engines.__file__).parent / "assets" / "portraits"


class BundledPortrait(NamedTuple):
    """A portrait of the gallery: its name, its file, how it is made, and its licence in one line."""

    name: str
    path: Path
    style: str
    licence: str


@cache
def bundled_portraits() -> tuple[BundledPortrait, ...]:
    """Return the portraits of the gallery, the default one first."""
    rows = json.loads((FOLDER / "portraits.json").read_text(encoding="utf-8"))
    return tuple(BundledPortrait(row["name"], FOLDER / row["file"], row["style"], row["licence"]) for row in rows)


def with_bundled(path: Path) -> Path:
    """Return the file of a portrait: ``path``, or where there is no such file the bundled portrait of that name."""
    if path.parent == Path() and not path.exists():
        for portrait in bundled_portraits():
            if portrait.name.casefold() == path.name.casefold():
                return portrait.path
    return path
