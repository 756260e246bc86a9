"""Build TensorRT engines for this machine: of the networks that reenact runs, or of any ONNX file.

python -m tools.build_engine liveportrait
python -m tools.build_engine liveportrait --precision fp16 --fp32 warping_module.dense_motion_network
python -m tools.build_engine MODEL.onnx --out engines
python -m tools.build_engine --list
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console

from engines.atomic_write import atomic_write
from engines.backends.engine_cache import Machine, Sidecar, Tensor, Tolerance, engines_home, sha256_of, write_engine
from engines.backends.network_stage import Feeds
from engines.backends.numeric_check import TOLERANCE, reference_outputs
from engines.backends.onnx_export import (
    DTYPES,
    EXPORT_PRECISIONS,
    OPSET,
    OPSET_BF16,
    OPSETS,
    ExportOptions,
    ExportPrecision,
    export_onnx,
    network_id,
)
from engines.backends.open import has_cuda
from engines.backends.tensorrt_backend import EngineSignature, TensorrtBackend, import_driver, this_machine
from engines.errors import BackendError, UsageError
from tools.engine_builder import listing, trt
from tools.engine_builder.onnx import Compared, compare_stage, describe, farthest, noise, run, simplify
from tools.support.command import new_app, run_app

if TYPE_CHECKING:
    from engines.backends.network_stage import NetworkStage

FAMILIES = ("liveportrait", "fomm")
WARM_UP, REPEATS = 20, 200
STOPPED = 130
"""Exit code after Ctrl-C."""

app = new_app()


@dataclass(frozen=True, slots=True)
class Job:
    """One engine to build."""

    model: str
    asked: EngineSignature
    network: str
    """``engines.backends.onnx_export.identity``, or empty."""
    weights: str
    recipe: ExportOptions
    grid_sample: str | None
    make: Callable[[Path], Path]
    """Puts the ONNX file into a folder."""
    feeds: Feeds
    compare: Callable[[Path, Path], Compared]
    """The exported file and the simplified one, against what they come from."""
    expected: Callable[[Path], Feeds]
    """What a right engine answers to the feeds, given the ONNX file."""

    @property
    def name(self) -> str:
        """Its files' name, but for the machine's part."""
        return f"{self.asked.name}-{self.network or 'onnx'}-{self.recipe}"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for, whatever the model."""

    options: trt.Options
    out: Path
    check: bool
    onnx_only: bool
    command: str
    console: Console
    say: Callable[[str], None]


@app.command()
def build_command(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="liveportrait|fomm|MODEL.onnx", show_default=False)] = "",
    precision: Annotated[str, typer.Option(metavar="fp16|bf16|fp32", help="fp16 unless the model is a file")] = "",
    fp32: Annotated[list[str] | None, typer.Option(metavar="MODULE", help="keep a module in float32")] = None,
    opset: Annotated[int, typer.Option(metavar="N", help="version of ONNX's operators")] = 0,
    grid_sample: Annotated[str, typer.Option(metavar="native|planar", help="how volumes are sampled")] = "",
    workspace: Annotated[
        int | None, typer.Option(metavar="MIB", min=1, max=1 << 24, help="memory that tactics may use")
    ] = None,
    level: Annotated[int, typer.Option(metavar="0-5", min=0, max=5, help="how long TensorRT tries")] = 3,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="where the engines go; the cache unless given")
    ] = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="compare with PyTorch")] = True,
    weights: Annotated[str | None, typer.Option(metavar="PATH|random:SEED", help="the networks' weights")] = None,
    onnx_only: Annotated[bool, typer.Option("--onnx-only", help="export, simplify and check; build nothing")] = False,
    list_: Annotated[
        bool, typer.Option("--list", help="what is in the cache, and whether it fits this machine")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="the answer as JSON on standard output")] = False,
) -> None:
    """Export, simplify and check the ONNX files, build the engines, time them, and compare them with PyTorch."""
    folder = out or engines_home()
    console = Console(stderr=True)
    if list_:
        listing.show(folder, as_json=as_json)
        return
    if not model:
        raise UsageError("no model is named", cure=f"name one of {', '.join(FAMILIES)}, or an ONNX file; or --list")
    say = (
        (lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True))
        if as_json
        else (lambda line: print(line, flush=True))
    )
    command = f"{context.command_path} {shlex.join(context.obj)}"
    options = trt.Options(workspace, level)
    wish = Wish(options, folder, check, onnx_only, command, console, say)
    try:
        if not onnx_only:
            trt.version()  # before anything takes long
            if has_cuda():
                import_driver()
        _ready(folder)
        with tempfile.TemporaryDirectory(prefix="reenact-engine-") as scratch:
            if model in FAMILIES:
                kept = tuple(fp32 or ())
                jobs = _family_jobs(
                    model, _precision(precision), kept, opset, grid_sample, weights, onnx_only=onnx_only
                )
            else:
                given = {"--fp32": fp32, "--opset": opset, "--grid-sample": grid_sample, "--weights": weights}
                given["--precision"] = precision
                jobs = [_file_job(Path(model), [name for name, value in given.items() if value])]
            done = [_carry_out(job, wish, Path(scratch)) for job in jobs]
    except KeyboardInterrupt:
        print("\nstopped: nothing half-written is left", file=sys.stderr)
        raise typer.Exit(STOPPED) from None
    if as_json:
        print(json.dumps(done, indent=2, allow_nan=False))


