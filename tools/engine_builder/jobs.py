"""The engines to build: three for each of reenact's families of networks, one for any other ONNX file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engines.backends.network_stage import Feeds
from engines.backends.numeric_check import reference_outputs
from engines.backends.onnx_export import (
    EXPORT_PRECISIONS,
    OPSET,
    OPSET_BF16,
    OPSETS,
    ExportOptions,
    ExportPrecision,
    export_onnx,
    network_id,
)
from engines.backends.tensorrt_backend import EngineSignature
from engines.errors import UsageError, one_of
from tools.engine_builder import trt
from tools.engine_builder.onnx import Deviation, compare_stage, describe, largest_errors, random_inputs, run

if TYPE_CHECKING:
    from engines.backends.network_stage import GridSample, NetworkStage

FAMILIES = ("liveportrait", "fomm", "refiner")


@dataclass(frozen=True, slots=True)
class FamilyOptions:
    """The options that apply to reenact's own networks; an empty value means the default."""

    precision: str
    float32: tuple[str, ...]
    """The modules that stay in float32."""
    opset: int
    grid_sample: str
    weights: str | None

    def used(self) -> list[str]:
        """Return the command line options that were used."""
        values = {
            "--fp32": self.float32,
            "--opset": self.opset,
            "--grid-sample": self.grid_sample,
            "--weights": self.weights,
            "--precision": self.precision,
        }
        return [option for option, value in values.items() if value]


@dataclass(frozen=True, slots=True)
class Job:
    """One engine to build."""

    model: str
    signature: EngineSignature
    network: str
    """``engines.backends.onnx_export.network_id``, or empty for an ONNX file."""
    weights: str
    options: ExportOptions
    grid_sample: str | None
    export: Callable[[Path], Path]
    """Writes the ONNX file into a folder and returns its path."""
    feeds: Feeds
    compare: Callable[[Path, Path], Deviation]
    """Compares the simplified file (second) with its origin, given the exported file (first)."""
    expected: Callable[[Path], Feeds]
    """Returns the correct outputs for the feeds, given the exported file."""

    @property
    def file_name(self) -> str:
        """The name of its files without the part that names the machine."""
        return f"{self.signature.name}-{self.network or 'onnx'}-{self.options}"


def family_jobs(family: str, options: FamilyOptions, *, onnx_only: bool) -> list[Job]:
    """Return the jobs of one of reenact's families. Raises UsageError, BackendError."""
    precision = _precision(options.precision)
    opset = options.opset or (OPSET_BF16 if precision == "bf16" else OPSET)
    native = _samples_natively(options.grid_sample, opset, precision, onnx_only=onnx_only)
    label, stages = _networks(family, options.weights, "native" if native else "planar")
    modules = {name for stage in stages.values() for name, _ in stage.module.named_modules() if name}
    for name in options.float32:
        if name not in modules:
            top = ", ".join(sorted(name for name in modules if "." not in name))
            cure = f"choose among {top}, and the modules inside them"
            raise UsageError("module-unknown", f"{family} has no module {name!r}", cure=cure)
    sampling = ("native" if native else "planar") if family == "liveportrait" else None
    export = ExportOptions(opset, precision, options.float32)
    return [_stage_job(family, label, stage, export, sampling) for stage in stages.values()]


def _networks(family: str, weights: str | None, grid_sample: GridSample) -> tuple[str, dict[str, NetworkStage]]:
    """Return what to call a family's weights, and its networks. Raises UsageError, GeneratorError."""
    from engines.networks import fomm, liveportrait, refiner, refiner_weights
    from engines.networks.weights import RANDOM, load_weights

    if family != "refiner":
        loaded = load_weights(family, weights)
        module = liveportrait if family == "liveportrait" else fomm
        return loaded.label, module.stages(loaded.parts, grid_sample=grid_sample)
    if weights is None:
        return "shipped", refiner.stages(refiner_weights.load())
    seed = weights.removeprefix(RANDOM)
    if not weights.startswith(RANDOM):
        return weights, refiner.stages(refiner_weights.load(Path(weights).expanduser()))
    if not seed.isdecimal():
        found, cure = f"--weights {weights}", "for example --weights random:1"
        raise UsageError("weights-bad-seed", found, "a whole number as the seed", cure)
    return weights, refiner.stages(refiner_weights.random(int(seed)))


