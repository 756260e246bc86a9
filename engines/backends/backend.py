"""What runs a stage, and the one table from a backend's name to its class.

    torch       PyTorch: float32 on the CPU; on CUDA half precision where a stage bears it; the reference
    onnx        ONNX Runtime, on the CPU, CUDA, or TensorRT for RTX cards
    tensorrt    TensorRT, with engines that ``python -m tools.build_engine`` made for this very GPU

Every backend takes and gives the same named arrays. Asking for one and not getting it is an error; ``auto`` takes the
fastest that opens, and says which and why.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.atomic_write import whole
from engines.errors import BackendError, UsageError
from engines.install_hint import install
from engines.types import TensorSpec

if TYPE_CHECKING:
    from engines.backends.network_stage import Stage

BACKENDS = ("auto", "torch", "onnx", "tensorrt")
"""What ``--backend`` takes."""
DEVICES = ("auto", "cpu", "cuda", "rtx")
"""What ``--device`` takes; ``rtx`` is ONNX Runtime's TensorRT for RTX cards."""
TOLERANCE = {"float32": 2e-3, "float16": 5e-2}
"""How far an answer may lie from the reference's, as a share of its scale, before it counts as wrong."""

BUILD = "python -m tools.build_engine"
"""The engine builder's command."""

CAPTURING = threading.Lock()
"""Held while a CUDA graph is recorded, by whichever backend. There may be one recording in the process at a time: each
begins by waiting for the whole device, which spoils another that is under way."""

Array = NDArray[Any]
Feeds = Mapping[str, Array]


