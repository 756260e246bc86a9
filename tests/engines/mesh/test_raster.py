"""The inner loops: what they draw, what they leave as it is, and what they never read."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.eyes import eye_raster
from engines.face.opening import opening_box, trace_edge
from engines.layers import mesh_raster
from engines.mesh import mouth_raster
from engines.types import Floats, Image

Bools = NDArray[np.bool_]

WIDTH, HEIGHT = 90, 70
GUARD = 4096
SECRET = (255, 0, 255)
"""The colour of what must not be read."""

seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    mesh_raster.compile_all()
    mouth_raster.compile_all()


class Canvas(NamedTuple):
    """An array surrounded by memory that must not be written to."""

    array: NDArray[np.generic]
    memory: NDArray[np.generic]
    before: NDArray[np.generic]

    def guards_hold(self) -> bool:
        edges = (slice(None, GUARD), slice(-GUARD, None))
        return all(bool((self.memory[edge] == self.before[edge]).all()) for edge in edges)


def guarded(content: NDArray[np.generic]) -> Canvas:
    memory = np.full(content.size + 2 * GUARD, 77, content.dtype)
    memory[GUARD:-GUARD] = content.ravel()
    return Canvas(memory[GUARD:-GUARD].reshape(content.shape), memory, memory.copy())


# --- meshes


class Mesh(NamedTuple):
    target: Floats
    source: Floats
    triangles: NDArray[np.int32]


def sheet(rng: np.random.Generator, left: float, top: float, width: float, height: float) -> Mesh:
    """Return a random triangulation of a rectangle: a grid with shifted inner points and random diagonals."""
    columns, rows = (int(n) for n in rng.integers(1, 7, 2))
    x, y = np.meshgrid(np.arange(columns + 1.0), np.arange(rows + 1.0))
    shaken = rng.uniform(-0.24, 0.24, (2, *x.shape))
    x[:, 1:-1] += shaken[0][:, 1:-1]
    y[1:-1] += shaken[1][1:-1]
    target = np.stack([left + x * width / columns, top + y * height / rows, np.zeros_like(x)], axis=-1).reshape(-1, 3)
    if rng.random() < 0.5:  # edges that run exactly through samples
        target = np.round(target * 2) / 2
    number = np.arange(target.shape[0]).reshape(rows + 1, columns + 1)
    triangles = []
    for i in range(rows):
        for j in range(columns):
            a, b, c, d = number[i, j], number[i, j + 1], number[i + 1, j + 1], number[i + 1, j]
            triangles += [(a, b, c), (a, c, d)] if rng.random() < 0.5 else [(a, b, d), (b, c, d)]
    order = rng.permutation(len(triangles))
    target = target.astype(np.float32)
    return Mesh(target, target[:, :2].copy(), np.array(triangles, np.int32)[order])


def drawn(
    mesh: Mesh, width: int = WIDTH, height: int = HEIGHT, x0: int = 0, y0: int = 0, step: int = 1
) -> tuple[Floats, Floats]:
    """Return a backward map and depth, NaN and infinite where nothing was drawn."""
    backward = guarded(np.full((height, width, 2), np.nan, np.float32))
    depth = guarded(np.full((height, width), np.inf, np.float32))
    mesh_raster.draw_mesh(mesh.target, mesh.source, mesh.triangles, x0, y0, step, backward.array, depth.array)
    assert backward.guards_hold()
    assert depth.guards_hold()
    return backward.array.astype(np.float32), depth.array.astype(np.float32)


def samples(width: int, height: int, x0: int, y0: int, step: int) -> Floats:
    """Return the output pixel that each sample stands for, (height, width, 2)."""
    x = x0 + step * np.arange(width) + (step - 1) / 2
    y = y0 + step * np.arange(height) + (step - 1) / 2
    return np.asarray(np.stack(np.meshgrid(x, y), axis=-1), np.float32)


@given(seeds, st.sampled_from([1, 2, 4]), st.integers(-20, 20), st.integers(-20, 20))
def test_a_mesh_that_stays_is_the_identity(rng: np.random.Generator, step: int, x0: int, y0: int) -> None:
    mesh = sheet(rng, x0 - 3, y0 - 3, step * WIDTH + 6, step * HEIGHT + 6)
    backward, depth = drawn(mesh, x0=x0, y0=y0, step=step)
    np.testing.assert_allclose(backward, samples(WIDTH, HEIGHT, x0, y0, step), atol=2e-3)
    np.testing.assert_array_equal(depth, 0)


@given(seeds, st.sampled_from([1, 2, 4]))
def test_triangles_side_by_side_leave_no_hole_and_cover_nothing_else(rng: np.random.Generator, step: int) -> None:
    left, top = rng.uniform(-20, 60, 2)
    width, height = rng.uniform(0.5, 120, 2)
    mesh = sheet(rng, left, top, width, height)
    _, depth = drawn(mesh, step=step)
    (low_x, low_y), (high_x, high_y) = mesh.target[:, :2].min(axis=0), mesh.target[:, :2].max(axis=0)
    x, y = np.moveaxis(samples(WIDTH, HEIGHT, 0, 0, step), -1, 0)
    inside = (x >= low_x) & (x <= high_x) & (y >= low_y) & (y <= high_y)
    near = (x > low_x - 0.05) & (x < high_x + 0.05) & (y > low_y - 0.05) & (y < high_y + 0.05)
    if high_x - low_x < 0.01 or high_y - low_y < 0.01:  # rounding left a line
        inside[:] = False
    assert np.isfinite(depth[inside]).all()
    assert np.isinf(depth[~near]).all()


@given(seeds)
def test_any_linear_map_comes_out_exactly(rng: np.random.Generator) -> None:
    """The source of a pixel is interpolated without a crease where triangles meet."""
    mesh = sheet(rng, 0, 0, WIDTH, HEIGHT)
    matrix, shift = rng.uniform(-1, 1, (2, 2)), rng.uniform(-50, 50, 2)
    plane = rng.uniform(-1, 1, 2)
    source = mesh.target[:, :2] @ matrix.T + shift
    target = mesh.target.copy()
    target[:, 2] = mesh.target[:, :2] @ plane
    backward, depth = drawn(Mesh(target, source.astype(np.float32), mesh.triangles))
    at = samples(WIDTH, HEIGHT, 0, 0, 1)
    np.testing.assert_allclose(backward, at @ matrix.T + shift, atol=0.02)
    np.testing.assert_allclose(depth, at @ plane, atol=0.02)


@given(seeds, st.booleans())
def test_the_nearer_triangle_wins_in_any_order(rng: np.random.Generator, first: bool) -> None:
    near, far = sheet(rng, 20, 15, 40, 30), sheet(rng, 10, 10, 70, 50)
    for mesh, z in ((near, rng.uniform(-50, 0)), (far, rng.uniform(1, 50))):
        mesh.target[:, 2] = z
        mesh.source[:] = (z, 0)
    near_triangles, far_triangles = near.triangles, far.triangles + len(near.target)
    triangles = [near_triangles, far_triangles] if first else [far_triangles, near_triangles]
    both = Mesh(
        np.concatenate([near.target, far.target]),
        np.concatenate([near.source, far.source]),
        np.concatenate(triangles).astype(np.int32),
    )
    backward, depth = drawn(both)
    covered_near, covered_far = np.isfinite(drawn(near)[1]), np.isfinite(drawn(far)[1])
    np.testing.assert_allclose(depth[covered_near], near.target[0, 2], rtol=1e-4)
    np.testing.assert_allclose(backward[covered_near, 0], near.target[0, 2], rtol=1e-4)
    np.testing.assert_allclose(depth[covered_far & ~covered_near], far.target[0, 2], rtol=1e-4)
    assert np.isinf(depth[~covered_near & ~covered_far]).all()


def test_a_nearer_depth_is_kept() -> None:
    mesh = sheet(np.random.default_rng(3), 0, 0, WIDTH, HEIGHT)
    backward, depth = np.full((HEIGHT, WIDTH, 2), 7, np.float32), np.full((HEIGHT, WIDTH), np.inf, np.float32)
    depth[10:20] = -1
    mesh_raster.draw_mesh(mesh.target, mesh.source, mesh.triangles, 0, 0, 1, backward, depth)
    assert (backward[10:20] == 7).all()
    assert (depth[10:20] == -1).all()
    assert (depth[:10] == 0).all()


@given(seeds, st.integers(1, 40), st.integers(1, 40))
def test_triangles_of_any_size_and_place_stay_in_the_buffer(rng: np.random.Generator, width: int, height: int) -> None:
    """Far outside, huge, thin, back to front or without area: only finite numbers, and only inside the buffer."""
    reach = 10 ** rng.uniform(0, 5)
    target = rng.uniform(-reach, reach, (30, 3)).astype(np.float32)
    target[:6] = target[0]
    target[6:12, :2] = target[6, :2] + np.outer(np.linspace(0, 1, 6), rng.uniform(-90, 90, 2))
    source = rng.uniform(-reach, reach, (30, 2)).astype(np.float32)
    triangles = rng.integers(0, 30, (60, 3)).astype(np.int32)
    triangles[:8] = rng.integers(0, 6, (8, 3))
    triangles[8:16] = rng.integers(6, 12, (8, 3))
    backward, depth = drawn(Mesh(target, source, triangles), width, height)
    covered = np.isfinite(depth)
    assert not np.isnan(depth).any()
    assert np.isfinite(backward[covered]).all()
    assert np.isnan(backward[~covered]).all()
    slack = 1 + 0.01 * reach
    assert np.abs(backward[covered]).max(initial=0) <= reach + slack


def test_triangles_without_area_draw_nothing() -> None:
    target = np.array([(5, 5, 0), (5, 5, 0), (30, 30, 0), (40, 40, 0)], np.float32)
    triangles = np.array([(0, 0, 0), (0, 1, 2), (0, 2, 3), (2, 2, 3)], np.int32)
    _, depth = drawn(Mesh(target, target[:, :2].copy(), triangles))
    assert np.isinf(depth).all()


# --- layers


# --- openings


class Opening(NamedTuple):
    ends: Floats
    upper: Floats
    lower: Floats

    def points(self) -> Floats:
        """Return points all over the opening, less than half a pixel apart, (N, 2)."""
        along = np.linspace(0, 1, 120)[:, None]
        part = np.linspace(0, 1, 120)[None]
        grid = np.linspace(0, 1, len(self.upper))
        first, last = (np.interp(along[:, 0], grid, table)[:, None] for table in (self.upper, self.lower))
        below = first + part * (last - first)
        start, axis = self.ends[:2], self.ends[2:] - self.ends[:2]
        unit = axis / max(float(np.hypot(*axis)), 1e-6)
        x = start[0] + axis[0] * along - unit[1] * below
        y = start[1] + axis[1] * along + unit[0] * below
        return np.asarray(np.stack([x, y], axis=-1).reshape(-1, 2), np.float32)

    def mask(self, reach: int) -> Bools:
        """Return a mask of the pixels at most ``reach`` from the opening in x and y."""
        mask = np.zeros((HEIGHT + 2 * reach, WIDTH + 2 * reach), np.uint8)
        x, y = np.rint(self.points()).astype(int).T + reach
        inside = (x >= 0) & (x < mask.shape[1]) & (y >= 0) & (y < mask.shape[0])
        mask[y[inside], x[inside]] = 1
        near = cv2.dilate(mask, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
        return near[reach:-reach, reach:-reach].astype(bool)


def random_opening(rng: np.random.Generator, inside: bool = False) -> Opening:
    """Return a random opening: level or tilted, wide or a slit; anywhere, or well inside the image."""
    for _ in range(1000):
        centre = rng.uniform((0, 0), (WIDTH, HEIGHT)) if not inside else rng.uniform((30, 25), (60, 45))
        length = rng.uniform(4, 50)
        angle = rng.uniform(-0.6, 0.6)
        half = 0.5 * length * np.array([np.cos(angle), np.sin(angle)])
        along = np.sort(rng.uniform(0.02, 0.98, (2, 7)), axis=1)
        bow = np.sin(np.pi * along) * length * rng.uniform(0, 0.4, (2, 1)) * (rng.uniform(0.7, 1.3, (2, 7)))
        bow[0] *= -1
        if rng.random() < 0.2:
            bow *= 0.02
        unit, normal = half / np.hypot(*half), np.array([-half[1], half[0]]) / np.hypot(*half)
        edges = centre - half + along[..., None] * length * unit + bow[..., None] * normal
        points = np.concatenate([[centre - half], *edges, [centre + half]]).astype(np.float32)
        made = traced(points)
        spread = made.points()
        if not inside or ((spread > 2).all() and (spread < (WIDTH - 3, HEIGHT - 3)).all()):
            return made
    raise AssertionError("no opening fits into the picture")


def traced(points: Floats) -> Opening:
    """Return an opening of 16 points: the first and last are the corners, then 7 above and 7 below."""
    made = Opening(points[[0, 15]].reshape(4).copy(), np.empty(33, np.float32), np.empty(33, np.float32))
    trace_edge(np.pad(points, ((0, 0), (0, 1))), 0, 15, np.arange(1, 8), made.upper)
    trace_edge(np.pad(points, ((0, 0), (0, 1))), 0, 15, np.arange(8, 15), made.lower)
    return made


IDENTITY = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
ONES = np.ones(3, np.float32)
BOX = (0, 0, WIDTH, HEIGHT)
Box = tuple[int, int, int, int]
Draw = Callable[[np.random.Generator, Image, Box, Opening, float], None]


def draw_eye(rng: np.random.Generator, out: Image, box: Box, opening: Opening, feather: float) -> None:
    eye(rng, out, box, rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), opening, feather)


def eye(rng: np.random.Generator, out: Image, box: Box, image: Image, opening: Opening, feather: float) -> None:
    white = image.astype(np.float32)
    disc = np.concatenate([white[..., ::-1], rng.uniform(0, 1, (*white.shape[:2], 1))], axis=2).astype(np.float32)
    gaze, corner = (rng.uniform(-8, 8, 2).astype(np.float32) for _ in range(2))
    to_own = (IDENTITY + rng.uniform(-0.2, 0.2, (2, 3)) * (1, 1, 20)).astype(np.float32)
    margin = rng.uniform(0, 4, 33).astype(np.float32)
    eye_raster.draw_eye(
        out, box, white, disc, corner, *opening, margin, to_own, gaze, rng.uniform(0, 0.4), rng.uniform(0, 1),
        rng.uniform(0, 1), feather,
    )  # fmt: skip


LID_REACH = 12
"""Pixels from an opening within which a lid is drawn: the fold is up to 8 above it."""


def draw_lid(rng: np.random.Generator, out: Image, box: Box, opening: Opening, _: float) -> None:
    own = random_opening(rng)
    image, lid = rng.integers(0, 256, (2, HEIGHT, WIDTH, 3), np.uint8)
    grain = rng.normal(0, 3, (HEIGHT, WIDTH)).astype(np.float32)
    fold, own_fold = (edge - rng.uniform(0, 8) for edge in (opening.upper, own.upper))
    lash, corner = rng.uniform(1, 5, 33).astype(np.float32), rng.uniform(-8, 8, 2).astype(np.float32)
    to_own = (IDENTITY + rng.uniform(-0.2, 0.2, (2, 3)) * (1, 1, 20)).astype(np.float32)
    eye_raster.draw_lid(
        out, box, image, lid, grain, corner, *opening, fold.astype(np.float32), *own, own_fold.astype(np.float32), lash,
        to_own, rng.uniform(0, 1), rng.choice([0.0, rng.uniform(0, 1)]),
    )  # fmt: skip


def draw_mouth_from(rng: np.random.Generator, out: Image, box: Box, opening: Opening, feather: float) -> None:
    inside = rng.integers(0, 256, (48, 128, 3), np.uint8)
    fill(out, box, opening, inside, rng.uniform(0, 1), feather)


def fill(out: Image, box: Box, opening: Opening, inside: Image, opacity: float, feather: float) -> None:
    edges, grain = np.array([[0.1, 0.2], [0.9, 0.8]], np.float32), np.zeros((3, 3), np.float32)
    span = np.array([0.1, 0.9], np.float32)
    mouth_raster.fill_opening(
        out, box, *opening, inside, edges, span, 0.5 * ONES, ONES, 200.0, ONES, ONES, 1.0, grain, opacity, feather
    )  # fmt: skip


def draw_model(rng: np.random.Generator, out: Image, box: Box, opening: Opening, feather: float) -> None:
    box = opening_box(*opening, box, feather)
    shape = max(box[3] - box[1], 0), max(box[2] - box[0], 0)
    maps = rng.uniform(-9, 60, (3, *shape, 2)).astype(np.float32)
    depths = np.where(rng.random((3, *shape)) < 0.5, mesh_raster.FAR, rng.uniform(-9, 90, (3, *shape))).astype(
        np.float32
    )
    texture, grain = rng.integers(0, 256, (48, 48, 4), np.uint8), np.zeros((3, 3), np.float32)
    opacity = rng.uniform(0, 1)
    mouth_raster.draw_model(
        out, box, *opening, texture, maps, depths, 0.0, 9.0, 0.1 * ONES, 230.0, ONES, 1.0, grain, opacity, feather
    )  # fmt: skip


@pytest.mark.parametrize("draw", [draw_eye, draw_lid, draw_mouth_from, draw_model])
@given(rng=seeds, feather=st.floats(0.5, 5))
def test_drawing_into_an_opening_stays_inside_it(draw: Draw, rng: np.random.Generator, feather: float) -> None:
    opening = random_opening(rng)
    before = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    out = guarded(before)
    draw(rng, np.asarray(out.array, np.uint8), BOX, opening, feather)
    assert out.guards_hold()
    written = (out.array != before).any(axis=-1)
    margin = LID_REACH if draw is draw_lid else feather
    left, top, right, bottom = opening_box(*opening, BOX, margin)
    boxed = np.zeros_like(written)
    boxed[top:bottom, left:right] = True
    assert not (written & ~boxed).any()
    # a lid reaches from its fold to below the line where lids meet; everything else keeps to what is open
    assert not (written & ~opening.mask(LID_REACH if draw is draw_lid else 1)).any()


@pytest.mark.parametrize("draw", [draw_eye, draw_lid, draw_mouth_from, draw_model])
@given(rng=seeds, corners=st.tuples(*[st.integers(0, WIDTH)] * 2, *[st.integers(0, HEIGHT)] * 2))
def test_nothing_is_drawn_outside_the_box(draw: Draw, rng: np.random.Generator, corners: Box) -> None:
    (left, right), (top, bottom) = sorted(corners[:2]), sorted(corners[2:])
    before = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    out = before.copy()
    draw(rng, out, (left, top, right, bottom), random_opening(rng), 2.0)
    out[top:bottom, left:right] = before[top:bottom, left:right]
    np.testing.assert_array_equal(out, before)


@given(seeds, st.floats(0, 6))
def test_the_box_of_an_opening_contains_it_and_lies_in_the_image(rng: np.random.Generator, margin: float) -> None:
    opening = random_opening(rng)
    left, top, right, bottom = opening_box(*opening, BOX, margin)
    assert left >= 0
    assert top >= 0
    assert right <= WIDTH
    assert bottom <= HEIGHT
    x, y = opening.points().T
    visible = (x >= 0) & (x <= WIDTH - 1) & (y >= 0) & (y <= HEIGHT - 1)
    assert (x[visible] >= left).all()
    assert (x[visible] < right).all()
    assert (y[visible] >= top).all()
    assert (y[visible] < bottom).all()


@given(seeds, st.integers(0, 400))
def test_an_opening_far_outside_draws_nothing(rng: np.random.Generator, distance: int) -> None:
    away = 200 + distance
    opening = random_opening(rng)
    before = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    for direction in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        there = Opening(opening.ends + np.tile(np.array(direction, np.float32), 2) * away, opening.upper, opening.lower)
        for draw in (draw_eye, draw_lid, draw_mouth_from, draw_model):
            out = guarded(before)
            draw(rng, np.asarray(out.array, np.uint8), BOX, there, 2.0)
            assert out.guards_hold()
            np.testing.assert_array_equal(out.array, before)


@pytest.mark.parametrize("draw", [draw_eye, draw_lid, draw_mouth_from, draw_model])
def test_an_opening_without_length_draws_next_to_nothing(draw: Draw) -> None:
    point = Opening(np.array([40, 30, 40, 30], np.float32), np.zeros(33, np.float32), np.zeros(33, np.float32))
    before = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    out = before.copy()
    draw(np.random.default_rng(0), out, BOX, point, 1.5)
    assert (out != before).any(axis=-1).sum() <= 9


def hidden(allowed: Bools, inside: tuple[int, int, int]) -> Image:
    """Return an image with one colour where it may be read and another everywhere else."""
    picture = np.empty((*allowed.shape, 3), np.uint8)
    picture[:] = SECRET
    picture[allowed] = inside
    return picture


@given(seeds, st.floats(0.5, 5))
def test_only_the_inside_of_the_mouth_of_the_driving_image_is_read(rng: np.random.Generator, feather: float) -> None:
    """Up to the pixel next to the lips, which interpolation reads."""
    its, opening = random_opening(rng, inside=True), random_opening(rng, inside=True)
    driving = hidden(its.mask(1), (0, 200, 0))
    inside = np.zeros((48, 128, 3), np.uint8)
    mouth_raster.read_opening(driving, *its, inside)
    assert not inside[..., [0, 2]].any()
    out, green = np.zeros((2, HEIGHT, WIDTH, 3), np.uint8)
    fill(out, BOX, opening, inside, 1.0, feather)
    fill(green, BOX, opening, np.full_like(inside, (0, 200, 0)), 1.0, feather)
    np.testing.assert_array_equal(out, green)


def test_an_opening_takes_its_colour_from_the_driver() -> None:
    bow = np.sin(np.linspace(0, np.pi, 33)).astype(np.float32)
    opening = Opening(np.array([20, 35, 70, 35], np.float32), -10 * bow, 10 * bow)
    out = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    fill(out, BOX, opening, np.full((48, 128, 3), (210, 200, 190), np.uint8), 1.0, 2.0)
    assert 95 <= out[35, 45, 1] <= 103
    assert out[35, 45, 0] > out[35, 45, 1] > out[35, 45, 2]
    # its edge lies in the shadow of the lips, which is soft
    column = out[25:46, 45, 1].astype(int)
    assert np.abs(np.diff(column[3:-3])).max() < 30


@given(seeds)
def test_an_edge_is_traced_through_its_corners_and_near_its_points(rng: np.random.Generator) -> None:
    made = random_opening(rng)
    for table in (made.upper, made.lower):
        np.testing.assert_allclose(table[[0, -1]], 0, atol=1e-6)
        assert np.isfinite(table).all()
    assert (made.upper <= 1e-3).all()
    assert (made.lower >= -1e-3).all()


def test_an_edge_turned_with_its_corners_is_the_same() -> None:
    x = np.linspace(0, 40, 16)
    y = np.concatenate([[0], np.full(7, -5.0), np.full(7, 6.0), [0]])
    x[8:15] = x[1:8] = np.linspace(5, 35, 7)
    level = np.stack([x, y], axis=1)
    turn = np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    one, other = traced(level.astype(np.float32)), traced((level @ turn.T + (20, 30)).astype(np.float32))
    np.testing.assert_allclose(other.upper, one.upper, atol=1e-3)
    np.testing.assert_allclose(other.lower, one.lower, atol=1e-3)
    assert one.upper[16] == pytest.approx(-5, abs=1e-3)
    assert one.lower[16] == pytest.approx(6, abs=1e-3)


def test_points_that_fold_back_do_not_fold_the_edge() -> None:
    """Landmarks of a closed eye overtake each other; the edge stays a function."""
    points = np.zeros((16, 2), np.float32)
    points[15] = (40, 0)
    points[1:8, 0] = [30, 10, 35, -5, 50, 20, 39]
    points[1:8, 1] = -4
    points[8:15, 0] = 20
    points[8:15, 1] = np.arange(7)
    made = traced(points)
    assert np.isfinite(made.upper).all()
    assert np.isfinite(made.lower).all()
    assert np.abs(made.upper).max() <= 4 + 1e-3
    assert np.abs(made.lower).max() <= 6 + 1e-3


def test_crossed_lids_show_no_eye() -> None:
    bow = np.sin(np.linspace(0, np.pi, 33)).astype(np.float32)
    ends = np.array([20, 35, 70, 35], np.float32)
    out = np.zeros((70, 90, 3), np.uint8)
    white, disc = np.full((70, 90, 3), 200, np.float32), np.zeros((70, 90, 4), np.float32)
    nothing = np.zeros(2, np.float32)
    eye_raster.draw_eye(
        out, BOX, white, disc, nothing, ends, 2 * bow, -2 * bow, 0 * bow, IDENTITY, nothing, 0.2, 0.0, 1.0, 2.0
    )  # fmt: skip
    assert not out.any()
