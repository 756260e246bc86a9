from __future__ import annotations

from realtime.pipeline.settings import Limits

NS = 1_000_000_000


def test_how_many_frames_are_expected() -> None:
    assert Limits().expected_frames(None, 30) is None
    assert Limits().expected_frames(75, 30) == 75
    assert Limits(frames=30).expected_frames(75, 30) == 30
    assert Limits(frames=30).expected_frames(None, 30) == 30
    assert Limits(frames=90).expected_frames(75, 30) == 75
    assert Limits(duration_ns=NS // 2).expected_frames(75, 25) == 13
