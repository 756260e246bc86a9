"""The estimate of the landmarks' noise, of scripted drivers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engines.face.coefficients import canonical_shape
from engines.types import Points
from realtime.motion.noise import CLEAN, NoiseMeter
from realtime.motion.one_euro import Noise
from tests.support.driver import Driver, frame_times


def measured(driver: Driver, meter: NoiseMeter | None = None, start: float = 0, seconds: float = 8) -> Noise:
    """Return the noise after some seconds of a driver."""
    meter = meter or NoiseMeter()
    noise = Noise()
    for now in frame_times(start, start + seconds):
        face = driver.at(now)
        if face is not None:
            pixels = face.pixels()
            noise = meter.update(canonical_shape(pixels), face.time_ns)
    return noise


@pytest.mark.parametrize("times", [1.0, 3.0, 5.0])
def test_the_noise_of_a_still_face_is_measured(calm: Points, times: float) -> None:
    noise = measured(Driver(calm, noise=times * CLEAN))
    assert noise.ratio == pytest.approx(times, rel=0.35)
    assert noise.stillness == 1


@pytest.mark.parametrize(
    ("face", "turn"),
    [
        (lambda now: {"jaw": 0.3 * abs(np.sin(12 * now)), "smile": 0.1 * abs(np.sin(5 * now))}, lambda _: (0, 0, 0)),
        (lambda _: {}, lambda now: (8 * np.sin(6 * now), 20 * np.sin(8 * now), 5 * np.sin(7 * now))),
    ],
    ids=["talking", "shaking the head"],
)
def test_motion_is_no_noise(
    calm: Points, face: Callable[[float], dict[str, Any]], turn: Callable[[float], tuple[float, float, float]]
) -> None:
    noise = measured(Driver(calm, face=face, turn=turn, noise=CLEAN))
    assert noise.ratio < 2
    assert noise.stillness < 0.5 or face(0.1) == {}


def test_the_noise_is_learned_again_when_the_light_comes_on(calm: Points) -> None:
    meter = NoiseMeter()
    dark = measured(Driver(calm, noise=5 * CLEAN), meter)
    light = measured(Driver(calm, noise=CLEAN), meter, start=8, seconds=2)
    assert light.ratio < 0.4 * dark.ratio


def test_a_face_that_deforms_as_it_moves_is_not_noisy(calm: Points) -> None:
    """Trackers bend a face as it turns, so that its stiff points move as well."""
    meter, noise = NoiseMeter(), Noise()
    random = np.random.default_rng(0)
    bend = random.normal(0, 1, calm.shape).astype(np.float32)
    for now in frame_times(0, 6):
        shape = calm + np.float32(0.02 * np.sin(20 * now)) * bend
        noisy = np.asarray(shape + random.normal(0, CLEAN, calm.shape), np.float32)
        noise = meter.update(noisy, round(now * 1e9))
    assert noise.ratio < 1.5