class Backend(Protocol):
    """Runs one stage. One thread owns it and calls everything on it."""

    name: str
    """For the person: ``torch on the CPU, float32``."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def keep(self, name: str, array: Array) -> None:
        """Hand over an input that stays the same for many calls; ``run`` may then leave it out."""

    def run(self, feeds: Feeds) -> Feeds:
        """Run the stage on arrays of the inputs' shapes and dtypes, C-contiguous.

        The answer belongs to the backend, which may write over it in the next call. What crosses this boundary is
        allocated once, but for the answers of PyTorch on the CPU, which makes new ones in every call.
        Raises BackendError when the device is out of memory or gone.
        """

    def close(self) -> None:
        """Let go of everything; may be called twice."""


@dataclass(frozen=True, slots=True)
class OpenStages:
    """The stages of a family, each on its backend."""

    stages: Mapping[str, Backend]
    why: str
    """What was chosen and why, for the person."""

    def close(self) -> None:
        """Close them all."""
        for backend in self.stages.values():
            backend.close()


def open_stages(
    stages: Mapping[str, Stage],
    *,
    backend: str = "auto",
    device: str = "auto",
    cache: Path | None = None,
    compiled: bool = False,
    rebuild: str = BUILD,
) -> OpenStages:
    """Open every stage on the backend of that name, and check its answers.

    ``cache`` is where exported networks are kept, and what PyTorch answers. ``compiled`` has torch.compile work on
    them, which no other backend can. ``rebuild`` is the command that builds these stages' engines. Raises UsageError
    for an unknown name, BackendError where it cannot be had, or answers wrongly.
    """
    if backend not in BACKENDS:
        raise UsageError(f"there is no backend {backend!r}", cure=f"choose one of: {', '.join(BACKENDS)}")
    if device not in DEVICES:
        raise UsageError(f"there is no device {device!r}", cure=f"choose one of: {', '.join(DEVICES)}")
    if compiled and backend not in ("auto", "torch"):
        raise UsageError(f"--compile is for torch, not for {backend}", cure="choose --backend torch, or leave it out")
    refusals = ["no NVIDIA GPU here"] if backend == device == "auto" and not has_cuda() else []
    for name, where in _candidates("torch" if compiled else backend, device):
        try:
            opened = _open(stages, _maker(name, where, cache, compiled, rebuild), where, cache)
        except BackendError as error:
            if backend != "auto":
                raise
            refusals.append(f"not {name} on {where}: {error}")
            continue
        why = f"; {'; '.join(refusals)}" if refusals else ""
        return OpenStages(opened, next(iter(opened.values())).name + why)
    raise BackendError("no backend opens: " + "; ".join(refusals), cure=install("neural"))


def open_one(
    stage: Stage,
    *,
    backend: str,
    device: str,
    cache: Path | None = None,
    compiled: bool = False,
    rebuild: str = BUILD,
) -> Backend:
    """Open a single stage, its answers unchecked: for those who measure them. Raises as ``open_stages`` does."""
    _candidates(backend, device)
    make = _maker(backend, device, cache, compiled, rebuild)
    return _open({stage.name: stage}, make, device, cache, checked=False)[stage.name]


def _candidates(backend: str, device: str) -> list[tuple[str, str]]:
    """Backend and device to try, the fastest first."""
    order = [
        ("tensorrt", "cuda"),
        ("onnx", "rtx"),
        ("torch", "cuda"),
        ("onnx", "cuda"),
        ("onnx", "cpu"),
        ("torch", "cpu"),
    ]
    if backend == "auto":
        # TensorRT for RTX cards is asked for by name: which cards it takes is its own secret
        order.remove(("onnx", "rtx"))
        if device == "auto" and not has_cuda():
            order = [(name, where) for name, where in order if where == "cpu"]
    chosen = [(name, where) for name, where in order if backend in ("auto", name) and (device in ("auto", where))]
    if backend == "onnx" and device == "auto":
        chosen.remove(("onnx", "rtx"))
    if not chosen:
        cure = "choose --backend onnx" if device == "rtx" else "leave --device out"
        raise UsageError(f"the backend {backend} does not run on {device}", cure=cure)
    if backend != "auto" and device == "auto":
        return [(name, where) for name, where in chosen if where == "cpu" or has_cuda()][:1] or chosen[:1]
    return chosen


def has_cuda() -> bool:
    """Whether there is an NVIDIA driver: nothing heavy is imported to find out."""
    if sys.platform == "win32":
        return Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "nvcuda.dll").exists()
    # the last is that of Windows, seen from its Linux
    signs = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/usr/lib/wsl/lib/libcuda.so.1")
    return any(Path(sign).exists() for sign in signs)


def _open(
    stages: Mapping[str, Stage],
    make: Callable[[Stage], Backend],
    device: str,
    cache: Path | None,
    *,
    checked: bool = True,
) -> dict[str, Backend]:
    if device in ("cuda", "rtx") and not has_cuda():
        raise BackendError(
            "there is no NVIDIA GPU, or no driver for it", cure="choose --device cpu, with --backend torch or onnx"
        )
    opened: dict[str, Backend] = {}
    try:
        for key, stage in stages.items():
            opened[key] = make(stage)
            if checked:
                check(opened[key], stage, cache)
    except BaseException:
        for each in opened.values():
            each.close()
        raise
    return opened


def _maker(name: str, device: str, cache: Path | None, compiled: bool, rebuild: str) -> Callable[[Stage], Backend]:
    if name == "torch":
        from engines.backends.torch_backend import TorchBackend

        return lambda stage: TorchBackend(stage, device, compiled=compiled)
    if name == "tensorrt":
        try:
            from engines.backends.tensorrt_backend import TensorrtBackend
        except ModuleNotFoundError as error:
            raise BackendError(
                f"the backend tensorrt needs {error.name}, which is not installed",
                cure="python -m pip install -c constraints.txt -e '.[tensorrt]'",
            ) from None
        return lambda stage: TensorrtBackend(stage, rebuild=rebuild)
    from engines.backends.onnx_backend import OnnxBackend

    return lambda stage: OnnxBackend(stage, device, cache)


def put(name: str, array: Array, buffer: Array) -> None:
    """Copy what is fed as an input into a backend's buffer for it.

    Raises BackendError for another shape than the buffer's, which NumPy would spread over it in silence.
    """
    if array.shape != buffer.shape:
        found, wanted = ("x".join(map(str, shape)) or "one number" for shape in (array.shape, buffer.shape))
        raise BackendError(f"{name} is fed as {found}, not as {wanted}", cure="feed what the stage's inputs say")
    np.copyto(buffer, array, casting="same_kind")


def sample(specs: tuple[TensorSpec, ...], defaults: Mapping[str, tuple[float, ...]], seed: int = 7) -> dict[str, Array]:
    """A stored input for the numeric check: the same on every machine, of the size that real ones have."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for spec in specs:
        if spec.name in defaults:
            values: Array = np.array(defaults[spec.name]).reshape(spec.shape)
        elif "rotation" in spec.name or "jacobian" in spec.name:
            values = np.broadcast_to(np.eye(spec.shape[-1]), spec.shape) + rng.normal(0, 0.02, spec.shape)
        elif "scale" in spec.name:
            values = 1 + rng.normal(0, 0.05, spec.shape)
        elif len(spec.shape) == 4 and spec.shape[1] == 3:
            values = rng.uniform(0, 1, spec.shape)
        else:
            values = rng.normal(0, 0.2, spec.shape)
        feeds[spec.name] = np.ascontiguousarray(values, dtype=spec.dtype)
    return feeds


