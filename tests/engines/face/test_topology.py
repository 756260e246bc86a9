"""The mesh is a surface, and the named points are where their names say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from engines.face import topology
from engines.face.topology import (
    BROWS,
    CHIN,
    EYE_CORNERS,
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    IRISES,
    LEFT_EYE,
    LOWER_LID_FOLDS,
    LOWER_LIDS,
    LOWER_LIP_ROWS,
    MIRROR,
    MOUTH_CORNERS,
    OUTER_MOUTH_CORNERS,
    OVAL,
    RIGHT_EYE,
    RIGID,
    RIGID_WEIGHTS,
    TRIANGLES,
    UPPER_LID_FOLDS,
    UPPER_LIDS,
    UPPER_LIP_ROWS,
    Indices,
)
from engines.types import LANDMARKS, FaceState


def _flattened(value: object) -> Iterator[Indices]:
    """Yield the index arrays of a group, which may be a tuple of tuples."""
    if isinstance(value, tuple):
        for part in value:
            yield from _flattened(part)
    else:
        assert isinstance(value, np.ndarray)
        yield value


EDGES = Counter((int(t[i]), int(t[(i + 1) % 3])) for t in TRIANGLES for i in range(3))
GROUPS = {
    name: group
    for name, value in vars(topology).items()
    if name.isupper()
    and not isinstance(value, int)
    and name not in ("TRIANGLES", "RIGID_WEIGHTS", "RIGID_CANONICAL", "MIRROR")
    for group in _flattened(value)
}


def test_the_mesh_is_one_surface_with_one_winding() -> None:
    """No two triangles run along an edge in the same direction."""
    assert TRIANGLES.dtype == np.int32
    assert max(EDGES.values()) == 1
    points = np.unique(TRIANGLES)
    np.testing.assert_array_equal(points, np.arange(468))
    undirected = {frozenset(edge) for edge in EDGES}
    # Euler's characteristic of a disc: no hole at eyes or mouth
    assert len(points) - len(undirected) + len(TRIANGLES) == 1


def test_its_edge_is_the_outline_of_the_face() -> None:
    border = {frozenset(edge) for edge in EDGES if edge[::-1] not in EDGES}
    assert border == {frozenset(pair) for pair in zip(OVAL.tolist(), np.roll(OVAL, -1).tolist(), strict=True)}


def test_the_mirror_maps_the_mesh_onto_itself() -> None:
    np.testing.assert_array_equal(MIRROR[MIRROR], np.arange(LANDMARKS))
    triangles = {frozenset(triangle) for triangle in TRIANGLES.tolist()}
    assert {frozenset(triangle) for triangle in MIRROR[TRIANGLES].tolist()} == triangles


@pytest.mark.parametrize("pair", [EYE_CORNERS, UPPER_LIDS, LOWER_LIDS, UPPER_LID_FOLDS, LOWER_LID_FOLDS])
def test_the_mirror_swaps_the_eyes_point_by_point(pair: tuple[topology.Indices, topology.Indices]) -> None:
    np.testing.assert_array_equal(MIRROR[pair[RIGHT_EYE]], pair[LEFT_EYE])


def test_the_mirror_swaps_the_irises() -> None:
    right, left = IRISES
    assert MIRROR[right[0]] == left[0]
    assert set(MIRROR[right].tolist()) == set(left.tolist())


@pytest.mark.parametrize(
    "row",
    [MOUTH_CORNERS, OUTER_MOUTH_CORNERS, INNER_UPPER_LIP, INNER_LOWER_LIP, *UPPER_LIP_ROWS, *LOWER_LIP_ROWS],
)
def test_the_mirror_reverses_the_rows_of_the_lips(row: topology.Indices) -> None:
    np.testing.assert_array_equal(MIRROR[row][::-1], row)


@pytest.mark.parametrize("group", [OVAL, RIGID, BROWS, CHIN], ids=["oval", "rigid", "brows", "chin"])
def test_groups_across_the_middle_are_symmetric(group: topology.Indices) -> None:
    assert set(MIRROR[group].tolist()) == set(group.tolist())


def test_both_halves_have_the_same_weights() -> None:
    weights = dict(zip(RIGID.tolist(), RIGID_WEIGHTS.tolist(), strict=True))
    assert all(weights[int(MIRROR[point])] == weight for point, weight in weights.items())


@pytest.mark.parametrize("name", GROUPS)
def test_groups_name_each_point_once_and_cannot_be_changed(name: str) -> None:
    group = GROUPS[name]
    assert len(set(group.tolist())) == len(group)
    assert ((group >= 0) & (group < LANDMARKS)).all()
    assert not group.flags.writeable


def test_names_say_where_points_are(driver_face: FaceState) -> None:
    x, y = driver_face.pixels()[:, :2].T
    # the subject's right is on the left in the picture
    assert x[EYE_CORNERS[RIGHT_EYE]].max() < x[EYE_CORNERS[LEFT_EYE]].min()
    assert x[OUTER_MOUTH_CORNERS[0]] < x[MOUTH_CORNERS[0]] < x[MOUTH_CORNERS[1]] < x[OUTER_MOUTH_CORNERS[1]]
    for eye in (RIGHT_EYE, LEFT_EYE):
        outer, inner = EYE_CORNERS[eye]
        inwards = np.sign(x[inner] - x[outer])
        assert (y[UPPER_LIDS[eye]] < y[LOWER_LIDS[eye]]).all()
        assert (y[UPPER_LID_FOLDS[eye]] < y[UPPER_LIDS[eye]]).all()
        assert (y[LOWER_LID_FOLDS[eye]] > y[LOWER_LIDS[eye]]).all()
        for lid in (UPPER_LIDS[eye], LOWER_LIDS[eye]):
            assert (np.diff(x[[outer, *lid, inner]]) * inwards > 0).all()
        assert y[UPPER_LIDS[eye]].min() < y[IRISES[eye][0]] < y[LOWER_LIDS[eye]].max()
    assert y[BROWS].max() < y[np.concatenate(UPPER_LIDS)].min()
    for row in (INNER_UPPER_LIP, INNER_LOWER_LIP, *UPPER_LIP_ROWS, *LOWER_LIP_ROWS):
        assert (np.diff(x[row]) > 0).all()
    middle = [row[4] for row in (*UPPER_LIP_ROWS[::-1], INNER_UPPER_LIP)]
    assert (np.diff(y[middle]) > 0).all()
    middle = [row[4] for row in (INNER_LOWER_LIP, *LOWER_LIP_ROWS)]
    assert (np.diff(y[middle]) > 0).all()
    assert y[CHIN].min() > y[INNER_LOWER_LIP].max()
    assert y[topology.FOREHEAD_TOP] == y[:468].min()
    assert y[topology.CHIN_TIP] == y[:468].max()
    assert (OVAL[0], OVAL[18]) == (topology.FOREHEAD_TOP, topology.CHIN_TIP)
    assert y[topology.NOSE_TIP] < y[topology.NOSE_BASE] < y[topology.UPPER_LIP_MIDDLE]
    # the landmarks of lips that touch may lie a fraction of a pixel past one another
    assert y[topology.UPPER_LIP_MIDDLE] <= y[topology.LOWER_LIP_MIDDLE] + 0.5
    right, left = topology.CHEEKS
    assert x[right] < x[topology.OUTER_EYE_CORNERS[RIGHT_EYE]]
    assert x[left] > x[topology.OUTER_EYE_CORNERS[LEFT_EYE]]
    np.testing.assert_array_equal(topology.ALL_EYE_CORNERS, np.concatenate(EYE_CORNERS))
