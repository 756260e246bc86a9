"""Cached TensorRT engines: each ``NAME.engine`` has a sidecar ``NAME.json`` that describes it.

An engine runs only with the TensorRT version that built it, on the model of GPU it was built for; elsewhere it fails
obscurely, or computes wrongly. The sidecar makes it possible to refuse an engine that does not fit, with the command
that rebuilds it. Importing this file needs neither TensorRT nor a GPU.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.atomic_write import atomic_write
from engines.backends.backend import Precision
from engines.backends.network_stage import TensorSpec
from engines.cache_dirs import cache_home
from engines.errors import BackendError

_MAX_SIDECAR_BYTES = 1 << 20
_REBUILD = "build the engine again"


class Tensor(BaseModel):
    """An input or output of an engine."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    shape: list[int]
    dtype: str

    @classmethod
    def of(cls, spec: TensorSpec) -> Tensor:
        """Return the JSON form of a spec."""
        return cls(name=spec.name, shape=list(spec.shape), dtype=spec.dtype)


class Tolerance(BaseModel):
    """The errors of outputs, relative to the largest magnitude of the reference's."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    by: str
    """What was compared with what."""
    allowed: float
    mean: float
    max: float
    worst_layer: str | None = None
    """The layer with the largest error, if layers were compared."""
    worst_layer_mean: float | None = None


class Sidecar(BaseModel):
    """The description of an engine, and of the machine it runs on."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    version: Literal[1] = 1
    model: str
    """The family, or the name of the ONNX file."""
    stage: str
    network: str
    """``engines.backends.onnx_export.network_id`` of the stage; empty for a network that is not one of reenact's."""
    weights: str
    onnx_sha256: str
    engine_sha256: str
    tensorrt: str
    gpu: str | None
    """The model of GPU it was built for; None if it was built without one, and runs nowhere."""
    compute_capability: str | None
    precision: Precision
    """The precision of most of it. Float32 parts are never lowered to TF32."""
    float32: list[str] = Field(default_factory=list)
    """The modules that stayed in float32."""
    opset: int
    grid_sample: str | None
    workspace_mib: int | None
    level: int
    inputs: list[Tensor]
    outputs: list[Tensor]
    export: Tolerance | None = None
    """The errors of the exported network against PyTorch."""
    engine: Tolerance | None = None
    """The errors of the engine against the reference."""
    median_ms: float | None = None
    p99_ms: float | None = None
    built_in_s: float
    built_at: str
    """UTC, ISO 8601."""
    command: str
    """The command that rebuilds it."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What an engine has to fit. None means that there is none."""

    tensorrt: str | None
    gpu: str | None
    compute_capability: str | None


@dataclass(frozen=True, slots=True)
class CachedEngine:
    """An engine in the cache."""

    path: Path
    size: int
    """Bytes."""
    sidecar: Sidecar | None
    """None if it cannot be read; ``error`` says why."""
    error: BackendError | None = None


def engines_home() -> Path:
    """Return the default folder of engines."""
    return cache_home() / "engines"


def mismatch(sidecar: Sidecar, machine: Machine) -> str:
    """Return why an engine does not fit a machine, as a clause for the user; empty if it fits."""
    if sidecar.compute_capability is None:
        return "it was built without a GPU, as a test of the build, and runs nowhere"
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


def write_engine(folder: Path, name: str, engine: bytes | memoryview, sidecar: Sidecar) -> Path:
    """Write an engine and its sidecar to a folder and return the engine's path. On failure the old files stay.

    If the program is killed between the two files, the engine does not match its sidecar's hash and is refused.
    Raises BackendError if the folder cannot be written or is full.
    """
    path = folder / f"{name}.engine"
    sidecar_path = path.with_suffix(".json")
    try:
        with atomic_write(sidecar_path) as last, atomic_write(path) as first:
            first.write_bytes(engine)
            last.write_bytes((sidecar.model_dump_json(indent=2) + "\n").encode())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            need = f"{len(engine) / 1e6:.0f} MB"
            cure = "free some space, or name another folder with --out"
            raise BackendError("engine-disk-full", f"a full disk at {folder}", need, cure) from None
        raise BackendError(
            "engine-not-writable", f"the folder {folder}: {error.strerror}", "a writable one", "name another with --out"
        ) from None
    return path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_engines(folder: Path) -> Iterator[CachedEngine]:
    """Yield every engine of a folder by name, including those whose sidecars cannot be read."""
    for path in sorted(folder.glob("*.engine")):
        try:
            size = path.stat().st_size
        except OSError:  # it was removed in the meantime
            continue
        try:
            yield CachedEngine(path, size, read_sidecar(path))
        except BackendError as error:
            yield CachedEngine(path, size, None, error)


def read_sidecar(path: Path) -> Sidecar:
    """Read the sidecar of an engine. Raises BackendError if it is missing or invalid."""
    sidecar = path.with_suffix(".json")
    try:
        if sidecar.stat().st_size > _MAX_SIDECAR_BYTES:
            raise BackendError("engine-sidecar-too-large", f"more than 1 MiB in {sidecar}", "a sidecar", _REBUILD)
        return Sidecar.model_validate_json(sidecar.read_bytes())
    except OSError as error:
        found = f"no readable sidecar {sidecar.name} of the engine {path.name}: {error.strerror}"
        raise BackendError("engine-sidecar-missing", found, cure=_REBUILD) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))[:100] or "the file"
        where = where if where.isprintable() else ascii(where)
        found = f"an edited or damaged sidecar {sidecar}: {where}: {first['msg']}"
        raise BackendError("engine-sidecar-invalid", found, cure=_REBUILD) from None


def load_engine(folder: Path, network: str, stage: str, machine: Machine, rebuild: str) -> tuple[bytes, Sidecar]:
    """Return the newest engine of a network that fits this machine, complete, with its sidecar.

    ``network`` is ``engines.backends.onnx_export.network_id`` of the stage, and ``rebuild`` the command that builds
    its engine. Raises BackendError if there is none, none fits, or the file was changed.
    """
    found = [entry for entry in list_engines(folder) if entry.sidecar is None or entry.sidecar.network == network]
    readable = [(entry, entry.sidecar) for entry in found if entry.sidecar is not None]
    readable.sort(key=lambda each: each[1].built_at, reverse=True)
    refusals: list[BackendError] = []
    for entry, sidecar in readable:
        reason = mismatch(sidecar, machine)
        if not reason:
            return _read_engine(entry.path, sidecar, rebuild), sidecar
        found_engine = f"the engine {entry.path.name} does not fit: {reason}"
        refusals.append(BackendError("engine-mismatch", found_engine, cure=rebuild))
    refusals += [entry.error for entry in found if entry.error and entry.path.name.startswith(f"{stage}-")]
    if refusals:
        first = refusals[0]
        raise BackendError(first.code, first.found, first.expected, rebuild)
    raise BackendError("engine-missing", f"no engine for {stage} with these weights in {folder}", cure=rebuild)


def _read_engine(path: Path, sidecar: Sidecar, rebuild: str) -> bytes:
    """Return the content of an engine. Raises BackendError if it cannot be read, or does not match its hash."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BackendError("engine-unreadable", f"the engine {path}: {error.strerror}", cure=rebuild) from None
    if hashlib.sha256(content).hexdigest() != sidecar.engine_sha256:
        found = f"a truncated or changed engine {path}"
        raise BackendError("engine-damaged", found, "the file that was built", rebuild)
    return content
