"""The inside of the mouth is lit, coloured and blurred as the picture is."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.face.head import own_pose
from engines.face.topology import EYE_CORNERS, IRISES, LIP_ROWS, LOWER_LIDS, OVAL, UPPER_LIDS
from engines.mesh import mouth_light, mouth_raster
from engines.mesh.generator import MeshGenerator
from engines.mesh.mouth_light import (
    LIGHTER_BY_SKIN,
    TINTED_BY_SKIN,
    TOOTH,
    DriverLight,
    MouthLight,
    blur_of,
    sclera_colour,
    skin_colour,
)
from engines.types import FaceState, Floats, Image, Motion
from realtime.portraits.portrait import PortraitPicture
from tests.support.faces import at_pixels, inner_lips, make_motion, polygon_mask, shape_of, with_expression

SKIN, WHITE, ENAMEL, FLESH = (205, 160, 138), (225, 222, 218), (226, 214, 196), (150, 76, 78)
LIP, DEPTH = (190, 104, 106), (20, 8, 8)
LIGHTS = {"white": (1.0, 1.0, 1.0), "cold": (0.6, 0.95, 1.15), "warm": (1.2, 0.85, 0.5), "dim": (0.45, 0.43, 0.4)}
NEUTRAL = 1 - float(TOOTH.min() / TOOTH.max())
"""The saturation of a tooth in white light."""


@pytest.fixture(scope="module")
def speaking(driver_face: FaceState) -> Motion:
    """A driver with the mouth open."""
    neutral = shape_of(driver_face)
    expression = with_expression(neutral, jaw=0.4)
    face = at_pixels(own_pose(driver_face.pixels()).project(expression), size=driver_face.size)
    return make_motion(neutral, expression, face=face)


@pytest.fixture(params=["portrait_picture", "driver_picture"])
def picture(request: pytest.FixtureRequest) -> PortraitPicture:
    """Each of the pictures that ship."""
    value = request.getfixturevalue(request.param)
    assert isinstance(value, PortraitPicture)
    return value


def driving(motion: Motion, light: tuple[float, float, float], tongue: tuple[int, int, int] = FLESH) -> Image:
    """Return a driver in a light: upper teeth, and flesh below them, of the colour of ``tongue`` in white light."""
    face = motion.face
    assert face is not None
    pixels = face.pixels()
    image = np.full((*face.size[::-1], 3), SKIN, np.float32)
    for eye in range(2):
        lids = np.concatenate([EYE_CORNERS[eye][:1], UPPER_LIDS[eye], EYE_CORNERS[eye][1:], LOWER_LIDS[eye][::-1]])
        image[polygon_mask(pixels[lids], face.size, grow=1)] = WHITE
        iris = pixels[IRISES[eye], :2]
        radius = np.linalg.norm(iris[1:] - iris[0], axis=1).mean()
        cv2.circle(image, (round(float(iris[0, 0])), round(float(iris[0, 1]))), round(float(radius)), (60, 40, 30), -1)
    lips = inner_lips(face)
    image[polygon_mask(lips, face.size, grow=12)] = LIP
    mouth = polygon_mask(lips, face.size, grow=1)
    rows = np.arange(len(image))[:, None]
    half = (lips[:, 1].min() + lips[:, 1].max()) / 2
    image[mouth & (rows < half)] = ENAMEL
    image[mouth & (rows >= half)] = tongue
    return np.asarray(np.clip(image * np.array(light), 0, 255), np.uint8)


def shown(
    picture: PortraitPicture, motion: Motion, frame: Image, kind: str = "driver"
) -> tuple[Image, NDArray[np.bool_]]:
    """Return the picture that a driving image makes, and a mask of the inside of its mouth."""
    generator = MeshGenerator(kind)
    portrait = generator.prepare(picture.name, picture.image, picture.face)
    for _ in range(8):
        out = generator.drive(portrait, motion, frame).copy()
    black = MeshGenerator("driver")
    portrait = black.prepare(picture.name, picture.image, picture.face)
    dark = black.drive(portrait, motion, np.zeros_like(frame))
    # what a black driving image makes black, away from the soft edge
    inside = (dark.max(axis=2) < 12) & (picture.image.max(axis=2) > 18)
    return out, cv2.erode(inside.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)


def teeth(out: Image, inside: NDArray[np.bool_]) -> Floats:
    """Return the colour of the lightest part of a mouth, (3,)."""
    colours = out[inside].astype(np.float32)
    light = colours.mean(axis=1)
    return np.asarray(colours[light >= np.percentile(light, 80)].mean(axis=0), np.float32)


def saturation(colour: Floats) -> float:
    return 1 - float(colour.min() / colour.max())


def chroma(colours: NDArray[np.float32]) -> Floats:
    """Return a* and b* of colours (N, 3) of 0 to 255, (N, 2)."""
    lab = cv2.cvtColor((colours[None] / 255).astype(np.float32), cv2.COLOR_RGB2LAB)
    return np.asarray(lab[0, :, 1:], np.float32)


@pytest.mark.parametrize("light", LIGHTS)
def test_teeth_are_near_white_in_any_light_of_the_driver(
    picture: PortraitPicture, speaking: Motion, light: str
) -> None:
    out, inside = shown(picture, speaking, driving(speaking, LIGHTS[light]))
    assert inside.sum() > 150
    assert abs(saturation(teeth(out, inside)) - NEUTRAL) < 0.1


def test_painted_teeth_are_near_white(picture: PortraitPicture, speaking: Motion) -> None:
    raised = speaking.expression.copy()
    for row in LIP_ROWS[0]:
        raised[row[1:-1], 1] -= 0.25
    out, inside = shown(picture, replace(speaking, expression=raised), driving(speaking, LIGHTS["white"]), "painted")
    assert abs(saturation(teeth(out, inside)) - NEUTRAL) < 0.1


def flesh(out: Image, inside: NDArray[np.bool_]) -> Floats:
    """Return the mean colour of the darker half of a mouth, without the darkest, (3,)."""
    colours = out[inside].astype(np.float32)
    light = colours.mean(axis=1)
    low, high = np.percentile(light, (10, 45))
    return np.asarray(colours[(light >= low) & (light <= high)].mean(axis=0), np.float32)


def hue(colour: Floats) -> float:
    """Return the hue of a colour (3,) in Lab, degrees."""
    first, second = chroma(colour[None])[0]
    return float(np.degrees(np.arctan2(second, first)))


@pytest.mark.parametrize(
    ("light", "tongue"), [((1.0, 1.0, 1.0), FLESH), ((0.92, 0.75, 0.8), (124, 98, 96)), ((0.9, 0.85, 1.05), FLESH)]
)
def test_flesh_is_red_beside_teeth_that_a_camera_reddens(
    picture: PortraitPicture, speaking: Motion, light: tuple[float, float, float], tongue: tuple[int, int, int]
) -> None:
    """What whitens the teeth takes no red from the tongue, whose hue is akin to that of the lips."""
    out, inside = shown(picture, speaking, driving(speaking, light, tongue))
    found, tooth = flesh(out, inside), teeth(out, inside)
    lips = mouth_light.lip_colours(picture.image, picture.face.pixels()).mean(axis=0)
    assert saturation(found) > 0.25
    assert abs(hue(found) - hue(lips)) < 20
    assert abs(saturation(tooth) - NEUTRAL) < 0.1


@pytest.mark.parametrize("kind", ["driver", "painted"])
def test_teeth_in_the_light_of_a_fire_are_of_its_colour(picture: PortraitPicture, speaking: Motion, kind: str) -> None:
    """Near-white teeth look blue there."""
    fire = np.clip(picture.image * (1.0, 0.42, 0.1), 0, 255).astype(np.uint8)
    out, inside = shown(replace(picture, image=fire), speaking, driving(speaking, LIGHTS["white"]), kind)
    tooth = teeth(out, inside)
    assert tooth[0] > tooth[1] > tooth[2]
    assert saturation(tooth) > 0.87


@pytest.mark.parametrize("kind", ["driver", "painted"])
def test_a_grey_picture_gets_a_grey_mouth(picture: PortraitPicture, speaking: Motion, kind: str) -> None:
    grey = np.repeat(picture.image.mean(axis=2, keepdims=True), 3, axis=2)
    sepia = np.clip(grey * (1.02, 1.0, 0.96), 0, 255).astype(np.uint8)
    out, inside = shown(replace(picture, image=sepia), speaking, driving(speaking, LIGHTS["white"]), kind)
    skin = chroma(skin_colour(sepia, picture.face.pixels())[None])
    mouth = chroma(out[inside & (out.mean(axis=2) > 25)].astype(np.float32))
    assert np.hypot(*(mouth - skin).T).mean() < 3


@pytest.mark.parametrize("kind", ["driver", "painted"])
def test_teeth_are_as_light_as_the_picture(portrait_picture: PortraitPicture, speaking: Motion, kind: str) -> None:
    lightness = []
    for share in (1.0, 0.4):
        image = (portrait_picture.image * share).astype(np.uint8)
        out, inside = shown(replace(portrait_picture, image=image), speaking, driving(speaking, LIGHTS["white"]), kind)
        lightness.append(float(teeth(out, inside).mean()))
        face = polygon_mask(portrait_picture.face.pixels()[OVAL], portrait_picture.face.size) & ~inside
        assert lightness[-1] <= np.percentile(image[face].max(axis=1), 99)
    assert lightness[1] == pytest.approx(0.4 * lightness[0], rel=0.15)


def test_a_dim_driver_makes_no_dim_teeth(portrait_picture: PortraitPicture, speaking: Motion) -> None:
    bright, dim = (
        teeth(*shown(portrait_picture, speaking, driving(speaking, LIGHTS[light]))).mean() for light in ("white", "dim")
    )
    assert dim == pytest.approx(bright, rel=0.15)


@pytest.mark.parametrize("tooth", [(0.9, 0.78, 0.68), (0.7, 0.6, 0.5)])
def test_a_mouth_in_the_light_of_the_picture_keeps_its_colours(
    picture: PortraitPicture, tooth: tuple[float, float, float]
) -> None:
    """The teeth of one and the same face in warm light are not white: made so, they look grey."""
    pixels = picture.face.pixels()
    light = MouthLight.of(picture.image, pixels)
    own = light.white * np.array(tooth, np.float32)
    driver = DriverLight()
    driver.update(light.skin, sclera_colour(picture.image, pixels), np.repeat(own[None], 20, axis=0))
    shown = own * np.prod(driver.gains(light), axis=0) * light.tint
    white = TOOTH * np.float32(light.white) * light.tint
    assert np.abs(shown - own).mean() < 0.4 * np.abs(white - own).mean()


def test_shadows_that_the_driver_shows_are_not_drawn_a_second_time() -> None:
    out = np.zeros((100, 200, 3), np.uint8)
    upper = np.asarray(-30 * np.sin(np.linspace(0, np.pi, 16)), np.float32)
    inside = np.full((48, 128, 3), 200, np.uint8)
    edges, span = np.repeat(np.array([[0], [1]], np.float32), 16, axis=1), np.array([0, 1], np.float32)
    ones, grain = np.ones(3, np.float32), np.zeros((1, 1), np.float32)
    ends, box = np.array([20, 50, 180, 50], np.float32), (0, 0, 200, 100)
    mouth_raster.fill_opening(
        out, box, ends, upper, -upper, inside, edges, span, ones, ones, 200.0, ones, ones, 1.0, grain, 1.0, 1.0
    )
    down, across = out[24:78, 100].mean(axis=1), out[50, 25:175].mean(axis=1)
    assert 0.6 < down.min() / down.max() < 0.9
    assert 0.38 < across.min() / across.max() < 0.9


@pytest.mark.parametrize("skin", [(255.0, 250.0, 245.0), (40.0, 25.0, 18.0), (90.0, 120.0, 60.0)])
def test_skin_changes_the_colours_of_a_mouth_within_bounds(
    portrait_picture: PortraitPicture, skin: tuple[float, float, float]
) -> None:
    light = MouthLight.of(portrait_picture.image, portrait_picture.face.pixels())
    inside = np.repeat(light.white * TOOTH[None], 20, axis=0)
    driver = DriverLight()
    driver.update(light.skin, np.full(3, light.white, np.float32), inside)
    # its teeth are white already, but for the skin
    change = np.log(driver.gains(replace(light, skin=np.array(skin, np.float32)))[1])
    assert np.abs(change).max() < LIGHTER_BY_SKIN + TINTED_BY_SKIN + 0.01
    assert np.abs(change - change.mean()).max() < 2 * TINTED_BY_SKIN


def test_the_blur_of_a_picture_is_measured(portrait_picture: PortraitPicture) -> None:
    mask = np.asarray(255 * polygon_mask(portrait_picture.face.pixels()[OVAL], portrait_picture.face.size), np.uint8)
    found = []
    for blur in (1.5, 2.5, 3.5):
        found.append(blur_of(np.asarray(cv2.GaussianBlur(portrait_picture.image, (0, 0), blur), np.uint8), mask))
        assert 0.6 * blur < found[-1] < 1.6 * blur
    assert found == sorted(found)


def test_a_blurred_picture_gets_a_blurred_mouth(portrait_picture: PortraitPicture, speaking: Motion) -> None:
    """The edge between teeth and flesh is sharp in the driver's image."""
    steepest = []
    for blur in (0.0, 3.0):
        image = portrait_picture.image if blur == 0 else cv2.GaussianBlur(portrait_picture.image, (0, 0), blur)
        picture = replace(portrait_picture, image=np.asarray(image, np.uint8))
        out, inside = shown(picture, speaking, driving(speaking, LIGHTS["white"]))
        down = np.abs(np.diff(out.astype(np.float32).mean(axis=2), axis=0))
        steepest.append(float(np.percentile(down[inside[1:]], 98)))
    assert steepest[1] < 0.67 * steepest[0]


