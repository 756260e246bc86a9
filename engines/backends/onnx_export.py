"""A stage as an ONNX file, checked; in half precision where that is asked for."""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import io
import warnings
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from engines.atomic_write import whole
from engines.backends.backend import sample
from engines.backends.torch_backend import import_torch
from engines.errors import BackendError, UsageError
from engines.install_hint import install

if TYPE_CHECKING:
    from torch import nn

    from engines.backends.network_stage import Stage

OPSET = 20
"""The first in which GridSample takes volumes, and the last that PyTorch's tracing exporter writes."""
OPSET_BF16 = 22
"""The first in which convolutions take bfloat16."""
OPSETS = range(16, 23)
"""From the first that has GridSample."""
Precision = Literal["fp32", "fp16", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""The precisions by PyTorch's names."""
_FORMAT = "2"
"""Part of every file's name: another way to export must not meet files of the old one."""
_digests: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a stage is exported."""

    opset: int = OPSET
    """The version of ONNX's operators."""
    precision: Precision = "fp32"
    kept: tuple[str, ...] = ()
    """Modules by dotted name that stay float32 in half precision."""

    def __str__(self) -> str:
        """As part of a file's name."""
        kept = hashlib.sha256(" ".join(sorted(self.kept)).encode()).hexdigest()[:6] if self.kept else ""
        return "-".join(filter(None, (f"opset{self.opset}", self.precision, kept)))


def identity(stage: Stage) -> str:
    """What tells one network with its weights from another, however it is computed: 16 hexadecimal digits."""
    named = f"{_FORMAT} {stage.name} {stage.inputs} {stage.outputs} {_weights_digest(stage.module)}"
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def fingerprint(stage: Stage) -> str:
    """``identity`` and the way it is computed: 16 hexadecimal digits."""
    return hashlib.sha256(f"{identity(stage)} {stage.module}".encode()).hexdigest()[:16]


def _weights_digest(module: nn.Module) -> str:
    known = _digests.get(module)
    if known is None:
        digest = hashlib.sha256()
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        known = _digests[module] = digest.hexdigest()
    return known


def export(stage: Stage, folder: Path, recipe: Recipe | None = None) -> Path:
    """Export a stage, once: the file under ``folder`` that holds it.

    In half precision that is the stage's ``halves`` but for the modules kept; its inputs and outputs are float32 all
    the same. The file is written whole or not at all. Raises BackendError where torch or onnx is missing, the export
    fails or what came out is not valid, or there is no room; UsageError for a module to keep that there is not.
    """
    recipe = recipe or Recipe()
    torch = import_torch()
    onnx = import_onnx()
    path = folder / f"{stage.name}-{fingerprint(stage)}-{recipe}.onnx"
    if path.is_file():
        return path
    feeds = sample(stage.inputs, stage.defaults)
    arguments = tuple(torch.from_numpy(feeds[spec.name]) for spec in stage.inputs)
    module = _in_half(stage, recipe)
    try:
        with (
            whole(path) as partial,
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            torch.inference_mode(),
        ):
            warnings.simplefilter("ignore")  # remarks of the tracer; the answers are compared afterwards
            torch.onnx.export(
                module,
                arguments,
                str(partial),
                input_names=[spec.name for spec in stage.inputs],
                output_names=[spec.name for spec in stage.outputs],
                opset_version=min(recipe.opset, OPSET),
                dynamo=False,
                do_constant_folding=True,
            )
            if recipe.opset > OPSET:
                onnx.save(onnx.version_converter.convert_version(onnx.load(partial), recipe.opset), partial)
            onnx.checker.check_model(str(partial), full_check=True)
    except OSError as error:
        raise BackendError(
            f"the exported network cannot be written to {folder}: {error.strerror}",
            cure="make room, or set XDG_CACHE_HOME",
        ) from error
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise BackendError(f"{stage.name} cannot be exported to ONNX: {line}", cure="try another --opset") from error
    return path


def import_onnx() -> Any:
    """The package onnx. Raises BackendError where it is not installed."""
    try:
        import onnx
        import onnx.version_converter
    except ImportError:
        raise BackendError("onnx is not installed", cure=install("neural")) from None
    return onnx


def _in_half(stage: Stage, recipe: Recipe) -> nn.Module:
    """The stage's module, or a copy of it in half precision."""
    names = {name for name, _ in stage.module.named_modules() if name}
    for name in recipe.kept:
        if name not in names:
            tops = ", ".join(sorted(name for name in names if "." not in name))
            raise UsageError(f"{stage.name} has no module {name!r}", cure=f"it has {tops}, and what is in them")
    if recipe.precision == "fp32" or not stage.halves:
        return stage.module
    torch = import_torch()
    module = copy.deepcopy(stage.module)
    for name in stage.halves:
        module.get_submodule(name).to(getattr(torch, DTYPES[recipe.precision]))
    for name in recipe.kept:
        module.get_submodule(name).float()
    convolve = _convolution().apply
    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.Conv3d):
            part.forward = functools.partial(_convolved, convolve, part)
    return module


def _convolved(convolve: Any, part: Any, x: Any) -> Any:
    """A convolution in the precision of its weight, whatever its input's."""
    layout = {"pads": part.padding, "strides": part.stride, "dilations": part.dilation, "group": part.groups}
    return convolve(x.to(part.weight.dtype), part.weight, part.bias, layout)


@functools.cache
def _convolution() -> Any:
    """ONNX's Conv, computed in float32: in half precision it takes the CPU minutes, and only the graph is wanted."""
    torch = import_torch()

    class Convolution(torch.autograd.Function):  # type: ignore[misc, name-defined]
        @staticmethod
        def forward(_: Any, x: Any, weight: Any, bias: Any, layout: Mapping[str, Any]) -> Any:
            kernel = torch.nn.functional.conv2d if weight.dim() == 4 else torch.nn.functional.conv3d
            shift = None if bias is None else bias.float()
            pads, strides, dilations = layout["pads"], layout["strides"], layout["dilations"]
            done = kernel(x.float(), weight.float(), shift, strides, pads, dilations, layout["group"])
            return done.to(x.dtype)

        @staticmethod
        def symbolic(graph: Any, x: Any, weight: Any, bias: Any, layout: Mapping[str, Any]) -> Any:
            return graph.op(
                "Conv",
                *((x, weight) if bias is None else (x, weight, bias)),
                pads_i=[*layout["pads"], *layout["pads"]],
                strides_i=list(layout["strides"]),
                dilations_i=list(layout["dilations"]),
                group_i=layout["group"],
            )

    return Convolution
