"""Checkpoints: the published files, checked, kept as safetensors; or random weights for benchmarks and tests.

A published checkpoint is a pickle, which could run code when it is read. It is read once, by PyTorch's reader that
refuses everything but tensors; what it holds must have the network's own names and shapes to the last one; and it is
kept as safetensors, which cannot hold code, with its SHA-256 beside it in a file of the same name and ``.sha256``.

    published    CACHE/models/liveportrait, CACHE/models/fomm     put there by ``python -m tools.models fetch``
    given        a folder or file of the person's; its safetensors lie in CACHE/models/converted, named by digest

Importing this file needs no torch.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import pickle
import re
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from engines.atomic_write import whole
from engines.cache_dirs import models_home
from engines.errors import GeneratorError, UsageError
from engines.install_hint import install

if TYPE_CHECKING:
    from torch import Tensor, nn

    State = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One file of a published checkpoint."""

    file: str
    parts: tuple[str, ...]
    """The parts of the family it holds, as in the family's ``MODULES``."""
    nested: bool = False
    """Whether the parts are entries of the file by their names; else it is the state dict of its one part."""

    @property
    def stem(self) -> str:
        """The name that its safetensors has, without the suffix."""
        return self.file.partition(".")[0]


PUBLISHED = {
    "liveportrait": (
        PublishedFile("appearance_feature_extractor.pth", ("appearance_feature_extractor",)),
        PublishedFile("motion_extractor.pth", ("motion_extractor",)),
        PublishedFile("spade_generator.pth", ("spade_generator",)),
        PublishedFile("warping_module.pth", ("warping_module",)),
        PublishedFile(
            "stitching_retargeting_module.pth", ("retarget_shoulder", "retarget_mouth", "retarget_eye"), nested=True
        ),
    ),
    "fomm": (PublishedFile("vox-cpk.pth.tar", ("generator", "kp_detector"), nested=True),),
}
"""The files of each family."""

FETCH = {
    "liveportrait": "python -m tools.models fetch liveportrait --accept-licence",
    "fomm": "python -m tools.models fetch fomm --from PATH/TO/vox-cpk.pth.tar",
}
"""The command that puts a family's published checkpoint in its place."""

RANDOM = "random:"


@dataclass(frozen=True, slots=True)
class Weights:
    """A family's networks with their weights."""

    parts: dict[str, nn.Module] = field(repr=False)
    """By the names in the family's ``MODULES``; eval mode, float32, on the CPU, without gradients."""
    label: str
    """What to call them in every output: ``published``, a path, or ``random:SEED``, which is noise."""
    digest: str
    """SHA-256 of all that was loaded, in hexadecimal: what an engine built from them is filed under."""

    @property
    def random(self) -> bool:
        """Whether the pictures are noise: every output must say so."""
        return self.label.startswith(RANDOM)


def load(family: str, weights: str | Path | None = None) -> Weights:
    """Build a family's networks and fill them.

    ``weights`` is None for the published ones where ``tools.models`` put them, ``random:SEED``, or the path of a
    folder with the family's published files (of the one file, for fomm), as ``.pth`` or ``.safetensors``. Raises
    UsageError for what is not there or not understood, GeneratorError for files that are not the family's weights or
    cannot be kept, one line each.
    """
    if family not in PUBLISHED:
        raise UsageError(f"no network family is called {family!r}", cure=f"choose one of: {', '.join(PUBLISHED)}")
    module = _family(family)
    text = str(weights) if weights is not None else ""
    if text.startswith(RANDOM):
        seed = text.removeprefix(RANDOM)
        if not re.fullmatch(r"[0-9]{1,18}", seed):
            raise UsageError(f"--weights {text}: the seed is not a whole number", cure="for example --weights random:1")
        return _random(module, int(seed))
    files = published_files(family) if weights is None else given_files(family, Path(weights).expanduser())
    digest, states = hashlib.sha256(), {}
    for wanted, path in files.items():
        state, of_file = _read(family, wanted, path)
        digest.update(of_file.encode())
        states.update(state)
    parts = {name: _filled(module, name, states) for name in module.MODULES}
    return Weights(parts, "published" if weights is None else text, digest.hexdigest())


def published_home(family: str) -> Path:
    """Where a family's fetched checkpoint lies, whether or not it is there."""
    return models_home() / family


