"""ONNX files of the engine builder: simplification, description, and comparison with the original network."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engines.backends.backend import first_line
from engines.backends.network_stage import Array, Feeds, NetworkStage, TensorSpec
from engines.backends.numeric_check import relative_errors
from engines.backends.onnx_backend import import_onnxruntime
from engines.backends.onnx_export import ExportPrecision, import_onnx
from engines.backends.torch_backend import import_torch
from engines.errors import BackendError, one_of
from engines.install_hint import install_command

_LAYERS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "InstanceNormalization"))
"""The operators whose outputs are compared one by one."""
_DTYPES = {
    "FLOAT": "float32",
    "FLOAT16": "float16",
    "INT64": "int64",
    "INT32": "int32",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}
"""The types that inputs and outputs can have in both TensorRT and NumPy: ONNX's names and NumPy's."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """The errors of a network's outputs, relative to the magnitude of the expected ones."""

    mean: float
    max: float
    worst_layer: str | None = None
    worst_layer_mean: float | None = None
    """None where it is not finite: half precision overflows in that layer, and recovers after it."""


def simplify(path: Path, out: Path) -> tuple[int, int]:
    """Write a simplified copy of an ONNX file. Return the number of nodes before and after.

    Raises BackendError when the file cannot be simplified, or the result is invalid or cannot be written.
    """
    onnx = import_onnx()
    try:
        import onnxslim
    except ImportError:
        raise BackendError("package-missing", "no package onnxslim", cure=install_command("neural")) from None
    model = onnx.load(path)
    try:
        slim = onnxslim.slim(model)
    except Exception as error:  # it raises exceptions of any class for unusual files
        found = f"{path.name} cannot be simplified: {first_line(error)}"
        raise BackendError("onnx-not-simplified", found, cure="export it with other options") from error
    try:
        onnx.save(slim, out)
        onnx.checker.check_model(str(out), full_check=True)
    except OSError as error:
        found = f"{out} cannot be written: {error.strerror}"
        raise BackendError("onnx-not-writable", found, cure="free some space, or choose another --out") from None
    except onnx.checker.ValidationError as error:
        found = f"{path.name} is invalid after simplification: {first_line(error)}"
        raise BackendError("onnx-not-simplified", found, cure="try another --opset") from None
    return len(model.graph.node), len(slim.graph.node)


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """The interface of an ONNX file."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    precision: ExportPrecision


def describe(path: Path) -> OnnxModel:
    """Read the interface of any ONNX file. Raises BackendError when it is not ONNX or has a size that is not fixed."""
    onnx = import_onnx()
    try:
        model = onnx.load(path)
        onnx.checker.check_model(str(path))
        model = onnx.shape_inference.infer_shapes(model)
    except OSError as error:
        found = f"{path} cannot be read: {error.strerror}"
        raise BackendError("onnx-unreadable", found, cure="check the path and its permissions") from None
    except Exception as error:  # protobuf and onnx raise exceptions of several classes
        if _is_web_page(path):
            found = f"{path} is a web page that was saved under that name"
            raise BackendError("onnx-is-web-page", found, cure="download the file itself") from None
        found = f"{path} is not a network in ONNX: {first_line(error)}"
        raise BackendError("onnx-invalid", found, cure="export or download it again") from None
    stored = {each.name for each in model.graph.initializer}
    inputs = tuple(_spec(onnx, value, path) for value in model.graph.input if value.name not in stored)
    outputs = tuple(_spec(onnx, value, path) for value in model.graph.output)
    if not inputs or not outputs:
        raise BackendError("onnx-no-tensors", f"{path} has no inputs or no outputs", cure="export it again")
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    return OnnxModel(inputs, outputs, opset, _precision(onnx, model))


def _is_web_page(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(256).lstrip().lower().startswith((b"<!doctype", b"<html"))
    return False


def _precision(onnx: Any, model: Any) -> ExportPrecision:
    """Return the half precision of any of the weights, or fp32."""
    kinds = {each.data_type for each in model.graph.initializer}
    for name, kind in (("fp16", onnx.TensorProto.FLOAT16), ("bf16", onnx.TensorProto.BFLOAT16)):
        if kind in kinds:
            return name  # type: ignore[return-value]
    return "fp32"


def _spec(onnx: Any, value: Any, path: Path) -> TensorSpec:
    kind = value.type.tensor_type
    sizes = [each.dim_value if each.HasField("dim_value") else 0 for each in kind.shape.dim]
    if not kind.HasField("shape") or not all(size > 0 for size in sizes):
        shape = ", ".join(each.dim_param or str(each.dim_value or "?") for each in kind.shape.dim) or "?"
        found = f"{path.name}: {value.name} has the shape ({shape})"
        raise BackendError("onnx-dynamic-shape", found, "fixed sizes", "export it again with every size fixed")
    name = onnx.TensorProto.DataType.Name(kind.elem_type)
    if name not in _DTYPES:
        expected = one_of(_DTYPES.values())
        found = f"{path.name}: {value.name} has the type {name.lower()}"
        raise BackendError("onnx-bad-type", found, expected, "export it with another type")
    return TensorSpec(value.name, tuple(sizes), _DTYPES[name])


def compare_stage(path: Path, stage: NetworkStage, feeds: Feeds, precision: ExportPrecision) -> Deviation:
    """Compare an exported stage in ONNX Runtime with PyTorch in float32: its outputs, and those of each layer.

    ONNX Runtime has no bfloat16 on the CPU: its weights are rounded to bfloat16, everything else is float32. Raises
    BackendError when the file cannot be run.
    """
    onnx, torch = import_onnx(), import_torch()
    model = _in_float32(onnx, onnx.load(path)) if precision == "bf16" else onnx.load(path)
    tensors = _layer_tensors(model, stage)
    outputs = run(model, feeds, path.name, also=list(tensors.values()))
    calls: Counter[str] = Counter()
    errors: dict[str, float] = {}

    def comparison(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            calls[name] += 1
            found, expected = outputs[tensors[name]], output.detach().numpy()
            if calls[name] == 1 and found.shape == expected.shape:
                mean, _ = relative_errors(found, expected)
                errors[name] = mean if np.isfinite(mean) else float("inf")
            else:
                errors.pop(name, None)

        return hook

    hooks = [stage.module.get_submodule(name).register_forward_hook(comparison(name)) for name in tensors]
    try:
        with torch.inference_mode():
            expected = stage.module(*(torch.from_numpy(feeds[spec.name]) for spec in stage.inputs))
    finally:
        for hook in hooks:
            hook.remove()
    reference = {spec.name: tensor.numpy() for spec, tensor in zip(stage.outputs, expected, strict=True)}
    mean, largest = largest_errors(outputs, reference)
    worst = max(errors, key=errors.__getitem__, default=None)
    worst_mean = errors[worst] if worst is not None and np.isfinite(errors[worst]) else None
    return Deviation(mean, largest, worst, worst_mean)


def largest_errors(outputs: Feeds, reference: Feeds) -> tuple[float, float]:
    """Return the mean and the largest relative error of the worst output; infinite for values that are not finite."""
    errors = [relative_errors(outputs[name], expected) for name, expected in reference.items()]
    return (
        max(mean if np.isfinite(mean) else float("inf") for mean, _ in errors),
        max(largest if np.isfinite(largest) else float("inf") for _, largest in errors),
    )


def _layer_tensors(model: Any, stage: NetworkStage) -> dict[str, str]:
    """Return the output tensor in the ONNX graph of each layer, by the layer's dotted name in PyTorch.

    The exporter names a node after the modules that were called on the path to it: ``/warping_module/fourth/Conv``. A
    parent that was not called itself is missing in the name.
    """
    leaves = [name for name, module in stage.module.named_modules() if name and not list(module.children())]
    tensors: dict[str, str] = {}
    for node in model.graph.node:
        path = ".".join(node.name.split("/")[1:-1])
        if node.op_type in _LAYERS and path:
            matches = [name for name in leaves if name == path or name.endswith(f".{path}")]
            if len(matches) == 1:
                tensors[matches[0]] = node.output[0]
    return tensors


def _in_float32(onnx: Any, model: Any) -> Any:
    """Replace bfloat16 by float32 everywhere in a model, in place, and return it."""
    bfloat16, float32 = onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT
    for tensor in [each for each in model.graph.initializer if each.data_type == bfloat16]:
        values = np.asarray(onnx.numpy_helper.to_array(tensor)).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == bfloat16:
                attribute.i = float32
            if attribute.HasField("t") and attribute.t.data_type == bfloat16:
                values = np.asarray(onnx.numpy_helper.to_array(attribute.t)).astype(np.float32)
                attribute.t.CopyFrom(onnx.numpy_helper.from_array(values))
    del model.graph.value_info[:]
    return model


def run(model: Any, feeds: Feeds, label: str, also: list[str] | None = None) -> Mapping[str, Array]:
    """Run a model once in ONNX Runtime on the CPU. Return its outputs and the tensors in ``also`` by name.

    Raises BackendError when ONNX Runtime cannot run it.
    """
    onnx, runtime = import_onnx(), import_onnxruntime()
    outputs = {value.name for value in model.graph.output}
    for name in also or []:
        if name not in outputs:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    names = [value.name for value in model.graph.output]
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return dict(zip(names, session.run(None, dict(feeds)), strict=True))
    except Exception as error:  # ONNX Runtime raises exceptions of several classes
        found = f"ONNX Runtime cannot run {label}: {first_line(error)}"
        raise BackendError("onnx-not-runnable", found, cure="leave out the check with --no-check") from error


def random_inputs(specs: tuple[TensorSpec, ...], seed: int = 7) -> dict[str, Array]:
    """Return random inputs for a network whose meaning is unknown."""
    rng = np.random.default_rng(seed)

    def values(spec: TensorSpec) -> Array:
        if np.dtype(spec.dtype).kind == "f":
            return rng.normal(0, 0.5, spec.shape)
        return rng.integers(0, 2, spec.shape)  # integers may be indices: 0 and 1 are the safest

    return {spec.name: values(spec).astype(spec.dtype) for spec in specs}
