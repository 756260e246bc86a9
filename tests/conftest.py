"""What several test files share: the real clips and models where there are any, and a cache of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with real faces and models: ``REENACT_SHARED``, or ``../shared`` beside the checkout."""
    folder = Path(os.environ.get("REENACT_SHARED") or ROOT.parent / "shared")
    if not (folder / "faces").is_dir():
        pytest.skip(f"no real faces at {folder}: set REENACT_SHARED to a folder that has faces/ and models/")
    return folder.resolve()


@pytest.fixture(scope="session")
def clips(shared_dir: Path) -> Path:
    """The folder of real driving videos."""
    return shared_dir / "faces" / "clips"


@pytest.fixture(scope="session")
def portraits(shared_dir: Path) -> Path:
    """The folder of real portraits."""
    return shared_dir / "faces" / "portraits"


@pytest.fixture(scope="session")
def face_landmarker(shared_dir: Path) -> Path:
    """MediaPipe's face landmarker bundle."""
    path = shared_dir / "models" / "face_landmarker.task"
    if not path.is_file():
        pytest.skip(f"no face landmarker bundle at {path}: python -m tools.models fetch face_landmarker")
    return path


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder that the program under test takes for the person's."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.setenv("LOCALAPPDATA", str(folder))
    return folder
