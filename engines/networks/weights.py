"""Load checkpoints: the published files, checked and kept as safetensors; or random weights for benchmarks and tests.

A published checkpoint is a pickle, which could run code when it is read. It is read once, with PyTorch's reader that
accepts nothing but tensors; its names and shapes must be exactly the network's; and it is kept as safetensors, which
cannot contain code, with its SHA-256 in a file of the same name and ``.sha256``.

    published    CACHE/models/liveportrait, CACHE/models/fomm     put there by ``python -m tools.models fetch``
    given        the user's folder or file; its safetensors are kept in CACHE/models/converted, named by digest

Importing this file needs no torch.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import pickle
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from engines.atomic_write import atomic_write
from engines.cache_dirs import models_home
from engines.errors import GeneratorError, UsageError, one_of
from engines.install_hint import command, install_command

if TYPE_CHECKING:
    from torch import Tensor, nn

    State = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One file of a published checkpoint."""

    file: str
    parts: tuple[str, ...]
    """The parts of the family in it, as in the family's ``MODULES``."""
    nested: bool = False
    """Whether its entries are the parts, by name; otherwise it is the state dict of its only part."""

    @property
    def stem(self) -> str:
        """The name of its safetensors, without the suffix."""
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

_FETCH_ARGUMENTS = {"liveportrait": "--accept-licence", "fomm": "--from PATH/TO/vox-cpk.pth.tar"}

RANDOM = "random:"


@dataclass(frozen=True, slots=True)
class Weights:
    """A family's networks with their weights."""

    parts: dict[str, nn.Module] = field(repr=False)
    """By the names in the family's ``MODULES``; eval mode, float32, on the CPU, without gradients."""
    label: str
    """What to show the user: ``published``, a path, or ``random:SEED``."""
    digest: str
    """SHA-256 of everything that was loaded, in hexadecimal."""
    random: bool = False
    """Whether they are random, so that the images are noise: the user is told in every output."""


def fetch_hint(family: str) -> str:
    """Return the command that fetches a family's published checkpoint."""
    return f"{command('models')} fetch {family} {_FETCH_ARGUMENTS[family]}"


def load_weights(family: str, weights: str | Path | None = None) -> Weights:
    """Build a family's networks and load their weights.

    ``weights`` is None for the published ones where ``tools.models`` put them, ``random:SEED``, or the path of a
    folder with the family's published files (for fomm also of its only file), as ``.pth`` or ``.safetensors``.

    Raises UsageError for a path or seed that is wrong, and GeneratorError for files that are not the family's weights
    or cannot be converted.
    """
    if family not in PUBLISHED:
        expected = one_of(PUBLISHED)
        raise UsageError("family-unknown", f"the network family {family!r}", expected, f"choose {expected}")
    module = _import_family(family)
    text = str(weights) if weights is not None else ""
    if text.startswith(RANDOM):
        seed = text.removeprefix(RANDOM)
        if not re.fullmatch(r"[0-9]{1,18}", seed):
            cure = "for example --weights random:1"
            raise UsageError("weights-bad-seed", f"--weights {text}", "a whole number as the seed", cure)
        return _random_weights(module, int(seed))
    files = published_files(family) if weights is None else given_files(family, Path(weights).expanduser())
    digest, states = hashlib.sha256(), {}
    for wanted, path in files.items():
        state, file_digest = _read(family, wanted, path)
        digest.update(file_digest.encode())
        states.update(state)
    parts = {name: _build(module, name, states) for name in module.MODULES}
    return Weights(parts, "published" if weights is None else text, digest.hexdigest())


def published_home(family: str) -> Path:
    """Return the folder of a family's fetched checkpoint, which may not exist."""
    return models_home() / family


def published_files(family: str) -> dict[PublishedFile, Path]:
    """Return the fetched files of a family. Raises GeneratorError if some are missing."""
    home = published_home(family)
    found = {wanted: _find(home, wanted) for wanted in PUBLISHED[family]}
    missing = [wanted.file for wanted, path in found.items() if path is None]
    if missing:
        cure = fetch_hint(family)
        raise GeneratorError("weights-missing", f"no weights of {family} in {home}", ", ".join(missing), cure)
    return {wanted: path for wanted, path in found.items() if path is not None}


