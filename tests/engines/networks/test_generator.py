"""The generators that are networks, with fake backends: what they are fed, and the image they return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from engines.backends.backend import Precision
from engines.backends.network_stage import Array, Feeds, TensorSpec
from engines.backends.open import OpenStages
from engines.errors import BackendError, CommandError, UsageError
from engines.face.topology import INNER_LOWER_LIP, INNER_UPPER_LIP, MIRROR
from engines.networks.generator import FOMM, LIVEPORTRAIT, Family, NetworkGenerator, create_network_generator
from engines.networks.liveportrait import EYE_KEYPOINTS, LIP_KEYPOINTS
from engines.networks.retarget import Retarget, openings
from engines.types import NEUTRAL_EASE_S, FaceState, Image, Motion, Portrait
from realtime.motion.motion_transfer import MotionTransfer
from tests.support.faces import at_pixels, shape_of, with_expression

SHAPES: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "liveportrait": {"rotation": (1, 3, 3), "expression": (1, 21, 3), "scale": (1, 1), "translation": (1, 3)},
    "fomm": {"value": (1, 10, 2), "jacobian": (1, 10, 2, 2)},
}
CAMERA = (250, 0, 250)


class FakeBackend:
    """Returns what the test says, and records what it was fed."""

    precision: Precision = "float32"

    def __init__(self, name: str, inputs: tuple[str, ...], computed: Mapping[str, Array]) -> None:
        self.name = name
        self.inputs = tuple(TensorSpec(each, (1,)) for each in inputs)
        self.outputs = tuple(TensorSpec(key, value.shape) for key, value in computed.items())
        self.computed = dict(computed)
        self.fed: list[dict[str, Array]] = []
        self.retained: dict[str, Array] = {}
        self.closed = False
        self.error: BackendError | None = None
        self.compute: Callable[[Feeds], Mapping[str, Array]] | None = None
        """Computes the outputs from the inputs, if set."""

    def retain_input(self, name: str, array: Array) -> None:
        self.retained[name] = array.copy()

    def run(self, feeds: Feeds) -> Feeds:
        if self.error is not None:
            raise self.error
        self.fed.append({key: value.copy() for key, value in feeds.items()})
        return self.computed if self.compute is None else self.compute(feeds)

    def close(self) -> None:
        self.closed = True


class Scene:
    """A generator with fake backends, and the face that drives it."""

    def __init__(
        self, family: Family, portrait_face: FaceState, driver_face: FaceState, retarget: Retarget = "none"
    ) -> None:
        rng = np.random.default_rng(2)
        moves = {f"driving_{key}": self.motion(key, shape, 0.0) for key, shape in SHAPES[family.name].items()}
        square = np.full((1, 3, family.square, family.square), 0.5, np.float32)
        self.family = family
        self.portrait_net = FakeBackend("portrait", ("source",), {"feature": rng.random((1, 4)).astype(np.float32)})
        self.motion_net = FakeBackend("motion", ("crop",), moves)
        self.frame_net = FakeBackend("frame", ("feature",), {"image": square})
        nets = {"portrait": self.portrait_net, "motion": self.motion_net, "frame": self.frame_net}
        self.generator = NetworkGenerator(family, OpenStages(nets, "in memory"), "random weights of seed 1", retarget)
        self.face, self.own = driver_face, portrait_face
        self.transfer = MotionTransfer("first")
        width, height = portrait_face.size
        self.image: Image = np.random.default_rng(3).integers(0, 255, (height, width, 3), np.uint8)
        self.driving: Image = np.full((driver_face.size[1], driver_face.size[0], 3), CAMERA, np.uint8)
        self.portrait: Portrait = self.generator.prepare("one", self.image, portrait_face)

    @staticmethod
    def motion(key: str, shape: tuple[int, ...], amount: float) -> Array:
        """Return a motion of this amount; a rotation is about the upright axis."""
        if key == "rotation":
            cos, sin = np.cos(amount), np.sin(amount)
            return np.array([[[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]], np.float32)
        return np.full(shape, amount, np.float32)

    def set_motion(self, amount: float) -> None:
        """Set the output of the motion network from now on."""
        for key, shape in SHAPES[self.family.name].items():
            self.motion_net.computed[f"driving_{key}"] = self.motion(key, shape, amount)

    def show(self, seconds: float, *, present: bool = True, **changes: object) -> Image:
        face = replace(self.face, time_ns=round(seconds * 1e9)) if present else None
        motion: Motion = self.transfer.update(face, round(seconds * 1e9))
        if changes:
            motion = replace(motion, **changes)  # type: ignore[arg-type]
        return self.generator.drive(self.portrait, motion, self.driving if present else None)

    @property
    def last(self) -> dict[str, Array]:
        return self.frame_net.fed[-1]


@pytest.fixture(params=[LIVEPORTRAIT, FOMM], ids=lambda family: family.name)
def scene(request: pytest.FixtureRequest, portrait_face: FaceState, driver_face: FaceState) -> Scene:
    return Scene(request.param, portrait_face, driver_face)


@pytest.fixture
def live(portrait_face: FaceState, driver_face: FaceState) -> Scene:
    return Scene(LIVEPORTRAIT, portrait_face, driver_face)


def test_the_portraits_part_is_computed_once_and_retained_on_the_device(scene: Scene) -> None:
    for index in range(3):
        scene.show(index / 30)
    assert len(scene.portrait_net.fed) == 1
    np.testing.assert_array_equal(scene.frame_net.retained["feature"], scene.portrait_net.computed["feature"])
    assert "feature" not in scene.last


def test_networks_see_upright_crops_between_0_and_1(scene: Scene) -> None:
    scene.show(0.0)
    for fed in (scene.portrait_net.fed[0]["source"], scene.motion_net.fed[0]["crop"]):
        assert fed.shape == (1, 3, scene.family.crop, scene.family.crop)
        assert fed.dtype == np.float32
        assert 0 <= fed.min() <= fed.max() <= 1
    np.testing.assert_allclose(scene.motion_net.fed[0]["crop"][0, 1], 0)


def test_the_first_face_is_the_neutral(scene: Scene) -> None:
    scene.set_motion(0.2)
    scene.show(0.0)
    scene.set_motion(0.5)
    scene.show(0.1)
    for key, shape in SHAPES[scene.family.name].items():
        np.testing.assert_allclose(scene.last[f"neutral_{key}"], scene.motion(key, shape, 0.2), atol=1e-6)
        np.testing.assert_allclose(scene.last[f"driving_{key}"], scene.motion(key, shape, 0.5), atol=1e-6)


def test_a_new_neutral_is_eased_in_and_rotations_stay_rotations(live: Scene) -> None:
    live.show(0.0)
    live.set_motion(0.8)
    live.show(0.1, rest_share=1.0)
    first = float(live.last["neutral_expression"].max())
    assert first == pytest.approx((1 - np.exp(-0.1 / NEUTRAL_EASE_S)) * 0.8, rel=1e-3)
    for index in range(60):
        live.show(0.2 + index / 30)
        turn = live.last["neutral_rotation"][0]
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(live.last["neutral_expression"], 0.8, atol=0.01)
    np.testing.assert_allclose(live.last["neutral_rotation"], live.motion("rotation", (), 0.8), atol=0.01)


def test_calibrating_takes_the_mean_of_its_frames(live: Scene) -> None:
    live.show(0.0)
    live.transfer.calibrate()
    for index, amount in enumerate([0.1, 0.2, 0.3]):
        live.set_motion(amount)
        live.show(0.1 + index / 30)
    for index in range(80):
        live.show(1.0 + index / 30, rest_share=0.0)
    np.testing.assert_allclose(live.last["neutral_expression"], 0.2, atol=0.01)


@pytest.mark.parametrize("fps", [2, 30, 120])
def test_a_new_neutral_is_eased_in_by_time_and_not_by_frames(live: Scene, fps: int) -> None:
    live.show(0.0)
    live.set_motion(0.8)
    live.show(1 / fps, rest_share=1.0)
    for index in range(fps):
        live.show((2 + index) / fps)
    done = 1 - np.exp(-(1 + 1 / fps) / NEUTRAL_EASE_S)
    assert float(live.last["neutral_expression"].max()) == pytest.approx(done * 0.8, abs=0.01)


def test_a_neutral_arrives_exactly(live: Scene) -> None:
    live.show(0.0)
    live.set_motion(0.8)
    live.show(0.1, rest_share=1.0)
    for index in range(30):
        live.show(0.2 + index / 5)
    for key in SHAPES["liveportrait"]:
        np.testing.assert_allclose(live.last[f"neutral_{key}"], live.last[f"driving_{key}"], atol=1e-6)


def share(scene: Scene) -> float:
    """Return how far the portrait is driven, as a share of the way from the neutral to the motion network's output."""
    key = scene.family.motion[-1]
    neutral, now = scene.last[f"neutral_{key}"], scene.motion_net.computed[f"driving_{key}"]
    return float((scene.last[f"driving_{key}"] - neutral).mean() / (now - neutral).mean())