def _precision(text: str) -> ExportPrecision:
    for precision in EXPORT_PRECISIONS:
        if text == precision:
            return precision
    if text:
        raise UsageError(f"there is no precision {text!r}", cure=f"choose one of: {', '.join(EXPORT_PRECISIONS)}")
    return "fp16"


def _family_jobs(
    family: str,
    precision: ExportPrecision,
    kept: tuple[str, ...],
    opset: int,
    grid_sample: str,
    weights: str | None,
    *,
    onnx_only: bool,
) -> list[Job]:
    """The engines of one of reenact's families: one for the portrait, two for each frame."""
    from engines.networks import fomm, liveportrait
    from engines.networks import weights as checkpoints

    least = OPSET_BF16 if precision == "bf16" else OPSET
    opset = opset or least
    if opset not in OPSETS:
        raise UsageError(f"--opset {opset}", cure=f"choose {OPSETS.start} to {OPSETS.stop - 1}")
    if precision == "bf16" and opset < OPSET_BF16:
        raise UsageError(f"--opset {opset} has no convolution in bfloat16", cure=f"--opset {OPSET_BF16}")
    if grid_sample not in ("", "native", "planar"):
        raise UsageError(f"there is no --grid-sample {grid_sample}", cure="choose native or planar")
    native = grid_sample == "native"
    if native and opset < OPSET:
        raise UsageError(f"--opset {opset} cannot sample volumes", cure=f"--opset {OPSET}, or --grid-sample planar")
    if not onnx_only:
        takes = trt.version() >= trt.VOLUMES_SINCE
        if native and not takes:
            raise UsageError("this TensorRT cannot sample volumes: 11.2 is the first", cure="--grid-sample planar")
        native = native or (not grid_sample and takes and opset >= OPSET)
    loaded = checkpoints.load_weights(family, weights)
    made: dict[str, NetworkStage] = (liveportrait if family == "liveportrait" else fomm).stages(
        loaded.parts, grid_sample="native" if native else "planar"
    )
    known = {name for stage in made.values() for name, _ in stage.module.named_modules() if name}
    for name in kept:
        if name not in known:
            tops = ", ".join(sorted(name for name in known if "." not in name))
            raise UsageError(f"{family} has no module {name!r}", cure=f"it has {tops}, and what is in them")
    sampling = ("native" if native else "planar") if family == "liveportrait" else None
    return [_stage_job(family, loaded.label, stage, precision, kept, opset, sampling) for stage in made.values()]


