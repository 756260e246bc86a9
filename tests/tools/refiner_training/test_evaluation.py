"""What the evaluation of the refiner measures, on pictures whose figures are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from engines.mesh.driver_mouth import DriverMouth
from engines.mesh.mouth_light import MouthLight
from engines.types import FaceState
from tests.support.faces import make_motion, shape_of
from tools.eval_refiner import main
from tools.refiner_training.card import card_of
from tools.refiner_training.clips import SIDE, Shot
from tools.refiner_training.evaluation import CASES, METHODS, REGIONS, cases_of, choose_pairs, masks_of
from tools.refiner_training.figures import Figures, Seen
from tools.refiner_training.samples import Camera, other_camera

ALL = np.ones((64, 64), bool)


def noise(seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 3)).astype(np.uint8)


def figures_of(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], real: object = None) -> dict[str, float]:
    figures = Figures()
    figures.add(Seen(image), Seen(noise() if real is None else np.asarray(real, np.uint8)), ALL)
    return figures.to_dict()  # type: ignore[return-value]


def test_the_truth_itself_has_no_error() -> None:
    told = figures_of(noise())
    assert told["l1"] == 0
    assert told["ssim"] == pytest.approx(1)
    assert told["sharpness"] == pytest.approx(1)
    assert told["psnr"] > 90


def test_a_constant_offset_is_the_l1_and_keeps_the_sharpness() -> None:
    real = np.full((64, 64, 3), 100, np.uint8)
    real[::2] = 120
    told = figures_of(real + np.uint8(10), real)
    assert told["l1"] == 10
    assert told["psnr"] == pytest.approx(28.13, abs=0.01)
    assert told["sharpness"] == pytest.approx(1, abs=0.01)


def test_blur_costs_sharpness() -> None:
    assert figures_of(np.asarray(cv2.GaussianBlur(noise(), (0, 0), 2), np.uint8))["sharpness"] < 0.1


def test_a_cell_without_pairs_has_no_figures() -> None:
    assert Figures().to_dict() == {"n": 0, "l1": None, "psnr": None, "ssim": None, "sharpness": None}


def shot(number: int, lips: float = 0.0, lids: float = 0.3) -> Shot:
    return Shot(number, np.zeros((1, 1, 3), np.uint8), np.zeros((478, 3), np.float32), lips, lids)


def test_pairs_are_a_second_apart_and_as_many_as_asked_for() -> None:
    shots = [shot(number, lips=0.2 * (number % 3 == 0)) for number in range(0, 300, 2)]
    pairs = choose_pairs(shots, 25.0, 40, np.random.default_rng(1))
    assert len(pairs) == 40
    assert min(abs(source.number - true.number) for source, true in pairs) >= 25
    again = choose_pairs(shots, 25.0, 40, np.random.default_rng(1))
    assert [(a.number, b.number) for a, b in pairs] == [(a.number, b.number) for a, b in again]


def test_a_clip_of_less_than_a_second_is_used_all_the_same() -> None:
    pairs = choose_pairs([shot(number) for number in range(10)], 25.0, 8, np.random.default_rng(1))
    assert len(pairs) == 8
    assert all(source is not true for source, true in pairs)


def test_cases_are_named_by_what_opens_or_closes() -> None:
    opening = cases_of(shot(0), shot(1, lips=0.3), 0.3)
    assert (opening["mouth_inside"], opening["eye"]) == ("opening", "other")
    blink = cases_of(shot(0), shot(1, lids=0.05), 0.3)
    assert (blink["lips"], blink["eyelid"], blink["eye"]) == ("other", "closing", "closing")


def test_regions_lie_within_the_face(driver_face: FaceState) -> None:
    pixels = driver_face.pixels()
    pixels[:, 0] -= pixels[:, 0].min() - 100
    masks = masks_of(pixels[:, :3] * np.float32(SIDE / 640))
    assert set(masks) == set(REGIONS)
    for region in ("mouth_inside", "lips", "eyelid"):
        assert masks[region].any()
        assert not (masks[region] & ~masks["face"]).any()
    assert not (masks["mouth_inside"] & ~masks["lips"]).any()


def test_the_light_of_one_driver_is_not_that_of_the_next(driver_face: FaceState) -> None:
    """Figures of a clip would depend on the clips before it."""
    random = np.random.default_rng(0)
    pixels = driver_face.pixels()
    pixels[:, :2] *= np.float32(SIDE / max(driver_face.size))
    image = random.integers(90, 200, (SIDE, SIDE, 3)).astype(np.uint8)
    true = Shot(0, image, pixels, 0.3, 0.3)
    light, neutral = MouthLight.of(image, pixels), shape_of(driver_face)
    before, after = DriverMouth(), DriverMouth()
    cameras = Camera.random(random), Camera.random(random)
    for camera, mouths in ((cameras[0], [before]), (cameras[1], [before, after])):
        driving, face = other_camera(true, camera, random)
        for mouth in mouths:
            mouth.update(make_motion(neutral, neutral, face=face), driving)
    np.testing.assert_allclose(before.light.gains(light), after.light.gains(light))


def test_a_folder_without_clips_is_a_mistake_in_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--clips", str(tmp_path)]) == 2
    assert "no clips" in capsys.readouterr().err


def test_the_figures_of_a_clip_have_the_layout_that_is_documented(tmp_path: Path, clips: Path) -> None:
    clip = clips / "lp__d10.mp4"
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / clip.name).symlink_to(clip)
    out, sheet = tmp_path / "out.json", tmp_path / "sheet.png"
    words = ["--clips", str(folder), "--frames", "3", "--json", str(out), "--sheet", str(sheet)]
    assert main([*words, "--weights", str(tmp_path)]) == 0
    figures = json.loads(out.read_text())
    assert set(figures) == {*REGIONS, "jitter"}
    assert set(figures["jitter"]) == set(METHODS)
    for region in REGIONS:
        assert set(figures[region]) == set(CASES)
        for case in CASES:
            assert set(figures[region][case]) == set(METHODS)
            assert set(figures[region][case]["warp"]) == {"n", "l1", "psnr", "ssim", "sharpness"}
    assert sum(figures["face"][case]["warp"]["n"] for case in CASES) == 3
    assert sheet.is_file()


def test_a_card_states_recipe_figures_and_data() -> None:
    cell = {"n": 4, "l1": 12.34, "psnr": 20.0, "ssim": 0.9, "sharpness": 0.87}
    figures: dict[str, Any] = {r: {c: dict.fromkeys(METHODS, cell) for c in CASES} for r in REGIONS}
    figures["jitter"] = dict.fromkeys(METHODS, None)
    card = card_of({"sha256": "ab12", "recipe": {"steps": 7, "data": {"owner/repo (MIT)": 3}}}, figures, 2)
    assert "ab12" in card
    assert "steps 7" in card
    assert "| eyelid | closing | 4 | 12.3 (0.87) |" in card
    assert "| 3 | owner/repo (MIT) |" in card
