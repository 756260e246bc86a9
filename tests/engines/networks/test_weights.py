"""Checkpoints: which are read and which are refused, with which codes."""

from __future__ import annotations

import errno
import io
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engines.cache_dirs import models_home
from engines.errors import GeneratorError, UsageError
from engines.networks.weights import PUBLISHED, convert_to_safetensors, is_intact, load_weights, published_home
from tests.support.engines.neural import needs

if TYPE_CHECKING:
    import torch
else:
    torch = needs("torch")

STITCHING = PUBLISHED["liveportrait"][-1]
"""The small file of three MLPs: it is handled as the large ones are."""

Nested = dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def published_state() -> Nested:
    """The content of the published file of the MLPs, with names prefixed ``module.``."""
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


def refusal(source: Path, target: Path) -> GeneratorError:
    """Return the error of a conversion, of which nothing is left."""
    with pytest.raises(GeneratorError) as caught:
        convert_to_safetensors("liveportrait", STITCHING, source, target)
    assert "\n" not in str(caught.value)
    assert "tools.models fetch liveportrait" in caught.value.cure
    assert not target.exists()
    assert not list(target.parent.glob(".*"))
    return caught.value


def test_a_published_file_is_converted_with_its_digest(state: Nested, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    target = tmp_path / "kept" / "mlps.safetensors"
    convert_to_safetensors("liveportrait", STITCHING, saved(tmp_path, state), target)
    assert is_intact(target)
    assert sorted(path.name for path in target.parent.iterdir()) == ["mlps.safetensors", "mlps.safetensors.sha256"]
    held = load_file(target)
    for part, own in state.items():
        for name, value in own.items():
            assert torch.equal(held[f"{part}.{name.removeprefix('module.')}"], value)
    data = bytearray(target.read_bytes())
    data[-1] ^= 1
    target.write_bytes(data)
    assert not is_intact(target)


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
    assert refusal(path, tmp_path / "kept.safetensors").code == "weights-unsafe"
    assert not mark.exists()


def test_a_web_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / STITCHING.file
    path.write_text("\n<!DOCTYPE html><html><body>Sign in to continue</body></html>")
    assert refusal(path, tmp_path / "kept.safetensors").code == "weights-not-checkpoint"


def test_a_git_lfs_pointer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / STITCHING.file
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    assert refusal(path, tmp_path / "kept.safetensors").code == "weights-not-checkpoint"


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_a_truncated_file_is_refused(state: Nested, tmp_path: Path, part: float, zipped: bool) -> None:
    whole = io.BytesIO()
    torch.save(state, whole, _use_new_zipfile_serialization=zipped)
    path = tmp_path / STITCHING.file
    path.write_bytes(whole.getvalue()[: int(part * len(whole.getvalue()))])
    error = refusal(path, tmp_path / "kept.safetensors")
    assert error.code in ("weights-damaged", "weights-not-checkpoint")


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
    ("spoil", "code", "detail"),
    [
        (drop, "weights-of-another-network", "retarget_eye.mlp.0.bias"),
        (add, "weights-of-another-network", "retarget_mouth.mlp.8.bias"),
        (reshape, "weights-of-another-network", "(65,)"),
        (drop_part, "weights-of-another-network", "retarget_eye"),
        (other, "weights-of-another-network", "without 28 of the 28 tensors"),
        (not_tensors, "weights-of-another-network", "as list"),
        (not_numbers, "weights-not-finite", "retarget_eye.mlp.0.bias"),
    ],
)
def test_weights_of_another_network_are_refused(
    state: Nested, tmp_path: Path, spoil: Callable[[Nested], None], code: str, detail: str
) -> None:
    spoil(state)
    error = refusal(saved(tmp_path, state), tmp_path / "kept.safetensors")
    assert error.code == code
    assert detail in str(error)


@pytest.mark.parametrize(
    "holds", [[1, 2], torch.zeros(3), {"retarget_shoulder": 1, "retarget_mouth": 1, "retarget_eye": 1}]
)
def test_a_file_with_other_content_is_refused(holds: Any, tmp_path: Path) -> None:
    assert refusal(saved(tmp_path, holds), tmp_path / "kept.safetensors").code == "weights-of-another-network"


