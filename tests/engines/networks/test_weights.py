"""Checkpoints: what is read, what is refused and in which words."""

from __future__ import annotations

import errno
import io
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engines.cache_dirs import models_home
from engines.errors import GeneratorError, ReenactError, UsageError
from engines.networks.weights import PUBLISHED, convert, intact, load, published_home
from tests.support.neural import needs

if TYPE_CHECKING:
    import torch
else:
    torch = needs("torch")

STITCHING = PUBLISHED["liveportrait"][-1]
"""The small file of three MLPs: it goes the same way as the large ones."""

Nested = dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def published_state() -> Nested:
    """What the published file of the MLPs holds: names prefixed ``module.``."""
    from engines.networks.liveportrait import MODULES

    return {
        part: {f"module.{name}": value for name, value in MODULES[part]().state_dict().items()}
        for part in STITCHING.parts
    }


@pytest.fixture
def state(published_state: Nested) -> Nested:
    return {part: dict(own) for part, own in published_state.items()}


def saved(folder: Path, holds: Any) -> Path:
    path = folder / STITCHING.file
    torch.save(holds, path)
    return path


def refused(source: Path, target: Path) -> str:
    """Why a file is not taken, in a line; nothing is left of it."""
    with pytest.raises(GeneratorError) as caught:
        convert("liveportrait", STITCHING, source, target)
    assert "\n" not in str(caught.value)
    assert "tools.models fetch liveportrait" in caught.value.cure
    assert not target.exists()
    assert not list(target.parent.glob(".*"))
    return str(caught.value)


def test_a_published_file_is_kept_with_its_digest(state: Nested, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    target = tmp_path / "kept" / "mlps.safetensors"
    convert("liveportrait", STITCHING, saved(tmp_path, state), target)
    assert intact(target)
    assert sorted(path.name for path in target.parent.iterdir()) == ["mlps.safetensors", "mlps.safetensors.sha256"]
    held = load_file(target)
    for part, own in state.items():
        for name, value in own.items():
            assert torch.equal(held[f"{part}.{name.removeprefix('module.')}"], value)
    data = bytearray(target.read_bytes())
    data[-1] ^= 1
    target.write_bytes(data)
    assert not intact(target)


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("bare", [False, True])
def test_code_is_not_run(state: Nested, tmp_path: Path, protocol: int, bare: bool) -> None:
    mark = tmp_path / "was-run"
    path = tmp_path / STITCHING.file
    if bare:
        path.write_bytes(pickle.dumps(Command(mark), protocol=protocol))
    else:
        torch.save({**state, "extra": Command(mark)}, path, pickle_protocol=protocol)
    assert "code or objects" in refused(path, tmp_path / "kept.safetensors")
    assert not mark.exists()


def test_a_web_page_is_named(tmp_path: Path) -> None:
    path = tmp_path / STITCHING.file
    path.write_text("\n<!DOCTYPE html><html><body>Sign in to continue</body></html>")
    assert "is a web page" in refused(path, tmp_path / "kept.safetensors")


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    path = tmp_path / STITCHING.file
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    assert "Git LFS pointer" in refused(path, tmp_path / "kept.safetensors")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_a_truncated_file_is_named(state: Nested, tmp_path: Path, part: float, zipped: bool) -> None:
    whole = io.BytesIO()
    torch.save(state, whole, _use_new_zipfile_serialization=zipped)
    path = tmp_path / STITCHING.file
    path.write_bytes(whole.getvalue()[: int(part * len(whole.getvalue()))])
    said = refused(path, tmp_path / "kept.safetensors")
    assert "truncated or damaged" in said or "not a PyTorch checkpoint" in said


def drop(state: Nested) -> None:
    del state["retarget_eye"]["module.mlp.0.bias"]


def add(state: Nested) -> None:
    state["retarget_mouth"]["module.mlp.8.bias"] = torch.zeros(3)


def reshape(state: Nested) -> None:
    state["retarget_shoulder"]["module.mlp.6.bias"] = torch.zeros(66)


def drop_part(state: Nested) -> None:
    del state["retarget_eye"]


def other(state: Nested) -> None:
    for part in state:
        state[part] = {"conv1.weight": torch.zeros(3)}


def not_tensors(state: Nested) -> None:
    state["retarget_eye"]["module.mlp.0.bias"] = [1.0]


def not_numbers(state: Nested) -> None:
    state["retarget_eye"]["module.mlp.0.bias"] = torch.full((256,), torch.nan)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (drop, r"lacks retarget_eye\.mlp\.0\.bias"),
        (add, r"has retarget_mouth\.mlp\.8\.bias, which"),
        (reshape, r"mlp\.6\.bias as \(66,\), expected \(65,\)"),
        (drop_part, "has no entry retarget_eye"),
        (other, "of another network"),
        (not_tensors, r"as list, expected \(256,\)"),
        (not_numbers, "not numbers"),
    ],
)
def test_what_is_not_this_network_is_told_apart(
    state: Nested, tmp_path: Path, spoil: Callable[[Nested], None], words: str
) -> None:
    spoil(state)
    assert re.search(words, refused(saved(tmp_path, state), tmp_path / "kept.safetensors"))