def published_files(family: str) -> dict[PublishedFile, Path]:
    """The fetched files. Raises GeneratorError, naming what is missing, its place and the command."""
    home = published_home(family)
    found = {wanted: _either(home, wanted) for wanted in PUBLISHED[family]}
    missing = [wanted.file for wanted, path in found.items() if path is None]
    if missing:
        raise GeneratorError(f"{family} has no weights: {', '.join(missing)} not in {home}", cure=FETCH[family])
    return {wanted: path for wanted, path in found.items() if path is not None}


def given_files(family: str, path: Path) -> dict[PublishedFile, Path]:
    """The files at a place the person named. Raises UsageError when they are not there, or nobody may look."""
    try:
        return _given_files(family, path)
    except OSError as error:
        raise UsageError(f"--weights {path} cannot be read: {error.strerror}", cure="check its permissions") from None


def _given_files(family: str, path: Path) -> dict[PublishedFile, Path]:
    wanted_files = PUBLISHED[family]
    names = ", ".join(wanted.file for wanted in wanted_files)
    if not path.exists():
        raise UsageError(f"--weights {path}: there is no such file or folder", cure=f"name one that holds {names}")
    if path.is_file():
        if len(wanted_files) > 1:
            raise UsageError(
                f"--weights {path} is one file; {family} has {len(wanted_files)}", cure="name their folder"
            )
        return {wanted_files[0]: path}
    found = {wanted: _either(path, wanted) for wanted in wanted_files}
    missing = [wanted.file for wanted, place in found.items() if place is None]
    if missing:
        raise UsageError(f"--weights {path}: {', '.join(missing)} not in it", cure=f"put there {names}")
    return {wanted: place for wanted, place in found.items() if place is not None}


def convert(family: str, wanted: PublishedFile, source: Path, target: Path) -> None:
    """Read a published file safely, check it and keep it at ``target`` as safetensors, whole or not at all.

    Raises GeneratorError.
    """
    _family(family, "safetensors")
    from safetensors.torch import save

    state = _checked(family, wanted, _unpickled(source), source)
    data = save({name: value.contiguous() for name, value in state.items()})
    _write(target, data)
    _write(_digest_file(target), (hashlib.sha256(data).hexdigest() + "\n").encode())


