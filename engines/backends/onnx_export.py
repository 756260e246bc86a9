"""Export a network as a checked ONNX file, in float32 or half precision."""

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

from engines.atomic_write import atomic_write
from engines.backends.backend import Precision, first_line
from engines.backends.torch_backend import import_torch
from engines.errors import BackendError, UsageError
from engines.install_hint import install_command

if TYPE_CHECKING:
    from torch import nn

    from engines.backends.network_stage import NetworkStage

OPSET = 20
"""The first in which GridSample takes volumes, and the last that PyTorch's tracing exporter writes."""
OPSET_BF16 = 22
"""The first in which convolutions take bfloat16."""
OPSETS = range(16, 23)
"""From the first that has GridSample."""
ExportPrecision = Literal["fp32", "fp16", "bf16"]
EXPORT_PRECISIONS: tuple[ExportPrecision, ...] = get_args(ExportPrecision)
DTYPES: dict[ExportPrecision, Precision] = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""The precisions by the names of PyTorch's dtypes."""
_FORMAT = "2"
"""Part of every identity: files exported in another way must not be found again."""
_digests: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How a network is exported."""

    opset: int = OPSET
    """The version of ONNX's operator set."""
    precision: ExportPrecision = "fp32"
    float32: tuple[str, ...] = ()
    """The modules, by dotted name, that stay float32 in half precision."""

    def __str__(self) -> str:
        """Return the options as part of a file's name."""
        float32 = hashlib.sha256(" ".join(sorted(self.float32)).encode()).hexdigest()[:6] if self.float32 else ""
        return "-".join(filter(None, (f"opset{self.opset}", self.precision, float32)))


def network_id(stage: NetworkStage) -> str:
    """Return an identifier of a network with its weights, however it is computed: 16 hexadecimal digits."""
    named = f"{_FORMAT} {stage.name} {stage.inputs} {stage.outputs} {_weights_digest(stage.module)}"
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def fingerprint(stage: NetworkStage) -> str:
    """Return an identifier of a network and of how it is computed: 16 hexadecimal digits."""
    return hashlib.sha256(f"{network_id(stage)} {stage.module}".encode()).hexdigest()[:16]


def _weights_digest(module: nn.Module) -> str:
    digest = _digests.get(module)
    if digest is None:
        sha256 = hashlib.sha256()
        for name, tensor in sorted(module.state_dict().items()):
            sha256.update(name.encode())
            sha256.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        digest = _digests[module] = sha256.hexdigest()
    return digest


def export_onnx(stage: NetworkStage, folder: Path, options: ExportOptions | None = None) -> Path:
    """Return the ONNX file of a network in ``folder``, exporting it if it is not there.

    In half precision the stage's ``halves`` are exported so, except for ``options.float32``; inputs and outputs are
    float32 all the same. The file is written completely or not at all.

    Raises BackendError if torch or onnx is missing, the export fails, or the folder cannot be written, and UsageError
    for a name in ``options.float32`` that is not a module.
    """
    options = options or ExportOptions()
    torch = import_torch()
    onnx = import_onnx()
    path = folder / f"{stage.name}-{fingerprint(stage)}-{options}.onnx"
    if path.is_file():
        return path
    feeds = stage.sample_inputs()
    arguments = tuple(torch.from_numpy(feeds[spec.name]) for spec in stage.inputs)
    module = _in_precision(stage, options)
    try:
        with (
            atomic_write(path) as partial,
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            torch.inference_mode(),
        ):
            warnings.simplefilter("ignore")  # from the tracer; the outputs are compared afterwards
            torch.onnx.export(
                module,
                arguments,
                str(partial),
                input_names=[spec.name for spec in stage.inputs],
                output_names=[spec.name for spec in stage.outputs],
                opset_version=min(options.opset, OPSET),
                dynamo=False,
                do_constant_folding=True,
            )
            if options.opset > OPSET:
                onnx.save(onnx.version_converter.convert_version(onnx.load(partial), options.opset), partial)
            onnx.checker.check_model(str(partial), full_check=True)
    except OSError as error:
        found, cure = f"the folder {folder}: {error.strerror}", "free some space, or set XDG_CACHE_HOME"
        raise BackendError("export-not-writable", found, "a writable one", cure) from error
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        found = f"{stage.name}, which cannot be exported to ONNX: {first_line(error)}"
        raise BackendError("export-failed", found, cure="try another --opset") from error
    return path


def import_onnx() -> Any:
    """Import the package onnx. Raises BackendError if it is not installed."""
    try:
        import onnx
        import onnx.version_converter
    except ImportError:
        raise BackendError("package-missing", "no package onnx", cure=install_command("neural")) from None
    return onnx


def _in_precision(stage: NetworkStage, options: ExportOptions) -> nn.Module:
    """Return the stage's module, or a copy of it in half precision. Raises UsageError for an unknown module."""
    names = {name for name, _ in stage.module.named_modules() if name}
    for name in options.float32:
        if name not in names:
            top_level = ", ".join(sorted(name for name in names if "." not in name))
            expected = f"{top_level}, or a module in one of them"
            found = f"the module {name!r} of {stage.name}"
            raise UsageError("export-unknown-module", found, expected, "name modules that the network has")
    if options.precision == "fp32" or not stage.halves:
        return stage.module
    torch = import_torch()
    module = copy.deepcopy(stage.module)
    for name in stage.halves:
        module.get_submodule(name).to(getattr(torch, DTYPES[options.precision]))
    for name in options.float32:
        module.get_submodule(name).float()
    convolve = _convolution().apply
    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.Conv3d):
            part.forward = functools.partial(_convolved, convolve, part)
    return module


def _convolved(convolve: Any, part: Any, x: Any) -> Any:
    """Convolve in the precision of the weight, whatever the input's."""
    layout = {"pads": part.padding, "strides": part.stride, "dilations": part.dilation, "group": part.groups}
    return convolve(x.to(part.weight.dtype), part.weight, part.bias, layout)


@functools.cache
def _convolution() -> Any:
    """Return ONNX's Conv as an autograd function that computes in float32.

    In half precision the CPU would take minutes, and only the graph is needed.
    """
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