@pytest.mark.parametrize(
    "holds", [[1, 2], torch.zeros(3), {"retarget_shoulder": 1, "retarget_mouth": 1, "retarget_eye": 1}]
)
def test_other_contents_are_named(holds: Any, tmp_path: Path) -> None:
    assert "holds a" in refused(saved(tmp_path, holds), tmp_path / "kept.safetensors")


def test_a_full_disk_is_named(state: Nested, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    target = tmp_path / "kept" / "mlps.safetensors"
    with pytest.raises(GeneratorError, match=r"no room in .* MB are needed") as caught:
        convert("liveportrait", STITCHING, saved(tmp_path, state), target)
    assert "XDG_CACHE_HOME" in caught.value.cure
    assert list(target.parent.iterdir()) == []


def test_absent_weights_name_files_place_and_command(own_cache: Path) -> None:
    for family, files in PUBLISHED.items():
        with pytest.raises(GeneratorError, match="has no weights") as caught:
            load(family)
        assert all(wanted.file in str(caught.value) for wanted in files)
        assert str(own_cache) in str(caught.value)
        assert f"tools.models fetch {family}" in caught.value.cure


@pytest.mark.parametrize(
    ("family", "weights", "words"),
    [
        ("nobody", None, "no network family"),
        ("fomm", "n" * 300, "cannot be read"),
        ("fomm", "random:x", "not a whole number"),
        ("fomm", "random:", "not a whole number"),
        ("fomm", "random:-1", "not a whole number"),
        ("fomm", "nowhere.pth.tar", "no such file"),
        ("liveportrait", __file__, "one file; liveportrait has 5"),
        ("liveportrait", str(Path(__file__).parent), "not in it"),
    ],
)
def test_wrong_use_is_told(family: str, weights: str | None, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        load(family, weights)
    assert caught.value.cure


def test_random_weights_say_so_and_repeat() -> None:
    first, again, other_seed = load("fomm", "random:1"), load("fomm", "random:1"), load("fomm", "random:2")
    assert (first.label, first.random) == ("random:1", True)
    assert first.digest == again.digest != other_seed.digest
    for name, part in first.parts.items():
        assert not part.training
        mine, same, others = (w.parts[name].state_dict() for w in (first, again, other_seed))
        assert all(torch.equal(mine[key], same[key]) for key in mine)
        assert any(not torch.equal(mine[key], others[key]) for key in mine)
        assert all(bool(torch.isfinite(value).all()) for value in mine.values())


def test_only_files_of_weights_need_safetensors(state: Nested, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert load("fomm", "random:1").random
    source = saved(tmp_path, state)
    with pytest.raises(GeneratorError, match=r"^liveportrait needs safetensors, which is not installed$") as caught:
        convert("liveportrait", STITCHING, source, tmp_path / "kept.safetensors")
    assert "pip install" in caught.value.cure
    held = tmp_path / "vox-cpk.safetensors"
    held.write_bytes(b"whatever")
    with pytest.raises(GeneratorError, match=r"^fomm needs safetensors"):
        load("fomm", held)


def test_a_whole_checkpoint_goes_round(own_cache: Path, tmp_path: Path) -> None:
    """As its authors saved it, with what training needs besides; then from the kept copy; then a damaged one."""
    made = load("fomm", "random:4")
    path = tmp_path / "vox-cpk.pth.tar"
    states = {name: part.state_dict() for name, part in made.parts.items()}
    torch.save({**states, "discriminator": {"x": torch.zeros(2)}, "epoch": 99}, path)
    first = load("fomm", path)
    assert (first.label, first.random) == (str(path), False)
    kept = list((models_home() / "converted").glob("*.safetensors"))
    assert len(kept) == 1
    assert own_cache in kept[0].parents
    changed = kept[0].stat().st_mtime_ns
    again = load("fomm", str(path))
    assert kept[0].stat().st_mtime_ns == changed
    assert first.digest == again.digest
    for name, part in made.parts.items():
        assert all(torch.equal(value, again.parts[name].state_dict()[key]) for key, value in part.state_dict().items())

    home = published_home("fomm")
    shutil.copytree(kept[0].parent, home)
    for file in home.iterdir():
        file.rename(home / ("vox-cpk.safetensors" + (".sha256" if file.suffix == ".sha256" else "")))
    assert load("fomm").label == "published"
    with (home / "vox-cpk.safetensors").open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        opened.write(b"\x7f")
    with pytest.raises(ReenactError, match="changed or damaged") as caught:
        load("fomm")
    assert "fetch fomm" in caught.value.cure