def _precision(text: str) -> ExportPrecision:
    for precision in EXPORT_PRECISIONS:
        if text == precision:
            return precision
    if text:
        expected = one_of(EXPORT_PRECISIONS)
        raise UsageError("precision-unknown", f"--precision {text}", expected, "for example --precision fp16")
    return "fp16"


def _samples_natively(grid_sample: str, opset: int, precision: ExportPrecision, *, onnx_only: bool) -> bool:
    """Return whether volumes are sampled by 5-D GridSample. Raises UsageError for options that do not go together."""
    if opset not in OPSETS:
        raise UsageError("opset-unsupported", f"--opset {opset}", f"{OPSETS.start} to {OPSETS.stop - 1}", "choose one")
    if precision == "bf16" and opset < OPSET_BF16:
        found = f"--opset {opset}, which has no convolution in bfloat16"
        raise UsageError("opset-without-bfloat16", found, cure=f"--opset {OPSET_BF16}")
    if grid_sample not in ("", "native", "planar"):
        cure = "for example --grid-sample planar"
        raise UsageError("grid-sample-unknown", f"--grid-sample {grid_sample}", "native or planar", cure)
    native = grid_sample == "native"
    if native and opset < OPSET:
        found = f"--opset {opset}, which cannot sample volumes"
        raise UsageError("opset-without-volumes", found, cure=f"--opset {OPSET}, or --grid-sample planar")
    if onnx_only:
        return native
    supported = trt.version() >= trt.VOLUMES_SINCE
    if native and not supported:
        least = ".".join(map(str, trt.VOLUMES_SINCE))
        found = "this TensorRT cannot sample volumes"
        raise UsageError("tensorrt-without-volumes", found, f"TensorRT {least}", "--grid-sample planar")
    return native or (not grid_sample and supported and opset >= OPSET)


def _stage_job(family: str, label: str, stage: NetworkStage, options: ExportOptions, sampling: str | None) -> Job:
    half = options.precision if stage.halves else "fp32"
    modules = {name for name, _ in stage.module.named_modules()}
    float32 = tuple(sorted(name for name in options.float32 if name in modules)) if half != "fp32" else ()
    stage_options = ExportOptions(options.opset, half, float32)
    feeds = stage.sample_inputs()
    return Job(
        family,
        EngineSignature(stage.name, stage.inputs, stage.outputs),
        network_id(stage),
        label,
        stage_options,
        sampling if stage.name == "frame" else None,
        lambda folder: export_onnx(stage, folder, stage_options),
        feeds,
        lambda _, simplified: compare_stage(simplified, stage, feeds, half),
        lambda _: reference_outputs(stage, feeds),
    )


def file_job(path: Path, options: FamilyOptions) -> Job:
    """Return the job of an ONNX file. Raises UsageError, BackendError."""
    used = options.used()
    if used:
        found = f"{', '.join(used)}: an ONNX file already has its precision, operators and weights"
        raise UsageError("onnx-options", found, cure="leave these options out, or export the file again")
    if not path.is_file():
        cure = f"choose {one_of((*FAMILIES, 'the path of an ONNX file'))}"
        if path.suffix:
            raise UsageError("onnx-missing", f"there is no file {path}", cure=cure)
        raise UsageError("model-unknown", f"no model is called {str(path)!r}", cure=cure)
    model = describe(path)
    feeds = random_inputs(model.inputs)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]

    def outputs(file: Path) -> Feeds:
        import onnx

        return run(onnx.load(file), feeds, file.name)

    return Job(
        path.name,
        EngineSignature(f"{path.stem}-{digest}", model.inputs, model.outputs),
        "",
        "its own",
        ExportOptions(model.opset, model.precision),
        None,
        lambda _: path,
        feeds,
        lambda exported, simplified: Deviation(*largest_errors(outputs(simplified), outputs(exported))),
        outputs,
    )