def intact(path: Path) -> bool:
    """Whether a safetensors file is there with its digest beside it, and has it."""
    beside = _digest_file(path)
    if not (path.is_file() and beside.is_file()):
        return False
    with _readable(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == beside.read_text("ascii", "replace").strip()


def _family(family: str, *needed: str) -> ModuleType:
    """The module of a family. Raises GeneratorError where PyTorch, or a package needed besides, is not installed."""
    try:
        for package in ("torch", *needed):
            importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise GeneratorError(f"{family} needs {error.name}, which is not installed", cure=install("neural")) from error
    return importlib.import_module(f"engines.networks.{family}")


def _either(folder: Path, wanted: PublishedFile) -> Path | None:
    for name in (f"{wanted.stem}.safetensors", wanted.file):
        for below in ("", "base_models", "retargeting_models"):  # as the publisher's repository lays them out
            if (folder / below / name).is_file():
                return folder / below / name
    return None


# ---- reading ---------------------------------------------------------------------------------------------------------


def _read(family: str, wanted: PublishedFile, path: Path) -> tuple[State, str]:
    if path.suffix == ".safetensors":
        return _read_safetensors(family, wanted, path)
    with _readable(path), path.open("rb") as file:
        name = hashlib.file_digest(file, "sha256").hexdigest()
    kept = models_home() / "converted" / f"{wanted.stem}-{name[:32]}.safetensors"
    if not (kept.is_file() and _digest_file(kept).is_file()):
        convert(family, wanted, path, kept)
    return _read_safetensors(family, wanted, kept)


def _read_safetensors(family: str, wanted: PublishedFile, path: Path) -> tuple[State, str]:
    _family(family, "safetensors")
    from safetensors import SafetensorError
    from safetensors.torch import load as parse

    with _readable(path):
        data = path.read_bytes()
        beside = _digest_file(path)
        expected = beside.read_text("ascii", "replace").strip() if beside.is_file() else None
    digest = hashlib.sha256(data).hexdigest()
    if expected is not None and digest != expected:
        raise GeneratorError(
            f"{path} was changed or damaged: its SHA-256 is not the one in {beside.name}",
            cure=f"delete both and let them be made again: {FETCH[family]}",
        )
    try:
        state = parse(data)
    except SafetensorError as error:
        raise _refused(path, f"is not a whole safetensors file ({_line(error)})", family) from error
    return _compared(family, wanted, state, path), digest


def _unpickled(path: Path) -> Any:
    """What a published file holds, read without running anything in it."""
    import torch

    with _readable(path), path.open("rb") as file:
        start = file.read(256).lstrip().lower()
    if start.startswith((b"<", b"\xef\xbb\xbf<")):
        raise _refused(path, "is a web page, not a checkpoint: the download was answered with a page")
    if start.startswith(b"version https://git-lfs"):
        raise _refused(path, "is a Git LFS pointer, not the checkpoint itself")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how it was pickled: the person cannot change it
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if re.search(r"unsupported (global|class|operand)|not an allowed|can only", str(error), re.IGNORECASE):
            raise _refused(path, "holds code or objects besides tensors, which is not run") from error
        raise _refused(path, "is not a PyTorch checkpoint, or damaged") from error
    except OSError as error:
        raise GeneratorError(
            f"{path} cannot be read: {error.strerror or error}", cure="check its permissions"
        ) from error
    # What a damaged file raises is whatever its bytes lead the reader to.
    except Exception as error:
        raise _refused(path, f"is truncated or damaged ({_line(error)})") from error


def _checked(family: str, wanted: PublishedFile, holds: Any, path: Path) -> State:
    """The flat state of a file's parts, ``part.name``, out of what the file holds."""
    if not isinstance(holds, Mapping):
        raise _refused(path, f"holds a {type(holds).__name__}, not the weights of {' and '.join(wanted.parts)}", family)
    missing = [part for part in wanted.parts if wanted.nested and part not in holds]
    if missing:
        raise _refused(path, f"has no entry {', '.join(missing)}; it is another network's", family)
    state: State = {}
    for part in wanted.parts:
        own = holds[part] if wanted.nested else holds
        if not isinstance(own, Mapping):
            raise _refused(path, f"holds a {type(own).__name__} as {part}, not its weights", family)
        for name, value in own.items():
            state[f"{part}.{str(name).removeprefix('module.')}"] = value
    return _compared(family, wanted, state, path)


def _compared(family: str, wanted: PublishedFile, state: State, path: Path) -> State:
    """``state`` itself, if its names and shapes are the network's."""
    import torch

    module = _family(family)
    shapes = {f"{part}.{name}": s for part in wanted.parts for name, s in _shapes(module, part).items()}
    absent, extra = sorted(shapes.keys() - state.keys()), sorted(state.keys() - shapes.keys())
    whose = " and ".join(wanted.parts)
    if len(absent) > len(shapes) // 2:
        raise _refused(
            path, f"is of another network: {len(absent)} of {whose}'s {len(shapes)} tensors are missing", family
        )
    if absent:
        raise _refused(path, f"lacks {_some(absent)} of {whose}", family)
    if extra:
        raise _refused(path, f"has {_some(extra)}, which {whose} has not", family)
    for name, shape in shapes.items():
        value = state[name]
        if not isinstance(value, torch.Tensor) or tuple(value.shape) != shape:
            found = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise _refused(path, f"has {name} as {found}, expected {shape}", family)
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise _refused(path, f"has values in {name} that are not numbers", family)
    return state


def _shapes(module: ModuleType, part: str) -> dict[str, tuple[int, ...]]:
    import torch

    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in module.MODULES[part]().state_dict().items()}


def _filled(module: ModuleType, part: str, states: Mapping[str, Tensor]) -> nn.Module:
    import torch

    with torch.device("meta"):
        made: nn.Module = module.MODULES[part]()
    own = {
        name: states[f"{part}.{name}"].to(value.dtype)  # a checkpoint kept in half precision is widened
        for name, value in made.state_dict().items()
    }
    made.load_state_dict(own, strict=True, assign=True)
    return made.eval().requires_grad_(False)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _line(error: BaseException) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text[:120]


def _refused(path: Path, found: str, family: str = "") -> GeneratorError:
    family = family or next((name for name, files in PUBLISHED.items() if _named(path, files)), "")
    again = FETCH.get(family, "download it again")
    return GeneratorError(f"{path} {found}", cure=f"get the published file: {again}")