def check(backend: Backend, stage: Stage, cache: Path | None = None) -> None:
    """Run the stored input once, and compare with what PyTorch answers on the CPU, which is kept under ``cache``.

    Raises BackendError for NaN, for one flat colour, and for what is far off.
    """
    feeds = sample(stage.inputs, stage.defaults)
    answers = {name: array.copy() for name, array in backend.run(feeds).items()}
    for name, array in answers.items():
        if not np.isfinite(array).all():
            raise BackendError(
                f"{backend.name} answers {stage.name} with {name} that is not a number",
                cure="choose --backend torch --device cpu, or update the driver",
            )
        if array.ndim == 4 and array.shape[1] == 3 and float(np.ptp(array)) < 1e-4:
            raise BackendError(
                f"{backend.name} answers with a picture of one colour",
                cure="choose --backend torch --device cpu, or update the driver",
            )
    from engines.backends.torch_backend import TorchBackend

    if isinstance(backend, TorchBackend) and backend.name.endswith("on the CPU, float32"):
        return
    for name, expected in reference(stage, feeds, cache).items():
        off, _ = distance(answers[name], expected)
        if off > TOLERANCE["float32" if "float32" in backend.name else "float16"]:
            raise BackendError(
                f"{backend.name} answers {stage.name} with {name} that is {off:.1%} off on average",
                cure="update the driver and the package, or choose --backend torch",
            )


def distance(answer: Array, expected: Array) -> tuple[float, float]:
    """How far an answer lies from what was expected, on average and at most, as shares of its largest value."""
    scale = max(float(np.abs(expected).max()), 1e-6)
    apart = np.abs(answer.astype(np.float32) - expected)
    return float(apart.mean()) / scale, float(apart.max()) / scale


def reference(stage: Stage, feeds: Feeds, cache: Path | None = None) -> Mapping[str, Array]:
    """What PyTorch answers to the stored input on the CPU in float32: out of ``cache``, or computed and put there."""
    from engines.backends.onnx_export import fingerprint
    from engines.backends.torch_backend import TorchBackend

    path = None if cache is None else cache / f"{stage.name}-{fingerprint(stage)}.npz"
    if path is not None and path.is_file():
        damaged = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile)
        with contextlib.suppress(*damaged), path.open("rb") as file, np.load(file) as kept:
            known = {spec.name: kept[spec.name] for spec in stage.outputs}
            if all(known[spec.name].shape == spec.shape for spec in stage.outputs):
                return known
    torch = TorchBackend(stage, "cpu")
    try:
        answers = {name: array.copy() for name, array in torch.run(feeds).items()}
    finally:
        torch.close()
    if path is not None:
        # a cache that cannot be written costs time at the next start, no more
        with contextlib.suppress(OSError), whole(path) as partial, partial.open("wb") as new:
            np.savez(new, **answers)
    return answers