def test_a_face_that_is_lost_for_a_moment_is_held(scene: Scene) -> None:
    scene.show(0.0)
    scene.set_motion(0.6)
    scene.show(0.1)
    scene.show(0.15, present=False)
    scene.show(0.3, present=False)
    for key, shape in SHAPES[scene.family.name].items():
        np.testing.assert_array_equal(scene.last[f"driving_{key}"], scene.motion(key, shape, 0.6))


@pytest.mark.parametrize("fps", [4, 30, 120])
def test_a_lost_face_eases_to_rest_within_a_second_and_its_image_is_not_used(scene: Scene, fps: int) -> None:
    scene.show(0.0)
    scene.set_motion(0.6)
    scene.show(0.1)
    seen = len(scene.motion_net.fed)
    shares = []
    for index in range(fps):
        scene.show(0.1 + (index + 1) / fps, present=False)
        shares.append(share(scene))
    assert len(scene.motion_net.fed) == seen
    assert shares == sorted(shares, reverse=True)
    assert max(np.diff([1.0, *shares]) * -fps) < 3  # never in a jump
    for key in SHAPES[scene.family.name]:
        np.testing.assert_allclose(scene.last[f"driving_{key}"], scene.last[f"neutral_{key}"], atol=1e-6)


def test_a_face_that_is_found_again_is_eased_in(scene: Scene) -> None:
    scene.show(0.0)
    scene.set_motion(0.6)
    scene.show(0.1)
    for index in range(60):
        scene.show(0.1 + (index + 1) / 30, present=False)
    shares = []
    for index in range(12):
        scene.show(2.1 + (index + 1) / 30)
        shares.append(share(scene))
    assert shares[0] < 0.3
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)


