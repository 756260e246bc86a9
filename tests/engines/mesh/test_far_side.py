"""The far side of a portrait that looks aside: turned to the viewer it shows skin, and not mirrored skin."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.face.topology import OVAL, TRIANGLES
from engines.mesh.far_side import NO_FAR_SKIN, SIDES, unfolding
from engines.mesh.generator import MeshGenerator
from engines.types import LANDMARKS, FaceState, Image, Points, Portrait
from tests.support.faces import face_state, head_pose, make_motion, shape_of

SIZE = (640, 480)
ASIDE = 20.0
"""Degrees that the portrait looks aside."""


def aside(face: FaceState, yaw: float) -> FaceState:
    """Return the face turned by degrees."""
    return face_state(shape_of(face), head_pose((0, np.radians(yaw), 0)), size=SIZE)


def seen_from_behind(pixels: Points) -> set[int]:
    """Return the triangles at the outline of the cheeks that are folded over, by number."""
    a, b, c = (pixels[TRIANGLES[:, corner], :2].astype(float) for corner in range(3))
    areas = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    cheeks = np.isin(TRIANGLES, np.concatenate(SIDES)).any(axis=1) & (TRIANGLES < LANDMARKS - 10).all(axis=1)
    return set(np.flatnonzero((areas * np.sign(np.median(areas)) < 0) & cheeks).tolist())


@pytest.mark.parametrize("yaw", [-ASIDE, ASIDE])
def test_where_a_far_side_is_fetched_from_does_not_fold(portrait_face: FaceState, yaw: float) -> None:
    face = aside(portrait_face, yaw)
    pixels = face.pixels()
    folded = seen_from_behind(pixels)
    assert len(folded) > 5
    fetched = pixels.copy()
    fetched[:, :2] += unfolding(pixels, shape_of(face))
    assert len(seen_from_behind(fetched)) < 0.2 * len(folded)


def test_a_frontal_face_is_fetched_as_it_is(portrait_face: FaceState) -> None:
    face = aside(portrait_face, 0)
    assert not unfolding(face.pixels(), shape_of(face)).any()


@pytest.mark.parametrize("yaw", [-ASIDE, ASIDE])
def test_a_cheek_that_is_turned_to_the_viewer_is_not_mirrored(
    portrait_face: FaceState, driver_face: FaceState, yaw: float
) -> None:
    face = aside(portrait_face, yaw)
    width, height = SIZE
    pixels = face.pixels()
    middle = float(pixels[:, 0].mean())
    edge = float(pixels[:, 0].min() if yaw > 0 else pixels[:, 0].max())
    # lighter and lighter from the edge of the far cheek inwards
    light = np.clip(40 + 6 * np.abs(np.arange(width) - edge), 40, 220).astype(np.uint8)
    image: Image = np.repeat(np.repeat(light[None, :, None], height, axis=0), 3, axis=2)
    generator = MeshGenerator("painted")
    portrait = generator.prepare("ramp", image, face)
    as_it_lies = replace(portrait.features, unfolded=portrait.features.hairline)
    turn = make_motion(shape_of(driver_face), rotation=np.radians([0, -0.7 * yaw, 0]))
    top, bottom = np.rint(np.sort(pixels[OVAL[[8, 11]], 1])).astype(int)
    inwards = slice(round(edge), round(middle), 1 if edge < middle else -1)

    def darker_inwards(shown: Portrait) -> float:
        strip = generator.drive(shown, turn, None)[top:bottom, inwards, 0].astype(int)
        return float(np.median(-np.minimum(np.diff(strip, axis=1), 0).sum(axis=1)))

    # what remains is the edge between the layers of face and head
    assert darker_inwards(portrait) < 0.75 * darker_inwards(replace(portrait, features=as_it_lies))
    generator.close()


def test_stretched_skin_shows_no_waves(portrait_face: FaceState, driver_face: FaceState) -> None:
    """The grain of a painting, drawn out sideways, is steep from row to row and goes on from column to column."""
    face = aside(portrait_face, ASIDE)
    noise = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 60, SIZE[::-1]), (0, 0), 1.2)
    image: Image = np.repeat(np.clip(140 + noise, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    generator = MeshGenerator("painted")
    portrait = generator.prepare("grain", image, face)
    neutral = shape_of(driver_face)
    turn = make_motion(neutral, rotation=np.radians([0, -0.7 * ASIDE, 0]))
    still = make_motion(neutral)
    rest = generator.drive(portrait, still, None).copy()
    smooth = generator.drive(portrait, turn, None)[..., 0].astype(float)
    np.testing.assert_array_equal(generator.drive(portrait, still, None), rest)
    stretched = replace(portrait, features=replace(portrait.features, far_skin=NO_FAR_SKIN))
    rough = generator.drive(stretched, turn, None)[..., 0].astype(float)
    changed = cv2.morphologyEx(
        (np.abs(smooth - rough) > 2).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8)
    )
    cheek = cv2.erode(changed, np.ones((5, 5), np.uint8))[1:] > 0
    assert cheek.sum() > 200
    before, after = (float(np.abs(np.diff(out, axis=0))[cheek].mean()) for out in (rough, smooth))
    assert after < 0.7 * before
    generator.close()


def polygon_edge(outline: Points, width: int) -> NDArray[np.bool_]:
    """Return a mask of a line along an outline (n, 2), (480, 640)."""
    mask = np.zeros(SIZE[::-1], np.uint8)
    cv2.polylines(mask, [np.rint(outline).astype(np.int32)], True, (1,), width)
    return mask > 0


@pytest.mark.parametrize("shade", [200, 60])
@pytest.mark.parametrize("yaw", [-34.0, 34.0])
def test_no_hole_opens_in_a_face_far_aside(
    portrait_face: FaceState, driver_face: FaceState, yaw: float, shade: int
) -> None:
    """The outline that is tracked of the far side crosses the face: what lies beyond it belongs to the face too.

    Nor is what is dark along it hair.
    """
    face = aside(portrait_face, yaw)
    hull = cv2.convexHull(np.rint(face.pixels()[: LANDMARKS - 10, :2]).astype(np.int32))
    head = np.zeros(SIZE[::-1], np.uint8)
    cv2.fillPoly(head, [hull], (255,))
    head = np.asarray(cv2.dilate(head, np.ones((13, 13), np.uint8)), np.uint8)
    light = np.where(head > 0, 200, 10).astype(np.uint8)
    light[(head > 0) & polygon_edge(face.pixels()[OVAL, :2], 14)] = shade
    image: Image = np.repeat(light[..., None], 3, axis=2)
    generator = MeshGenerator("painted")
    portrait = generator.prepare("plain", image, face, head)
    turn = make_motion(shape_of(driver_face), rotation=np.radians([0, -0.6 * yaw, 0]))
    skin = (generator.drive(portrait, turn, None).max(axis=2) > 35).astype(np.uint8)
    around = np.zeros_like(skin)
    outline = max(cv2.findContours(skin, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=cv2.contourArea)
    cv2.fillPoly(around, [cv2.convexHull(outline)], (1,))
    holes = (cv2.erode(around, np.ones((17, 17), np.uint8)) > 0) & (skin == 0)
    far = unfolding(face.pixels(), shape_of(face))[OVAL].any(axis=1)
    assert (portrait.features.surround.bare[far] == 1).all()
    assert holes.sum() < 0.002 * around.sum()
    generator.close()
