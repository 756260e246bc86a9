"""Expressions that are kept by name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engines.errors import CommandError, NotFoundError
from realtime.motion.controls import resolve
from realtime.motion.presets import BUILT_IN, MOST, Presets


def test_what_was_saved_is_there_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "new" / "expressions.json"
    Presets(path).save("my grin", {"smile": 0.9})
    again = Presets(path)
    assert again.get("my grin") == {"smile": 0.9}
    assert again.names == (*BUILT_IN, "my grin")
    again.delete("my grin")
    assert Presets(path).names == tuple(BUILT_IN)


@pytest.mark.parametrize("values", BUILT_IN.values(), ids=BUILT_IN)
def test_those_that_come_with_the_program_can_be_set(values: dict[str, float]) -> None:
    assert resolve(values)


@pytest.mark.parametrize("name", ["", " x", "../x", "a" * 41, "smile", "a\nb"])
def test_a_bad_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CommandError) as caught:
        Presets(tmp_path / "e.json").save(name, {"smile": 1.0})
    assert caught.value.code == "preset-bad-name"


def test_an_unknown_one_is_refused(tmp_path: Path) -> None:
    presets = Presets(tmp_path / "e.json")
    with pytest.raises(NotFoundError) as caught:
        presets.get("x")
    assert caught.value.code == "preset-not-found"
    with pytest.raises(NotFoundError):
        presets.delete("smile")


def test_what_another_run_saves_or_deletes_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    first, second = Presets(path), Presets(path)
    assert first.names == second.names == tuple(BUILT_IN)
    first.save("a", {"smile": 0.1})
    second.save("b", {"smile": 0.2})
    first.save("c", {"smile": 0.3})
    second.delete("a")
    assert first.names == second.names == (*BUILT_IN, "b", "c")


def test_several_runs_save_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "e.json"

    def save(run: int) -> None:
        for number in range(MOST // 4):
            Presets(path).save(f"{run}-{number}", {"smile": 0.1})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(save, range(4)))
    assert len(Presets(path).names) == len(BUILT_IN) + MOST


def test_a_file_that_is_no_text_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    path.write_bytes(b"\xff\xfe{")
    presets = Presets(path)
    assert presets.names == tuple(BUILT_IN)
    with pytest.raises(CommandError) as caught:
        presets.get("mine")
    assert caught.value.code == "preset-unreadable"


def test_their_number_is_bounded(tmp_path: Path) -> None:
    presets = Presets(tmp_path / "e.json")
    for number in range(MOST):
        presets.save(f"p{number}", {"smile": 0.1})
    with pytest.raises(CommandError) as caught:
        presets.save("one more", {"smile": 0.1})
    assert caught.value.code == "preset-too-many"
    presets.save("p0", {"smile": 0.2})


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"nose": 1}}', '{"a": {"smile": 9}}', "[" * 5000])
def test_a_damaged_file_is_reported_and_not_overwritten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "e.json"
    path.write_text(text, encoding="utf-8")
    presets = Presets(path)
    assert presets.names == tuple(BUILT_IN)
    with pytest.raises(CommandError) as caught:
        presets.save("mine", {"smile": 1.0})
    assert caught.value.code == "preset-unreadable"
    assert path.read_text(encoding="utf-8") == text