@pytest.mark.parametrize(("lost_s", "same"), [(0.15, True), (1.1, False)])
def test_the_crop_is_taken_anew_after_rest_but_not_after_a_missed_frame(live: Scene, lost_s: float, same: bool) -> None:
    """A face moves by less than the crop follows: the crop stays, unless the portrait has been at rest."""
    live.driving = np.random.default_rng(4).integers(0, 255, live.driving.shape, np.uint8)
    live.show(0.0)
    live.show(0.03, present=False)
    live.show(lost_s - 0.03, present=False)
    live.face = at_pixels(live.face.pixels() + np.array([5, 0, 0], np.float32), size=live.face.size)
    live.show(lost_s)
    first, last = (fed["crop"] for fed in (live.motion_net.fed[0], live.motion_net.fed[-1]))
    assert np.array_equal(first, last) == same


@pytest.fixture
def aside(scene: Scene) -> Scene:
    """A scene whose motion network measures how much brighter the right is than the left, as the driver is.

    All its outputs change their sign with a flip.
    """

    def look(feeds: Feeds) -> Mapping[str, Array]:
        left, right = np.split(feeds["crop"], 2, axis=3)
        amount = float(right.mean() - left.mean())
        return {f"driving_{key}": scene.motion(key, shape, amount) for key, shape in SHAPES[scene.family.name].items()}

    scene.motion_net.compute = look
    light(scene, 1.0)
    return scene


