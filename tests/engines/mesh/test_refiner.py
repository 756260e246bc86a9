"""The refiner behind the mesh generator, with networks that are simple functions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.errors import BackendError, CommandError, GeneratorError
from engines.mesh.generator import MeshGenerator
from engines.mesh.refiner import NetRefiner, open_refiner
from engines.types import FaceState, Floats, Image
from realtime.portraits.portrait import PortraitPicture
from tests.support.faces import make_motion, shape_of, with_expression


class FakeNet:
    """A backend that answers with a function of its input."""

    name, precision, inputs, outputs = "fake", "float32", (), ()

    def __init__(self, answer: Callable[[Floats], Floats]) -> None:
        self._answer = answer
        self.calls = 0
        self.closed = False

    def run(self, feeds: dict[str, Floats]) -> dict[str, Floats]:
        self.calls += 1
        return {"change": self._answer(feeds["planes"])}

    def close(self) -> None:
        self.closed = True


def nothing(planes: Floats) -> Floats:
    return np.zeros_like(planes[:, :3])


def redder(planes: Floats) -> Floats:
    change = nothing(planes)
    change[:, 0, 20:-20, 20:-20] = 0.2
    return change


def broken(_: Floats) -> Floats:
    raise BackendError("gpu-failed", "the GPU fails")


def picture(
    nets: dict[str, FakeNet], mouth: str, portrait: PortraitPicture, face: FaceState, shut: tuple[float, float] = (1, 1)
) -> Image:
    """Return the portrait with an open mouth and shut eyes."""
    generator = MeshGenerator(mouth, NetRefiner(nets))  # type: ignore[arg-type]
    prepared = generator.prepare(portrait.name, portrait.image, portrait.face)
    neutral = shape_of(face)
    return generator.drive(prepared, make_motion(neutral, with_expression(neutral, jaw=0.3, shut=shut)), None).copy()


@pytest.fixture(scope="module")
def plain(portrait_picture: PortraitPicture, driver_face: FaceState) -> Image:
    return picture({}, "painted", portrait_picture, driver_face)


def test_an_eye_is_refined_where_its_lid_is_lowered(portrait_picture: PortraitPicture, driver_face: FaceState) -> None:
    inner = portrait_picture.face.pixels()[[133, 362], 0].mean()
    for shut, sides in (((0.0, 0.0), set()), ((1.0, 0.0), {"left"}), ((0.0, 1.0), {"right"})):
        plain, refined = (
            picture(nets, "painted", portrait_picture, driver_face, shut) for nets in ({}, {"eyes": FakeNet(redder)})
        )
        columns = np.flatnonzero((plain != refined).any(axis=(0, 2)))
        assert {"left" if column < inner else "right" for column in columns} == sides


def test_a_grey_portrait_stays_grey(portrait_picture: PortraitPicture, driver_face: FaceState) -> None:
    grey = np.repeat(portrait_picture.image.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    statue = replace(portrait_picture, image=np.ascontiguousarray(grey))
    refined = picture({"eyes": FakeNet(redder)}, "painted", statue, driver_face)
    assert (refined != picture({}, "painted", statue, driver_face)).any()
    assert np.ptp(refined.astype(int), axis=2).max() <= 2


def test_networks_that_change_nothing_change_nothing(
    plain: Image, portrait_picture: PortraitPicture, driver_face: FaceState
) -> None:
    nets = {name: FakeNet(nothing) for name in ("mouth", "driver", "eyes")}
    assert (picture(nets, "neural", portrait_picture, driver_face) == plain).all()


# without a driving image there is no mouth of the driver: one is made up
@pytest.mark.parametrize(("mouth", "runs"), [("neural", "mouth"), ("driver", "mouth"), ("painted", "")])
def test_the_mouth_chooses_the_network(
    mouth: str, runs: str, portrait_picture: PortraitPicture, driver_face: FaceState
) -> None:
    nets = {name: FakeNet(nothing) for name in ("mouth", "driver", "eyes")}
    picture(nets, mouth, portrait_picture, driver_face)
    assert {name for name, net in nets.items() if net.calls} == {runs, "eyes"} - {""}


def test_the_drivers_mouth_has_a_network_of_its_own(portrait_picture: PortraitPicture, driver_face: FaceState) -> None:
    nets = {name: FakeNet(nothing) for name in ("mouth", "driver", "eyes")}
    generator = MeshGenerator("driver", NetRefiner(nets))  # type: ignore[arg-type]
    prepared = generator.prepare(portrait_picture.name, portrait_picture.image, portrait_picture.face)
    neutral = shape_of(driver_face)
    motion = replace(make_motion(neutral, with_expression(neutral, jaw=0.3, shut=1.0)), face=driver_face)
    width, height = driver_face.size
    generator.drive(prepared, motion, np.full((height, width, 3), 90, np.uint8))
    assert (nets["driver"].calls, nets["mouth"].calls) == (1, 0)


def test_changes_are_seen_at_the_eyes_only_where_only_that_network_runs(
    plain: Image, portrait_picture: PortraitPicture, driver_face: FaceState
) -> None:
    refined = picture({"eyes": FakeNet(redder)}, "painted", portrait_picture, driver_face)
    changed = (refined != plain).any(axis=2)
    rows = np.flatnonzero(changed.any(axis=1))
    pixels = portrait_picture.face.pixels()
    assert rows.min() > pixels[10, 1]
    assert rows.max() < pixels[13, 1]
    assert (refined.astype(int) - plain)[changed].min() >= -1


def test_a_network_that_fails_leaves_the_frame_as_it_was_and_is_told_of_once(
    plain: Image, portrait_picture: PortraitPicture, driver_face: FaceState, caplog: pytest.LogCaptureFixture
) -> None:
    nets = {"eyes": FakeNet(nothing), "mouth": FakeNet(broken)}
    refiner = NetRefiner(nets)  # type: ignore[arg-type]
    generator = MeshGenerator("neural", refiner)
    prepared = generator.prepare(portrait_picture.name, portrait_picture.image, portrait_picture.face)
    neutral = shape_of(driver_face)
    motion = make_motion(neutral, with_expression(neutral, jaw=0.3, shut=1.0))
    for _ in range(3):
        assert (generator.drive(prepared, motion, None) == plain).all()
    assert not refiner.enabled
    assert nets["mouth"].calls == 1
    assert len(caplog.records) == 1


def test_a_refiner_that_is_off_or_has_no_weights_says_so(tmp_path: Path) -> None:
    assert open_refiner("off")[0] is None
    made, said = open_refiner("auto", folder=tmp_path)
    assert made is None
    assert "weights" in said
    with pytest.raises(GeneratorError) as caught:
        open_refiner("on", folder=tmp_path)
    assert caught.value.code == "refiner-missing"


def test_a_refiner_that_is_turned_off_changes_nothing(
    plain: Image, portrait_picture: PortraitPicture, driver_face: FaceState
) -> None:
    net = FakeNet(redder)
    generator = MeshGenerator("painted", NetRefiner({"eyes": net}))  # type: ignore[dict-item]
    prepared = generator.prepare(portrait_picture.name, portrait_picture.image, portrait_picture.face)
    neutral = shape_of(driver_face)
    motion = make_motion(neutral, with_expression(neutral, jaw=0.3, shut=1.0))
    generator.set_refined(False)
    assert generator.refined is False
    assert (generator.drive(prepared, motion, None) == plain).all()
    generator.set_refined(True)
    assert (generator.drive(prepared, motion, None) != plain).any()


def test_a_mouth_is_made_up_only_where_a_network_can() -> None:
    for refiner in (None, NetRefiner({"eyes": FakeNet(nothing)})):  # type: ignore[dict-item]
        with pytest.raises(CommandError) as caught:
            MeshGenerator("neural", refiner)
        assert caught.value.code == "mouth-needs-network"


def test_without_networks_there_is_nothing_to_turn_on() -> None:
    generator = MeshGenerator()
    assert generator.refined is None
    with pytest.raises(CommandError) as caught:
        generator.set_refined(True)
    assert caught.value.code == "refiner-not-available"


def test_the_networks_that_ship_close_an_eye_and_leave_an_open_one(
    portrait_picture: PortraitPicture, driver_face: FaceState
) -> None:
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")
    refiner, said = open_refiner("on")
    assert refiner is not None
    assert "refined" in said
    generator = MeshGenerator("painted", refiner)
    prepared = generator.prepare(portrait_picture.name, portrait_picture.image, portrait_picture.face)
    neutral = shape_of(driver_face)
    for shut, changes in ((0.0, False), (1.0, True)):
        motion = make_motion(neutral, with_expression(neutral, shut=shut))
        generator.set_refined(False)
        plain = generator.drive(prepared, motion, None).copy()
        generator.set_refined(True)
        refined = generator.drive(prepared, motion, None)
        assert bool((refined != plain).any()) is changes
    generator.close()


def test_a_base_install_runs_the_networks_without_pytorch() -> None:
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")
    code = (
        "import sys\nsys.modules.update(torch=None, onnx=None, safetensors=None)\n"
        "from engines.mesh.refiner import open_refiner\nassert open_refiner('on')[0] is not None"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600, cwd=Path(__file__).parents[3])
