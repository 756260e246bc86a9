"""The promise that the camera's own picture never leaves, tried on the real generator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engines.generator import create
from engines.topology import INNER_LOWER_LIP
from engines.types import FaceState
from realtime.frames import Frame
from realtime.portraits import PortraitPicture, load_portrait
from tests.fakes import CAMERA, FakeSink, FakeSource
from tests.test_daemon import running

SIZE = (160, 128)


@pytest.fixture(scope="module")
def default_portrait() -> PortraitPicture:
    return load_portrait(None, SIZE)


class Grimaces:
    """Sees the portrait's own face in every picture, its mouth open in every other; now and then none."""

    name = "grimaces"

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
        """Nothing to forget."""

    def close(self) -> None:
        """Nothing to let go of."""


def near(frame: Frame, colour: tuple[int, int, int]) -> int:
    """How many pixels of an RGB frame have about that colour."""
    return int((np.abs(frame.pixels.astype(int) - np.array(colour)).max(axis=-1) < 60).sum())


@pytest.mark.parametrize("lossless", [False, True])
def test_with_a_painted_mouth_no_pixel_of_the_camera_leaves(lossless: bool, default_portrait: PortraitPicture) -> None:
    source, sink = FakeSource(), FakeSink()
    with running(
        source,
        [sink],
        tracker=Grimaces(default_portrait.face),
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
    assert max(near(frame, CAMERA) for frame in sink.frames) == 0
