"""ONNX files for the engine builder: simplified, described, and compared with what they were exported from."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engines.backends.network_stage import Array, Feeds, NetworkStage, TensorSpec
from engines.backends.numeric_check import relative_errors
from engines.backends.onnx_backend import import_onnxruntime
from engines.backends.onnx_export import ExportPrecision, import_onnx
from engines.backends.torch_backend import import_torch
from engines.errors import BackendError
from engines.install_hint import install_command

_LAYERS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "InstanceNormalization"))
"""The operators whose answers are compared one by one."""
_EDGES = {
    "FLOAT": "float32",
    "FLOAT16": "float16",
    "INT64": "int64",
    "INT32": "int32",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}
"""What both TensorRT and NumPy can have as inputs and outputs: ONNX's names and NumPy's."""


@dataclass(frozen=True, slots=True)
class Compared:
    """How far a network's answers lie from the reference's, as shares of its scale."""

    mean: float
    max: float
    worst: str | None = None
    worst_mean: float | None = None
    """None where it is no number: half precision overflows in that layer, and recovers after it."""


def simplify(path: Path, out: Path) -> tuple[int, int]:
    """Write a simplified copy of an ONNX file: the number of nodes before and after.

    Raises BackendError where the result is not valid or cannot be written.
    """
    onnx = import_onnx()
    try:
        import onnxslim
    except ImportError:
        raise BackendError("onnxslim is not installed", cure=install_command("neural")) from None
    model = onnx.load(path)
    try:
        slim = onnxslim.slim(model)
    except Exception as error:  # whatever it stumbles over in somebody's file
        raise BackendError(f"{path.name} cannot be simplified: {_line(error)}", cure="export it another way") from error
    try:
        onnx.save(slim, out)
        onnx.checker.check_model(str(out), full_check=True)
    except OSError as error:
        raise BackendError(f"{out} cannot be written: {error.strerror}", cure="make room, or name --out") from None
    except onnx.checker.ValidationError as error:
        raise BackendError(
            f"{path.name} is not valid when simplified: {_line(error)}", cure="try another --opset"
        ) from None
    return len(model.graph.node), len(slim.graph.node)


@dataclass(frozen=True, slots=True)
class Described:
    """What an ONNX file of somebody's takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    precision: ExportPrecision


def describe(path: Path) -> Described:
    """Read a file that somebody exported. Raises BackendError where it is not ONNX, or has a size left open."""
    onnx = import_onnx()
    try:
        model = onnx.load(path)
        onnx.checker.check_model(str(path))
        model = onnx.shape_inference.infer_shapes(model)
    except OSError as error:
        raise BackendError(f"{path} cannot be read: {error.strerror}", cure="check the path") from None
    except Exception as error:  # protobuf and onnx each have several classes for it
        page = _starts_as_page(path)
        found = "a web page saved under that name" if page else f"not a network in ONNX: {_line(error)}"
        raise BackendError(f"{path} is {found}", cure="export or download it again") from None
    stored = {each.name for each in model.graph.initializer}
    inputs = tuple(_spec(onnx, value, path) for value in model.graph.input if value.name not in stored)
    outputs = tuple(_spec(onnx, value, path) for value in model.graph.output)
    if not inputs or not outputs:
        raise BackendError(f"{path} takes nothing, or answers nothing", cure="export it again")
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    return Described(inputs, outputs, opset, _precision(onnx, model))


