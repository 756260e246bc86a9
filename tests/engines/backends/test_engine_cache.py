"""The cache of engines: files are complete or absent, and an engine that does not fit is refused."""

from __future__ import annotations

import errno
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engines.backends.engine_cache import (
    Machine,
    Sidecar,
    list_engines,
    load_engine,
    mismatch,
    read_sidecar,
)
from engines.errors import BackendError
from tests.support.engines.engine_files import FIELDS, HERE, NETWORK, REBUILD, put, sidecar


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def loaded(folder: Path, machine: Machine = HERE) -> bytes:
    return load_engine(folder, NETWORK, "frame", machine, REBUILD)[0]


def refusal(folder: Path, machine: Machine = HERE) -> BackendError:
    """Return the error for a folder without an engine that fits; its cure is the rebuild command."""
    with pytest.raises(BackendError) as caught:
        loaded(folder, machine)
    assert caught.value.cure == REBUILD
    assert "\n" not in str(caught.value)
    return caught.value


def test_an_engine_that_was_written_can_be_read(tmp_path: Path) -> None:
    path = put(tmp_path / "new", "frame-sm89-trt11.4.0.106")
    assert path.read_bytes() == b"engine"
    assert files(tmp_path / "new") == ["frame-sm89-trt11.4.0.106.engine", "frame-sm89-trt11.4.0.106.json"]
    assert read_sidecar(path) == sidecar()
    assert load_engine(tmp_path / "new", NETWORK, "frame", HERE, REBUILD) == (b"engine", sidecar())
    (entry,) = list_engines(tmp_path / "new")
    assert (entry.path, entry.size, entry.sidecar, entry.error) == (path, 6, sidecar(), None)