def _named(path: Path, files: tuple[PublishedFile, ...]) -> bool:
    return any(path.name == wanted.file or path.name.startswith(wanted.stem) for wanted in files)


class _readable:  # noqa: N801 - used as a statement
    """Turns an OSError while a file is read into one line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise GeneratorError(f"{self._path} cannot be read: {reason}", cure="check its permissions") from error


# ---- writing ---------------------------------------------------------------------------------------------------------


def _digest_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    try:
        with whole(path) as partial:
            partial.write_bytes(data)
            partial.chmod(0o644)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise GeneratorError(
                f"no room in {path.parent} for {path.name}: {len(data) / 1e6:.0f} MB are needed",
                cure="make room, or choose another place with XDG_CACHE_HOME",
            ) from error
        raise GeneratorError(
            f"{path} cannot be written: {error.strerror or error}",
            cure="check the folder's permissions, or choose another place with XDG_CACHE_HOME",
        ) from error


# ---- random ----------------------------------------------------------------------------------------------------------


_GAINS = {
    # Heads that would throw the keypoints out of the picture, and a last layer whose picture would be grey.
    "fc_exp.weight": 0.05,
    "fc_t.weight": 0.05,
    "fc_scale.weight": 0.05,
    "fc_kp.weight": 0.3,
    "jacobian.weight": 0.1,
    "final.weight": 4.0,
    "mlp_gamma.weight": 0.3,
}


def _random(module: ModuleType, seed: int) -> Weights:
    """Weights of a sane scale: activations near 1, keypoints in the picture, a picture that is not grey."""
    states: dict[str, Tensor] = {}
    for part in module.MODULES:
        own = module.MODULES[part].__name__
        states.update({f"{part}.{n}": v for n, v in _random_state(_shapes(module, part), f"{seed}:{own}").items()})
    parts = {part: _filled(module, part, states) for part in module.MODULES}
    label = f"{RANDOM}{seed}"
    family = module.__name__.rpartition(".")[2]
    return Weights(parts, label, hashlib.sha256(f"{family}:{label}".encode()).hexdigest())


def _random_state(shapes: Mapping[str, tuple[int, ...]], seed: str) -> State:
    import torch

    state: State = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(f"{seed}.{name}".encode())))
        leaf = name.rpartition(".")[2]
        if leaf == "num_batches_tracked":
            state[name] = torch.zeros(shape, dtype=torch.int64)
        elif name.endswith("down.weight"):
            state[name] = _blur(shape)
        elif leaf == "running_mean":
            state[name] = torch.zeros(shape)
        elif leaf == "running_var" or (leaf == "weight" and len(shape) == 1):
            state[name] = torch.ones(shape)
        elif leaf in ("bias", "gamma", "beta"):
            state[name] = 0.05 * noise + _offset(name, shape)
        elif leaf in ("weight", "weight_orig"):
            gain = next((gain for end, gain in _GAINS.items() if name.endswith(end)), 1.0)
            fan_in = noise[0].numel()
            state[name] = gain * noise / fan_in**0.5
        else:
            state[name] = noise
    for name in [name for name in shapes if name.endswith("weight_u")]:
        base = name.removesuffix("weight_u")
        matrix, u = state[base + "weight_orig"].flatten(1), state[name]
        for _ in range(5):
            v = torch.nn.functional.normalize(matrix.T @ u, dim=0)
            u = torch.nn.functional.normalize(matrix @ v, dim=0)
        state[name], state[base + "weight_v"] = u, v
    return state


def _offset(name: str, shape: tuple[int, ...]) -> Tensor:
    import torch

    if name.endswith("fc_scale.bias"):
        return torch.ones(shape)
    if name.endswith("jacobian.bias"):
        return torch.eye(2).flatten().repeat(shape[0] // 4)
    return torch.zeros(shape)


def _blur(shape: tuple[int, ...]) -> Tensor:
    """The fixed Gaussian of ``engines.networks.fomm``, which no checkpoint of ours may change."""
    from engines.networks.fomm import AntiAliasDown

    kernel = AntiAliasDown().get_buffer("weight")
    assert tuple(kernel.shape) == shape
    return kernel
