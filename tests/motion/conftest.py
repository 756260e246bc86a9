"""Fixtures shared by the tests of motion."""

from __future__ import annotations

import pytest

from engines.types import FaceState, Points
from tests.support.faces import shape_of


@pytest.fixture(scope="module")
def calm(driver_face: FaceState) -> Points:
    """The driver's face at rest."""
    return shape_of(driver_face)
