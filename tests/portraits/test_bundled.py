"""The portraits that come with the program."""

from __future__ import annotations

from pathlib import Path

import pytest

from realtime.portraits.bundled import BundledPortrait, bundled_portraits, with_bundled
from realtime.portraits.portrait import DEFAULT_PORTRAIT, load_portrait, yaw
from realtime.tracking.still_faces import FaceFinder


def test_every_portrait_has_a_name_of_its_own_a_file_and_a_licence() -> None:
    portraits = bundled_portraits()
    assert len(portraits) >= 10
    assert len({portrait.name for portrait in portraits}) == len(portraits)
    assert portraits[0].path == DEFAULT_PORTRAIT
    for portrait in portraits:
        assert portrait.path.is_file()
        assert portrait.style
        assert "MIT" in portrait.licence


def test_a_bundled_portrait_is_chosen_by_its_name_in_any_case() -> None:
    second = bundled_portraits()[1]
    for text in (second.name, second.name.upper(), second.name.lower()):
        assert with_bundled(Path(text)) == second.path


def test_a_file_of_the_same_name_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = Path(bundled_portraits()[0].name)
    own.write_bytes(b"")
    assert with_bundled(own) == own


@pytest.mark.parametrize("text", ["unknown", "folder/clara", "/clara"])
def test_other_paths_stay_as_they_are(text: str) -> None:
    assert with_bundled(Path(text)) == Path(text)


@pytest.mark.parametrize("portrait", bundled_portraits(), ids=lambda portrait: str(portrait.name))
def test_the_face_of_every_portrait_is_found(portrait: BundledPortrait, face_finder: FaceFinder) -> None:
    for size in ((1280, 720), (512, 512)):
        picture = load_portrait(portrait.path, size, finder=face_finder)
        assert picture.name == portrait.name
        assert picture.notes == ()
        assert picture.face.confidence > 0.8
        assert abs(yaw(picture.face)) < 20