def light(scene: Scene, brightness: float) -> None:
    across = np.linspace(0, 255 * brightness, scene.driving.shape[1])[:, None]
    scene.driving = np.ascontiguousarray(np.broadcast_to(across, scene.driving.shape), np.uint8)


def flip(scene: Scene) -> None:
    """Mirror the driving image from now on."""
    scene.transfer.mirror()
    scene.driving = np.ascontiguousarray(scene.driving[:, ::-1])
    pixels = scene.face.pixels()[MIRROR] * np.array([-1, 1, 1], np.float32)
    scene.face = at_pixels(pixels + np.array([scene.face.size[0], 0, 0], np.float32), size=scene.face.size)


def test_a_driver_at_rest_stays_so_when_the_picture_is_mirrored(aside: Scene) -> None:
    aside.show(0.0)
    before = aside.last["neutral_" + aside.family.motion[-1]]
    flip(aside)
    for index in range(10):
        aside.show(0.1 + index / 10)
        for key in SHAPES[aside.family.name]:
            np.testing.assert_allclose(aside.last[f"driving_{key}"], aside.last[f"neutral_{key}"], atol=0.005)
    after = aside.last["neutral_" + aside.family.motion[-1]]
    assert before.min() > 0.1
    np.testing.assert_allclose(after, -before, atol=0.005)


def test_a_neutral_that_was_calibrated_is_mirrored_as_a_whole(aside: Scene) -> None:
    aside.show(0.0)
    aside.transfer.calibrate()
    for index, brightness in enumerate([0.2, 0.5, 0.9]):
        light(aside, brightness)
        aside.show(0.1 + index / 30)
    for index in range(60):
        aside.show(1.0 + index / 10, rest_share=0.0)
    before = aside.last
    flip(aside)
    aside.show(8.0)
    for key in aside.family.motion:
        if key != "rotation":
            np.testing.assert_allclose(aside.last[f"neutral_{key}"], -before[f"neutral_{key}"], atol=0.005)
            np.testing.assert_allclose(aside.last[f"driving_{key}"], -before[f"driving_{key}"], atol=0.005)


def test_a_face_that_is_held_is_mirrored_too_and_back(aside: Scene) -> None:
    aside.show(0.0)
    light(aside, 0.5)
    aside.show(0.1)
    key = aside.family.motion[-1]
    before = aside.last[f"driving_{key}"]
    for index, sign in enumerate([-1, 1]):
        flip(aside)
        aside.show(0.13 + index / 30, present=False)
        np.testing.assert_allclose(aside.last[f"driving_{key}"], sign * before, atol=0.005)


@pytest.mark.parametrize("factor", [0.5, 2])
def test_a_driver_in_a_smaller_or_larger_picture_is_seen_as_before(aside: Scene, factor: float) -> None:
    """The crop takes the size of the new image at once."""
    aside.show(0.0)
    width, height = aside.face.size
    size = (round(width * factor), round(height * factor))
    aside.driving = np.zeros((size[1], size[0], 3), np.uint8)
    light(aside, 1.0)
    aside.face = replace(aside.face, size=size)
    aside.show(0.5)
    before, after = (fed["crop"] for fed in (aside.motion_net.fed[0], aside.motion_net.fed[-1]))
    np.testing.assert_allclose(after, before, atol=0.02)


def test_mirroring_before_the_first_face_is_allowed(aside: Scene) -> None:
    flip(aside)
    aside.show(0.0, present=False)
    aside.show(0.1)
    for key in aside.family.motion:
        np.testing.assert_array_equal(aside.last[f"driving_{key}"], aside.last[f"neutral_{key}"])