def given_files(family: str, path: Path) -> dict[PublishedFile, Path]:
    """Return the files of a family at a path of the user's. Raises UsageError if some are missing or not readable."""
    try:
        return _given_files(family, path)
    except OSError as error:
        found, cure = f"--weights {path}: {error.strerror}", "check its permissions"
        raise UsageError("weights-unreadable", found, "a readable file or folder", cure) from None


def _given_files(family: str, path: Path) -> dict[PublishedFile, Path]:
    wanted_files = PUBLISHED[family]
    names = ", ".join(wanted.file for wanted in wanted_files)
    if not path.exists():
        found = f"no file or folder at --weights {path}"
        raise UsageError("weights-not-found", found, names, f"name one that contains {names}")
    if path.is_file():
        if len(wanted_files) > 1:
            found, expected = f"one file at --weights {path}", f"the {len(wanted_files)} files of {family}"
            raise UsageError("weights-not-folder", found, expected, "name their folder")
        return {wanted_files[0]: path}
    files = {wanted: _find(path, wanted) for wanted in wanted_files}
    missing = [wanted.file for wanted, place in files.items() if place is None]
    if missing:
        found = f"an incomplete folder at --weights {path}"
        raise UsageError("weights-incomplete", found, ", ".join(missing), f"put there {names}")
    return {wanted: place for wanted, place in files.items() if place is not None}


def convert_to_safetensors(family: str, wanted: PublishedFile, source: Path, target: Path) -> None:
    """Read a published file safely, check it, and write it to ``target`` as safetensors, completely or not at all.

    Raises GeneratorError.
    """
    _import_family(family, "safetensors")
    from safetensors.torch import save

    state = _checked_state(family, wanted, _unpickle(source), source)
    data = save({name: value.contiguous() for name, value in state.items()})
    _write(target, data)
    _write(_digest_file(target), (hashlib.sha256(data).hexdigest() + "\n").encode())


