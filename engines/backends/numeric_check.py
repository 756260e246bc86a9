"""Check that a backend computes what PyTorch computes on the CPU in float32, the reference."""

from __future__ import annotations

import contextlib
import zipfile
from pathlib import Path

import numpy as np

from engines.atomic_write import atomic_write
from engines.backends.backend import Backend, Precision
from engines.backends.network_stage import Array, Feeds, NetworkStage
from engines.errors import BackendError

TOLERANCE: dict[Precision, float] = {"float32": 2e-3, "float16": 5e-2, "bfloat16": 5e-2}
"""The largest mean relative error of an output, by precision."""
_FLAT = 1e-4
"""An image whose values differ by less is of one colour."""
_CURE = "choose --backend torch --device cpu, or update the driver"


def check_backend(backend: Backend, stage: NetworkStage, cache: Path | None = None) -> None:
    """Run the backend once on sample inputs, and compare its outputs with the reference, which is kept in ``cache``.

    Raises BackendError for outputs that are not finite, for an image of one colour, and for a large error.
    """
    feeds = stage.sample_inputs()
    outputs = {name: array.copy() for name, array in backend.run(feeds).items()}
    kinds = {spec.name: spec.kind for spec in stage.outputs}
    for name, array in outputs.items():
        if not np.isfinite(array).all():
            found = f"values in {name} of {stage.name} that are not finite, from {backend.name}"
            raise BackendError("output-not-finite", found, cure=_CURE)
        if kinds[name] == "image" and float(np.ptp(array)) < _FLAT:
            found = f"an image of one colour in {name} of {stage.name}, from {backend.name}"
            raise BackendError("output-one-colour", found, cure=_CURE)
    if _is_reference(backend):
        return
    for name, expected in reference_outputs(stage, feeds, cache).items():
        error, _ = relative_errors(outputs[name], expected)
        allowed = TOLERANCE[backend.precision]
        if error > allowed:
            found = f"a mean error of {error:.1%} in {name} of {stage.name}, from {backend.name}"
            cure = "update the driver and the package, or choose --backend torch"
            raise BackendError("output-inaccurate", found, f"at most {allowed:.1%}", cure)


def _is_reference(backend: Backend) -> bool:
    from engines.backends.torch_backend import TorchBackend

    return isinstance(backend, TorchBackend) and backend.is_reference


def relative_errors(output: Array, expected: Array) -> tuple[float, float]:
    """Return the mean and the largest error of an output, divided by the largest expected magnitude."""
    scale = max(float(np.abs(expected).max()), 1e-6)
    errors = np.abs(output.astype(np.float32) - expected)
    return float(errors.mean()) / scale, float(errors.max()) / scale


def reference_outputs(stage: NetworkStage, feeds: Feeds, cache: Path | None = None) -> Feeds:
    """Return what PyTorch computes from the sample inputs on the CPU in float32, read from or written to ``cache``."""
    from engines.backends.onnx_export import fingerprint
    from engines.backends.torch_backend import TorchBackend

    path = None if cache is None else cache / f"{stage.name}-{fingerprint(stage)}.npz"
    if path is not None and (cached := _read(path, stage)) is not None:
        return cached
    torch = TorchBackend(stage, "cpu")
    try:
        outputs = {name: array.copy() for name, array in torch.run(feeds).items()}
    finally:
        torch.close()
    if path is not None:
        # a cache that cannot be written only costs time at the next start
        with contextlib.suppress(OSError), atomic_write(path) as partial, partial.open("wb") as file:
            np.savez(file, **outputs)
    return outputs


def _read(path: Path, stage: NetworkStage) -> dict[str, Array] | None:
    """Return the cached outputs of a stage, or None if the file is missing or damaged."""
    damage = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile)
    with contextlib.suppress(*damage), path.open("rb") as file, np.load(file) as arrays:
        outputs = {spec.name: arrays[spec.name] for spec in stage.outputs}
        if all(outputs[spec.name].shape == spec.shape for spec in stage.outputs):
            return outputs
    return None