def _stage_job(
    family: str,
    label: str,
    stage: NetworkStage,
    precision: ExportPrecision,
    kept: tuple[str, ...],
    opset: int,
    sampling: str | None,
) -> Job:
    half = precision if stage.halves else "fp32"
    within = {name for name, _ in stage.module.named_modules()}
    recipe = ExportOptions(
        opset, half, tuple(sorted(name for name in kept if name in within)) if half != "fp32" else ()
    )
    feeds = stage.sample_inputs()
    return Job(
        family,
        EngineSignature(stage.name, stage.inputs, stage.outputs),
        network_id(stage),
        label,
        recipe,
        sampling if stage.name == "frame" else None,
        lambda folder: export_onnx(stage, folder, recipe),
        feeds,
        lambda _, slim: compare_stage(slim, stage, feeds, half),
        lambda _: reference_outputs(stage, feeds),
    )


def _file_job(path: Path, given: list[str]) -> Job:
    """The engine of a file of somebody's."""
    if given:
        raise UsageError(
            f"{', '.join(given)}: an ONNX file has its precision, operators and weights already",
            cure="leave it out, or export the file anew",
        )
    if not path.is_file():
        what = "there is no such file" if path.suffix else "it is no family of networks and no file"
        raise UsageError(f"{path}: {what}", cure=f"name one of {', '.join(FAMILIES)}, or an ONNX file")
    found = describe(path)
    feeds = noise(found.inputs)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]

    def answers(of: Path) -> Feeds:
        import onnx

        return run(onnx.load(of), feeds, of.name)

    return Job(
        path.name,
        EngineSignature(f"{path.stem}-{digest}", found.inputs, found.outputs),
        "",
        "its own",
        ExportOptions(found.opset, found.precision),
        None,
        lambda _: path,
        feeds,
        lambda source, slim: Compared(*farthest(answers(slim), answers(source))),
        answers,
    )


def _carry_out(job: Job, wish: Wish, scratch: Path) -> dict[str, Any]:
    """Everything for one engine; what came of it, for JSON."""
    began = time.monotonic()
    source = job.make(scratch)
    slim = scratch / f"{job.name}.onnx"
    before, after = simplify(source, slim)
    digest = sha256_of(slim)
    wish.say(
        f"{job.asked.name}: exported in {job.recipe.precision}, opset {job.recipe.opset}, "
        f"{before} nodes simplified to {after}, {slim.stat().st_size / 1e6:.0f} MB"
    )
    allowed = TOLERANCE[("float32" if job.recipe.precision == "fp32" else "float16")]
    exported = None
    if wish.check:
        compared = job.compare(source, slim)
        by = "the exported network in ONNX Runtime, against " + ("PyTorch" if job.network else "the file")
        exported = _tolerance(job, compared, by, allowed, wish)
    if wish.onnx_only:
        kept = _keep_onnx(slim, wish.out)
        wish.say(f"{job.asked.name}: {kept}")
        return {"stage": job.asked.name, "onnx": str(kept), "onnx_sha256": digest, "export": _plain(exported)}
    machine = this_machine()
    timing = wish.out / f"timing-{_place(machine)}.cache"
    tidy = partial(shutil.rmtree, scratch, ignore_errors=True)
    built = trt.build(slim, job.asked, wish.options, timing, wish.console, tidy)
    engine, median, p99 = None, None, None
    if machine.gpu is not None:
        engine, median, p99 = _try_out(job, built.engine, source, wish, allowed)
    sidecar = Sidecar(
        model=job.model,
        stage=job.asked.name,
        network=job.network,
        weights=job.weights,
        onnx_sha256=digest,
        engine_sha256=hashlib.sha256(built.engine).hexdigest(),
        tensorrt=machine.tensorrt or "",
        gpu=machine.gpu,
        compute_capability=machine.compute_capability,
        precision=DTYPES[job.recipe.precision],
        float32=list(job.recipe.float32),
        opset=job.recipe.opset,
        grid_sample=job.grid_sample,
        workspace_mib=wish.options.workspace_mib,
        level=wish.options.level,
        inputs=[Tensor.of(spec) for spec in job.asked.inputs],
        outputs=[Tensor.of(spec) for spec in job.asked.outputs],
        export=exported,
        engine=engine,
        median_ms=median,
        p99_ms=p99,
        built_in_s=round(time.monotonic() - began, 1),
        built_at=datetime.now(UTC).isoformat(timespec="seconds"),
        command=wish.command,
    )
    path = write_engine(wish.out, f"{job.name}-{_place(machine)}", built.engine, sidecar)
    timed = "not timed: there is no GPU here, and it runs nowhere" if median is None else f"{median:.2f} ms"
    wish.say(f"{job.asked.name}: built in {built.seconds:.1f} s, {timed}\n  {path}")
    return {"file": str(path), **sidecar.model_dump(mode="json")}


