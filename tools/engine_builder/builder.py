"""Building an engine from a job: export, simplification, check, build, timing, and the files in the cache."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from engines.atomic_write import atomic_write
from engines.backends.engine_cache import Machine, Sidecar, Tensor, Tolerance, sha256_of, write_engine
from engines.backends.numeric_check import TOLERANCE
from engines.backends.onnx_export import DTYPES
from engines.backends.tensorrt_backend import TensorrtBackend, this_machine
from engines.errors import BackendError
from tools.engine_builder import trt
from tools.engine_builder.jobs import Job
from tools.engine_builder.onnx import Deviation, largest_errors, simplify
from tools.support.command import Notice

WARM_UP, REPEATS = 20, 200
"""How often an engine is run before it is timed, and while."""


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """The options that apply to every model."""

    settings: trt.BuilderSettings
    out: Path
    """The folder of the engines."""
    check: bool
    """Compare the exported network and the engine with the reference."""
    onnx_only: bool
    """Export, simplify and check, but build no engine."""
    command: str
    """The command line, for the sidecar."""
    console: Console
    notice: Notice


@dataclass(frozen=True, slots=True)
class Timing:
    """The time of one run of an engine with all copies, in milliseconds."""

    median_ms: float
    p99_ms: float


def build(job: Job, request: BuildRequest, scratch: Path) -> dict[str, Any]:
    """Build one engine and write it to the folder. Return its description for JSON.

    ``scratch`` is a folder for temporary files. Raises BackendError, and KeyboardInterrupt after Ctrl-C.
    """
    began = time.monotonic()
    name = job.signature.name
    exported = job.export(scratch)
    simplified = scratch / f"{job.file_name}.onnx"
    before, after = simplify(exported, simplified)
    request.notice(
        f"{name}: exported in {job.options.precision}, opset {job.options.opset}, "
        f"{before} nodes simplified to {after}, {simplified.stat().st_size / 1e6:.0f} MB"
    )
    export_check = _check_export(job, exported, simplified, request) if request.check else None
    if request.onnx_only:
        path = _keep_onnx(simplified, request.out)
        request.notice(f"{name}: {path}")
        check = export_check.model_dump(mode="json") if export_check else None
        return {"stage": name, "onnx": str(path), "onnx_sha256": sha256_of(path), "export": check}
    machine = this_machine()
    timing_cache = request.out / f"timing-{_machine_name(machine)}.cache"
    remove_scratch = partial(shutil.rmtree, scratch, ignore_errors=True)
    built = trt.build(simplified, job.signature, request.settings, timing_cache, request.console, remove_scratch)
    engine_check, timing = None, None
    if machine.gpu is not None:
        engine_check, timing = _try_engine(job, built.engine, exported, request)
    sidecar = _sidecar(job, request, machine, (export_check, engine_check), timing).model_copy(
        update={
            "onnx_sha256": sha256_of(simplified),
            "engine_sha256": hashlib.sha256(built.engine).hexdigest(),
            "built_in_s": round(time.monotonic() - began, 1),
        }
    )
    path = write_engine(request.out, f"{job.file_name}-{_machine_name(machine)}", built.engine, sidecar)
    timed = f"{timing.median_ms:.2f} ms" if timing else "not timed: there is no GPU here, and it cannot be run"
    request.notice(f"{name}: built in {built.seconds:.1f} s, {timed}\n  {path}")
    return {"file": str(path), **sidecar.model_dump(mode="json")}


def check_folder(folder: Path) -> None:
    """Check that engines can be written to the folder, which is created. Raises BackendError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        found = f"{folder} cannot be written: {error.strerror}"
        raise BackendError("engine-folder-not-writable", found, cure="choose another with --out") from None


