"""The promise that no camera frame leaves the program, checked with real generators and with a GPU that fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.backends.network_stage import Array, TensorSpec
from engines.backends.open import OpenStages
from engines.backends.tensorrt_backend import EngineSignature, TensorrtBackend
from engines.errors import BackendError
from engines.face.topology import INNER_LOWER_LIP
from engines.networks.generator import FOMM, NetworkGenerator
from engines.registry import create
from engines.types import FaceState
from realtime import assemble, cli
from realtime.config import load
from realtime.core.frames import Frame
from realtime.pipeline import slate
from realtime.portraits.portrait import PortraitPicture, load_portrait
from realtime.tracking.settings import Driver
from tests.support.clips import grey, write_video
from tests.support.engines.fake_gpu import FakeGpu, Plan
from tests.support.fakes import CAMERA, FakeSink, FakeSource, picture
from tests.support.run import running

SIZE = (160, 128)


@pytest.fixture(scope="module")
def default_portrait() -> PortraitPicture:
    return load_portrait(None, SIZE)


class GrimaceTracker:
    """Tracks the portrait's own face: the mouth is open in every other frame, and some frames have no face."""

    name = "grimaces"
    driver: Driver = "auto"

    def __init__(self, face: FaceState) -> None:
        self._face = face

    def track(self, frame: Frame) -> FaceState | None:
        if frame.seq % 7 == 5:
            return None
        points = self._face.landmarks.copy()
        if frame.seq % 2:
            points[INNER_LOWER_LIP, 1] += 0.06
        return replace(self._face, seq=frame.seq, time_ns=frame.time_ns, landmarks=points)

    def reset(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def count_near(frame: Frame, colour: tuple[int, int, int]) -> int:
    """Return how many pixels of an RGB frame have about that colour."""
    return int((np.abs(frame.pixels.astype(int) - np.array(colour)).max(axis=-1) < 60).sum())


@pytest.mark.parametrize("lossless", [False, True])
def test_with_a_painted_mouth_no_camera_pixel_leaves(lossless: bool, default_portrait: PortraitPicture) -> None:
    source, sink = FakeSource(), FakeSink()
    with running(
        source,
        [sink],
        tracker=GrimaceTracker(default_portrait.face),
        generator=create("mesh", mouth="painted"),
        loaders=[lambda: default_portrait],
        lossless=lossless,
        size=SIZE,
    ) as run:
        for seq in range(24):
            source.feed(1, start=seq)
            sink.wait_for(lambda frame, seq=seq: frame.seq == seq, timeout=60)  # type: ignore[misc]
        source.lose()
        run.over()
    assert len(sink.frames) >= 24
    assert max(count_near(frame, CAMERA) for frame in sink.frames) == 0


class FailingGpu:
    """The first order motion model's network stages on a fake GPU, which fails after some frames."""

    def __init__(self, patch: pytest.MonkeyPatch, frames: int | None = None) -> None:
        square, value, jacobian = (1, 3, 256, 256), (1, 10, 2), (1, 10, 2, 2)
        moves = {f"{who}_{key}": shape for who in ("driving", "neutral") for key, shape in self._keys(value, jacobian)}
        shapes: dict[str, tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]] = {
            "portrait": ({"source": square}, {"feature": (1, 4)}),
            "motion": ({"crop": square}, {name: shape for name, shape in moves.items() if name.startswith("driving")}),
            "frame": ({"feature": (1, 4), **moves, "multiplier": (1, 1)}, {"image": square}),
        }
        self.card = FakeGpu()
        self.card.install(patch)
        self._remaining = frames
        stages = {}
        for stage, (inputs, outputs) in shapes.items():
            takes, gives = (tuple(TensorSpec(*each) for each in side.items()) for side in (inputs, outputs))
            engine = stage.encode()
            self.card.plans[engine] = Plan(takes, gives, lambda of=gives, **_: self._answer(of))
            stages[stage] = TensorrtBackend.from_engine(EngineSignature(stage, takes, gives), engine, "float16")
        self.generator = NetworkGenerator(FOMM, OpenStages(stages, "in memory"), "random weights of seed 1")

    @staticmethod
    def _keys(*shapes: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
        return list(zip(FOMM.motion, shapes, strict=True))

    def _answer(self, outputs: tuple[TensorSpec, ...]) -> Mapping[str, Array]:
        if outputs[0].name == "image" and self._remaining is not None:
            if self._remaining == 0:
                self.card.lose()
                raise self.card.faults["everything"]
            self._remaining -= 1
        return {spec.name: np.full(spec.shape, 0.5, np.float32) for spec in outputs}


@pytest.mark.parametrize("lossless", [False, True])
def test_a_gpu_that_fails_leaves_the_last_frame_and_then_the_slate(
    lossless: bool, default_portrait: PortraitPicture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, sink, gpu = FakeSource(), FakeSink(), FailingGpu(monkeypatch)
    with running(
        source,
        [sink],
        tracker=GrimaceTracker(default_portrait.face),
        generator=gpu.generator,
        loaders=[lambda: default_portrait],
        lossless=lossless,
        size=SIZE,
    ) as run:
        for seq in range(1, 4):
            source.feed(1, start=seq)
            sink.wait_for(lambda frame, seq=seq: frame.seq == seq, timeout=20)  # type: ignore[misc]
        gpu.card.lose()
        source.feed(2, start=4)
        run.over(20)
        assert sink.closed.wait(5)
    assert isinstance(run.stop_signal.error, BackendError)
    assert run.stop_signal.error.code == "gpu-failed"
    assert run.stop_signal.error.cure
    card = slate.draw(SIZE, "stopped by an error")
    np.testing.assert_array_equal(sink.frames[-1].pixels, card)
    assert not (sink.frames[-2].pixels == card).all()
    assert not sink.shows(CAMERA)


@pytest.mark.parametrize("pace", ["live", "max"])
def test_a_gpu_that_fails_ends_the_program_with_one_line_and_exit_code_1(
    pace: str,
    default_portrait: PortraitPicture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_video(tmp_path / "in.mp4", [picture(CAMERA, SIZE) if i else grey(i, SIZE) for i in range(40)])
    gpu = FailingGpu(monkeypatch, frames=6)
    monkeypatch.setattr(assemble, "create_generator", lambda *_: gpu.generator)
    monkeypatch.setattr(assemble, "open_configured_tracker", lambda _: GrimaceTracker(default_portrait.face))
    options = {"camera": str(tmp_path / "in.mp4"), "pace": pace, "size": "160x128", "sink": ["null"], "quiet": True}
    assert cli.run(load(options)) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert said.err.startswith("reenact: ")
    assert "nvidia-smi" in said.err
    assert "Traceback" not in said.out