def test_before_any_face_the_portrait_is_shown_as_it_is(scene: Scene) -> None:
    out = scene.show(0.0, present=False)
    assert not scene.frame_net.fed
    assert out.shape == scene.image.shape


def test_the_picture_is_the_networks_within_the_portraits(scene: Scene, portrait_face: FaceState) -> None:
    out = scene.show(0.0)
    x, y = portrait_face.pixels()[4, :2].astype(int).tolist()
    np.testing.assert_allclose(out[y, x], 127, atol=1)
    assert not (out == np.array(CAMERA)).all(axis=-1).any()


def test_each_colour_is_rounded_to_the_nearest(scene: Scene, portrait_face: FaceState) -> None:
    scene.frame_net.computed["image"][0] = np.array([0.25, 0.6, 0.85], np.float32)[:, None, None]
    out = scene.show(0.0)
    x, y = portrait_face.pixels()[4, :2].astype(int).tolist()
    np.testing.assert_array_equal(out[y, x], [64, 153, 217])


@pytest.mark.parametrize(
    ("region", "pose", "lips", "elsewhere"),
    [("all", 1, 1, 1), ("expression", 0, 1, 1), ("pose", 1, 0, 0), ("lips", 0, 1, 0), ("eyes", 0, 0, 0)],
)
def test_regions_weigh_keypoints(live: Scene, region: str, pose: float, lips: float, elsewhere: float) -> None:
    live.show(0.0, region=region)
    weights = live.last["expression_weights"][0]
    assert (live.last["pose_weights"] == pose).all()
    assert (weights[list(LIP_KEYPOINTS)] == lips).all()
    assert (weights[list(EYE_KEYPOINTS)] == (region in ("all", "expression", "eyes"))).all()
    rest = np.setdiff1d(np.arange(21), [*LIP_KEYPOINTS, *EYE_KEYPOINTS])
    assert (weights[rest] == elsewhere).all()


def test_gain_is_a_weight_or_a_multiplier(scene: Scene) -> None:
    scene.show(0.0, gain=1.5)
    name = "expression_weights" if scene.family is LIVEPORTRAIT else "multiplier"
    assert (scene.last[name] == 1.5).all()


def test_a_region_that_a_family_does_not_support_is_an_error(portrait_face: FaceState, driver_face: FaceState) -> None:
    whole = Scene(FOMM, portrait_face, driver_face)
    with pytest.raises(UsageError) as caught:
        whole.show(0.0, region="pose")
    assert caught.value.code == "region-not-available"


def test_nothing_is_retargeted_by_default(live: Scene) -> None:
    rest = shape_of(live.face)
    live.show(0.0, neutral=rest, expression=with_expression(rest, shut=1.0))
    assert live.last["eye_weight"] == live.last["lip_weight"] == 0
    assert (live.last["expression_weights"] == 1).all()
    assert "retargeted" not in live.generator.label


@pytest.fixture
def both(portrait_face: FaceState, driver_face: FaceState) -> Scene:
    """A scene with a portrait that shows its teeth, and retargeting of eyes and lips."""
    parted = at_pixels(with_expression(portrait_face.pixels(), jaw=0.3), size=portrait_face.size)
    return Scene(LIVEPORTRAIT, parted, driver_face, "both")


def test_closed_eyes_come_from_retargeting_except_for_the_gaze(both: Scene) -> None:
    rest = shape_of(both.face)
    own = openings(both.own.pixels())
    both.show(0.0, neutral=rest, expression=with_expression(rest, shut=1.0), gain=1.5)
    np.testing.assert_allclose(both.last["eye_ratio"], [[*own.eyes, 0]], atol=1e-6)
    assert both.last["eye_weight"] == 1
    weights = both.last["expression_weights"][0]
    eyes = list(EYE_KEYPOINTS)
    assert (weights[eyes, 0] == 1.5).all()
    assert (weights[eyes, 1:] == 0).all()
    assert (np.delete(weights, eyes, axis=0) == 1.5).all()
    assert (both.last["pose_weights"] == 1).all()