def _sidecar(
    job: Job,
    request: BuildRequest,
    machine: Machine,
    checks: tuple[Tolerance | None, Tolerance | None],
    timing: Timing | None,
) -> Sidecar:
    """Return the description of an engine without its digests and the time that it took."""
    return Sidecar(
        model=job.model,
        stage=job.signature.name,
        network=job.network,
        weights=job.weights,
        onnx_sha256="",
        engine_sha256="",
        tensorrt=machine.tensorrt or "",
        gpu=machine.gpu,
        compute_capability=machine.compute_capability,
        precision=DTYPES[job.options.precision],
        float32=list(job.options.float32),
        opset=job.options.opset,
        grid_sample=job.grid_sample,
        workspace_mib=request.settings.workspace_mib,
        level=request.settings.level,
        inputs=[Tensor.of(spec) for spec in job.signature.inputs],
        outputs=[Tensor.of(spec) for spec in job.signature.outputs],
        export=checks[0],
        engine=checks[1],
        median_ms=timing.median_ms if timing else None,
        p99_ms=timing.p99_ms if timing else None,
        built_in_s=0.0,
        built_at=datetime.now(UTC).isoformat(timespec="seconds"),
        command=request.command,
    )


def _keep_onnx(simplified: Path, folder: Path) -> Path:
    """Copy a simplified file into a folder, complete or not at all. Raises BackendError."""
    try:
        with atomic_write(folder / simplified.name) as partial_path:
            shutil.copyfile(simplified, partial_path)
    except OSError as error:
        found = f"{simplified.name} cannot be written to {folder}: {error.strerror}"
        cure = "free some space, or choose another --out"
        raise BackendError("onnx-not-writable", found, cure=cure) from None
    return folder / simplified.name


def _machine_name(machine: Machine) -> str:
    """Return the part of a file name that names the machine."""
    capability = machine.compute_capability
    return f"{'nogpu' if capability is None else 'sm' + capability.replace('.', '')}-trt{machine.tensorrt}"


def _check_export(job: Job, exported: Path, simplified: Path, request: BuildRequest) -> Tolerance:
    deviation = job.compare(exported, simplified)
    by = "the exported network in ONNX Runtime, against " + ("PyTorch" if job.network else "the file")
    return _check_deviation(job, deviation, by, request)


def _check_deviation(job: Job, deviation: Deviation, by: str, request: BuildRequest) -> Tolerance:
    """Report a deviation and return it for the sidecar. Raises BackendError when it is too large."""
    allowed = TOLERANCE[DTYPES[job.options.precision]]
    layer_error = "overflows" if deviation.worst_layer_mean is None else f"{deviation.worst_layer_mean:.1e}"
    worst = f", worst layer {deviation.worst_layer} ({layer_error})" if deviation.worst_layer else ""
    errors = f"mean {deviation.mean:.1e}, max {deviation.max:.1e} of its scale"
    request.notice(f"{job.signature.name}: {by}: {errors}{worst}")
    if not deviation.mean <= allowed:
        raise BackendError(
            "export-inaccurate",
            f"{job.signature.name} has a mean error of {deviation.mean:.1%} in {job.options.precision}{worst}",
            f"at most {allowed:.1%}",
            _accuracy_cure(job, deviation),
        )
    return Tolerance(
        by=by,
        allowed=allowed,
        mean=deviation.mean,
        max=deviation.max,
        worst_layer=deviation.worst_layer,
        worst_layer_mean=deviation.worst_layer_mean,
    )


def _accuracy_cure(job: Job, deviation: Deviation) -> str:
    if not job.network:
        return "export it in float32, or use --no-check"
    if job.options.precision == "fp32":
        return "try another --opset or --grid-sample"
    return f"--fp32 {deviation.worst_layer}" if deviation.worst_layer else "--precision fp32"


def _try_engine(job: Job, engine: bytes, exported: Path, request: BuildRequest) -> tuple[Tolerance | None, Timing]:
    """Run a new engine on this GPU. Return its deviation, where that is checked, and its time."""
    backend = TensorrtBackend.from_engine(job.signature, engine, DTYPES[job.options.precision])
    try:
        outputs = {name: array.copy() for name, array in backend.run(job.feeds).items()}
        tolerance = None
        if request.check:
            deviation = Deviation(*largest_errors(outputs, job.expected(exported)))
            tolerance = _check_deviation(job, deviation, "the engine, against the reference", request)
        times = []
        for _ in range(WARM_UP + REPEATS):
            began = time.perf_counter()
            backend.run(job.feeds)
            times.append((time.perf_counter() - began) * 1e3)
    finally:
        backend.close()
    median, p99 = np.percentile(times[WARM_UP:], (50, 99))
    return tolerance, Timing(round(float(median), 3), round(float(p99), 3))
