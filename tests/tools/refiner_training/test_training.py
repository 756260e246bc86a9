"""The refiner's training on samples made by calculation: seeded, resumable, and learning something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install '.[neural]'")

from engines.errors import UsageError  # noqa: E402
from engines.mesh.refine_crops import EYES, frame_of, to_crop  # noqa: E402
from engines.types import FaceState  # noqa: E402
from tools.refiner_training.batches import Batches, Maker, validation_batch  # noqa: E402
from tools.refiner_training.samples import MARGIN, Samples  # noqa: E402
from tools.refiner_training.styles import Style, styled  # noqa: E402
from tools.refiner_training.training import Settings, train  # noqa: E402
from tools.train_refiner import main  # noqa: E402

SETTINGS = Settings("eyes", steps=6, batch=2, seed=3, every=3, device="cpu")
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def samples(driver_face: FaceState) -> Samples:
    """Eyes of one colour whose real frames are brighter than the warp."""
    size = EYES[0].size + 2 * MARGIN
    random = np.random.default_rng(0)
    pictures = np.empty((8, 4, size, size, 3), np.uint8)
    pictures[:] = random.integers(60, 160, (8, 1, 1, 1, 3))
    pictures[:, 3] += 40
    pixels = driver_face.pixels()
    points = np.stack([to_crop(pixels, frame_of(pixels, EYES[k % 2])) for k in range(8)])
    gaps = np.full((8, 2), 0.3, np.float32)
    return Samples(pictures, points, np.stack([points, points], axis=1), gaps, np.arange(8) % 2)


def test_batches_are_the_same_for_the_same_seed_wherever_they_begin(samples: Samples) -> None:
    first, later = Batches([samples], "eyes", 3, 5), Batches([samples], "eyes", 3, 5, start=1)
    first.next()
    for one, two in zip(first.next(), later.next(), strict=True):
        assert (one == two).all()
    first.close()
    later.close()


def test_a_sample_has_weights_that_are_highest_at_the_opening(samples: Samples) -> None:
    made = Maker("eyes").make(samples, 0, None)
    assert made.planes.shape == (12, 64, 64)
    opening = made.planes[6] > 0.9
    assert made.weights[0][opening].min() > 3 * made.weights[0, 0, 0]
    assert made.true.mean() - ((made.planes[:3] + 1) / 2).mean() == pytest.approx(40 / 255, abs=0.01)


def test_training_goes_on_where_it_stopped_and_comes_to_the_same_end(samples: Samples, tmp_path: Path) -> None:
    whole = train(SETTINGS, [samples], [samples], tmp_path / "whole", QUIET)
    stopped = torch.load(tmp_path / "whole" / "eyes.pt", weights_only=True)
    assert stopped["step"] == 6
    half = tmp_path / "half"

    def stop(step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(SETTINGS, [samples], [samples], half, QUIET, after=stop)
    again = train(SETTINGS, [samples], [samples], half, QUIET)
    assert [each["step"] for each in again] == [3, 6]
    assert again[-1]["l1"] == pytest.approx(whole[-1]["l1"], rel=1e-3)


def test_a_checkpoint_of_other_settings_is_refused(samples: Samples, tmp_path: Path) -> None:
    short = Settings("eyes", 2, 2, 3, 2, "cpu")
    train(short, [samples], [samples], tmp_path, QUIET)
    with pytest.raises(UsageError) as caught:
        train(Settings("eyes", 2, 2, 4, 2, "cpu"), [samples], [samples], tmp_path, QUIET)
    assert caught.value.code == "checkpoint-of-other-settings"


def test_some_steps_learn_that_the_truth_is_brighter(samples: Samples, tmp_path: Path) -> None:
    history = train(Settings("eyes", 60, 4, 0, 60, "cpu"), [samples], [samples], tmp_path, QUIET)
    assert history[-1]["l1"] < 0.7
    assert (tmp_path / "eyes-best.pt").is_file()
    assert (tmp_path / "eyes-sheet.png").is_file()


def test_a_style_adds_the_same_grain_to_warp_and_truth_and_another_to_the_portrait() -> None:
    grey = np.full((32, 32, 3), 128, np.uint8)
    style = Style((1.0, 1.0, 1.0), 1.0, 1.0, 0.0, 8.0, 0.0, "")
    warped, true, portrait = styled([grey, grey, grey], style, np.random.default_rng(0))
    assert (warped == true).all()
    assert (warped != portrait).mean() > 0.5
    assert warped.std() > 4


@pytest.mark.parametrize("painterly", ["median", "bilateral", "levels", "oil"])
def test_painterly_styles_smooth_noise(painterly: str) -> None:
    noisy = np.random.default_rng(0).integers(100, 156, (48, 48, 3)).astype(np.uint8)
    style = Style((1.0, 1.0, 1.0), 1.0, 1.0, 0.0, 0.0, 0.0, painterly)
    (made,) = styled([noisy], style, np.random.default_rng(0))
    assert made.std() < 0.9 * noisy.std()


def test_the_validation_batch_is_not_random(samples: Samples) -> None:
    one, two = (validation_batch([samples], "eyes", 6) for _ in range(2))
    assert len(one.planes) == 6
    assert (one.planes == two.planes).all()


def test_a_network_that_is_not_known_is_a_mistake_in_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--net", "nose"]) == 2
    assert "nose" in capsys.readouterr().err
