"""A file appears complete or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.atomic_write import atomic_write


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with atomic_write(path) as partial:
        partial.write_text("all of it")
        assert not path.exists()
        assert partial.parent == path.parent
    assert path.read_text() == "all of it"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["n" * 250, "\N{GRINNING FACE}" * 62], ids=["letters", "faces"])
def test_a_name_may_have_the_greatest_length(tmp_path: Path, name: str) -> None:
    with atomic_write(tmp_path / name) as partial:
        partial.write_text("all of it")
    assert (tmp_path / name).read_text() == "all of it"


@pytest.mark.parametrize("failure", [EOFError, KeyboardInterrupt])
def test_when_writing_fails_the_old_file_stays(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_text("of before")

    def fail() -> None:
        with atomic_write(path) as partial:
            partial.write_text("half")
            raise failure

    with pytest.raises(failure):
        fail()
    assert path.read_text() == "of before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises((FileExistsError, NotADirectoryError)), atomic_write(tmp_path / "taken" / "file"):
        pytest.fail("there is nowhere to write")
