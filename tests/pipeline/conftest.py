"""Short delays for every test of the pipeline."""

from __future__ import annotations

import pytest

from realtime.pipeline import reopen


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reopen, "FIRST_DELAY_S", 0.001)
    monkeypatch.setattr(reopen, "LAST_DELAY_S", 0.002)
