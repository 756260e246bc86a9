"""Fixtures shared by all tests: a watch for leaks, real clips and models if there are any, faces, a cache folder."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from PIL import Image as Pillow

from engines.errors import TrackerError
from engines.types import FaceState
from realtime.capture.performer import Performer
from realtime.portraits.portrait import PortraitPicture, load_portrait
from realtime.tracking.still_faces import FaceFinder
from tests.support.leaks import Leaks, watching_loops

ROOT = Path(__file__).parents[1]

# portraits of the tests are drawn, and programs that tests start must not ask
os.environ.setdefault("REENACT_CONSENT", "fictional")

# the time an example takes depends more on the machine than on the program
settings.register_profile("reenact", deadline=None)
settings.load_profile("reenact")

# a shell that runs the tests in the background makes them and their child processes ignore SIGINT
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _leaks() -> Iterator[Leaks]:
    """What each test leaves behind, of all loops."""
    leaks = Leaks()
    with watching_loops(leaks):
        yield leaks


@pytest.fixture(autouse=True)
def _nothing_leaks(_leaks: Leaks) -> Iterator[None]:
    """Fail a test that leaves a thread running or a task pending, with its name and stack.

    It is the first fixture of a test and so the last to end: what the test's own fixtures close is closed by then.
    """
    _leaks.begin()
    yield
    if found := _leaks.found():
        pytest.fail("\n".join(found), pytrace=False)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder ``REENACT_SHARED``: faces/clips, faces/portraits, models/ and parity/."""
    folder = Path(os.environ.get("REENACT_SHARED") or ROOT.parent / "shared")
    if not (folder / "faces").is_dir():
        pytest.skip(f"no real faces at {folder}: set REENACT_SHARED to a folder that has faces/, models/ and parity/")
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


@pytest.fixture(scope="session")
def face_finder() -> Iterator[FaceFinder]:
    """One FaceFinder for all tests, because it takes a second to load."""
    try:
        opened = FaceFinder()
    except TrackerError as error:
        pytest.skip(f"{error}: {error.cure}")
    with opened:
        yield opened


@pytest.fixture(scope="session")
def portrait_picture(face_finder: FaceFinder) -> PortraitPicture:
    """The portrait that ships, 512x512."""
    return load_portrait(None, (512, 512), finder=face_finder)


@pytest.fixture(scope="session")
def portrait_face(portrait_picture: PortraitPicture) -> FaceState:
    """A calm, frontal face."""
    return portrait_picture.face


@pytest.fixture(scope="session")
def driver_picture(face_finder: FaceFinder, tmp_path_factory: pytest.TempPathFactory) -> PortraitPicture:
    """The performer at rest, 640x480."""
    performer = Performer((640, 480))
    path = tmp_path_factory.mktemp("performer") / "performer.png"
    Pillow.fromarray(performer.picture(0.0)).save(path)
    performer.close()
    return load_portrait(path, (640, 480), finder=face_finder)


@pytest.fixture(scope="session")
def driver_face(driver_picture: PortraitPicture) -> FaceState:
    """Another calm, frontal face."""
    return driver_picture.face


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the program under test uses as the user's cache folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.setenv("LOCALAPPDATA", str(folder))
    return folder
