"""Compiled engines on the disk: each ``NAME.engine`` with ``NAME.json`` beside it, its sidecar.

An engine runs only with the TensorRT that built it, on the kind of GPU it was built for; loaded elsewhere it fails
obscurely, or not at all. The sidecar says what it is, so that what does not fit is refused with the command that mends
it. Importing this file needs neither TensorRT nor a GPU.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.cache_dirs import cache_home
from engines.errors import BackendError
from engines.types import TensorSpec

_LARGEST_SIDECAR = 1 << 20


class Tensor(BaseModel):
    """An input or output of an engine."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    shape: list[int]
    dtype: str

    @classmethod
    def of(cls, spec: TensorSpec) -> Tensor:
        """The same, for a file."""
        return cls(name=spec.name, shape=list(spec.shape), dtype=spec.dtype)


class Tolerance(BaseModel):
    """How far answers lay from the reference's, as shares of the reference's scale."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    by: str
    """What answered, and what it was compared with."""
    allowed: float
    mean: float
    max: float
    worst_layer: str | None = None
    """The layer whose answer lay farthest off, where layers were compared."""
    worst_layer_mean: float | None = None


class Sidecar(BaseModel):
    """What an engine is, and where it fits."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    version: Literal[1] = 1
    model: str
    """The family, or the name of the ONNX file."""
    stage: str
    network: str
    """``engines.backends.onnx_export.identity`` of the stage; empty for a network that is not one of reenact's."""
    weights: str
    onnx_sha256: str
    engine_sha256: str
    tensorrt: str
    gpu: str | None
    """Name of the GPU it was built for; None where there was none, and it runs nowhere."""
    compute_capability: str | None
    precision: str
    """What most of it is multiplied in. What the network has in float32 is never lowered to TF32."""
    float32: list[str] = Field(default_factory=list)
    """Modules that were kept in float32."""
    opset: int
    grid_sample: str | None
    workspace_mib: int | None
    level: int
    inputs: list[Tensor]
    outputs: list[Tensor]
    export: Tolerance | None = None
    """The exported network against PyTorch."""
    engine: Tolerance | None = None
    """The engine against the reference."""
    median_ms: float | None = None
    p99_ms: float | None = None
    built_in_s: float
    built_at: str
    """UTC, ISO 8601."""
    command: str
    """What builds it again."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What an engine must fit. None: there is none."""

    tensorrt: str | None
    gpu: str | None
    compute_capability: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """An engine of the cache."""

    path: Path
    size: int
    sidecar: Sidecar | None
    """None where it cannot be read; ``wrong`` says why."""
    wrong: str = ""


def engines_home() -> Path:
    """Where engines lie unless another folder is named."""
    return cache_home() / "engines"


def misfit(sidecar: Sidecar, machine: Machine) -> str:
    """Why an engine does not fit a machine, for the person; empty where it does."""
    if sidecar.compute_capability is None:
        return "it was built on a machine without a GPU, to see that it builds, and runs nowhere"
    if machine.tensorrt is None:
        return f"it needs TensorRT {sidecar.tensorrt}, which is not installed"
    if sidecar.tensorrt != machine.tensorrt:
        return f"it was built by TensorRT {sidecar.tensorrt}, and {machine.tensorrt} is installed"
    if machine.gpu is None:
        return f"it was built for {sidecar.gpu}, and there is no GPU here"
    # TensorRT warns that an engine of another model may run slowly or wrongly, even of the same capability
    if (sidecar.gpu, sidecar.compute_capability) != (machine.gpu, machine.compute_capability):
        return (
            f"it was built for {sidecar.gpu} (compute capability {sidecar.compute_capability}), "
            f"and this is {machine.gpu} ({machine.compute_capability})"
        )
    return ""


def write(folder: Path, name: str, engine: bytes | memoryview, sidecar: Sidecar) -> Path:
    """Put an engine and its sidecar into a folder: both whole, or none, and what was there before stays.

    An engine whose sidecar is not there yet, or is the one of before, is refused: its hash is another.
    Raises BackendError where there is no room.
    """
    path = folder / f"{name}.engine"
    beside = path.with_suffix(".json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            _partial(path, engine) as first,
            _partial(beside, (sidecar.model_dump_json(indent=2) + "\n").encode()) as last,
        ):
            os.replace(first, path)
            os.replace(last, beside)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            need = f"the engine needs {len(engine) / 1e6:.0f} MB"
            raise BackendError(f"no room in {folder}: {need}", cure="make room, or name a folder with --out") from None
        raise BackendError(
            f"the engine cannot be written to {folder}: {error.strerror}", cure="name a folder with --out"
        ) from None
    return path


@contextlib.contextmanager
def _partial(path: Path, content: bytes | memoryview) -> Iterator[str]:
    """The content in a file beside ``path`` for as long as the block runs, which may rename it."""
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        yield partial
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def entries(folder: Path) -> Iterator[Entry]:
    """Every engine of a folder, by name, whether its sidecar can be read or not."""
    for path in sorted(folder.glob("*.engine")):
        try:
            size = path.stat().st_size
        except OSError:  # removed meanwhile
            continue
        try:
            yield Entry(path, size, read(path))
        except BackendError as error:
            yield Entry(path, size, None, str(error))


def read(path: Path) -> Sidecar:
    """The sidecar of an engine. Raises BackendError where there is none, or it is not one."""
    beside = path.with_suffix(".json")
    try:
        if beside.stat().st_size > _LARGEST_SIDECAR:
            raise BackendError(f"{beside} is too long for the sidecar of an engine", cure="build the engine again")
        return Sidecar.model_validate_json(beside.read_bytes())
    except OSError as error:
        raise BackendError(
            f"the engine {path.name} has no sidecar {beside.name}: {error.strerror}", cure="build the engine again"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))[:100] or "the file"
        where = where if where.isprintable() else ascii(where)
        raise BackendError(
            f"the sidecar {beside} was edited or is damaged: {where}: {first['msg']}", cure="build the engine again"
        ) from None


def load(folder: Path, network: str, stage: str, machine: Machine, rebuild: str) -> tuple[bytes, Sidecar]:
    """The engine of a network that fits this machine, whole; where there are several, the one built last.

    ``network`` is ``engines.backends.onnx_export.identity`` of the stage, and ``rebuild`` the command that builds
    its engine. Raises BackendError where there is none, none fits, or the file is not what was built.
    """
    found = [entry for entry in entries(folder) if entry.sidecar is None or entry.sidecar.network == network]
    whole = [(entry, entry.sidecar) for entry in found if entry.sidecar is not None]
    whole.sort(key=lambda one: one[1].built_at, reverse=True)
    refusals = []
    for entry, sidecar in whole:
        wrong = misfit(sidecar, machine)
        if not wrong:
            return _whole(entry.path, sidecar, rebuild), sidecar
        refusals.append(f"the engine {entry.path.name} does not fit: {wrong}")
    refusals += [entry.wrong for entry in found if entry.sidecar is None and entry.path.name.startswith(f"{stage}-")]
    if refusals:
        raise BackendError(refusals[0], cure=rebuild)
    raise BackendError(f"there is no engine for {stage} with these weights in {folder}", cure=rebuild)


def _whole(path: Path, sidecar: Sidecar, rebuild: str) -> bytes:
    """An engine as it was built. Raises BackendError where it cannot be read, or is truncated or changed."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BackendError(f"{path} cannot be read: {error.strerror}", cure=rebuild) from None
    if hashlib.sha256(content).hexdigest() != sidecar.engine_sha256:
        raise BackendError(f"{path} is not the engine that was built: it is truncated or changed", cure=rebuild)
    return content
