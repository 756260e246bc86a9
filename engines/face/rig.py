"""What each expression coefficient does by itself: the rig that sliders, recordings and other trackers move.

``tools.expression_training.rig`` makes it from the sculpted expressions of ICT-FaceKit (MIT, USC ICT). The axes are
those of the canonical head frame of ``engines.face.coefficients``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.jit import compiled
from engines.types import LANDMARKS, Points

Floats = NDArray[np.float32]

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
        return np.asarray(_sum_of_rows(coefficients, self.basis), np.float32).reshape(LANDMARKS, 3)


@compiled()
def _sum_of_rows(vector: Any, matrix: Any) -> Any:
    """Return ``vector @ matrix``, float32; most of the vector is zero."""
    total = np.zeros(matrix.shape[1], np.float32)
    for i in range(matrix.shape[0]):
        value = vector[i]
        if value != 0:
            for j in range(matrix.shape[1]):
                total[j] += value * matrix[i, j]
    return total


@cache
def shipped_rig() -> Rig:
    """Return the rig that ships, read once."""
    with np.load(FILE, allow_pickle=False) as file:
        face, basis = file["face"].astype(np.float32), file["basis"].astype(np.float32)
    return Rig(face, np.ascontiguousarray(basis.reshape(len(basis), -1)))
