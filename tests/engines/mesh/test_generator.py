"""The mesh generator from input to output images, with the default portrait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.errors import CommandError
from engines.face.head import own_pose, pose_against, rotation_matrix, rotation_vector
from engines.face.topology import BROWS, EYE_CORNERS, INNER_LOWER_LIP, LOWER_LIDS, MOUTH_CORNERS, OVAL, UPPER_LIDS
from engines.mesh.generator import MeshGenerator
from engines.registry import create
from engines.types import FaceState, Image, Motion, Points, Portrait
from realtime.motion.motion_transfer import MotionTransfer
from realtime.portraits.portrait import PortraitPicture, load_portrait
from realtime.tracking.still_faces import FaceFinder
from tests.support.faces import eye_gaps, inner_lips, make_motion, mouth_gap, polygon_mask, shape_of, with_expression

Bools = NDArray[np.bool_]

SIZES = [(512, 512), (1280, 720), (720, 1280), (320, 240), (513, 387)]
SECRET, OTHER = (255, 0, 255), (0, 255, 0)
"""Colours of driving images that no portrait has."""


class Scene:
    """One generator, one portrait and one driver at rest."""

    def __init__(self, picture: PortraitPicture, neutral: Points, mouth: str = "painted") -> None:
        self.picture = picture
        self.neutral = neutral
        self.generator = MeshGenerator(mouth)
        self.portrait: Portrait = self.generator.prepare(picture.name, picture.image, picture.face, picture.matte)

    def show(self, motion: Motion, driving: Image | None = None) -> Image:
        return self.generator.drive(self.portrait, motion, driving).copy()

    def rest(self) -> Image:
        return self.show(make_motion(self.neutral))

    def turn(self, x: float = 0, y: float = 0, z: float = 0) -> Image:
        """Return the head turned by degrees about the axes of the image."""
        return self.show(make_motion(self.neutral, rotation=np.radians([x, y, z])))


@pytest.fixture(scope="module")
def neutral(driver_face: FaceState) -> Points:
    return shape_of(driver_face)


@pytest.fixture(scope="module")
def scene(portrait_picture: PortraitPicture, neutral: Points) -> Scene:
    return Scene(portrait_picture, neutral)


@pytest.fixture(scope="module")
def resting_face(scene: Scene, face_finder: FaceFinder) -> FaceState:
    return found(face_finder, scene.rest())


def found(finder: FaceFinder, image: Image) -> FaceState:
    faces = finder.find(image)
    assert len(faces) == 1
    assert faces[0].confidence > 0.9
    return faces[0]


def psnr(one: Image, other: Image) -> float:
    error = (one.astype(np.float32) - other.astype(np.float32)) ** 2
    return 10 * float(np.log10(255**2 / max(float(error.mean()), 1e-9)))


# --- at rest


@pytest.mark.parametrize("size", SIZES)
def test_at_rest_the_output_is_the_portrait_at_any_size(
    face_finder: FaceFinder, neutral: Points, size: tuple[int, int]
) -> None:
    picture = load_portrait(None, size, finder=face_finder)
    scene = Scene(picture, neutral)
    assert scene.portrait.size == size
    for motion in (make_motion(neutral), MotionTransfer().update(None, 1)):
        out = scene.show(motion)
        assert out.shape == (size[1], size[0], 3)
        assert out.dtype == np.uint8
        assert out.flags.c_contiguous
        assert psnr(out, picture.image) > 45
        left, top = picture.face.pixels()[:, :2].min(axis=0).astype(int)
        right, bottom = picture.face.pixels()[:, :2].max(axis=0).astype(int)
        assert psnr(out[top:bottom, left:right], picture.image[top:bottom, left:right]) > 40


def test_a_still_face_does_not_shimmer(scene: Scene, neutral: Points) -> None:
    scene.turn(y=20)
    first = scene.rest()
    np.testing.assert_array_equal(scene.rest(), first)
    scene.show(make_motion(neutral, with_expression(neutral, jaw=0.4, shut=0.7)))
    np.testing.assert_array_equal(scene.rest(), first)


def test_a_little_motion_changes_the_image_a_little(scene: Scene, neutral: Points) -> None:
    expression = with_expression(neutral, jaw=0.1, shut=0.4, gaze=(0.05, 0))
    nudged = expression + np.random.default_rng(0).normal(0, 2e-4, expression.shape).astype(np.float32)
    one = scene.show(make_motion(neutral, expression, rotation=(0.1, 0.2, 0)))
    other = scene.show(make_motion(neutral, nudged, rotation=(0.1, 0.2005, 0)))
    assert psnr(one, other) > 40


# --- the background


@given(seed=st.integers(0, 2**32 - 1))
@example(seed=3442)
@settings(max_examples=25)
def test_any_motion_leaves_the_background_alone(wide: Scene, aside: Scene, seed: int) -> None:
    """Even an impossible motion fails nowhere, and what is far from the head stays as it is."""
    rng = np.random.default_rng(seed)
    wild = 10 ** rng.uniform(-1.5, 1)
    motion = Motion(
        rotation=rotation_matrix(rng.uniform(-1.7, 1.7, 3).astype(np.float32)),
        translation=rng.normal(0, wild, 2).astype(np.float32),
        scale=float(np.exp(rng.normal(0, wild))),
        neutral=wide.neutral,
        expression=wide.neutral + rng.normal(0, 0.02 * wild, wide.neutral.shape).astype(np.float32),
    )
    for scene in (wide, aside):
        out = scene.show(motion)
        hull = cv2.convexHull(np.ascontiguousarray(scene.picture.face.pixels()[:, :2]))[:, 0]
        centre = (hull.min(axis=0) + hull.max(axis=0)) / 2
        kept = ~polygon_mask(np.asarray(centre + 2.6 * (hull - centre), np.float32), scene.portrait.size, grow=2)
        if scene.picture.matte is not None:
            reach = round(0.6 * float(np.ptp(hull[:, 1])))
            kept &= cv2.dilate(scene.picture.matte, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) == 0
        assert kept.mean() > 0.15
        np.testing.assert_array_equal(out[kept], scene.picture.image[kept])


@pytest.fixture(scope="module")
def wide(face_finder: FaceFinder, neutral: Points) -> Scene:
    return Scene(load_portrait(None, (1280, 720), finder=face_finder), neutral)


@pytest.fixture(scope="module")
def aside(wide: Scene, face_finder: FaceFinder, neutral: Points) -> Scene:
    """A portrait that looks aside."""
    image = wide.turn(y=28)
    face = found(face_finder, image)
    return Scene(PortraitPicture("aside", image, face, matte=face_finder.matte(image, face)), neutral)


def test_without_a_matte_nothing_changes_far_from_the_face(portrait_picture: PortraitPicture, neutral: Points) -> None:
    scene = Scene(replace(portrait_picture, matte=None), neutral)
    far = np.ones(portrait_picture.image.shape[:2], np.bool_)
    oval = portrait_picture.face.pixels()[OVAL, :2]
    centre = (oval[0] + oval[18]) / 2
    far &= ~polygon_mask(np.asarray(centre + 2.25 * (oval - centre), np.float32), scene.portrait.size, grow=2)
    assert far.any()
    wild = replace(make_motion(neutral, neutral * 1.5, rotation=(0.6, 0.6, 0.6)), scale=3.0)
    np.testing.assert_array_equal(scene.show(wild)[far], portrait_picture.image[far])


def test_a_turn_and_its_way_back_leave_nothing_behind(wide: Scene) -> None:
    before = wide.rest()
    for angle in (-25, 25):
        wide.turn(y=angle)
        wide.turn(x=angle)
    np.testing.assert_array_equal(wide.rest(), before)


# --- turning heads


@pytest.mark.parametrize("degrees", [-25, -12, 12, 25])
@pytest.mark.parametrize("axis", [0, 1, 2], ids=["pitch", "yaw", "roll"])
def test_the_head_turns_by_the_drivers_angles(
    scene: Scene, face_finder: FaceFinder, resting_face: FaceState, axis: int, degrees: float
) -> None:
    wanted = np.zeros(3)
    wanted[axis] = degrees
    face = found(face_finder, scene.turn(*wanted))
    pose = pose_against(face.pixels(), shape_of(resting_face))
    turn = np.degrees(rotation_vector(pose.rotation @ own_pose(resting_face.pixels()).rotation.T))
    # trackers see large turns of a flat picture smaller
    assert 0.65 < turn[axis] / degrees < 1.1
    assert np.abs(np.delete(turn, axis)).max() < 5


def coordinates(face: FaceState) -> tuple[Image, Callable[[Image], NDArray[np.float32]]]:
    """Return an image whose red and green encode a pixel's position, and a function that decodes them."""
    width, height = face.size
    low = face.pixels()[:, :2].min(axis=0) - 20
    reach = face.pixels()[:, :2].max(axis=0) + 20 - low
    at = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    image = np.full((height, width, 3), 128, np.uint8)
    image[..., :2] = np.clip((at - low) / reach * 255, 0, 255).round()

    def read(out: Image) -> NDArray[np.float32]:
        return np.asarray(cv2.blur(out[..., :2].astype(np.float32), (5, 5)) / 255 * reach + low, np.float32)

    return image, read


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 0.8, 0.3)])
def test_a_turned_face_is_not_folded_over(
    portrait_face: FaceState, neutral: Points, axis: tuple[float, float, float], sign: int
) -> None:
    """Where the map from output to portrait has a negative determinant, the back of the mesh is visible."""
    image, read = coordinates(portrait_face)
    scene = Scene(PortraitPicture("coordinates", image, portrait_face), neutral)
    out = scene.show(make_motion(neutral, rotation=sign * np.radians(25) * np.array(axis)))
    where = read(out)
    dy, dx = np.gradient(where, axis=(0, 1))
    folded = dx[..., 0] * dy[..., 1] - dx[..., 1] * dy[..., 0] < -0.02
    oval = portrait_face.pixels()[OVAL]
    face = polygon_mask(oval.mean(axis=0) + 0.85 * (oval - oval.mean(axis=0)), portrait_face.size)
    column, row = np.rint(np.moveaxis(where, -1, 0)).astype(int).clip(0, 511)
    # behind its lids an eye is filled in, and no picture of the coordinates
    for ends, upper, lower in zip(EYE_CORNERS, UPPER_LIDS, LOWER_LIDS, strict=True):
        eye = portrait_face.pixels()[[ends[0], *upper, ends[1], *lower[::-1]]]
        face &= ~polygon_mask(eye, portrait_face.size, grow=3)
    from_face = face[row, column] & (out[..., 2] > 120)
    assert from_face.sum() > 15_000
    # what looks like hair in this image ends with an edge that hides skin
    inside = cv2.erode(from_face.astype(np.uint8), np.ones((5, 5))).astype(bool)
    assert (folded & inside).sum() < 0.008 * inside.sum()
    # at its edge a face that turns draws back before what is behind
    known = ((out[..., :2] > 0) & (out[..., :2] < 255)).all(axis=-1)
    inner = cv2.erode(known.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    assert (folded & inner).sum() < 0.035 * inner.sum()


@pytest.mark.parametrize(("angle", "lid", "mouth", "rim"), [(-22, 145, 61, 234), (22, 374, 291, 454)])
def test_no_lock_of_hair_lies_on_a_cheek_that_turns_to_the_viewer(
    scene: Scene, face_finder: FaceFinder, angle: int, lid: int, mouth: int, rim: int
) -> None:
    """The portrait's hair hangs over the outline of the face, which is stretched as the head turns."""
    out = scene.turn(y=angle)
    pixels = found(face_finder, out).pixels()
    light = cv2.blur(out, (3, 3)).mean(axis=2)
    nose, side = pixels[4, 0], pixels[rim, 0]
    for row in np.linspace(pixels[lid, 1] + 0.01 * out.shape[0], pixels[mouth, 1], 12).round().astype(int):
        columns = np.linspace(nose + 0.35 * (side - nose), side, 60).round().astype(int)
        dark = light[row, columns] < 70
        dark[: int(np.argmin(dark))] = False  # the shadow beside the nose
        # from the cheek outwards: once there is hair, no skin comes after it
        assert (np.diff(dark.astype(int)) < 0).sum() == 0, row


def test_a_head_never_turns_further_than_a_mesh_can_show(scene: Scene) -> None:
    far = [scene.turn(y=angle) for angle in (50, 65, 80)]
    assert psnr(far[0], far[1]) > 30
    assert psnr(far[1], far[2]) > 40


def test_a_portrait_that_looks_aside_is_not_turned_to_show_what_it_hides(aside: Scene, wide: Scene) -> None:
    """Its far side is a sliver of the image, which would be smeared over half a face."""
    held = psnr(aside.turn(y=-22), aside.turn(y=-32))
    assert held > psnr(wide.turn(y=-22), wide.turn(y=-32)) + 8
    # a little is turned as ever, and so is what shows the side that is in the picture
    assert psnr(aside.rest(), aside.turn(y=-5)) < held - 6
    assert psnr(aside.turn(y=5), aside.turn(y=15)) < held - 8


def test_leaning_in_makes_the_head_larger(scene: Scene, face_finder: FaceFinder, resting_face: FaceState) -> None:
    motion = make_motion(scene.neutral)
    scales = [
        own_pose(found(face_finder, scene.show(replace(motion, scale=scale))).pixels()).scale for scale in (0.9, 1.1)
    ]
    assert scales[0] < 0.96 * own_pose(resting_face.pixels()).scale
    assert scales[1] > 1.04 * own_pose(resting_face.pixels()).scale


def test_the_head_moves_with_the_drivers(scene: Scene, face_finder: FaceFinder, resting_face: FaceState) -> None:
    there = own_pose(resting_face.pixels())
    for shift in ((0.2, 0.0), (-0.2, 0.0), (0.0, 0.15), (0.0, -0.15)):
        motion = replace(make_motion(scene.neutral), translation=np.array(shift, np.float32))
        moved = own_pose(found(face_finder, scene.show(motion)).pixels()).origin[:2] - there.origin[:2]
        share = moved / there.scale @ np.array(shift) / np.dot(shift, shift)
        assert 0.25 < share < 1.1


# --- expressions, as the tracker sees them in the output


def shown(scene: Scene, finder: FaceFinder, resting: FaceState, expression: Points) -> tuple[Points, Points]:
    """Return the tracked shapes at rest and with an expression, in one frame."""
    face = found(finder, scene.show(make_motion(scene.neutral, expression)))
    shape = shape_of(resting)
    return shape, pose_against(face.pixels(), shape).unproject(face.pixels())


def test_the_portrait_opens_its_mouth_with_the_driver(
    scene: Scene, face_finder: FaceFinder, resting_face: FaceState, neutral: Points
) -> None:
    seen = [
        mouth_gap(shown(scene, face_finder, resting_face, with_expression(neutral, jaw=gap))[1])
        for gap in (0.0, 0.15, 0.4)
    ]
    assert seen[0] < 0.03
    # as far as the driver does, and no further
    assert 0.08 < seen[1] < 0.2
    assert 0.3 < seen[2] < 0.48


def test_the_portrait_blinks_with_the_driver(
    scene: Scene, face_finder: FaceFinder, resting_face: FaceState, neutral: Points
) -> None:
    rest, shut = shown(scene, face_finder, resting_face, with_expression(neutral, shut=0.75))
    assert (eye_gaps(shut) < 0.65 * eye_gaps(rest)).all()


def test_the_portrait_smiles_with_the_driver(
    scene: Scene, face_finder: FaceFinder, resting_face: FaceState, neutral: Points
) -> None:
    rest, smile = shown(scene, face_finder, resting_face, with_expression(neutral, smile=0.15))
    move = (smile - rest)[MOUTH_CORNERS]
    assert (move[:, 1] < -0.04).all()
    assert (move[:, 0] * (-1, 1) > 0.05).all()


def test_the_portrait_raises_its_brows_with_the_driver(
    scene: Scene, face_finder: FaceFinder, resting_face: FaceState, neutral: Points
) -> None:
    rest, raised = shown(scene, face_finder, resting_face, with_expression(neutral, brows=0.15))
    assert (raised - rest)[BROWS, 1].mean() < -0.03


@pytest.mark.parametrize("direction", [(0.15, 0.0), (-0.15, 0.0)])
def test_the_portrait_looks_aside_with_the_driver(
    scene: Scene, face_finder: FaceFinder, resting_face: FaceState, neutral: Points, direction: tuple[float, float]
) -> None:
    rest, away = shown(scene, face_finder, resting_face, with_expression(neutral, gaze=direction))
    pupils = [468, 473]
    corners = [[33, 133], [263, 362]]
    moved = [
        (away - rest)[pupil, 0] - (away - rest)[ends, 0].mean() for pupil, ends in zip(pupils, corners, strict=True)
    ]
    assert np.mean(moved) * np.sign(direction[0]) > 0.02


# --- several portraits


def test_going_back_to_a_portrait_shows_it_as_before(
    portrait_picture: PortraitPicture, driver_picture: PortraitPicture, neutral: Points
) -> None:
    generator = MeshGenerator("painted")
    one = generator.prepare("one", portrait_picture.image, portrait_picture.face)
    other = generator.prepare("other", driver_picture.image, driver_picture.face)
    motion = make_motion(neutral, with_expression(neutral, jaw=0.3, shut=0.4), rotation=(0, 0.3, 0))
    shown = [generator.drive(portrait, motion, None).copy() for portrait in (one, other, one, other, one)]
    for first, again in ((0, 2), (0, 4), (1, 3)):
        np.testing.assert_array_equal(shown[first], shown[again])
    assert shown[0].shape == portrait_picture.image.shape
    assert shown[1].shape == driver_picture.image.shape
    generator.close()
    generator.close()


def test_a_portrait_keeps_what_it_needs(portrait_picture: PortraitPicture, neutral: Points) -> None:
    image = portrait_picture.image.copy()
    face = replace(portrait_picture.face, landmarks=portrait_picture.face.landmarks.copy())
    scene = Scene(replace(portrait_picture, image=image, face=face), neutral)
    before = scene.turn(y=10)
    image[:] = 0
    face.landmarks[:] = 0
    scene.generator.drive(scene.portrait, make_motion(neutral, rotation=(0.2, 0, 0)), None)
    np.testing.assert_array_equal(scene.turn(y=10), before)


# --- what is never shown


def driver_with(colour: tuple[int, int, int], face: FaceState, mouth: tuple[int, int, int] | None = None) -> Image:
    """Return a read-only driving image of one colour, with another between the driver's lips."""
    width, height = face.size
    picture = np.full((height, width, 3), colour, np.uint8)
    if mouth is not None:
        picture[polygon_mask(inner_lips(face), face.size, grow=2)] = mouth
    picture.flags.writeable = False
    return picture


@pytest.fixture(scope="module")
def speaking(neutral: Points, driver_face: FaceState) -> Motion:
    """A driver with the mouth wide open, located in the driving image."""
    expression = with_expression(neutral, jaw=0.45)
    pose = own_pose(driver_face.pixels())
    pixels = pose.project(expression) / np.array([640, 480, 640], np.float32)
    return make_motion(neutral, expression, rotation=(0, 0.15, 0), face=replace(driver_face, landmarks=pixels))


def test_a_painted_mouth_never_reads_the_driving_image(scene: Scene, speaking: Motion) -> None:
    assert speaking.face is not None
    unseen = scene.show(speaking, None)
    for colour in (SECRET, OTHER):
        np.testing.assert_array_equal(scene.show(speaking, driver_with(colour, speaking.face)), unseen)


def test_without_a_face_the_driving_image_is_never_read(
    portrait_picture: PortraitPicture, neutral: Points, speaking: Motion
) -> None:
    scene = Scene(portrait_picture, neutral, "driver")
    assert speaking.face is not None
    lost = replace(speaking, face=None)
    unseen = scene.show(lost, None)
    for colour in (SECRET, OTHER):
        np.testing.assert_array_equal(scene.show(lost, driver_with(colour, speaking.face)), unseen)


def test_only_the_inside_of_the_mouth_of_the_driving_image_is_visible(
    portrait_picture: PortraitPicture, neutral: Points, speaking: Motion
) -> None:
    """Around a black inside of the mouth any image gives the same result: colour matching cannot tint black."""
    assert speaking.face is not None
    shown = []
    for colour in (SECRET, OTHER):
        scene = Scene(portrait_picture, neutral, "driver")
        shown.append(scene.show(speaking, driver_with(colour, speaking.face, mouth=(0, 0, 0))))
    np.testing.assert_array_equal(shown[0], shown[1])
    mouth = Scene(portrait_picture, neutral, "driver").show(
        speaking, driver_with((200, 160, 140), speaking.face, mouth=(0, 250, 0))
    )
    changed = (mouth != shown[0]).any(axis=-1)
    assert changed.sum() > 200
    greens = mouth[changed].astype(int)
    assert (greens[:, 1] > greens[:, 0]).mean() > 0.5


def test_closed_lips_show_nothing_of_the_driving_image(
    portrait_picture: PortraitPicture, neutral: Points, driver_face: FaceState
) -> None:
    scene = Scene(portrait_picture, neutral, "driver")
    motion = make_motion(neutral, face=driver_face)
    np.testing.assert_array_equal(
        scene.show(motion, driver_with(SECRET, driver_face)), scene.show(motion, driver_with(OTHER, driver_face))
    )


@pytest.mark.parametrize("mouth", ["driver", "painted"])
def test_the_widest_mouth_leaves_no_stain(
    portrait_picture: PortraitPicture, neutral: Points, speaking: Motion, mouth: str
) -> None:
    """Even one that a high gain opens beyond the box that is drawn again."""
    assert speaking.face is not None
    scene = Scene(portrait_picture, neutral, mouth)
    for jaw in (1, 2, 4):
        scene.show(replace(speaking, expression=with_expression(neutral, jaw=jaw)), driver_with(SECRET, speaking.face))
    left_alone = replace(speaking, expression=neutral, face=None, presence=0.0)
    np.testing.assert_array_equal(scene.show(left_alone), Scene(portrait_picture, neutral, mouth).show(left_alone))


def test_a_face_that_is_lost_for_a_frame_keeps_its_mouth(
    portrait_picture: PortraitPicture, neutral: Points, speaking: Motion
) -> None:
    assert speaking.face is not None
    scene = Scene(portrait_picture, neutral, "driver")
    driving = driver_with((200, 160, 140), speaking.face, mouth=(0, 250, 0))
    seen = scene.show(speaking, driving)
    secret = driver_with(SECRET, speaking.face, mouth=SECRET)
    np.testing.assert_array_equal(scene.show(replace(speaking, face=None), secret), seen)
    scene.generator.set_mouth("painted")
    painted = scene.show(replace(speaking, face=None), None)
    assert (painted != seen).any()
    scene.generator.set_mouth("driver")
    np.testing.assert_array_equal(scene.show(replace(speaking, face=None), None), painted)


def test_an_unknown_mouth_is_an_error() -> None:
    with pytest.raises(CommandError) as caught:
        create("mesh", mouth="smiling")
    assert (caught.value.code, caught.value.expected) == ("mouth-unknown", "driver or painted")


def test_a_mouth_at_the_edge_of_the_driving_image_is_painted(
    portrait_picture: PortraitPicture, driver_face: FaceState
) -> None:
    """Lips beyond the edge are guessed, and the pixels at the edge are no mouth."""
    wide = shape_of(driver_face).copy()
    wide[INNER_LOWER_LIP, 1] += 0.4
    motion = make_motion(shape_of(driver_face), wide)
    aside = replace(driver_face, landmarks=driver_face.landmarks - np.array([0.5, 0, 0], np.float32))
    driving = np.full((480, 640, 3), (255, 0, 255), np.uint8)
    pictures = []
    for mouth in ("driver", "painted"):
        generator = MeshGenerator(mouth)
        portrait = generator.prepare("one", portrait_picture.image, portrait_picture.face)
        pictures.append(generator.drive(portrait, replace(motion, face=aside), driving).copy())
    np.testing.assert_array_equal(pictures[0], pictures[1])
