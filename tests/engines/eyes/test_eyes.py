"""Eyes that open wider, look aside and shut, and brows that rise, measured in pictures of known eyes."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.eyes.eye_texture import eye_textures
from engines.face.opening import Opening
from engines.face.topology import BROW_LOWER_ROWS, BROW_UPPER_ROWS, EYE_CORNERS, IRISES, LOWER_LIDS, UPPER_LIDS
from engines.mesh.expression import ExpressionTransfer
from engines.mesh.features import FACE_TRIANGLES, MeshFeatures
from engines.mesh.generator import MeshGenerator
from engines.types import FaceState, Image, Points
from realtime.portraits.portrait import PortraitPicture
from tests.support.faces import make_motion, polygon_mask, shape_of, with_expression

Bools = NDArray[np.bool_]

SKIN, WHITE, IRIS, PUPIL, LASH = (200, 160, 140), (225, 222, 220), (90, 110, 140), (25, 25, 25), (40, 30, 28)
LASH_WIDTH = 4


class Drawn(NamedTuple):
    """A picture whose eyes are drawn in flat colours, and the circles of its irises."""

    picture: PortraitPicture
    irises: list[tuple[float, float, float]]


def outline(face: FaceState, eye: int) -> Points:
    """Return the opening of an eye, (16, 2) pixels."""
    ends, upper, lower = EYE_CORNERS[eye], UPPER_LIDS[eye], LOWER_LIDS[eye]
    return np.asarray(face.pixels()[[ends[0], *upper, ends[1], *lower[::-1]], :2], np.float32)


def draw_eyes(picture: PortraitPicture, *, irises: bool = True, lashes: bool = False) -> Drawn:
    """Return the picture with eyes of flat colours, the upper fifth of each iris behind its lid."""
    image = picture.image.copy()
    pixels = picture.face.pixels()
    size = picture.face.size
    circles = []
    for eye in range(2):
        opening = polygon_mask(outline(picture.face, eye), size)
        around = polygon_mask(outline(picture.face, eye), size, grow=9)
        image[around] = SKIN
        drawn = image.copy()
        drawn[opening] = WHITE
        centre = pixels[IRISES[eye][0], :2]
        radius = float(np.linalg.norm(pixels[IRISES[eye][1:], :2] - centre, axis=1).mean())
        circles.append((float(centre[0]), float(centre[1]), radius))
        if irises:
            disc(drawn, circles[-1])
        image[opening] = drawn[opening]
        if lashes:
            edge = np.rint(pixels[[EYE_CORNERS[eye][0], *UPPER_LIDS[eye], EYE_CORNERS[eye][1]], :2]).astype(np.int32)
            cv2.polylines(image, [edge - (0, LASH_WIDTH // 2)], False, LASH, LASH_WIDTH)
    return Drawn(PortraitPicture("drawn", image, picture.face), circles)


def disc(image: Image, circle: tuple[float, float, float]) -> None:
    """Draw an iris with its pupil."""
    x, y, radius = (round(16 * v) for v in circle)
    cv2.circle(image, (x, y), radius, IRIS, -1, cv2.LINE_AA, 4)
    cv2.circle(image, (x, y), round(0.4 * radius), PUPIL, -1, cv2.LINE_AA, 4)


@pytest.fixture(scope="module")
def neutral(driver_face: FaceState) -> Points:
    return shape_of(driver_face)


def show(picture: PortraitPicture, neutral: Points, **expression: float | tuple[float, float]) -> Image:
    """Return the picture driven by an expression."""
    generator = MeshGenerator("painted")
    portrait = generator.prepare(picture.name, picture.image, picture.face, picture.matte)
    moved = with_expression(neutral, **expression)  # type: ignore[arg-type]
    return generator.drive(portrait, make_motion(neutral, moved), None).copy()


def prepared(picture: PortraitPicture) -> MeshFeatures:
    """Return what the generator knows of a picture."""
    portrait = MeshGenerator("painted").prepare(picture.name, picture.image, picture.face, picture.matte)
    features: MeshFeatures = portrait.features
    return features


def moved_opening(picture: PortraitPicture, neutral: Points, eye: int, shut: float) -> Bools:
    """Return where an eye is open when it is shut by a share, a mask (H, W)."""
    features = prepared(picture)
    target = features.transfer.apply(make_motion(neutral, with_expression(neutral, shut=shut)))
    points = features.pose.project(target.shape)
    ends, upper, lower = EYE_CORNERS[eye], UPPER_LIDS[eye], LOWER_LIDS[eye]
    return polygon_mask(points[[ends[0], *upper, ends[1], *lower[::-1]]], picture.face.size)


def test_an_iris_that_comes_out_from_behind_a_lid_is_a_disc(portrait_picture: PortraitPicture, neutral: Points) -> None:
    """What was hidden must not be what was visible, stretched into bars."""
    drawn = draw_eyes(portrait_picture)
    out = show(drawn.picture, neutral, shut=-0.45)
    for eye, circle in enumerate(drawn.irises):
        true = np.full_like(out, WHITE)
        disc(true, circle)
        rows, columns = np.mgrid[: out.shape[0], : out.shape[1]]
        near = np.hypot(columns - circle[0], rows - circle[1]) < 1.6 * circle[2]
        opened = moved_opening(drawn.picture, neutral, eye, -0.45)
        revealed = opened & ~polygon_mask(outline(drawn.picture.face, eye), drawn.picture.face.size)
        # clear of the lid's shadow and soft edge
        clear = cv2.erode(opened.astype(np.uint8), np.ones((7, 1), np.uint8)).astype(bool)
        seen = near & clear & (revealed | opened)
        assert (seen & revealed).sum() > 10
        assert np.abs(out.astype(float) - true)[seen].mean() < 22


def test_no_row_of_a_wide_eye_is_repeated(portrait_picture: PortraitPicture, neutral: Points) -> None:
    """Bars are columns of the same colour: a disc's columns change colour where they leave it."""
    drawn = draw_eyes(portrait_picture)
    out = show(drawn.picture, neutral, shut=-0.45).astype(float).mean(axis=2)
    for eye, (x, y, radius) in enumerate(drawn.irises):
        opened = moved_opening(drawn.picture, neutral, eye, -0.45)
        column = round(x + 0.75 * radius)
        rows = np.flatnonzero(opened[:, column])[3:-2]
        dark = out[rows, column] < 0.5 * (np.mean(WHITE) + np.mean(IRIS))
        height = 2 * radius * np.sqrt(1 - 0.75**2)
        assert dark.sum() < height + 3
        assert np.abs(rows[dark].mean() - y) < 2.5