def test_an_empty_or_absent_cache_is_an_error(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        assert refusal(folder).code == "engine-missing"
        assert list(list_engines(folder)) == []


@pytest.mark.parametrize(
    ("machine", "changes", "found"),
    [
        (HERE, {"tensorrt": "10.9.0.1"}, "built by TensorRT 10.9.0.1, and 11.4.0.106 is installed"),
        (HERE, {"gpu": "NVIDIA H100", "compute_capability": "9.0"}, "NVIDIA H100 .*9.0.*and this is NVIDIA GeForce"),
        (HERE, {"gpu": "NVIDIA L4"}, "it was built for NVIDIA L4 .*and this is NVIDIA GeForce RTX 4090"),
        (HERE, {"gpu": None, "compute_capability": None}, "built without a GPU, .* runs nowhere"),
        (Machine(None, HERE.gpu, "8.9"), {}, "it needs TensorRT 11.4.0.106, which is not installed"),
        (Machine(HERE.tensorrt, None, None), {}, "there is no GPU here"),
    ],
)
def test_an_engine_for_another_machine_is_refused(
    tmp_path: Path, machine: Machine, changes: dict[str, Any], found: str
) -> None:
    put(tmp_path, **changes)
    assert re.search(found, mismatch(sidecar(**changes), machine))
    assert refusal(tmp_path, machine).code == "engine-mismatch"
    assert re.search(found, refusal(tmp_path, machine).found)
    assert mismatch(sidecar(), HERE) == ""


@pytest.mark.parametrize("damage", [lambda whole: whole[:-1], lambda whole: whole + b"x", lambda _: b"", bytes.upper])
def test_an_engine_that_was_truncated_or_edited_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = put(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert refusal(tmp_path).code == "engine-damaged"


def test_an_engine_without_a_sidecar_is_refused(tmp_path: Path) -> None:
    put(tmp_path).with_suffix(".json").unlink()
    assert refusal(tmp_path).code == "engine-sidecar-missing"
    (entry,) = list_engines(tmp_path)
    assert entry.sidecar is None


def test_a_sidecar_without_an_engine_is_ignored(tmp_path: Path) -> None:
    put(tmp_path).unlink()
    assert refusal(tmp_path).code == "engine-missing"


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (lambda _: "", "Invalid JSON"),
        (lambda text: text[: len(text) // 2], "Invalid JSON"),
        (lambda _: "<!DOCTYPE html>", "Invalid JSON"),
        (lambda _: "[]", "the file"),
        (lambda text: text.replace('"level": 3', '"level": "3"'), "level"),
        (lambda text: text.replace('"level": 3', '"level": 3, "more": 1'), "more"),
        (lambda text: text.replace('"opset": 20,', ""), "opset: Field required"),
        (lambda text: text.replace('"version": 1', '"version": 2'), "version"),
        (lambda text: text.replace("3.2", "NaN"), "median_ms"),
        (lambda text: text.replace('"float32": [', '"float32": [[],'), "float32.0"),
    ],
)
def test_a_sidecar_that_was_damaged_or_edited_is_refused(
    tmp_path: Path, edit: Callable[[str], str], found: str
) -> None:
    beside = put(tmp_path).with_suffix(".json")
    beside.write_text(edit(beside.read_text()))
    assert refusal(tmp_path).code == "engine-sidecar-invalid"
    assert found in refusal(tmp_path).found
    (entry,) = list_engines(tmp_path)
    assert entry.sidecar is None
    assert entry.error is not None
    assert found in entry.error.found


def test_a_sidecar_that_is_too_large_is_refused(tmp_path: Path) -> None:
    beside = put(tmp_path).with_suffix(".json")
    beside.write_text(beside.read_text() + " " * (1 << 20))
    assert refusal(tmp_path).code == "engine-sidecar-too-large"


def test_an_engine_with_a_name_near_the_limit_of_file_systems_is_written(tmp_path: Path) -> None:
    path = put(tmp_path, "n" * 240)
    assert load_engine(tmp_path, NETWORK, "frame", HERE, REBUILD) == (b"engine", sidecar())
    assert files(tmp_path) == [path.name, path.with_suffix(".json").name]


def test_a_damaged_sidecar_of_another_stage_is_ignored(tmp_path: Path) -> None:
    put(tmp_path, "motion-1").with_suffix(".json").write_text("{")
    assert refusal(tmp_path).code == "engine-missing"
    put(tmp_path)
    assert loaded(tmp_path) == b"engine"


def test_of_several_the_one_that_fits_is_loaded(tmp_path: Path) -> None:
    put(tmp_path, "frame-a", b"other gpu", gpu="NVIDIA L4")
    put(tmp_path, "frame-b", b"right")
    put(tmp_path, "frame-c", b"other tensorrt", tensorrt="10.1.0.2")
    put(tmp_path, "frame-d", b"other network", network="f" * 16)
    put(tmp_path, "frame-e", b"damaged").with_suffix(".json").write_text("")
    assert loaded(tmp_path) == b"right"


def test_of_several_that_fit_the_newest_is_loaded(tmp_path: Path) -> None:
    put(tmp_path, "frame-a", b"older", built_at="2026-03-01T12:00:00+00:00")
    put(tmp_path, "frame-b", b"newest", built_at="2026-03-02T12:00:00+00:00", precision="float32")
    put(tmp_path, "frame-c", b"oldest", built_at="2026-02-01T12:00:00+00:00")
    assert loaded(tmp_path) == b"newest"


def test_of_several_that_do_not_fit_the_newest_is_named(tmp_path: Path) -> None:
    put(tmp_path, "frame-a", b"1", tensorrt="10.1", built_at="2026-03-01T12:00:00+00:00")
    put(tmp_path, "frame-b", b"2", tensorrt="10.2", built_at="2026-03-02T12:00:00+00:00")
    assert "TensorRT 10.2" in refusal(tmp_path).found


def test_a_folder_or_a_dangling_link_with_an_engines_name_is_tolerated(tmp_path: Path) -> None:
    (tmp_path / "frame-a.engine").mkdir()
    (tmp_path / "frame-b.engine").symlink_to(tmp_path / "gone")
    assert [entry.path.name for entry in list_engines(tmp_path)] == ["frame-a.engine"]
    (tmp_path / "frame-a.json").write_text(sidecar().model_dump_json())
    assert refusal(tmp_path).code == "engine-unreadable"


class Full:
    """A disk on which ``room`` files can be written, and then not another byte."""

    def __init__(self, patch: pytest.MonkeyPatch, room: int, error: int = errno.ENOSPC) -> None:
        self._room = room
        disk = self

        class File(io.FileIO):
            def write(self, content: Any) -> int:
                if disk._room == 0:
                    super().write(bytes(content)[: len(content) // 2])
                    raise OSError(error, "No space left on device")
                disk._room -= 1
                return super().write(content)

        written_by(patch, File)


def written_by(patch: pytest.MonkeyPatch, kind: type[io.FileIO]) -> None:
    """Have files that are opened for writing be of another class."""
    opened = Path.open

    def open_file(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        return kind(path, mode) if "w" in mode else opened(path, mode, *rest, **more)

    patch.setattr(Path, "open", open_file)


@pytest.mark.parametrize("room", [0, 1])
def test_a_full_disk_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    put(tmp_path, engine=b"before")
    before = files(tmp_path)
    for name in ("frame-1", "frame-2"):
        with monkeypatch.context() as patch:
            Full(patch, room)
            with pytest.raises(BackendError) as caught:
                put(tmp_path, name, engine=bytes(3_000_000))
        assert (caught.value.code, caught.value.expected) == ("engine-disk-full", "3 MB")
        assert "--out" in caught.value.cure
        assert files(tmp_path) == before
    assert loaded(tmp_path) == b"before"


def test_a_disk_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Full(monkeypatch, 0, errno.EIO)
    with pytest.raises(BackendError) as caught:
        put(tmp_path)
    assert caught.value.code == "engine-not-writable"
    assert files(tmp_path) == []


def test_ctrl_c_while_writing_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, engine=b"before")
    before = files(tmp_path)

    class Stopped(io.FileIO):
        def write(self, _: Any) -> int:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        written_by(patch, Stopped)
        with pytest.raises(KeyboardInterrupt):
            put(tmp_path, engine=b"after")
    assert files(tmp_path) == before
    assert loaded(tmp_path) == b"before"


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BackendError) as caught:
            put(folder)
        assert caught.value.code == "engine-not-writable"
        assert "--out" in caught.value.cure


def test_a_new_build_replaces_an_engine(tmp_path: Path) -> None:
    put(tmp_path, engine=b"old")
    put(tmp_path, engine=b"new", level=5)
    assert files(tmp_path) == ["frame-1.engine", "frame-1.json"]
    assert load_engine(tmp_path, NETWORK, "frame", HERE, REBUILD) == (b"new", sidecar(b"new", level=5))


def read_or_refused(path: Path) -> Sidecar | None:
    """Return the sidecar, or None if a BackendError of one line refuses it; any other exception fails the test."""
    refused: BackendError
    try:
        return read_sidecar(path)
    except BackendError as error:
        refused = error
    assert len(str(refused).splitlines()) == 1
    assert refused.cure
    return None


NEVER_SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@NEVER_SLOW
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_are_refused_as_a_sidecar(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "frame-1.json").write_bytes(content)
    assert read_or_refused(tmp_path / "frame-1.engine") is None


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)


@NEVER_SLOW
@given(st.sampled_from(sorted(FIELDS)) | st.text(max_size=10), ANYTHING)
def test_a_changed_field_is_valid_or_refused(tmp_path: Path, name: str, value: Any) -> None:
    fields = {**json.loads(sidecar().model_dump_json()), name: value}
    (tmp_path / "frame-1.json").write_text(json.dumps(fields))
    found = read_or_refused(tmp_path / "frame-1.engine")
    if found is not None:
        json.dumps(found.model_dump(mode="json"), allow_nan=False)  # it can be listed
        assert isinstance(mismatch(found, HERE), str)