def _starts_as_page(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(256).lstrip().lower().startswith((b"<!doctype", b"<html"))
    return False


def _precision(onnx: Any, model: Any) -> ExportPrecision:
    """The half precision in which any of the weights are, else fp32."""
    kinds = {each.data_type for each in model.graph.initializer}
    for name, kind in (("fp16", onnx.TensorProto.FLOAT16), ("bf16", onnx.TensorProto.BFLOAT16)):
        if kind in kinds:
            return name  # type: ignore[return-value]
    return "fp32"


def _spec(onnx: Any, value: Any, path: Path) -> TensorSpec:
    kind = value.type.tensor_type
    sizes = [each.dim_value if each.HasField("dim_value") else 0 for each in kind.shape.dim]
    if not kind.HasField("shape") or not all(size > 0 for size in sizes):
        open_ = ", ".join(each.dim_param or str(each.dim_value or "?") for each in kind.shape.dim) or "?"
        raise BackendError(
            f"{path.name}: {value.name} has sizes left open: ({open_})", cure="export it again with every size fixed"
        )
    found = onnx.TensorProto.DataType.Name(kind.elem_type)
    if found not in _EDGES:
        raise BackendError(
            f"{path.name}: {value.name} is {found.lower()}", cure=f"export it as one of {', '.join(_EDGES.values())}"
        )
    return TensorSpec(value.name, tuple(sizes), _EDGES[found])


def compare_stage(path: Path, stage: NetworkStage, feeds: Feeds, precision: ExportPrecision) -> Compared:
    """An exported stage, run by ONNX Runtime, against PyTorch in float32: its answers, and each layer's.

    ONNX Runtime has no bfloat16 on the CPU; there the weights have been rounded to it and the rest is float32. Raises
    BackendError where the file does not run.
    """
    onnx, torch = import_onnx(), import_torch()
    model = _widened(onnx, onnx.load(path)) if precision == "bf16" else onnx.load(path)
    tensors = _layer_tensors(model, stage)
    answers = run(model, feeds, path.name, also=list(tensors.values()))
    called: Counter[str] = Counter()
    off: dict[str, float] = {}

    def watch(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            called[name] += 1
            answer, expected = answers[tensors[name]], output.detach().numpy()
            if called[name] == 1 and answer.shape == expected.shape:
                mean, _ = relative_errors(answer, expected)
                off[name] = mean if np.isfinite(mean) else float("inf")
            else:
                off.pop(name, None)

        return hook

    hooks = [stage.module.get_submodule(name).register_forward_hook(watch(name)) for name in tensors]
    try:
        with torch.inference_mode():
            expected = stage.module(*(torch.from_numpy(feeds[spec.name]) for spec in stage.inputs))
    finally:
        for hook in hooks:
            hook.remove()
    reference = {spec.name: tensor.numpy() for spec, tensor in zip(stage.outputs, expected, strict=True)}
    mean, most = farthest(answers, reference)
    worst = max(off, key=off.__getitem__, default=None)
    return Compared(mean, most, worst, None if worst is None or not np.isfinite(off[worst]) else off[worst])


def farthest(answers: Feeds, reference: Feeds) -> tuple[float, float]:
    """How far the worst answer lies from its reference, on average and at most; infinite for what is no number."""
    apart = [relative_errors(answers[name], expected) for name, expected in reference.items()]
    return (
        max(mean if np.isfinite(mean) else float("inf") for mean, _ in apart),
        max(most if np.isfinite(most) else float("inf") for _, most in apart),
    )


def _layer_tensors(model: Any, stage: NetworkStage) -> dict[str, str]:
    """For each layer by its dotted name in PyTorch the tensor of the ONNX graph that it answers.

    The exporter names a node after the modules that were called on the way to it: ``/warping_module/fourth/Conv``; one
    whose parent was only reached through has its name without the parent's.
    """
    leaves = [name for name, module in stage.module.named_modules() if name and not list(module.children())]
    found: dict[str, str] = {}
    for node in model.graph.node:
        called = ".".join(node.name.split("/")[1:-1])
        if node.op_type in _LAYERS and called:
            fitting = [name for name in leaves if name == called or name.endswith(f".{called}")]
            if len(fitting) == 1:
                found[fitting[0]] = node.output[0]
    return found


def _widened(onnx: Any, model: Any) -> Any:
    """Replace bfloat16 by float32 everywhere in a model, in place."""
    brain, single = onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT
    widen = [each for each in model.graph.initializer if each.data_type == brain]
    for tensor in widen:
        values = np.asarray(onnx.numpy_helper.to_array(tensor)).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == brain:
                attribute.i = single
            if attribute.HasField("t") and attribute.t.data_type == brain:
                values = np.asarray(onnx.numpy_helper.to_array(attribute.t)).astype(np.float32)
                attribute.t.CopyFrom(onnx.numpy_helper.from_array(values))
    del model.graph.value_info[:]
    return model


def run(model: Any, feeds: Feeds, label: str, also: list[str] | None = None) -> Mapping[str, Array]:
    """Run a model once in ONNX Runtime on the CPU: its outputs and the tensors ``also`` named, by name.

    Raises BackendError where ONNX Runtime does not take it.
    """
    onnx, runtime = import_onnx(), import_onnxruntime()
    have = {value.name for value in model.graph.output}
    for name in also or []:
        if name not in have:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    names = [value.name for value in model.graph.output]
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return dict(zip(names, session.run(None, dict(feeds)), strict=True))
    except Exception as error:  # ONNX Runtime has no class of its own for each failure
        raise BackendError(
            f"ONNX Runtime does not run {label}: {_line(error)}", cure="leave the check out: --no-check"
        ) from error


def noise(specs: tuple[TensorSpec, ...], seed: int = 7) -> dict[str, Array]:
    """Inputs for a network of which nothing is known."""
    rng = np.random.default_rng(seed)

    def drawn(spec: TensorSpec) -> Array:
        whole = np.dtype(spec.dtype).kind != "f"  # what whole numbers mean is not known: 0 and 1 are the safest
        return rng.integers(0, 2, spec.shape) if whole else rng.normal(0, 0.5, spec.shape)

    return {spec.name: drawn(spec).astype(spec.dtype) for spec in specs}


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