def test_a_full_disk_is_an_error(state: Nested, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    target = tmp_path / "kept" / "mlps.safetensors"
    with pytest.raises(GeneratorError) as caught:
        convert_to_safetensors("liveportrait", STITCHING, saved(tmp_path, state), target)
    assert caught.value.code == "weights-disk-full"
    assert "XDG_CACHE_HOME" in caught.value.cure
    assert list(target.parent.iterdir()) == []


def test_the_error_for_absent_weights_names_files_folder_and_command(own_cache: Path) -> None:
    for family, files in PUBLISHED.items():
        with pytest.raises(GeneratorError) as caught:
            load_weights(family)
        assert caught.value.code == "weights-missing"
        assert all(wanted.file in str(caught.value) for wanted in files)
        assert str(own_cache) in str(caught.value)
        assert f"tools.models fetch {family}" in caught.value.cure


@pytest.mark.parametrize(
    ("family", "weights", "code"),
    [
        ("unknown", None, "family-unknown"),
        ("fomm", "n" * 300, "weights-unreadable"),
        ("fomm", "random:x", "weights-bad-seed"),
        ("fomm", "random:", "weights-bad-seed"),
        ("fomm", "random:-1", "weights-bad-seed"),
        ("fomm", "nowhere.pth.tar", "weights-not-found"),
        ("liveportrait", __file__, "weights-not-folder"),
        ("liveportrait", str(Path(__file__).parent), "weights-incomplete"),
    ],
)
def test_a_mistake_of_the_user_is_a_usage_error(family: str, weights: str | None, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_weights(family, weights)
    assert caught.value.code == code
    assert caught.value.cure


def test_random_weights_are_labelled_and_reproducible() -> None:
    first, again, other_seed = (
        load_weights("fomm", "random:1"),
        load_weights("fomm", "random:1"),
        load_weights("fomm", "random:2"),
    )
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
    assert load_weights("fomm", "random:1").random
    source = saved(tmp_path, state)
    with pytest.raises(GeneratorError) as caught:
        convert_to_safetensors("liveportrait", STITCHING, source, tmp_path / "kept.safetensors")
    assert caught.value.code == "package-missing"
    assert "pip install" in caught.value.cure
    held = tmp_path / "vox-cpk.safetensors"
    held.write_bytes(b"whatever")
    with pytest.raises(GeneratorError) as caught:
        load_weights("fomm", held)
    assert caught.value.code == "package-missing"


def test_a_complete_checkpoint_is_converted_and_loaded(own_cache: Path, tmp_path: Path) -> None:
    """Load it as its authors saved it, with what training needs; then the converted copy; then a damaged one."""
    made = load_weights("fomm", "random:4")
    path = tmp_path / "vox-cpk.pth.tar"
    states = {name: part.state_dict() for name, part in made.parts.items()}
    torch.save({**states, "discriminator": {"x": torch.zeros(2)}, "epoch": 99}, path)
    first = load_weights("fomm", path)
    assert (first.label, first.random) == (str(path), False)
    kept = list((models_home() / "converted").glob("*.safetensors"))
    assert len(kept) == 1
    assert own_cache in kept[0].parents
    changed = kept[0].stat().st_mtime_ns
    again = load_weights("fomm", str(path))
    assert kept[0].stat().st_mtime_ns == changed
    assert first.digest == again.digest
    for name, part in made.parts.items():
        assert all(torch.equal(value, again.parts[name].state_dict()[key]) for key, value in part.state_dict().items())

    home = published_home("fomm")
    shutil.copytree(kept[0].parent, home)
    for file in home.iterdir():
        file.rename(home / ("vox-cpk.safetensors" + (".sha256" if file.suffix == ".sha256" else "")))
    assert load_weights("fomm").label == "published"
    with (home / "vox-cpk.safetensors").open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        opened.write(b"\x7f")
    with pytest.raises(GeneratorError) as caught:
        load_weights("fomm")
    assert caught.value.code == "weights-damaged"
    assert "fetch fomm" in caught.value.cure