def test_the_iris_moves_with_the_gaze_and_the_white_is_no_smear(
    portrait_picture: PortraitPicture, neutral: Points
) -> None:
    drawn = draw_eyes(portrait_picture)
    looks = {}
    for side in (-0.2, 0.2):
        out = show(drawn.picture, neutral, gaze=(side, 0.0)).astype(float).mean(axis=2)
        x, y, radius = drawn.irises[0]
        row = out[round(y + 0.3 * radius), round(x - 2.5 * radius) : round(x + 2.5 * radius)]
        looks[side] = np.flatnonzero(row < 0.5 * (np.mean(WHITE) + np.mean(IRIS))).mean()
    assert looks[0.2] - looks[-0.2] > 0.5 * drawn.irises[0][2]


def test_an_eye_without_an_iris_keeps_what_it_shows(portrait_picture: PortraitPicture, neutral: Points) -> None:
    drawn = draw_eyes(portrait_picture, irises=False)
    assert all(eye.texture.iris is None for eye in prepared(drawn.picture).eyes)
    out = show(drawn.picture, neutral, gaze=(0.2, 0.0), shut=-0.4)
    inside = moved_opening(drawn.picture, neutral, 0, -0.4)
    clear = cv2.erode(inside.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
    assert np.abs(out[clear].astype(float) - WHITE).max() < 60


@pytest.mark.parametrize("irises", [True, False])
def test_shut_lids_are_skin_with_a_thin_line(portrait_picture: PortraitPicture, neutral: Points, irises: bool) -> None:
    """No black slit, no stretched lashes, nothing of the eyeball."""
    drawn = draw_eyes(portrait_picture, irises=irises, lashes=True)
    out = show(drawn.picture, neutral, shut=1.0).astype(float).mean(axis=2)
    skin = float(np.mean(SKIN))
    for eye in range(2):
        ends = np.sort(drawn.picture.face.pixels()[EYE_CORNERS[eye], 0])
        middle = np.interp(np.linspace(0.25, 0.75, 12), [0, 1], ends).round().astype(int)
        top, bottom = (round(float(outline(drawn.picture.face, eye)[[0, 8], 1].mean())) + reach for reach in (-12, 16))
        band = out[top:bottom, middle]
        # the line is dark and as thick as the lashes were, above and below it is skin
        assert ((band < 0.55 * skin).sum(axis=0) <= LASH_WIDTH + 3).all()
        assert np.median((band < 0.8 * skin).sum(axis=0)) <= LASH_WIDTH + 5
        assert (band > np.mean(WHITE) - 12).sum() <= 0.02 * band.size


def test_an_eye_of_stone_shuts_to_a_line_between_lids_of_its_own_light(
    portrait_picture: PortraitPicture, neutral: Points
) -> None:
    """The groove above a carved eye is not drawn over the lid, and where lids without lashes meet is a dark line."""
    image = portrait_picture.image.copy()
    face = portrait_picture.face
    for eye in range(2):
        image[polygon_mask(outline(face, eye), face.size, grow=16)] = SKIN
        image[polygon_mask(outline(face, eye) - (0, 8), face.size, grow=6)] = np.multiply(SKIN, 0.35)
        image[polygon_mask(outline(face, eye), face.size)] = np.multiply(SKIN, 0.8)
    out = show(PortraitPicture("stone", image, face), neutral, shut=1.0).astype(float).mean(axis=2)
    stone = 0.8 * float(np.mean(SKIN))
    for eye in range(2):
        ends = np.sort(face.pixels()[EYE_CORNERS[eye], 0])
        middle = np.interp(np.linspace(0.3, 0.7, 9), [0, 1], ends).round().astype(int)
        lower = round(float(face.pixels()[LOWER_LIDS[eye][2:5], 1].mean()))
        band = out[lower - 10 : lower + 6, middle]
        line = band.argmin(axis=0)
        assert (band.min(axis=0) < 0.75 * stone).all()
        above = np.array([column[max(at - 5, 0) : at - 2].mean() for column, at in zip(band.T, line, strict=True)])
        assert (above > 0.85 * stone).mean() > 0.7


def test_one_eye_winks(portrait_picture: PortraitPicture, neutral: Points) -> None:
    drawn = draw_eyes(portrait_picture)
    out = show(drawn.picture, neutral, shut=(1.0, 0.0)).astype(float)
    blue = out[..., 2] - out[..., 0]
    seen = []
    for eye in range(2):
        inside = polygon_mask(outline(drawn.picture.face, eye), drawn.picture.face.size)
        seen.append(int((blue[inside] > 20).sum()))
    assert seen[0] < 0.1 * seen[1]


@pytest.mark.parametrize("raised", [-0.15, 0.1, 0.25, 0.5])
def test_raised_brows_fold_no_skin_and_keep_their_width(portrait_face: FaceState, raised: float) -> None:
    """A brow whose skin runs over the forehead is seen twice."""
    shape = shape_of(portrait_face)
    driver = shape.copy()
    driver[np.concatenate(BROW_UPPER_ROWS), 1] -= raised
    driver[np.concatenate(BROW_LOWER_ROWS), 1] -= 0.5 * raised
    moved = ExpressionTransfer(shape).apply(make_motion(shape, driver)).shape
    upper = (shape[FACE_TRIANGLES.clip(0, 477), 1] < shape[EYE_CORNERS[0], 1].mean() - 0.25).all(axis=1)
    assert upper.sum() > 60

    def areas(points: Points) -> NDArray[np.float32]:
        a, b, c = (points[FACE_TRIANGLES[upper][:, k], :2] for k in range(3))
        return np.asarray((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0], np.float32)

    before, after = areas(shape), areas(moved)
    kept = np.abs(before) > 1e-4
    assert (np.sign(before[kept]) == np.sign(after[kept])).all()
    for upper_row, lower_row in zip(BROW_UPPER_ROWS, BROW_LOWER_ROWS, strict=True):
        width, was = ((points[lower_row] - points[upper_row])[:, 1].mean() for points in (moved, shape))
        assert width == pytest.approx(was, rel=0.2)
        assert (moved - shape)[upper_row, 1].mean() * raised < 0


def test_a_hidden_iris_is_found_and_completed() -> None:
    """Against the disc that was drawn, behind the upper lid."""
    image = np.full((120, 160, 3), SKIN, np.uint8)
    bow = np.sin(np.linspace(0, np.pi, 33)).astype(np.float32)
    eye_opening = Opening(np.array([40, 60, 110, 60], np.float32), -11 * bow, 12 * bow)
    true = np.full_like(image, WHITE)
    disc(true, (75.0, 57.0, 14.0))
    rows, columns = np.mgrid[:120, :160].astype(np.float32)
    below = np.interp(columns, np.linspace(40, 110, 33), 12 * bow, 0, 0)
    above = np.interp(columns, np.linspace(40, 110, 33), -11 * bow, 0, 0)
    opening = (rows - 60 > above) & (rows - 60 < below)
    image[opening] = true[opening]
    eye = (eye_opening, -17 * bow, np.array([73.5, 58.5, 13.0], np.float32))
    for texture in eye_textures(image, [eye, eye]):
        assert texture.iris is not None
        found = np.array([texture.iris.x, texture.iris.y]) + texture.corner
        np.testing.assert_allclose(found, (75, 57), atol=2.0)
        assert texture.iris.across == pytest.approx(14, abs=1.3)
        left, top = texture.corner.astype(int)
        opacity = texture.disc[..., 3:]
        made = texture.white + opacity * (texture.disc[..., :3] - texture.white)
        expected = true[top : top + made.shape[0], left : left + made.shape[1]].astype(float)
        near = texture.iris.radius(*np.meshgrid(*(np.arange(n, dtype=np.float32) for n in made.shape[1::-1]))) < 1.3
        assert np.abs(made - expected)[near].mean() < 18