def _keep_onnx(slim: Path, folder: Path) -> Path:
    """Put a simplified file into a folder, whole or not at all."""
    try:
        with atomic_write(folder / slim.name) as partial:
            shutil.copyfile(slim, partial)
    except OSError as error:
        raise BackendError(
            f"{slim.name} cannot be written to {folder}: {error.strerror}", cure="make room, or name another with --out"
        ) from None
    return folder / slim.name


def _ready(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BackendError(f"{folder} cannot be written to: {error.strerror}", cure="name another with --out") from None


def _place(machine: Machine) -> str:
    """The machine's part of a name."""
    capability = machine.compute_capability
    return f"{'nogpu' if capability is None else 'sm' + capability.replace('.', '')}-trt{machine.tensorrt}"


def _tolerance(job: Job, compared: Compared, by: str, allowed: float, wish: Wish) -> Tolerance:
    """Say how far off answers are, and refuse what is too far."""
    share = "overflows" if compared.worst_mean is None else f"{compared.worst_mean:.1e}"
    worst = f", worst layer {compared.worst} ({share})" if compared.worst else ""
    wish.say(f"{job.asked.name}: {by}: mean {compared.mean:.1e}, max {compared.max:.1e} of its scale{worst}")
    if not compared.mean <= allowed:
        if not job.network:
            cure = "export it in float32, or --no-check"
        elif job.recipe.precision == "fp32":
            cure = "try another --opset or --grid-sample"
        else:
            cure = f"--fp32 {compared.worst}" if compared.worst else "--precision fp32"
        raise BackendError(
            f"{job.asked.name} is {compared.mean:.1%} off on average in {job.recipe.precision}{worst}; "
            f"{allowed:.1%} is allowed, and nothing is kept",
            cure=cure,
        )
    return Tolerance(
        by=by,
        allowed=allowed,
        mean=compared.mean,
        max=compared.max,
        worst_layer=compared.worst,
        worst_layer_mean=compared.worst_mean,
    )


def _try_out(
    job: Job, engine: bytes, source: Path, wish: Wish, allowed: float
) -> tuple[Tolerance | None, float, float]:
    """Run a new engine on this GPU: how far off it is, and what it takes with all its copies, median and p99 in ms."""
    backend = TensorrtBackend.from_engine(job.asked, engine, DTYPES[job.recipe.precision])
    try:
        answers = {name: array.copy() for name, array in backend.run(job.feeds).items()}
        tolerance = None
        if wish.check:
            mean, most = farthest(answers, job.expected(source))
            tolerance = _tolerance(job, Compared(mean, most), "the engine, against the reference", allowed, wish)
        times = []
        for _ in range(WARM_UP + REPEATS):
            began = time.perf_counter()
            backend.run(job.feeds)
            times.append((time.perf_counter() - began) * 1e3)
    finally:
        backend.close()
    median, p99 = np.percentile(times[WARM_UP:], (50, 99))
    return tolerance, round(float(median), 3), round(float(p99), 3)


def _plain(tolerance: Tolerance | None) -> dict[str, Any] | None:
    return None if tolerance is None else tolerance.model_dump(mode="json")


def main(arguments: list[str] | None = None, prog: str = "python -m tools.build_engine") -> int:
    """Run the command line and return its exit code."""
    return run_app(app, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
