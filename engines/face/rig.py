"""What each expression coefficient does by itself: the rig that sliders, recordings and other trackers move.

``tools.expression_training.rig`` makes it from the sculpted expressions of ICT-FaceKit (MIT, USC ICT). The axes are
those of the canonical head frame of ``engines.face.coefficients``.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from engines.errors import GeneratorError
from engines.face.coefficients import product
from engines.types import LANDMARKS, Floats, Points

FILE = Path(__file__).parents[1] / "assets" / "rig.npz"


@dataclass(frozen=True, slots=True)
class Rig:
    """A mean face and what moves it. Immutable; any thread may use it."""

    face: Points
    """(478, 3): a face without expression."""
    basis: Floats
    """(51, 478 * 3): how far each coefficient of ``NAMES`` that can be seen moves each landmark."""

    def displacement(self, coefficients: Floats) -> Points:
        """Return how far coefficients (51,) float32 move every landmark, (478, 3) float32, new."""
        return np.asarray(product(coefficients, self.basis), np.float32).reshape(LANDMARKS, 3)


@cache
def shipped_rig() -> Rig:
    """Return the rig that ships, read once. Raises GeneratorError where it is missing or damaged."""
    try:
        with FILE.open("rb") as content, np.load(content, allow_pickle=False) as file:
            face, basis = file["face"].astype(np.float32), file["basis"].astype(np.float32)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        found = f"{FILE}, which cannot be read as the basis of expressions"
        expected, cure = "the file that this version of reenact ships", "reinstall reenact"
        raise GeneratorError("rig-unreadable", found, expected, cure) from error
    return Rig(face, np.ascontiguousarray(basis.reshape(len(basis), -1)))