def test_a_picture_without_colour_of_its_own_is_recognised(portrait_picture: PortraitPicture) -> None:
    pixels = portrait_picture.face.pixels()
    assert MouthLight.of(portrait_picture.image, pixels).colour > 0.8
    stone = portrait_picture.image.mean(axis=2, keepdims=True) * np.array([0.9, 0.62, 0.45])
    assert MouthLight.of(stone.astype(np.uint8), pixels).colour < 0.2


def test_a_face_at_the_edge_of_a_picture_is_lit(portrait_face: FaceState) -> None:
    """Whatever the landmarks are, the light is finite."""
    image = np.full((40, 30, 3), 90, np.uint8)
    for shift in (-4000, 0, 4000):
        light = MouthLight.of(image, portrait_face.pixels() + np.float32(shift))
        assert 40 < light.white < 230
        assert np.isfinite(light.grain).all()
        assert np.isfinite(light.tint).all()


def test_lips_within_the_landmarks_are_not_shown(portrait_picture: PortraitPicture, speaking: Motion) -> None:
    """Where lips are rounded the landmarks of their inner edges lie on them: a second ring of lips would be seen."""
    face = speaking.face
    assert face is not None
    frame = driving(speaking, LIGHTS["white"])
    lips = inner_lips(face)
    frame[polygon_mask(lips, face.size, grow=3)] = LIP
    middle = lips.mean(axis=0)
    frame[polygon_mask((lips - middle) * np.array([1, 0.6, 1], np.float32) + middle, face.size)] = DEPTH
    out, inside = shown(portrait_picture, speaking, frame)
    assert inside.sum() > 150
    assert (out[inside].mean(axis=1) > 60).mean() < 0.12


def test_colours_are_converted_to_lab_as_opencv_does() -> None:
    colours = np.random.default_rng(0).uniform(0, 255, (200, 3)).astype(np.float32)
    expected = cv2.cvtColor((colours / 255)[:, None], cv2.COLOR_RGB2LAB)[:, 0]
    np.testing.assert_allclose([mouth_light.lab(colour) for colour in colours], expected, atol=0.4)
