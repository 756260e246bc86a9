"""The cache folders."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from engines.cache_dirs import cache_home, models_home


@pytest.mark.skipif(sys.platform != "linux", reason="the folders of Linux")
def test_the_folders_follow_the_xdg_specification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_home() == tmp_path / ".cache" / "reenact"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_home() == tmp_path / "cache" / "reenact"
    assert models_home() == tmp_path / "cache" / "reenact" / "models"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the specification says to ignore it
    assert cache_home() == tmp_path / ".cache" / "reenact"
    assert not cache_home().exists()