def is_intact(path: Path) -> bool:
    """Return whether a safetensors file and its digest are there, and match. Raises GeneratorError."""
    digest_file = _digest_file(path)
    if not (path.is_file() and digest_file.is_file()):
        return False
    with _translate_errors(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == digest_file.read_text("ascii", "replace").strip()


def _import_family(family: str, *packages: str) -> ModuleType:
    """Import the module of a family. Raises GeneratorError if PyTorch, or one of the packages, is not installed."""
    try:
        for package in ("torch", *packages):
            importlib.import_module(package)
    except ModuleNotFoundError as error:
        found = f"no package {error.name}, which {family} needs"
        raise GeneratorError("package-missing", found, cure=install_command("neural")) from error
    return importlib.import_module(f"engines.networks.{family}")


def _find(folder: Path, wanted: PublishedFile) -> Path | None:
    """Return the path of a published file, or of its safetensors, below a folder."""
    for name in (f"{wanted.stem}.safetensors", wanted.file):
        for below in ("", "base_models", "retargeting_models"):  # the layout of the publisher's repository
            if (folder / below / name).is_file():
                return folder / below / name
    return None


# ---- reading ---------------------------------------------------------------------------------------------------------


def _read(family: str, wanted: PublishedFile, path: Path) -> tuple[State, str]:
    """Return the state of a file, converted if it is a pickle, and its digest."""
    if path.suffix == ".safetensors":
        return _read_safetensors(family, wanted, path)
    with _translate_errors(path), path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    converted = models_home() / "converted" / f"{wanted.stem}-{digest[:32]}.safetensors"
    if not (converted.is_file() and _digest_file(converted).is_file()):
        convert_to_safetensors(family, wanted, path, converted)
    return _read_safetensors(family, wanted, converted)


def _read_safetensors(family: str, wanted: PublishedFile, path: Path) -> tuple[State, str]:
    _import_family(family, "safetensors")
    from safetensors import SafetensorError
    from safetensors.torch import load

    digest_file = _digest_file(path)
    with _translate_errors(path):
        data = path.read_bytes()
        expected = digest_file.read_text("ascii", "replace").strip() if digest_file.is_file() else None
    digest = hashlib.sha256(data).hexdigest()
    if expected is not None and digest != expected:
        found, cure = f"a changed or damaged file {path}", f"delete both and get them again: {fetch_hint(family)}"
        raise GeneratorError("weights-damaged", found, f"the SHA-256 in {digest_file.name}", cure)
    try:
        state = load(data)
    except SafetensorError as error:
        raise GeneratorError(
            "weights-damaged", f"{path}: {_line(error)}", "a safetensors file", _refetch(path, family)
        ) from error
    return _checked(family, wanted, state, path), digest


def _unpickle(path: Path) -> Any:
    """Return the content of a published file, read without running any code in it. Raises GeneratorError."""
    import torch

    with _translate_errors(path), path.open("rb") as file:
        start = file.read(256).lstrip().lower()
    if start.startswith((b"<", b"\xef\xbb\xbf<")):
        raise GeneratorError("weights-not-checkpoint", f"a web page in {path}", "a checkpoint", _refetch(path))
    if start.startswith(b"version https://git-lfs"):
        raise GeneratorError("weights-not-checkpoint", f"a Git LFS pointer in {path}", "a checkpoint", _refetch(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how it was pickled, which the user cannot change
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if re.search(r"unsupported (global|class|operand)|not an allowed|can only", str(error), re.IGNORECASE):
            found = f"code or objects in {path}, which are not loaded"
            raise GeneratorError("weights-unsafe", found, "tensors only", _refetch(path)) from error
        raise GeneratorError("weights-not-checkpoint", f"the file {path}", "a checkpoint", _refetch(path)) from error
    except OSError as error:
        reason = error.strerror or error
        cure = "check its permissions"
        raise GeneratorError("weights-unreadable", f"the file {path}: {reason}", "a readable file", cure) from error
    # A damaged file makes the reader raise any exception.
    except Exception as error:
        raise GeneratorError("weights-damaged", f"{path}: {_line(error)}", "a checkpoint", _refetch(path)) from error


def _checked_state(family: str, wanted: PublishedFile, content: Any, path: Path) -> State:
    """Return the flat state of a file's parts, with the keys ``part.name``. Raises GeneratorError."""
    cure = _refetch(path, family)
    if not isinstance(content, Mapping):
        found = f"a {type(content).__name__} in {path}"
        expected = f"the weights of {' and '.join(wanted.parts)}"
        raise GeneratorError("weights-of-another-network", found, expected, cure)
    missing = [part for part in wanted.parts if wanted.nested and part not in content]
    if missing:
        found, expected = f"the file {path}", f"the entry {', '.join(missing)}"
        raise GeneratorError("weights-of-another-network", found, expected, cure)
    state: State = {}
    for part in wanted.parts:
        own = content[part] if wanted.nested else content
        if not isinstance(own, Mapping):
            found = f"a {type(own).__name__} as {part} in {path}"
            raise GeneratorError("weights-of-another-network", found, "its weights", cure)
        for name, value in own.items():
            state[f"{part}.{str(name).removeprefix('module.')}"] = value
    return _checked(family, wanted, state, path)


def _checked(family: str, wanted: PublishedFile, state: State, path: Path) -> State:
    """Return ``state`` if its names, shapes and values are right. Raises GeneratorError otherwise."""
    import torch

    module, cure = _import_family(family), _refetch(path, family)
    shapes = {f"{part}.{name}": s for part in wanted.parts for name, s in _shapes(module, part).items()}
    absent, extra = sorted(shapes.keys() - state.keys()), sorted(state.keys() - shapes.keys())
    parts = " and ".join(wanted.parts)
    if absent:
        found = f"a file {path} without {len(absent)} of the {len(shapes)} tensors of {parts}"
        raise GeneratorError("weights-of-another-network", found, _some(absent), cure)
    if extra:
        found = f"{_some(extra)} in {path}"
        raise GeneratorError("weights-of-another-network", found, f"only the tensors of {parts}", cure)
    for name, shape in shapes.items():
        value = state[name]
        if not isinstance(value, torch.Tensor) or tuple(value.shape) != shape:
            found_shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            found = f"{name} as {found_shape} in {path}"
            raise GeneratorError("weights-of-another-network", found, str(shape), cure)
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            found = f"values of {name} in {path} that are not finite"
            raise GeneratorError("weights-not-finite", found, "finite values", cure)
    return state


def _shapes(module: ModuleType, part: str) -> dict[str, tuple[int, ...]]:
    import torch

    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in module.MODULES[part]().state_dict().items()}


def _build(module: ModuleType, part: str, states: Mapping[str, Tensor]) -> nn.Module:
    """Return a part with its weights, in eval mode."""
    import torch

    with torch.device("meta"):
        made: nn.Module = module.MODULES[part]()
    own = {
        name: states[f"{part}.{name}"].to(value.dtype)  # a checkpoint in half precision is widened
        for name, value in made.state_dict().items()
    }
    made.load_state_dict(own, strict=True, assign=True)
    return made.eval().requires_grad_(False)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _line(error: BaseException) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text[:120]


def _refetch(path: Path, family: str = "") -> str:
    """Return the cure for a file that is not a family's weights; the family is guessed from its name by default."""
    family = family or next((name for name, files in PUBLISHED.items() if _is_named(path, files)), "")
    return f"get the published file: {fetch_hint(family) if family else 'download it again'}"


def _is_named(path: Path, files: tuple[PublishedFile, ...]) -> bool:
    return any(path.name == wanted.file or path.name.startswith(wanted.stem) for wanted in files)


@contextlib.contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Turn an OSError while a file is read into GeneratorError."""
    try:
        yield
    except OSError as error:
        found, cure = f"the file {path}: {error.strerror or error}", "check its permissions"
        raise GeneratorError("weights-unreadable", found, "a readable file", cure) from error


# ---- writing ---------------------------------------------------------------------------------------------------------


def _digest_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _write(path: Path, data: bytes) -> None:
    """Write a file completely or not at all. Raises GeneratorError."""
    try:
        with atomic_write(path) as partial:
            partial.write_bytes(data)
            partial.chmod(0o644)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            need, cure = f"{len(data) / 1e6:.0f} MB", "free some space, or choose another folder with XDG_CACHE_HOME"
            raise GeneratorError("weights-disk-full", f"a full disk at {path.parent}", need, cure) from error
        found = f"the folder {path.parent}: {error.strerror or error}"
        cure = "check its permissions, or choose another folder with XDG_CACHE_HOME"
        raise GeneratorError("weights-not-writable", found, "a writable one", cure) from error


# ---- random ----------------------------------------------------------------------------------------------------------


_GAINS = {
    # Heads that would move the keypoints out of the image, and a last layer whose image would be grey.
    "fc_exp.weight": 0.05,
    "fc_t.weight": 0.05,
    "fc_scale.weight": 0.05,
    "fc_kp.weight": 0.3,
    "jacobian.weight": 0.1,
    "final.weight": 4.0,
    "mlp_gamma.weight": 0.3,
}


def _random_weights(module: ModuleType, seed: int) -> Weights:
    """Return random weights of realistic scale: activations near 1, keypoints in the image, colours in the image."""
    states: dict[str, Tensor] = {}
    for part in module.MODULES:
        own = module.MODULES[part].__name__
        states.update({f"{part}.{n}": v for n, v in _random_state(_shapes(module, part), f"{seed}:{own}").items()})
    parts = {part: _build(module, part, states) for part in module.MODULES}
    label = f"{RANDOM}{seed}"
    family = module.__name__.rpartition(".")[2]
    digest = hashlib.sha256(f"{family}:{label}".encode()).hexdigest()
    return Weights(parts, label, digest, random=True)


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
    """Return the fixed Gaussian of ``engines.networks.fomm``, which random weights must not change."""
    from engines.networks.fomm import AntiAliasDown

    kernel = AntiAliasDown().get_buffer("weight")
    assert tuple(kernel.shape) == shape
    return kernel