def test_open_eyes_are_left_to_the_motion(both: Scene) -> None:
    rest = shape_of(both.face)
    both.show(0.0, neutral=rest, expression=with_expression(rest, gaze=(0.1, 0)))
    assert both.last["eye_weight"] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(both.last["expression_weights"], 1, atol=1e-6)


def test_a_portrait_that_shows_its_teeth_shuts_its_mouth_with_the_driver(both: Scene) -> None:
    rest = shape_of(both.face)
    rest[INNER_LOWER_LIP] = rest[INNER_UPPER_LIP]
    both.show(0.0, neutral=rest, expression=with_expression(rest, smile=0.1))
    own, wanted = both.last["lip_ratio"][0]
    assert own > 0.15
    assert wanted == pytest.approx(0, abs=0.03)
    assert both.last["lip_weight"] == 1
    assert (both.last["expression_weights"][0, list(LIP_KEYPOINTS)] == 1).all()


@pytest.mark.parametrize(
    ("region", "eyes", "lips"),
    [("all", 1, 1), ("expression", 1, 1), ("eyes", 1, 0), ("lips", 0, 1), ("pose", 0, 0)],
)
@pytest.mark.parametrize("retarget", ["eyes", "lips", "both"])
def test_only_what_moves_and_is_asked_for_is_retargeted(
    both: Scene, driver_face: FaceState, retarget: Retarget, region: str, eyes: int, lips: int
) -> None:
    some = Scene(LIVEPORTRAIT, both.own, driver_face, retarget)
    rest = shape_of(some.face)
    some.show(0.0, neutral=rest, expression=with_expression(rest, shut=1.0), region=region)
    assert some.last["eye_weight"] == eyes * (retarget != "lips")
    assert some.last["lip_weight"] == lips * (retarget != "eyes")
    assert f"{'eyes and lips' if retarget == 'both' else retarget} retargeted" in some.generator.label
    if region not in ("all", "expression", "eyes"):
        assert (some.last["expression_weights"][0, list(EYE_KEYPOINTS)] == 0).all()


def test_what_is_retargeted_follows_the_drivers_blink_and_comes_back(both: Scene) -> None:
    rest = shape_of(both.face)
    weights = []
    for index, shut in enumerate([0.0, 0.5, 1.0, 0.5, 0.0]):
        both.show(index / 30, neutral=rest, expression=with_expression(rest, shut=shut))
        weights.append(both.last["eye_weight"].item())
    assert weights == pytest.approx([0, weights[1], 1, weights[1], 0], abs=1e-6)
    assert 0.4 < weights[1] < 0.8


def test_a_family_without_retargeting_networks_is_an_error() -> None:
    with pytest.raises(UsageError) as caught:
        create_network_generator("fomm", backend="torch", device="cpu", weights="random:1", retarget="eyes")
    assert caught.value.code == "retarget-not-available"


def test_the_error_of_a_device_that_fails_is_raised(scene: Scene) -> None:
    scene.show(0.0)
    scene.frame_net.error = BackendError("gpu-failed", "a failure of the GPU", cure="start again")
    with pytest.raises(BackendError) as caught:
        scene.show(0.1)
    assert caught.value is scene.frame_net.error


def test_the_label_names_the_weights_and_close_closes_the_networks(scene: Scene) -> None:
    assert "random weights of seed 1" in scene.generator.label
    scene.generator.close()
    assert scene.frame_net.closed
    assert scene.motion_net.closed
    assert scene.portrait_net.closed


def test_the_name_is_the_family_and_there_is_no_choice_of_the_mouth(scene: Scene) -> None:
    assert scene.generator.name == scene.family.name
    assert (scene.generator.mouths, scene.generator.mouth) == ((), None)
    with pytest.raises(CommandError) as caught:
        scene.generator.set_mouth("painted")
    assert caught.value.code == "mouth-not-available"
