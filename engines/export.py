"""A stage as an ONNX file, checked."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from engines.backend import sample
from engines.errors import BackendError
from engines.torch_backend import import_torch

if TYPE_CHECKING:
    from engines.stage import Stage

OPSET = 20
"""The first in which GridSample takes volumes."""
_FORMAT = "1"
"""Part of every file's name: another way to export must not meet files of the old one."""


def fingerprint(stage: Stage) -> str:
    """What tells one network with its weights from another: 16 hexadecimal digits."""
    digest = hashlib.sha256(f"{_FORMAT} {stage.name} {stage.inputs} {stage.outputs} {stage.module}".encode())
    for name, tensor in sorted(stage.module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def export(stage: Stage, folder: Path, *, opset: int = OPSET) -> Path:
    """Export a stage in float32, once: the file under ``folder`` that holds it.

    It is written whole or not at all. Raises BackendError where torch or onnx is missing, the export fails or what came
    out is not valid, or there is no room.
    """
    torch = import_torch()
    try:
        import onnx
    except ImportError:
        raise BackendError(
            "onnx is not installed", cure="python -m pip install -c constraints.txt -e '.[neural]'"
        ) from None
    path = folder / f"{stage.name}-{fingerprint(stage)}-opset{opset}.onnx"
    if path.is_file():
        return path
    feeds = sample(stage.inputs, stage.defaults)
    arguments = tuple(torch.from_numpy(feeds[spec.name]) for spec in stage.inputs)
    handle, partial = -1, ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=folder, prefix=f".{path.stem}.")
        os.close(handle)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # remarks of the tracer; the answers are compared afterwards
            with torch.inference_mode():
                torch.onnx.export(
                    stage.module,
                    arguments,
                    partial,
                    input_names=[spec.name for spec in stage.inputs],
                    output_names=[spec.name for spec in stage.outputs],
                    opset_version=opset,
                    dynamo=False,
                    do_constant_folding=True,
                )
        onnx.checker.check_model(partial, full_check=True)
        os.replace(partial, path)
    except OSError as error:
        raise BackendError(
            f"the exported network cannot be written to {folder}: {error.strerror}",
            cure="make room, or set XDG_CACHE_HOME",
        ) from error
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise BackendError(f"{stage.name} cannot be exported to ONNX: {line}", cure="try another --opset") from error
    finally:
        if partial and os.path.exists(partial):
            os.unlink(partial)
    return path
